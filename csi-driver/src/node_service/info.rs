//! Who we are and what we can do.

use tierce_crds::names;
use tierce_proto::csi::node_service_capability::{Rpc, Type, rpc};
use tierce_proto::csi::{NodeGetCapabilitiesResponse, NodeGetInfoResponse, NodeServiceCapability, Topology};

const CLAIMED: [rpc::Type; 4] = [
    rpc::Type::StageUnstageVolume,
    rpc::Type::GetVolumeStats,
    rpc::Type::ExpandVolume,
    rpc::Type::SingleNodeMultiWriter,
];

pub(super) fn capabilities() -> NodeGetCapabilitiesResponse {
    let claim = |claimed: rpc::Type| NodeServiceCapability {
        r#type: Some(Type::Rpc(Rpc { r#type: claimed.into() })),
    };
    NodeGetCapabilitiesResponse { capabilities: CLAIMED.map(claim).into() }
}

/// No limit of volumes is told: loop devices are made as needed, and the disks fill up first.
pub(super) fn info(node: &str) -> NodeGetInfoResponse {
    let segments = [(names::TOPOLOGY_NODE.to_owned(), node.to_owned())].into();
    NodeGetInfoResponse {
        node_id: node.to_owned(),
        max_volumes_per_node: 0,
        accessible_topology: Some(Topology { segments }),
    }
}
