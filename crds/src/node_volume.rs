//! `NodeVolume`: one device on one node. The controller writes the spec, the node the status.

use crate::{Filesystem, VolumeMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What should be on the node's disk. It exists before anything is on the disk, and until nothing is left there.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "NodeVolume",
    plural = "nodevolumes",
    shortname = "tnv",
    category = "tierce",
    status = "NodeVolumeStatus",
    derive = "PartialEq",
    doc = "One device on one node. The name is the CSI volume id. Written by the controller (spec) and the node plugin (status); nobody else needs to.",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Size", type_ = "integer", format = "int64", json_path = ".spec.sizeBytes"),
    printcolumn(name = "Used", type_ = "integer", format = "int64", json_path = ".status.usedBytes"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.claim.namespace"),
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.claim.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a NodeVolume has at most 63 characters"),
    selectable = ".spec.nodeName"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.filesystem) == has(oldSelf.filesystem) && (!has(self.filesystem) || self.filesystem == oldSelf.filesystem)").message("filesystem is immutable"),
    validation = Rule::new("has(self.claim) == has(oldSelf.claim) && (!has(self.claim) || self.claim == oldSelf.claim)").message("claim is immutable"),
    validation = Rule::new("(self.volumeMode == 'Filesystem') == has(self.filesystem)").message("filesystem goes with volumeMode Filesystem"),
    validation = Rule::new("(has(self.encrypted) && self.encrypted) == (has(oldSelf.encrypted) && oldSelf.encrypted)").message("encrypted is immutable"),
    validation = Rule::new("(has(self.allowModeChange) && self.allowModeChange) == (has(oldSelf.allowModeChange) && oldSelf.allowModeChange)").message("allowModeChange is immutable"),
    validation = Rule::new("has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)").message("source is immutable")
)]
pub struct NodeVolumeSpec {
    /// The node. Immutable.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("nodeName is immutable"))]
    pub node_name: String,
    /// The StoragePool. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("pool is immutable"))]
    pub pool: String,
    /// Size of the device in bytes. It grows and never shrinks.
    #[schemars(range(min = 1))]
    #[x_kube(validation = Rule::new("self >= oldSelf").message("a volume can't shrink"))]
    pub size_bytes: i64,
    /// A filesystem or a raw device. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("volumeMode is immutable"))]
    pub volume_mode: VolumeMode,
    /// With `volumeMode: Filesystem`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// In force from the next mount on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    pub mount_options: Vec<String>,
    /// Label of the filesystem: the claim's name. Cut to what the filesystem can hold.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub label: String,
    /// The claim it was made for; absent for a volume made by another client of CSI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimReference>,
    /// Whether what lies on the disk is encrypted. Its key is in the Secret `tierce-key-<name>`. Immutable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// What it starts with; absent: empty. On the same node. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<NodeSource>,
    /// Whether the content of `source`, a snapshot, may be read in another mode: a raw device as a filesystem, if it carries just that, or the
    /// other way round. An administrator permits it on the VolumeSnapshotContent. Immutable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_mode_change: bool,
    /// A restore in place that is to be carried out once, while no pod has the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreOrder>,
}

/// The content that a new device starts with: exactly one of the two.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.snapshot) != has(self.volume)").message("source names either a snapshot or a volume"))]
pub struct NodeSource {
    /// A NodeSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub snapshot: Option<String>,
    /// A NodeVolume, with the content that it has when the new one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub volume: Option<String>,
}

impl NodeSource {
    /// The name of the one that is there.
    pub fn name(&self) -> Option<&str> {
        self.snapshot.as_deref().or(self.volume.as_deref())
    }
}

/// A restore in place.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.uid != oldSelf.uid || !(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)").message("an order that was called off is not given again: make another VolumeRestore"))]
pub struct RestoreOrder {
    /// UID of the VolumeRestore. `status.restored` shows it when this order is done.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// NodeSnapshot whose content the volume gets.
    #[schemars(length(min = 1, max = 63))]
    pub snapshot: String,
    /// Id of the snapshot that keeps what the volume had before.
    #[schemars(length(min = 1, max = 63))]
    pub safety: String,
    /// Whether it is called off, if nothing of it has happened yet; else it is carried to its end. `status.restoreCalledOff` or
    /// `status.restored` has the answer. It is not taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// A PersistentVolumeClaim.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReference {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID: a claim of the same name made later is another one.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// What is on the node's disk.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeVolumeStatus {
    /// Size of the device in bytes; absent until it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<i64>,
    /// Bytes that it takes on the disk, refreshed when it changes noticeably.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
    /// Whether it was ever handed to a pod. Until then it holds nobody's data.
    #[serde(default)]
    pub used: bool,
    /// With reason `OutOfSpace`: the largest size in bytes that would fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_bytes: Option<i64>,
    /// Which key opens it: the id of its LUKS header and a hash. Absent until it was mounted once, and where it is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    /// UID of the last restore order that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<String>,
    /// UID of the last restore order that was called off: of it nothing has happened, and nothing will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_called_off: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the device exists with the size asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
