//! `NodeSnapshot`: one snapshot on one node. The controller writes the spec, the node the status.

use crate::{ClaimReference, VolumeMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tierce_filesystem::Filesystem;

/// The snapshot that the node is to keep. This object exists before anything is on the disk, and until nothing is left there.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "NodeSnapshot",
    plural = "nodesnapshots",
    shortname = "tns",
    category = "tierce",
    status = "NodeSnapshotStatus",
    derive = "PartialEq",
    doc = "One snapshot on one node. The name is the CSI snapshot id. Written by the controller (spec) and the node plugin (status); users do not need to write it. It outlives the volume it was taken of.",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.source"),
    printcolumn(name = "Size", type_ = "integer", format = "int64", json_path = ".status.sizeBytes"),
    printcolumn(name = "Used", type_ = "integer", format = "int64", json_path = ".status.usedBytes"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.snapshot.namespace"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".spec.snapshot.name"),
    printcolumn(name = "Taken", type_ = "date", json_path = ".status.takenAt"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a NodeSnapshot has at most 63 characters"),
    selectable = ".spec.nodeName"
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a NodeSnapshot can't be changed: take another snapshot")
)]
pub struct NodeSnapshotSpec {
    /// Name of the node. Immutable.
    #[schemars(length(min = 1, max = 253))]
    pub node_name: String,
    /// Name of the StoragePool, which is that of the source. Immutable.
    #[schemars(length(min = 1, max = 63))]
    pub pool: String,
    /// Name of the NodeVolume that the snapshot is taken of. Immutable.
    #[schemars(length(min = 1, max = 63))]
    pub source: String,
    /// Whether the source is encrypted (default `false`), with its keys also in the Secret `tierce-key-<name>`. Immutable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// Bytes that the claim of the source asked for, where the source has more because sizes are rounded up: a volume made from the snapshot need be
    /// asked for no more. Default: what the source had, `status.sizeBytes`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub asked_bytes: Option<i64>,
    /// The VolumeSnapshot that asked for it. Absent for a snapshot that another client of CSI asked for. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<ClaimReference>,
}

/// The snapshot as it is on the node's disk.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSnapshotStatus {
    /// Size in bytes of the volume when the snapshot was taken; a volume made from it has at least that size. Absent until the snapshot
    /// exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Bytes that the snapshot takes on the disk. Small changes are not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
    /// The moment whose data the snapshot holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Time>,
    /// What the snapshot holds: a filesystem (`Filesystem`) or the bytes of a raw device (`Block`). Absent until the snapshot exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "VolumeMode", extend("nullable" = true))]
    pub volume_mode: Option<VolumeMode>,
    /// The filesystem. Absent with `volumeMode: Block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Filesystem", extend("nullable" = true))]
    pub filesystem: Option<Filesystem>,
    /// Which key opens the snapshot: the one that was in force when it was taken. Absent without encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub key_fingerprint: Option<String>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the snapshot exists and can be restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::object;
    use serde_json::json;

    fn of(source: &str) -> NodeSnapshot {
        object("snapshot-1", &json!({"nodeName": "n", "pool": "p", "source": source}))
    }

    #[test]
    fn what_was_taken_can_not_be_changed() {
        let refused = of("pvc-2").validate_cel_update(&of("pvc-1")).unwrap_err().to_string();
        assert!(refused.contains("take another snapshot"), "{refused}");
        assert!(of("pvc-1").validate_cel_update(&of("pvc-1")).is_ok());
    }
}
