//! `VolumeRestore`: brings the content of a snapshot back into the volume it was taken of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What goes back to what.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "VolumeRestore",
    plural = "volumerestores",
    shortname = "trestore",
    category = "tierce",
    namespaced,
    status = "VolumeRestoreStatus",
    derive = "PartialEq",
    doc = "Restores a Volume in place, once: as soon as no pod uses it, its content becomes that of the snapshot. Name, claim and PersistentVolume stay. What the Volume had before is kept as a VolumeSnapshot. Deleting it calls it off, if the node has not begun; else it is carried to its end first.",
    printcolumn(name = "Volume", type_ = "string", json_path = ".spec.volume"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".spec.snapshot"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Before", type_ = "string", json_path = ".status.before"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a VolumeRestore has at most 63 characters")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a VolumeRestore can't be changed: make another one")
)]
pub struct VolumeRestoreSpec {
    /// Volume in this namespace. Immutable.
    #[schemars(length(min = 1, max = 63))]
    pub volume: String,
    /// VolumeSnapshot in this namespace, taken of that Volume. Immutable.
    #[schemars(length(min = 1, max = 253))]
    pub snapshot: String,
}

/// How far it is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRestoreStatus {
    /// VolumeSnapshot of what the Volume had before; it stays until somebody deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the Volume has the content of the snapshot. `Reconciling` and `Stalled` while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore(snapshot: &str) -> VolumeRestore {
        VolumeRestore::new("back", VolumeRestoreSpec { volume: "data".into(), snapshot: snapshot.into() })
    }

    #[test]
    fn an_order_once_given_is_not_changed() {
        let refused = restore("b").validate_cel_update(&restore("a")).unwrap_err().to_string();
        assert!(refused.contains("make another one"), "{refused}");
        assert!(restore("a").validate_cel_update(&restore("a")).is_ok());
    }
}
