//! Quotas: what they refuse, and in which words.

use anyhow::Result;
use serde_json::{Value, json};

use super::bed::{Bed, volume};
use super::{Test, tests};
use crate::cargo::workspace;

pub(super) fn tests() -> Vec<Test> {
    tests![a_quota_refuses_what_is_too_much].into()
}

fn a_quota_refuses_what_is_too_much(bed: &Bed<'_>) -> Result<()> {
    let name = &bed.namespace;
    let quota = |subject: Value, limits: Value| {
        let mut object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StorageQuota", "metadata": {"name": name}});
        object["spec"] = limits;
        object["spec"]["subject"] = subject;
        object["spec"]["tiers"] = json!(["hdd"]);
        object
    };
    let here = || json!({"kind": "Namespace", "name": name});
    for (subject, limits, words) in [
        (json!({"kind": "User", "name": "ada"}), json!({"hard": "1Gi"}), "subject.kind is Namespace"),
        (here(), json!({"soft": "2Gi", "hard": "1Gi"}), "soft is at most hard"),
        (here(), json!({"soft": "1Gi", "grace": "-1h"}), "grace is not negative"),
        (here(), json!({}), "at least one limit"),
    ] {
        bed.says(&bed.refused(quota(subject, limits))?, &[words])?;
    }
    let example = workspace().join("examples/storage-quota.yaml").display().to_string();
    bed.kubectl(&["apply", "--dry-run=server", "-f", &example])?;
    let result = refuses(bed, quota(here(), json!({"hard": "100Mi"})));
    let deleted = bed.delete(&format!("storagequota/{name}"));
    result.and(deleted)
}

fn refuses(bed: &Bed<'_>, quota: Value) -> Result<()> {
    let quota_name = format!("storagequota/{}", bed.namespace);
    let spec = |size: &str| json!({"size": size, "tier": "hdd", "binding": "Immediate"});
    bed.apply(quota)?;
    bed.wait(&quota_name, "condition=Ready")?;
    bed.apply(volume("first", &spec("64Mi")))?;
    bed.wait_reason("volume/first", "Provisioned")?;
    bed.apply(volume("second", &spec("64Mi")))?;
    let message = bed.wait_reason("volume/second", "QuotaExceeded")?;
    bed.says(&message, &["has 64Mi of 100Mi in hdd", "64Mi more asked", "delete volumes"])?;
    bed.until("the claim to be refused in the same words", || {
        let events = bed.kubectl(&[
            "get",
            "events",
            "--field-selector",
            "reason=ProvisioningFailed",
            "--output=json",
        ])?;
        Ok(events.contains("FailedPrecondition") && events.contains("has 64Mi of 100Mi in hdd"))
    })?;
    bed.wait(&quota_name, "jsonpath={.status.used}=64Mi")
}
