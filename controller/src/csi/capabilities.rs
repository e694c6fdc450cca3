//! What the service claims. csi-sanity and the sidecars call nothing else.

use tierce_proto::csi::controller_service_capability::{Rpc, Type, rpc};
use tierce_proto::csi::{
    ControllerServiceCapability, PluginCapability, plugin_capability::service,
    plugin_capability::volume_expansion,
};
use tierce_runtime::identity;

/// Capabilities of the Controller service.
pub(super) fn rpcs() -> Vec<ControllerServiceCapability> {
    [
        rpc::Type::CreateDeleteVolume,
        rpc::Type::GetCapacity,
        rpc::Type::ListVolumes,
        rpc::Type::ExpandVolume,
        rpc::Type::SingleNodeMultiWriter,
    ]
    .into_iter()
    .map(|claimed| ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: claimed.into() })) })
    .collect()
}

/// Capabilities of the plugin, for its Identity service.
pub fn identity_claims() -> [PluginCapability; 3] {
    [
        identity::claim(service::Type::ControllerService),
        identity::claim(service::Type::VolumeAccessibilityConstraints),
        identity::claim_expansion(volume_expansion::Type::Online),
    ]
}
