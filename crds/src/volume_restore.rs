//! `VolumeRestore`: brings the content of a snapshot back into the volume it was taken of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The restore that is to be carried out.
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
    doc = "Restores a Volume in place, once: as soon as no pod uses it, its content becomes that of the snapshot. Name, claim and PersistentVolume stay. What the Volume had before is kept as a VolumeSnapshot. Deleting the VolumeRestore calls it off, if the node has not begun; otherwise the restore is completed first.",
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
    validation = Rule::new("has(self.source) || has(self.snapshot)")
        .message("source is missing: name the VolumeSnapshot, as in `source: {snapshot: monday}`"),
    validation = Rule::new("!has(self.source) || !has(self.snapshot) || !has(self.source.snapshot) || self.source.snapshot == self.snapshot")
        .message("source and snapshot, its older form, name two snapshots: leave snapshot out"),
    validation = Rule::new("self.volume == oldSelf.volume && (has(self.source) && has(self.source.snapshot) ? self.source.snapshot : has(self.snapshot) ? self.snapshot : '') == (has(oldSelf.source) && has(oldSelf.source.snapshot) ? oldSelf.source.snapshot : has(oldSelf.snapshot) ? oldSelf.snapshot : '')")
        .message("a VolumeRestore can't be changed: make another one")
)]
pub struct VolumeRestoreSpec {
    /// Name of the Volume in this namespace that is restored. At most 63 characters. Immutable.
    #[schemars(length(min = 1, max = 63))]
    pub volume: String,

    /// Where the content comes from: `{snapshot: <name>}`. Absent only where `snapshot`, the older form, is there. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RestoreSource>,

    /// The older form of `source.snapshot`, which earlier versions of Tierce read. Default: what `source` says; Tierce
    /// fills it in. Immutable.
    #[serde(rename = "snapshot", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub older_snapshot: Option<String>,
}

/// Where the content comes from: exactly one member.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.snapshot)").message("source names a snapshot, as in `source: {snapshot: monday}`"))]
pub struct RestoreSource {
    /// Name of a VolumeSnapshot in this namespace that was taken of the Volume. At most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub snapshot: Option<String>,
}

impl VolumeRestoreSpec {
    /// Brings a snapshot back, in words that earlier versions of Tierce understand as well.
    pub fn of_snapshot(volume: impl Into<String>, snapshot: impl Into<String>) -> Self {
        let snapshot = Some(snapshot.into());
        let source = Some(RestoreSource { snapshot: snapshot.clone() });
        Self { volume: volume.into(), source, older_snapshot: snapshot }
    }

    /// The VolumeSnapshot, in whichever form it was given. Empty where it was given in neither, which the API server refuses.
    pub fn snapshot(&self) -> &str {
        let named = self.source.as_ref().and_then(|source| source.snapshot.as_deref());
        named.or(self.older_snapshot.as_deref()).unwrap_or_default()
    }
}

/// How far the restore is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRestoreStatus {
    /// Name of the VolumeSnapshot that keeps what the Volume had before. It stays until somebody deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// When the restore was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the Volume has the content of the snapshot. `Reconciling` (work is under way) and `Stalled` (somebody has to act) are present
    /// only while they hold. Each has a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::object;
    use serde_json::{Value, json};

    fn restore(spec: &Value) -> VolumeRestore {
        let mut spec = spec.clone();
        spec["volume"] = json!("data");
        object("back", &spec)
    }

    #[test]
    fn both_forms_name_the_snapshot() {
        let (new, old) = (json!({"source": {"snapshot": "monday"}}), json!({"snapshot": "monday"}));
        let both = serde_json::to_value(VolumeRestoreSpec::of_snapshot("data", "monday")).unwrap();
        for form in [&new, &old, &both] {
            let restore = restore(form);
            assert!(restore.validate_cel().is_ok(), "{form}");
            assert_eq!(restore.spec.snapshot(), "monday", "{form}");
        }
        assert_eq!((&both["source"], &both["snapshot"]), (&new["source"], &old["snapshot"]));
    }

    #[test]
    fn two_snapshots_or_none_are_refused() {
        for (form, words) in [
            (json!({"source": {"snapshot": "monday"}, "snapshot": "sunday"}), "leave snapshot out"),
            (json!({"source": {}}), "source names a snapshot"),
            (json!({}), "source is missing"),
        ] {
            let refused = restore(&form).validate_cel().unwrap_err().to_string();
            assert!(refused.contains(words), "{form}: {refused}");
        }
    }

    #[test]
    fn an_order_once_given_is_not_changed_but_may_change_its_form() {
        let forms = |name: &str| {
            [
                json!({"source": {"snapshot": name}}),
                json!({"snapshot": name}),
                json!({"source": {"snapshot": name}, "snapshot": name}),
            ]
        };
        for old in &forms("monday") {
            for new in &forms("monday") {
                assert!(restore(new).validate_cel_update(&restore(old)).is_ok(), "{old} {new}");
            }
            for new in &forms("sunday") {
                let refused = restore(new).validate_cel_update(&restore(old)).unwrap_err().to_string();
                assert!(refused.contains("make another one"), "{old} {new}: {refused}");
            }
        }
    }
}
