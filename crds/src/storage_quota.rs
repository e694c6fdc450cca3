//! `StorageQuota`: how much storage somebody may have.

use crate::{parse_bytes, quantity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::SignedDuration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most subjects that a status lists.
pub const MOST_TOLD: usize = 100;

/// For how long more than the soft limit is fine where nothing is said: a week, in hours.
const DEFAULT_GRACE: i64 = 7 * 24;

const SOFT_IS_NOT_MORE: &str = "!has(self.soft) || !has(self.hard) || !isQuantity(string(self.soft)) || !isQuantity(string(self.hard)) \
    || quantity(string(self.soft)).compareTo(quantity(string(self.hard))) <= 0";
const A_SIZE: &str = "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) >= 0";

/// How much storage each subject may have.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "StorageQuota",
    plural = "storagequotas",
    shortname = "tquota",
    category = "tierce",
    status = "StorageQuotaStatus",
    derive = "PartialEq",
    doc = "How much storage a namespace may have, with all its volumes of Tierce together. Only making and growing volumes is ever refused: never mounting, reading, writing, or deleting.",
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject.name"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Soft", type_ = "string", json_path = ".status.soft"),
    printcolumn(name = "Hard", type_ = "string", json_path = ".status.hard"),
    printcolumn(name = "Volumes", type_ = "integer", format = "int64", json_path = ".status.volumes", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a StorageQuota has at most 63 characters")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.soft) || has(self.hard) || has(self.volumes)").message("a StorageQuota has at least one limit: soft, hard or volumes"),
    validation = Rule::new(SOFT_IS_NOT_MORE).message("soft is at most hard: beyond soft a grace begins, and hard is never exceeded"),
    validation = Rule::new("!has(self.grace) || has(self.soft) || (has(self.volumes) && has(self.volumes.soft))").message("grace has no meaning without a soft limit: give one, or leave grace out")
)]
pub struct StorageQuotaSpec {
    /// Whose storage is limited.
    pub subject: QuotaSubject,

    /// Tiers whose volumes count, at most 32, each once. Default: none, then those of all tiers count, together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 40)))]
    #[x_kube(validation = Rule::new("self.all(tier, self.exists_one(other, other == tier))").message("tiers names each tier once"))]
    pub tiers: Vec<String>,

    /// Bytes as a Kubernetes quantity, for example `80Gi`, beyond which the grace begins. Default: no soft limit.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "quantity::optional")]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = Rule::new(A_SIZE).message("soft is a quantity of bytes, for example 80Gi"))]
    pub soft: Option<String>,

    /// Bytes as a Kubernetes quantity, for example `100Gi`, that are never exceeded. Default: no hard limit.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "quantity::optional")]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(validation = Rule::new(A_SIZE).message("hard is a quantity of bytes, for example 100Gi"))]
    pub hard: Option<String>,

    /// How long a subject may stay beyond a soft limit, as hours, minutes and seconds, for example `168h` (a week, the default). After that nothing is
    /// made or grown until the subject is back at the soft limit. `0s`: the soft limit is never exceeded either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), regex(pattern = "^-?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+h)?([0-9]+m)?([0-9]+s)?$') && self != ''").message("grace is not negative: write hours, minutes and seconds, for example 168h or 36h30m"))]
    pub grace: Option<String>,

    /// How many volumes a subject may have. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumeLimits>,

    /// Whether snapshots count, each with the size that its volume had (default `false`). Taking one is never refused: it only leaves less for
    /// volumes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub count_snapshots: bool,
}

/// Whose storage is limited.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.kind == 'Namespace'").message("subject.kind is Namespace: quotas of a User, a Group or a Project can't be set yet, since nothing enforces them")
)]
pub struct QuotaSubject {
    /// What the subject is: `Namespace`. Volumes count for the namespace of the claim that they were made for.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the namespace, or `*` for each namespace by itself. A quota that names a namespace takes there the place of those of `*` with the
    /// same tiers.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))]
    pub name: String,
}

/// How many volumes a subject may have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.soft) || self.soft <= self.hard").message("volumes.soft is at most volumes.hard"))]
pub struct VolumeLimits {
    /// Volumes beyond which the grace begins. Default: no soft limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub soft: Option<i64>,
    /// Volumes that are never exceeded.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub hard: i64,
}

/// What is used of the quota now.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageQuotaStatus {
    /// Bytes that count, as a quantity: what was promised, not what is written. With subject `*`: those of the namespace that has the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// The soft limit, as `spec.soft` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<String>,
    /// The hard limit, as `spec.hard` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<String>,
    /// Number of volumes that count. With subject `*`: of the namespace that has the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<i64>,
    /// Subjects beyond a soft limit, at most 100: those first whose grace ends first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub subjects_over_soft: Vec<SubjectOverSoft>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the quota is kept as its spec says. `SoftLimitExceeded` is present only while a subject is beyond a soft limit, `Stalled` only while
    /// somebody has to act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A subject beyond a soft limit.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectOverSoft {
    /// Name of the subject.
    pub name: String,
    /// Bytes that the subject has, as a quantity.
    pub used: String,
    /// Number of volumes that the subject has.
    pub volumes: i64,
    /// Since when the subject is beyond the soft limit.
    pub since: Time,
    /// When nothing more is made or grown for the subject.
    pub grace_ends: Time,
}

impl StorageQuotaSpec {
    /// The kind of subject that is enforced.
    pub const NAMESPACE: &'static str = "Namespace";
    /// The name that stands for each subject by itself.
    pub const EACH: &'static str = "*";

    /// Whether volumes of this tier count. One whose tier nobody knows any more counts where all do.
    pub fn counts(&self, tier: Option<&str>) -> bool {
        self.tiers.is_empty() || tier.is_some_and(|tier| self.tiers.iter().any(|its| its == tier))
    }

    /// Whether the other one has the same tiers, in whichever order.
    pub fn has_tiers_of(&self, other: &Self) -> bool {
        self.tiers.len() == other.tiers.len() && self.tiers.iter().all(|tier| other.tiers.contains(tier))
    }

    /// The soft limit in bytes.
    pub fn soft_bytes(&self) -> Option<u64> {
        self.soft.as_deref().and_then(|text| parse_bytes(text).ok())
    }

    /// The hard limit in bytes.
    pub fn hard_bytes(&self) -> Option<u64> {
        self.hard.as_deref().and_then(|text| parse_bytes(text).ok())
    }

    /// How long a subject may stay beyond a soft limit.
    pub fn grace(&self) -> SignedDuration {
        let said = self.grace.as_deref().and_then(|text| text.parse::<SignedDuration>().ok());
        said.unwrap_or_else(|| SignedDuration::from_hours(DEFAULT_GRACE)).max(SignedDuration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::object;
    use serde_json::{Value, json};

    fn quota(fields: &Value) -> StorageQuota {
        let mut spec = json!({"subject": {"kind": "Namespace", "name": "ada"}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        object("q", &spec)
    }

    #[test]
    fn what_can_not_be_kept_is_refused_with_a_word_that_helps() {
        for (fields, words) in [
            (json!({"hard": "100Gi"}), ""),
            (json!({"hard": 1024}), ""),
            (json!({"soft": "100Gi", "hard": "100Gi", "grace": "168h"}), ""),
            (json!({"soft": "1Gi", "grace": "0s"}), ""),
            (json!({"volumes": {"hard": 20}}), ""),
            (json!({"volumes": {"soft": 10, "hard": 20}, "grace": "36h30m"}), ""),
            (json!({}), "at least one limit"),
            (json!({"soft": "2Gi", "hard": "1Gi"}), "soft is at most hard"),
            (json!({"hard": "much"}), "hard is a quantity"),
            (json!({"soft": "-1"}), "soft is a quantity"),
            (json!({"volumes": {"soft": 21, "hard": 20}}), "volumes.soft is at most volumes.hard"),
            (json!({"soft": "1Gi", "grace": "-1h"}), "grace is not negative"),
            (json!({"soft": "1Gi", "grace": ""}), "grace is not negative"),
            (json!({"hard": "1Gi", "grace": "1h"}), "grace has no meaning without a soft limit"),
            (json!({"hard": "1Gi", "tiers": ["ssd", "hdd", "ssd"]}), "tiers names each tier once"),
            (json!({"hard": "1Gi", "subject": {"kind": "User", "name": "ada"}}), "subject.kind is Namespace"),
        ] {
            match quota(&fields).validate_cel() {
                Ok(()) => assert_eq!(words, "", "{fields}"),
                Err(refused) => {
                    let refused = refused.to_string();
                    assert!(!words.is_empty() && refused.contains(words), "{fields}: {refused}");
                }
            }
        }
    }

    #[test]
    fn a_grace_is_read_as_kubernetes_writes_durations() {
        for (grace, hours) in [(json!("168h"), 168.0), (json!("36h30m"), 36.5), (json!("0s"), 0.0)] {
            let spec = quota(&json!({"soft": "1Gi", "grace": grace})).spec;
            assert!((spec.grace().as_secs_f64() / 3600.0 - hours).abs() < 1e-6, "{grace}");
        }
        assert_eq!(quota(&json!({"soft": "1Gi"})).spec.grace(), SignedDuration::from_hours(168));
    }

    #[test]
    fn tiers_are_compared_in_any_order() {
        let of = |tiers: &[&str]| quota(&json!({"hard": "1Gi", "tiers": tiers})).spec;
        assert!(of(&["a", "b"]).has_tiers_of(&of(&["b", "a"])) && of(&[]).has_tiers_of(&of(&[])));
        assert!(!of(&["a"]).has_tiers_of(&of(&[])) && !of(&["a"]).has_tiers_of(&of(&["b"])));
        assert!(of(&[]).counts(None) && of(&["a"]).counts(Some("a")));
        assert!(!of(&["a"]).counts(None) && !of(&["a"]).counts(Some("b")));
    }
}
