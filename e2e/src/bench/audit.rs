//! Writes to the API server, counted from its audit log.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::cluster::audit::{self, Entry};

/// The sidecars share the account of the controller.
const SIDECARS: &str = "csi-";
/// Written at a steady rate whatever happens, or for people only.
const NOT_COUNTED: [&str; 2] = ["leases", "events"];

/// A place in the audit log.
pub(super) struct Mark(audit::Mark);

/// How often each kind of write was done by us: verb and resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writes(BTreeMap<String, u32>);

impl Mark {
    /// The end of the log as it is now.
    pub(super) fn now(log: &Path) -> Result<Self> {
        audit::Mark::now(log).map(Self)
    }

    /// Our writes since then.
    pub(super) fn writes_since(&self) -> Result<Writes> {
        Ok(count(self.0.entries_since()?))
    }
}

fn count(entries: Vec<Entry>) -> Writes {
    let mut writes = Writes::default();
    for entry in entries {
        let ours = entry.is_ours() && !entry.user_agent.starts_with(SIDECARS);
        let Some(object) = entry.object_ref else { continue };
        let counted = entry.stage == "ResponseComplete"
            && !matches!(entry.verb.as_str(), "get" | "list" | "watch")
            && !NOT_COUNTED.contains(&object.resource.as_str());
        if ours && counted {
            let part = object.subresource.map(|part| format!("/{part}")).unwrap_or_default();
            *writes.0.entry(format!("{} {}{part}", entry.verb, object.resource)).or_default() += 1;
        }
    }
    writes
}

impl Writes {
    /// How many in all, for each of `things`.
    pub(super) fn each(&self, things: u32) -> f64 {
        f64::from(self.0.values().sum::<u32>()) / f64::from(things)
    }

    /// What they are made of, for each of `things`.
    pub(super) fn made_of(&self, things: u32) -> String {
        let parts = self.0.iter().map(|(what, times)| {
            let each = f64::from(*times) / f64::from(things);
            format!("{each:.2} {what}")
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(
        account: &str,
        agent: &str,
        verb: &str,
        resource: &str,
        part: Option<&str>,
        stage: &str,
    ) -> String {
        let user = format!("system:serviceaccount:{account}");
        json!({"stage": stage, "verb": verb, "user": {"username": user}, "userAgent": agent,
            "objectRef": {"resource": resource, "subresource": part}})
        .to_string()
    }

    #[test]
    fn only_our_own_writes_to_objects_are_counted() {
        let done = "ResponseComplete";
        let (controller, node) = ("tierce-system:tierce-controller", "tierce-system:tierce-node");
        let log = [
            line(controller, "tierce-controller/0.1.0", "create", "nodevolumes", None, done),
            line(node, "", "patch", "nodevolumes", Some("status"), done),
            line(node, "", "patch", "nodevolumes", Some("status"), done),
            line(controller, "tierce-controller/0.1.0", "update", "leases", None, done),
            line(controller, "tierce-controller/0.1.0", "list", "volumes", None, done),
            line(controller, "csi-provisioner/v6", "create", "persistentvolumes", None, done),
            line(node, "", "patch", "nodevolumes", None, "ResponseStarted"),
            line("kube-system:tierce", "", "create", "nodevolumes", None, done),
            "{\"stage\":\"Resp".to_owned(),
        ]
        .join("\n");
        let writes = count(audit::read(&log));
        assert_eq!(writes.each(2).to_string(), "1.5");
        assert_eq!(writes.made_of(2), "0.50 create nodevolumes, 1.00 patch nodevolumes/status");
    }
}
