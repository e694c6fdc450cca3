//! Whom changes of Secrets with keys concern, and what is looked up of them.

use super::restores::before_id;
use crate::index::news::{Affects, Change, News};
use crate::index::topics::{Topic, Wakes};
use crate::index::{KeySecret, SecretObject, State, Table, Tracked};
use std::sync::Arc;
use tierce_crds::{MOST_LEFTOVERS, NodeStorageStatus, PoolState, names};

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
            News::Device(Change { key, old, new: None }) => {
                wakes.now(key.clone());
                wakes.all(old.and_then(|device| device.restore.as_ref()).map(|order| order.safety.clone()));
            }
            News::Snapshot(Change { key, new: None, .. }) => wakes.now(key.clone()),
            News::Restore(Change { old: Some(old), new: None, .. }) => {
                wakes.all(old.metadata.uid.as_deref().map(before_id));
            }
            // A node may have said that it has nothing of theirs.
            News::Report(_) => wakes.all(state.keys_in_doubt.iter().cloned()),
            _ => {}
        }
    }
}

impl State {
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
            let all_read = status.broken_records.is_empty()
                && status.pools.iter().all(|pool| pool.state == PoolState::Ready);
            // A list that is cut off may lack it.
            let whole = status.unclaimed.len() < MOST_LEFTOVERS;
            all_read && whole && !status.unclaimed.iter().any(|other| other == id)
        };
        let mut reports = self.reports.iter().filter_map(|(_, report)| report.status.as_ref());
        self.reports.unreadable() == 0 && reports.all(clear)
    }
}
