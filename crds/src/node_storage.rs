//! `NodeStorage`: what one node really has. Written by the node plugin alone.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many broken records, and how many unclaimed volumes, a NodeStorage lists.
pub const MOST_LEFTOVERS: usize = 100;

/// The node whose storage this is.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "NodeStorage",
    plural = "nodestorages",
    shortname = "tnode",
    category = "tierce",
    status = "NodeStorageStatus",
    derive = "PartialEq",
    doc = "The pools of one node as its node plugin sees them. The name is the node's. Written by the node plugin; users do not need to write it.",
    printcolumn(name = "Pools", type_ = "string", json_path = ".status.pools[*].name"),
    printcolumn(name = "States", type_ = "string", json_path = ".status.pools[*].state"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == self.spec.nodeName").message("a NodeStorage has the name of its node"),
    selectable = ".spec.nodeName"
)]
#[serde(rename_all = "camelCase")]
pub struct NodeStorageSpec {
    /// Name of the node. Immutable.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("nodeName is immutable"))]
    pub node_name: String,
}

/// The storage that the node has.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStorageStatus {
    /// The pools of this node: every StoragePool that selects it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pools: Vec<PoolStatus>,
    /// Records on the node's disks that can't be read. Each is left alone until somebody mends it. At most 100 are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_records: Vec<String>,
    /// Volumes on the node's disks that have no NodeVolume. Nothing is done to them. At most 100 are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclaimed: Vec<String>,
}

/// One pool on one node. Sizes in bytes; all zero while the pool is not ready.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Name of the StoragePool.
    pub name: String,
    /// Tier of the StoragePool.
    pub tier: String,
    /// `Ready`: volumes can be made and used. `Unavailable`: `reason` and `message` say why not.
    pub state: PoolState,
    /// In one word, why the pool is not ready, or what an administrator has to see to although it is ready (`OutOfData`: the pool is full).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong, with its path, and what mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// An opaque name of what the pool lies on: pools of this node with equal values share one filesystem, thin pool or volume group, so that
    /// their capacity and free space count once. Absent while the pool is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub disk: Option<String>,
    /// Size in bytes of the filesystem, thin pool or volume group below, less the reserve.
    pub capacity_bytes: i64,
    /// Bytes of the filesystem, thin pool or volume group below that are free, the reserve among them. Absent while the pool is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<i64>,
    /// Bytes that volumes take now.
    pub used_bytes: i64,
    /// Bytes that volumes may take at most: the sum of their sizes.
    pub promised_bytes: i64,
    /// Size in bytes of the largest volume that would be accepted now.
    pub max_volume_bytes: i64,
    /// Number of volumes in the pool.
    pub volumes: i64,
    /// Part of an LVM thin pool's data that is in use, in whole percent. Absent for other pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_percent: Option<i32>,
    /// Part of an LVM thin pool's metadata that is in use, in whole percent; a pool without free metadata takes no writes. Absent for other
    /// pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_percent: Option<i32>,
}

/// Whether a pool works.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum PoolState {
    /// Volumes can be made and used.
    Ready,
    /// The pool can't be used; reason and message say why.
    Unavailable,
}
