//! What csi-sanity reports of each of its specs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// Why a spec may be skipped: what csi-sanity says, and what we therefore don't claim.
const NOT_CLAIMED: [(&str, &str); 13] = [
    ("ControllerGetVolumeHealth not supported", "no volume health"),
    ("ControllerListVolumeHealth not supported", "no volume health"),
    ("NodeGetVolumeHealth not supported", "no volume health"),
    ("NodeGetStorageHealth not supported", "no volume health"),
    ("ControllerPublishVolume not supported", "volumes are local: nothing to attach"),
    ("ControllerPublishVolume.readonly field not supported", "volumes are local: nothing to attach"),
    ("Controller Publish, UnpublishVolume not supported", "volumes are local: nothing to attach"),
    ("ControllerUnpublishVolume not supported", "volumes are local: nothing to attach"),
    ("Modify volume not supported", "no VolumeAttributesClass"),
    ("Modify Volume not supported", "no VolumeAttributesClass"),
    ("ControllerModifyVolume not supported", "no VolumeAttributesClass"),
    ("GroupControllerService not supported", "no group snapshots"),
    ("SNAPSHOT_ACCESSIBILITY_CONSTRAINTS not supported", "a snapshot lies where its volume does"),
];

/// A number of specs by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Specs that held.
    pub(super) passed: usize,
    /// Specs that did not hold, or were skipped for a reason that is not ours.
    pub(super) failed: usize,
    /// Specs of capabilities that are not claimed.
    pub(super) skipped: usize,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The outcome of one run of csi-sanity.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// How many specs, by outcome.
    pub(super) count: Count,
    /// Each failed spec with its message.
    pub(super) failures: Vec<String>,
    /// What is not claimed, what csi-sanity says of it, and how many specs that is.
    pub(super) skips: BTreeMap<(&'static str, String), usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
}

/// Reads Ginkgo's JSON report.
pub(super) fn read(report: &str) -> Result<Outcome> {
    let suites: Vec<Suite> = serde_json::from_str(report).context("csi-sanity's report can't be read")?;
    let mut outcome = Outcome::default();
    for spec in suites.into_iter().flat_map(|suite| suite.spec_reports) {
        outcome.add(spec);
    }
    Ok(outcome)
}

impl Outcome {
    fn add(&mut self, spec: Spec) {
        let message = spec.failure.map(|failure| failure.message).unwrap_or_default();
        let is_spec = spec.leaf_node_type == "It";
        let mut name = spec.container_hierarchy_texts.unwrap_or_default();
        name.push(if is_spec { spec.leaf_node_text } else { spec.leaf_node_type });
        let name = name.join(" › ");
        match (spec.state.as_str(), not_claimed(&message)) {
            ("passed", _) => self.count.passed += usize::from(is_spec),
            // csi-sanity itself has switched it off.
            ("pending", _) => {}
            ("skipped", Some(why)) => {
                self.count.skipped += 1;
                *self.skips.entry((why, message)).or_default() += 1;
            }
            ("skipped", None) => {
                self.count.failed += 1;
                self.failures.push(format!("{name}\n    skipped, but we do claim it: {message}"));
            }
            (state, _) => {
                self.count.failed += 1;
                let message = message.trim_end().replace('\n', "\n    ");
                self.failures.push(format!("{name}\n    {state}: {message}"));
            }
        }
    }
}

fn not_claimed(reason: &str) -> Option<&'static str> {
    // csi-sanity has many sentences about snapshots, all of which end alike.
    let snapshots = reason.contains("Snapshot") && reason.ends_with("not supported");
    let said = if snapshots { "Snapshot" } else { reason };
    NOT_CLAIMED.iter().find(|(reason, _)| *reason == said).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(state: &str, message: &str) -> serde_json::Value {
        json!({"ContainerHierarchyTexts": ["Node"], "LeafNodeType": "It", "LeafNodeText": "works",
            "State": state, "Failure": {"Message": message}})
    }

    fn outcome(specs: &[serde_json::Value]) -> Outcome {
        read(&json!([{"SpecReports": specs}]).to_string()).unwrap()
    }

    #[test]
    fn specs_are_counted_by_outcome() {
        let found = outcome(&[
            spec("passed", ""),
            spec("failed", "Expected\n  1"),
            spec("timedout", ""),
            spec("pending", ""),
            spec("skipped", "Modify volume not supported"),
            spec("skipped", "GroupControllerService not supported"),
        ]);
        assert_eq!(found.count, Count { passed: 1, failed: 2, skipped: 2 });
        assert_eq!(found.failures[0], "Node › works\n    failed: Expected\n      1");
        assert_eq!(found.skips[&("no VolumeAttributesClass", "Modify volume not supported".to_owned())], 1);
    }

    #[test]
    fn a_skip_of_something_that_we_claim_is_a_failure() {
        for claimed in ["NodeExpandVolume not supported", "GetCapacity not supported", ""] {
            assert_eq!(outcome(&[spec("skipped", claimed)]).count.failed, 1, "{claimed}");
        }
    }

    #[test]
    fn setup_counts_only_when_it_fails() {
        let setup = |state: &str| json!({"LeafNodeType": "BeforeSuite", "State": state});
        assert_eq!(outcome(&[setup("passed")]).count, Count::default());
        assert_eq!(outcome(&[setup("panicked")]).count.failed, 1);
    }

    #[test]
    fn a_report_without_specs_proves_nothing_and_is_seen() {
        assert_eq!(outcome(&[]).count.passed, 0);
        assert!(read("").is_err());
    }
}
