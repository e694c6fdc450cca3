//! Objects and requests that read as sentences.

use serde_json::{Value, json};
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use tierce_proto::csi::{
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    VolumeCapability,
};

pub(crate) const POOLS: &str = "storagepools";
pub(crate) const VOLUMES: &str = "nodevolumes";
pub(crate) const SNAPSHOTS: &str = "nodesnapshots";
pub(crate) const STORAGES: &str = "nodestorages";
pub(crate) const FINALIZER: &str = "storage.tierce.dev/on-node";
pub(crate) const GIB: i64 = 1 << 30;

pub(crate) fn pool(name: &str, path: &str) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool",
        "metadata": { "name": name },
        "spec": {
            "tier": "fast", "directory": { "path": path, "provisioning": "Thin", "createPath": true },
            "overcommitPercent": 100, "reservePercent": 0,
        },
    })
}

/// An ext4 volume on node `n1` in pool `p`.
pub(crate) fn node_volume(name: &str, size: i64) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
        "metadata": { "name": name, "finalizers": [FINALIZER] },
        "spec": {
            "nodeName": "n1", "pool": "p", "sizeBytes": size, "volumeMode": "Filesystem", "filesystem": "ext4",
            "label": "data",
        },
    })
}

/// A snapshot of a volume of node `n1` in pool `p`.
pub(crate) fn node_snapshot(name: &str, source: &str) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeSnapshot",
        "metadata": { "name": name, "finalizers": [FINALIZER] },
        "spec": { "nodeName": "n1", "pool": "p", "source": source },
    })
}

pub(crate) fn block_volume(name: &str, size: i64) -> Value {
    let mut volume = node_volume(name, size);
    volume["spec"]["volumeMode"] = json!("Block");
    volume["spec"].as_object_mut().unwrap().remove("filesystem");
    volume
}

pub(crate) fn ready(object: Option<&Value>) -> bool {
    reason(object) == Some("Created")
}

/// The reason of the `Ready` condition.
pub(crate) fn reason(object: Option<&Value>) -> Option<&str> {
    object?.pointer("/status/conditions/0/reason")?.as_str()
}

pub(crate) fn message(object: &Value) -> &str {
    object.pointer("/status/conditions/0/message").and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn filesystem() -> VolumeCapability {
    VolumeCapability {
        // What the kubelet makes of ReadWriteOnce.
        access_mode: Some(AccessMode { mode: Mode::SingleNodeMultiWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

pub(crate) fn block() -> VolumeCapability {
    VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..filesystem() }
}

pub(crate) fn with_mode(mode: Mode) -> VolumeCapability {
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), ..filesystem() }
}

pub(crate) fn mounted(mount: MountVolume) -> VolumeCapability {
    VolumeCapability { access_type: Some(AccessType::Mount(mount)), ..filesystem() }
}

pub(crate) fn stage(id: &str, staging: &str) -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_id: id.into(),
        staging_target_path: staging.into(),
        volume_capability: Some(filesystem()),
        // As external-provisioner adds it.
        volume_context: [("storage.kubernetes.io/csiProvisionerIdentity".into(), "x".into())].into(),
        ..Default::default()
    }
}

pub(crate) fn unstage(id: &str, staging: &str) -> NodeUnstageVolumeRequest {
    NodeUnstageVolumeRequest { volume_id: id.into(), staging_target_path: staging.into() }
}

pub(crate) fn publish(id: &str, staging: &str, target: &str) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: id.into(),
        staging_target_path: staging.into(),
        target_path: target.into(),
        volume_capability: Some(filesystem()),
        ..Default::default()
    }
}

pub(crate) fn unpublish(id: &str, target: &str) -> NodeUnpublishVolumeRequest {
    NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: target.into() }
}
