//! `StoragePool`: the disks of a tier, named by the platform team.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which nodes offer which storage under which tier.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "StoragePool",
    plural = "storagepools",
    shortname = "tpool",
    category = "tierce",
    status = "StoragePoolStatus",
    derive = "PartialEq",
    doc = "The disks of a tier: on the selected nodes Tierce keeps volumes in this place. Several pools may serve one tier.",
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.capacity"),
    printcolumn(name = "Promised", type_ = "string", json_path = ".status.promised"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.directory.path", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a StoragePool has at most 63 characters")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct StoragePoolSpec {
    /// Tier that users name in `Volume.spec.tier`, for example `standard-ssd`. Immutable.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("tier is immutable: make a new StoragePool; the volumes of this one stay where they are"))]
    pub tier: String,

    /// Labels that a node must have to offer this pool; empty (the default): every node that runs the node plugin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Volumes as image files in a directory of the node.
    pub directory: DirectoryBackend,

    /// How much may be promised of a thin pool, in percent of its capacity: 100 (the default: no more than there is) to 1000.
    /// Meaningless for a thick pool, which never promises more than it has.
    #[serde(default = "default_overcommit")]
    #[schemars(with = "i32", range(min = 100, max = 1000))]
    pub overcommit_percent: u32,

    /// Part of the filesystem below that volumes never get, in percent of its capacity: 0 to 90, default 5.
    #[serde(default = "default_reserve")]
    #[schemars(with = "i32", range(min = 0, max = 90))]
    pub reserve_percent: u32,
}

/// Where the image files lie.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct DirectoryBackend {
    /// Absolute path on the node. The filesystem there is what the volumes share. Immutable.
    #[schemars(length(min = 2, max = 255), regex(pattern = "^(/[A-Za-z0-9._-]+)+$"))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("path is immutable: make a new StoragePool; the volumes of this one stay where they are"),
        validation = Rule::new("!self.split('/').exists(part, part == '..' || part == '.')").message("path has no '.' or '..' part")
    )]
    pub path: String,

    /// `Thin` (the default): an image takes space as it is written. `Thick`: all its space at once. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("provisioning is immutable: make a new StoragePool; the volumes of this one stay as they are"))]
    pub provisioning: Provisioning,

    /// Whether the node plugin makes the directory where it is missing. Default `false`: a missing directory is most
    /// often a disk that is not mounted, and volumes made then would land on the disk below it.
    #[serde(default)]
    pub create_path: bool,
}

/// When an image takes its space.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Provisioning {
    /// As it is written.
    #[default]
    Thin,
    /// When it is made.
    Thick,
}

/// What the nodes report, added up.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoragePoolStatus {
    /// Nodes that offer the pool, of those that are selected: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Bytes of all nodes as a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// Bytes promised to volumes, as a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<String>,
    /// Bytes that volumes really take, as a quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: every selected node offers the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

fn default_overcommit() -> u32 {
    100
}

fn default_reserve() -> u32 {
    5
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_that_climbs_is_refused() {
        let refused = DirectoryBackend::validate_cel(
            &json!({"path": "/var/../etc", "provisioning": "Thin", "createPath": false}),
            None,
        );
        assert!(refused.unwrap_err().to_string().contains("'..'"));
    }

    #[test]
    fn where_data_lies_is_immutable() {
        let old = json!({"path": "/a", "provisioning": "Thin", "createPath": false});
        let new = json!({"path": "/b", "provisioning": "Thick", "createPath": true});
        let message = DirectoryBackend::validate_cel(&new, Some(&old)).unwrap_err().to_string();
        assert!(
            message.contains("path is immutable") && message.contains("provisioning is immutable"),
            "{message}"
        );
    }
}
