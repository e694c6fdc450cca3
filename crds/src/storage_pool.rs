//! `StoragePool`: the disks of a tier, named by the platform team.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which nodes offer which disks under which tier.
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
    doc = "The disks of a tier: on the selected nodes Tierce keeps volumes in this directory or LVM volume group. Several pools may serve one tier.",
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.capacity"),
    printcolumn(name = "Promised", type_ = "string", json_path = ".status.promised"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Degraded", type_ = "string", json_path = ".status.conditions[?(@.type==\"Degraded\")].status"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.directory.path", priority = 1),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.lvm.volumeGroup", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a StoragePool has at most 63 characters")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.directory) != has(self.lvm)").message("a StoragePool has either directory or lvm"),
    validation = Rule::new("has(self.directory) == has(oldSelf.directory)").message("a directory can't become an LVM volume group, nor the other way round: make a new StoragePool; the volumes of this one stay where they are")
)]
pub struct StoragePoolSpec {
    /// Tier that users name in `Volume.spec.tier`, for example `standard-ssd`. Immutable.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("tier is immutable: make a new StoragePool; the volumes of this one stay where they are"))]
    pub tier: String,

    /// Labels that a node must have to offer this pool, at most 32. Default: none; then every node that runs the node plugin offers the pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Keeps volumes as image files in a directory of the node. Either this or `lvm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryBackend>,

    /// Keeps volumes as logical volumes of an LVM volume group of the node. Either this or `directory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lvm: Option<LvmBackend>,

    /// Whether Volumes of this tier without `spec.encryption` are encrypted. Default `false`; one pool of the tier with `true` is enough.
    /// Plain claims choose by their class instead: `tierce-<tier>-encrypted`.
    #[serde(default)]
    pub encrypt_by_default: bool,

    /// How much a thin pool may promise, in percent of its capacity: from 100 (the default: no more than there is) to 1000. It has no meaning
    /// for a thick pool, which never promises more than it has.
    #[serde(default = "default_overcommit")]
    #[schemars(with = "i32", range(min = 100, max = 1000))]
    pub overcommit_percent: u32,

    /// Part of the filesystem or volume group below that volumes never get, in percent of its capacity: from 0 to 90, default 5.
    #[serde(default = "default_reserve")]
    #[schemars(with = "i32", range(min = 0, max = 90))]
    pub reserve_percent: u32,
}

/// A directory of the node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct DirectoryBackend {
    /// Absolute path on the node, of at most 255 characters. The volumes share the filesystem that is there. Immutable.
    #[schemars(length(min = 2, max = 255), regex(pattern = "^(/[A-Za-z0-9._-]+)+$"))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("path is immutable: make a new StoragePool; the volumes of this one stay where they are"),
        validation = Rule::new("!self.split('/').exists(part, part == '..' || part == '.')").message("path has no '.' or '..' part")
    )]
    pub path: String,

    /// When an image takes its space: as it is written (`Thin`, the default) or when it is made (`Thick`). Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("provisioning is immutable: make a new StoragePool; the volumes of this one stay as they are"))]
    pub provisioning: Provisioning,

    /// Whether the node plugin makes the directory where it is missing. Default `false`: a missing directory is most
    /// often a disk that is not mounted, and volumes made then would land on another disk.
    #[serde(default)]
    pub create_path: bool,
}

/// An LVM volume group of the node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.thin) != has(self.thick)").message("an LVM pool is either thin or thick"),
    validation = Rule::new("has(self.thin) == has(oldSelf.thin)").message("a thin pool can't become thick, nor the other way round: make a new StoragePool; the volumes of this one stay as they are")
)]
pub struct LvmBackend {
    /// Name of the volume group, as `vgs` shows it. Immutable.
    #[schemars(length(min = 1, max = 127), regex(pattern = "^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$"))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("volumeGroup is immutable: make a new StoragePool; the volumes of this one stay where they are"),
        validation = Rule::new("self != '.' && self != '..'").message("volumeGroup is a name, not a path")
    )]
    pub volume_group: String,

    /// Volumes come from a thin pool of the group: they take space as they are written, and snapshots cost little. Either this or `thick`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thin: Option<ThinPool>,

    /// Volumes take all their space when they are made, and snapshots are full copies. Either this or `thin`: `thick: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thick: Option<ThickVolumes>,

    /// Block devices to make the group from where it is missing, for example `/dev/disk/by-id/nvme-…`, at most 32. A device that
    /// carries anything is refused and left untouched. Default: none, and the group has to be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 6, max = 255), regex(pattern = "^/dev/[A-Za-z0-9/._:+-]+$"))
    )]
    #[x_kube(validation = Rule::new("self.all(d, !d.split('/').exists(part, part == '..' || part == '.'))").message("a device has no '.' or '..' part"))]
    pub devices: Vec<String>,
}

/// A thin pool of a volume group.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct ThinPool {
    /// Name of the thin pool in the group. Immutable.
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("pool is immutable: make a new StoragePool; the volumes of this one stay where they are"))]
    pub pool: String,

    /// Size of the thin pool where it has to be made, as a quantity of at least 64Mi, for example `800Gi`. Default: 90 % of the group, and only
    /// where the group is made as well; in a group that exists the thin pool then has to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('64Mi')) >= 0").message("size is a quantity of bytes of at least 64Mi, for example 800Gi"))]
    pub size: Option<String>,

    /// Bytes that the thin pool hands out at once, where it has to be made: a quantity from 64Ki to 1Gi, a multiple of 64Ki. Default: what LVM
    /// chooses. Larger chunks need less metadata; smaller ones make snapshots cheaper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).compareTo(quantity('64Ki')) >= 0 && quantity(self).compareTo(quantity('1Gi')) <= 0 && quantity(self).asInteger() % 65536 == 0").message("chunkSize is a quantity of bytes from 64Ki to 1Gi and a multiple of 64Ki, for example 128Ki"))]
    pub chunk_size: Option<String>,

    /// Whether the thin pool grows from the free space of the group when it fills up. Default `true`.
    #[serde(default = "yes")]
    pub auto_extend: bool,
}

/// Thick volumes have no settings.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct ThickVolumes {}

/// When an image takes its space.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Provisioning {
    /// An image takes space as it is written.
    #[default]
    Thin,
    /// An image takes all its space when it is made.
    Thick,
}

/// The sum of what the nodes report.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoragePoolStatus {
    /// How many nodes offer the pool, of those that are selected, for example `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Capacity of the pool on all nodes together, as a quantity of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
    /// Sum of the sizes of all volumes, as a quantity of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised: Option<String>,
    /// Space that volumes take now, as a quantity of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: at least one selected node offers the pool, or `nodeSelector` selects no node. `Degraded`: not every selected node does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl StoragePoolSpec {
    /// Whether a node with these labels offers the pool, if it runs the node plugin.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

fn yes() -> bool {
    true
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
    use crate::tests::object;
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

    fn pool(spec: &serde_json::Value) -> StoragePool {
        let mut spec = spec.clone();
        spec["tier"] = json!("ssd");
        object("p", &spec)
    }

    #[test]
    fn a_pool_is_one_thing_and_stays_it() {
        let (directory, thin) = (
            json!({"directory": {"path": "/a/b"}}),
            json!({"lvm": {"volumeGroup": "fast", "thin": {"pool": "pool"}}}),
        );
        let mut both = directory.clone();
        both["lvm"] = thin["lvm"].clone();
        for wrong in [json!({}), both] {
            let refused = pool(&wrong).validate_cel().unwrap_err().to_string();
            assert!(refused.contains("either directory or lvm"), "{refused}");
        }
        assert!(pool(&thin).validate_cel().is_ok() && pool(&directory).validate_cel().is_ok());
        let refused = pool(&thin).validate_cel_update(&pool(&directory)).unwrap_err().to_string();
        assert!(refused.contains("make a new StoragePool"), "{refused}");
    }

    #[test]
    fn a_pool_promises_at_least_what_it_has() {
        use kube::CustomResourceExt;
        // The API server checks the schema's bounds.
        let crd = serde_json::to_value(StoragePool::crd()).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let bounds = &schema["properties"]["overcommitPercent"];
        assert_eq!(
            (bounds["minimum"].as_f64(), bounds["maximum"].as_f64()),
            (Some(100.0), Some(1000.0)),
            "{bounds}"
        );
    }

    #[test]
    fn an_lvm_pool_says_what_is_wrong_with_it() {
        for (lvm, words) in [
            (json!({"volumeGroup": "vg"}), "either thin or thick"),
            (json!({"volumeGroup": "vg", "thick": {}, "thin": {"pool": "p"}}), "either thin or thick"),
            (json!({"volumeGroup": "..", "thick": {}}), "a name, not a path"),
            (json!({"volumeGroup": "vg", "thick": {}, "devices": ["/dev/../etc/x"]}), "'..'"),
            (json!({"volumeGroup": "vg", "thin": {"pool": "p", "size": "lots"}}), "for example 800Gi"),
            (json!({"volumeGroup": "vg", "thin": {"pool": "p", "chunkSize": "100Ki"}}), "a multiple of 64Ki"),
            (json!({"volumeGroup": "vg", "thin": {"pool": "p", "chunkSize": "2Gi"}}), "from 64Ki to 1Gi"),
        ] {
            let refused = pool(&json!({"lvm": lvm})).validate_cel().unwrap_err().to_string();
            assert!(refused.contains(words), "{lvm}: {refused}");
        }
        let old = json!({"lvm": {"volumeGroup": "vg", "thin": {"pool": "p"}}});
        for new in [
            json!({"volumeGroup": "other", "thin": {"pool": "p"}}),
            json!({"volumeGroup": "vg", "thin": {"pool": "q"}}),
            json!({"volumeGroup": "vg", "thick": {}}),
        ] {
            let refused =
                pool(&json!({"lvm": new})).validate_cel_update(&pool(&old)).unwrap_err().to_string();
            assert!(refused.contains("make a new StoragePool"), "{refused}");
        }
    }
}
