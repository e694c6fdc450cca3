//! Whom changes of Secrets with keys concern, and what is looked up of them.

use super::restores::before_id;
use crate::index::news::{Affects, Change, News};
use crate::index::topics::{Topic, Wakes};
use crate::index::{KeySecret, SecretObject, State, Table, Tracked};
use std::sync::Arc;
use tierce_crds::{MOST_LEFTOVERS, NodeStorage, NodeStorageStatus, PoolState, names};

impl Tracked for SecretObject {
    type Key = String;
    type Facts = KeySecret;

    fn facts(self) -> Option<KeySecret> {
        KeySecret::of(self)
    }

    fn table(state: &mut State) -> &mut Table<String, KeySecret> {
        &mut state.key_secrets
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        if let Some(id) = names::of_key_secret(change.key) {
            if change.new.is_some_and(|secret| !secret.owned || secret.leaving) {
                state.keys_in_doubt.insert(id.to_owned());
            } else {
                state.keys_in_doubt.remove(id);
            }
        }
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::KeySecret(change)
    }
}

/// Secrets with keys, by the id of their volume or snapshot.
#[derive(Debug)]
pub struct KeySecrets;

impl Topic for KeySecrets {
    type Key = String;

    fn all(state: &State) -> Vec<String> {
        let names = state.key_secrets.iter().map(|(name, _)| names::of_key_secret(name));
        names.flatten().map(ToOwned::to_owned).collect()
    }

    fn is_settled(state: &State, id: &String) -> bool {
        state.key_secret(id).is_some_and(|secret| secret.owned && secret.guarded && !secret.leaving)
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<String>) {
        match *news {
            News::KeySecret(change) => {
                if let Some(id) = names::of_key_secret(change.key) {
                    wakes.now(id.to_owned());
                }
            }
            News::Device(Change { key, old, new }) => {
                if new.is_none() {
                    wakes.now(key.clone());
                }
                let order = old.and_then(|device| device.restore.as_ref());
                let is_over = new.and_then(|device| device.restore.as_ref()) != order;
                wakes.all(order.filter(|_| is_over).map(|order| order.safety.clone()));
            }
            News::PersistentVolume(Change { old: Some(old), new, .. })
                if new.is_none_or(|new| new.handle != old.handle) =>
            {
                wakes.all(state.keys_in_doubt.get(&old.handle).cloned());
            }
            News::Snapshot(Change { key, new: None, .. }) => wakes.now(key.clone()),
            News::Restore(Change { old: Some(old), new: None, .. }) => {
                wakes.all(old.metadata.uid.as_deref().map(before_id));
            }
            News::ReadableAgain => wakes.all(state.keys_in_doubt.iter().cloned()),
            // One that can't be read may have told of anything.
            News::Report(change) if change.new.is_none() => wakes.all(state.keys_in_doubt.iter().cloned()),
            News::Report(change) => match let_go(change) {
                LetGo::All => wakes.all(state.keys_in_doubt.iter().cloned()),
                LetGo::These(ids) => {
                    wakes.all(ids.into_iter().filter(|id| state.keys_in_doubt.contains(*id)).cloned());
                }
            },
            _ => {}
        }
    }
}

/// Which keys a change of a report may let go.
enum LetGo<'a> {
    All,
    These(Vec<&'a String>),
}

/// What of a report decides about keys: its figures, which change all the time, don't. One that told of something on its disks without saying of what
/// may have been what any key waited for.
fn let_go(change: Change<'_, NodeStorage>) -> LetGo<'_> {
    let Some(before) = change.old.and_then(|report| report.status.as_ref()) else { return LetGo::All };
    let nothing = NodeStorageStatus::default();
    let now = change.new.and_then(|report| report.status.as_ref()).unwrap_or(&nothing);
    let states = |status: &NodeStorageStatus| {
        status.pools.iter().map(|pool| (pool.name.clone(), pool.state)).collect::<Vec<_>>()
    };
    let same = before.unclaimed == now.unclaimed
        && before.broken_records == now.broken_records
        && states(before) == states(now);
    match (same, is_whole(before)) {
        (true, _) => LetGo::These(Vec::new()),
        (false, false) => LetGo::All,
        (false, true) => {
            LetGo::These(before.unclaimed.iter().filter(|id| !now.unclaimed.contains(id)).collect())
        }
    }
}

/// Whether the node could look at all its disks, and names all that no object speaks of.
fn is_whole(status: &NodeStorageStatus) -> bool {
    status.broken_records.is_empty()
        && status.pools.iter().all(|pool| pool.state == PoolState::Ready)
        // A list that is cut off may lack it.
        && status.unclaimed.len() < MOST_LEFTOVERS
}

impl State {
    /// Secrets with keys that are being deleted, and whose object is gone: a node may have what they open.
    pub fn keys_that_wait(&self) -> usize {
        let waits = |id: &&String| {
            let leaving = self.key_secret(id).is_some_and(|secret| secret.guarded && secret.leaving);
            leaving && !self.devices.exists(*id) && !self.snapshots.exists(*id)
        };
        self.keys_in_doubt.iter().filter(waits).count()
    }

    /// The Secret with the key of this volume or snapshot.
    pub fn key_secret(&self, id: &str) -> Option<&Arc<KeySecret>> {
        self.key_secrets.get(&names::key_secret(id))
    }

    /// Whether a node reports something of this id on its disks that no object speaks of, or so much that this may be among it. Where that was on one node
    /// only, and that one names all that it has, the others have to name this one.
    pub fn is_said_to_be_on_a_disk(&self, id: &str, home: Option<&str>) -> bool {
        let reports = || self.reports.iter().filter_map(|(_, report)| report.status.as_ref());
        let names = |status: &NodeStorageStatus| {
            // A record that can't be read is told with its file, and that has the id in its name.
            status.unclaimed.iter().any(|other| other == id)
                || status.broken_records.iter().any(|text| text.contains(id))
        };
        if reports().any(names) {
            return true;
        }
        if home.is_some_and(|home| self.tells_all(home)) {
            return false;
        }
        let full = |list: &Vec<String>| list.len() >= MOST_LEFTOVERS;
        let cut_off = |status: &NodeStorageStatus| full(&status.unclaimed) || full(&status.broken_records);
        self.reports.unreadable() > 0 || reports().any(cut_off)
    }

    /// Whether the node says, as far as can be read, what all its disks have.
    fn tells_all(&self, node: &str) -> bool {
        let report = self.reports.get(node).filter(|_| !self.reports.is_unreadable(node));
        report.and_then(|report| report.status.as_ref()).is_some_and(is_whole)
    }

    /// Whether all nodes that report could look at all their disks, and found nothing of this id that no object speaks of.
    pub fn is_on_no_disk(&self, id: &str) -> bool {
        let clear = |status: &NodeStorageStatus| {
            is_whole(status) && !status.unclaimed.iter().any(|other| other == id)
        };
        let mut reports = self.reports.iter().filter_map(|(_, report)| report.status.as_ref());
        self.reports.unreadable() == 0 && reports.all(clear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use serde_json::{Value, json};

    fn report(index: &Index, node: &str, status: &Value) {
        let object = json!({"apiVersion": names::API_VERSION, "kind": "NodeStorage", "metadata": {"name": node},
            "spec": {"nodeName": node}, "status": status});
        index.put(serde_json::from_value::<NodeStorage>(object).unwrap());
    }

    fn pool(state: &str) -> Value {
        json!([{"name": "p", "tier": "t", "state": state, "capacityBytes": 1, "usedBytes": 0, "promisedBytes": 0,
            "maxVolumeBytes": 0, "volumes": 0}])
    }

    #[test]
    fn a_node_that_may_lack_some_keeps_the_keys_that_may_lie_there() {
        let full: Vec<_> = (0..MOST_LEFTOVERS).map(|n| format!("old-{n}")).collect();
        let (whole, full) = (json!({"pools": pool("Ready")}), json!({"unclaimed": full}));
        let (named, broken) =
            (json!({"unclaimed": ["pvc-1"]}), json!({"brokenRecords": ["/p/pvc-1.json: no JSON"]}));
        for (what, n1, n2, home, kept) in [
            ("nobody has it", &whole, &whole, Some("n1"), false),
            ("nobody has it, and nobody knows where it lay", &whole, &whole, None, false),
            ("another node may have it", &whole, &full, None, true),
            ("another node has many, and never had it", &whole, &full, Some("n1"), false),
            ("its own node has many", &full, &whole, Some("n1"), true),
            (
                "its own node has a record that can't be read",
                &json!({"brokenRecords": ["x"]}),
                &full,
                Some("n1"),
                true,
            ),
            (
                "a pool of its own node is away",
                &json!({"pools": pool("Unavailable")}),
                &full,
                Some("n1"),
                true,
            ),
            ("its own node has said nothing", &Value::Null, &full, Some("n1"), true),
            ("its own node is gone", &whole, &full, Some("n3"), true),
            ("its disk is in another node", &whole, &named, Some("n1"), true),
            ("its record is broken in another node", &whole, &broken, Some("n1"), true),
        ] {
            let index = Index::default();
            report(&index, "n1", n1);
            report(&index, "n2", n2);
            let is_kept = |state: &State| state.is_said_to_be_on_a_disk("pvc-1", home);
            assert_eq!(index.read(is_kept), kept, "{what}");
        }
        let index = Index::default();
        for node in ["n1", "n2"] {
            report(&index, node, &whole);
            let meta = kube::core::ObjectMeta { name: Some(node.into()), ..Default::default() };
            index.put_unreadable::<NodeStorage>(&meta);
            let kept = |home| index.read(|state| state.is_said_to_be_on_a_disk("pvc-1", Some(home)));
            assert!(kept(node), "the report of {node} can't be read");
        }
    }
}
