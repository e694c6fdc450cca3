//! What the service claims. csi-sanity and the sidecars call nothing else.

use tierce_proto::csi::ControllerServiceCapability;
use tierce_proto::csi::controller_service_capability::{Rpc, Type, rpc};

/// Capabilities of the Controller service.
pub(super) fn rpcs() -> Vec<ControllerServiceCapability> {
    [
        rpc::Type::CreateDeleteVolume,
        rpc::Type::CreateDeleteSnapshot,
        rpc::Type::ListSnapshots,
        rpc::Type::GetSnapshot,
        rpc::Type::CloneVolume,
        rpc::Type::GetCapacity,
        rpc::Type::ListVolumes,
        rpc::Type::ExpandVolume,
        rpc::Type::SingleNodeMultiWriter,
    ]
    .into_iter()
    .map(|claimed| ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: claimed.into() })) })
    .collect()
}
