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

    /// Whether a node reports something of this id on its disks that no object speaks of, or reports so much that this may be among it.
    pub fn is_said_to_be_on_a_disk(&self, id: &str) -> bool {
        let full = |list: &Vec<String>| list.len() >= MOST_LEFTOVERS;
        let says = |status: &NodeStorageStatus| {
            let (unclaimed, broken) = (&status.unclaimed, &status.broken_records);
            // A record that can't be read is told with its file, and that has the id in its name.
            full(unclaimed)
                || full(broken)
                || unclaimed.iter().any(|other| other == id)
                || broken.iter().any(|text| text.contains(id))
        };
        let mut reports = self.reports.iter().filter_map(|(_, report)| report.status.as_ref());
        self.reports.unreadable() > 0 || reports.any(says)
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
