//! `StorageLedger`: what is asked for of a quota and not to be seen in a NodeVolume yet. Written by the controller alone.

use crate::{QuotaSubject, StorageQuotaSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one subject of quotas has reserved, and since when it is over a soft limit.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "StorageLedger",
    plural = "storageledgers",
    shortname = "tledger",
    category = "tierce",
    derive = "PartialEq",
    doc = "What one subject of StorageQuotas has reserved for volumes that are just being made or grown. Written by the controller; users need not look at it. It can be deleted at any time: it is made anew of the NodeVolumes, and a grace begins anew.",
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct StorageLedgerSpec {
    /// Whose ledger this is; never `*`.
    pub subject: QuotaSubject,
    /// Volumes that a call makes or grows just now, at most 10000. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10000))]
    pub in_flight: Vec<LedgerEntry>,
    /// Since when the subject is over soft limits. Default: over none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub over: Vec<OverSince>,
    /// A resource version of NodeVolumes: who has not heard of it yet can't know what the subject has. Default 0, which everybody has heard of.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub seen: i64,
}

/// A volume that is just being made or grown.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// Name of the NodeVolume.
    #[schemars(length(min = 1, max = 63))]
    pub volume: String,
    /// Tier of the volume.
    #[schemars(length(max = 63))]
    pub tier: String,
    /// Size in bytes that the volume is to have.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// When the call asked for it. Without a NodeVolume it counts no more after some minutes.
    pub since: Time,
}

/// A soft limit that the subject exceeds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverSince {
    /// UID of the StorageQuota.
    #[schemars(length(min = 1, max = 64))]
    pub quota: String,
    /// Since when the subject has more bytes than `soft`. Absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Time>,
    /// Since when the subject has more volumes than `volumes.soft`. Absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Time>,
}

impl StorageLedger {
    /// That of a namespace, with nothing in it.
    pub fn of_namespace(namespace: &str) -> Self {
        let subject =
            QuotaSubject { kind: StorageQuotaSpec::NAMESPACE.to_owned(), name: namespace.to_owned() };
        let spec = StorageLedgerSpec { subject, in_flight: Vec::new(), over: Vec::new(), seen: 0 };
        Self::new(&Self::name_of_namespace(namespace), spec)
    }

    /// Name of the ledger of a namespace.
    pub fn name_of_namespace(namespace: &str) -> String {
        format!("namespace-{namespace}")
    }

    /// The namespace whose ledger this is.
    pub fn namespace(&self) -> Option<&str> {
        let subject = &self.spec.subject;
        (subject.kind == StorageQuotaSpec::NAMESPACE).then_some(subject.name.as_str())
    }
}
