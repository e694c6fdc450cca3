//! Whom changes of NodeSnapshots concern, and what is looked up of them.

use super::quotas::of_snapshot;
use super::restores::before_id;
use crate::index::news::{Affects, Change, News};
use crate::index::topics::{Topic, Wakes};
use crate::index::{Namespaced, Snapshot, State, Table, Tracked};
use std::sync::Arc;
use tierce_crds::NodeSnapshot;

impl Tracked for NodeSnapshot {
    type Key = String;
    type Facts = Snapshot;

    fn facts(self) -> Option<Snapshot> {
        Some(Snapshot::of(self))
    }

    fn table(state: &mut State) -> &mut Table<String, Snapshot> {
        &mut state.snapshots
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        let node = |snapshot: &Arc<Snapshot>| snapshot.node.clone();
        state.snapshots_of_node.change(key, old.map(node), new.map(node));
        let source = |snapshot: &Arc<Snapshot>| snapshot.source.clone();
        state.snapshots_from.change(key, old.map(source), new.map(source));
        state.snapshots_of_namespace.change(key, old.and_then(of_snapshot), new.and_then(of_snapshot));
        let name = |snapshot: &Arc<Snapshot>| snapshot.name();
        state.snapshots_named.change(key, old.and_then(name), new.and_then(name));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Snapshot(change)
    }
}

/// NodeSnapshots that may be orphans, by id.
#[derive(Debug)]
pub struct Snapshots;

impl Topic for Snapshots {
    type Key = String;

    fn all(state: &State) -> Vec<String> {
        state.snapshots.iter().map(|(id, _)| id.clone()).collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<String>) {
        match *news {
            News::Snapshot(change) => wakes.now(change.key.clone()),
            // A handle is the name of its NodeSnapshot.
            News::Content(change) => wakes.all(change.both().flat_map(|content| content.speaks_of.clone())),
            News::ContentsListed => wakes.all(Self::all(state)),
            // Its safety may have lost its namespace.
            News::Restore(Change { old: Some(old), new: None, .. }) => {
                wakes.all(old.metadata.uid.as_deref().map(before_id));
            }
            _ => {}
        }
    }
}

impl State {
    /// Snapshots on a node.
    pub fn snapshots_on(&self, node: &str) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.snapshots_of_node.of(node).filter_map(|id| self.snapshots.get(id))
    }

    /// Snapshots of the volume of this id.
    pub fn snapshots_from(&self, id: &str) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.snapshots_from.of(id).filter_map(|id| self.snapshots.get(id))
    }

    /// The snapshot that the VolumeSnapshot of this name has. Its `VolumeSnapshotContent` says which, also where that was taken for a
    /// VolumeSnapshot of another name; where there is none, it is the newest that was taken for one of this name.
    pub fn snapshot_of(&self, key: &Namespaced) -> Option<&Arc<Snapshot>> {
        let content = self.content_of(key);
        if let Some(handle) = content.and_then(|content| content.handle.as_ref()) {
            return self.snapshots.get(handle).filter(|snapshot| snapshot.deleting_since.is_none());
        }
        let named = self.snapshots_named.of(key).filter_map(|id| self.snapshots.get(id));
        let living = named.filter(|snapshot| {
            snapshot.deleting_since.is_none() && content.is_none_or(|content| content.speaks_of(snapshot))
        });
        living.max_by_key(|snapshot| snapshot.created)
    }
}
