//! NodeSnapshots: what is remembered of each, and whom its changes concern.

use super::devices::bytes;
use crate::index::topics::{Affects, News, Topic, Wakes};
use crate::index::tracked::Change;
use crate::index::{Namespaced, Placed, State, Table, Tracked};
use k8s_openapi::jiff::Timestamp;
use std::ops::Deref;
use std::sync::Arc;
use tierce_crds::{ClaimReference, Filesystem, NodeSnapshot, VolumeMode};
use tierce_policy::tenancy::Tenant;

/// A `NodeSnapshot`.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What every object that a node carries out has.
    pub placed: Placed,
    /// Id of the volume that it is taken of.
    pub source: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Which key opens it.
    pub fingerprint: Option<String>,
    /// The VolumeSnapshot that it is taken for.
    pub snapshot: Option<ClaimReference>,
    /// Bytes of the volume at that moment; `None` until it exists.
    pub size: Option<u64>,
    /// The moment whose data it holds.
    pub taken_at: Option<Timestamp>,
    /// What it holds.
    pub mode: Option<VolumeMode>,
    /// With mode Filesystem.
    pub filesystem: Option<Filesystem>,
}

impl Deref for Snapshot {
    type Target = Placed;

    fn deref(&self) -> &Placed {
        &self.placed
    }
}

impl Snapshot {
    /// The facts of this object.
    pub fn of(object: NodeSnapshot) -> Self {
        let NodeSnapshot { metadata: meta, spec, status } = object;
        let status = status.unwrap_or_default();
        let said = (status.conditions.as_slice(), status.observed_generation);
        Self {
            placed: Placed::of(meta, (spec.node_name, spec.pool), said),
            source: spec.source,
            encrypted: spec.encrypted,
            fingerprint: status.key_fingerprint,
            snapshot: spec.snapshot,
            size: status.size_bytes.map(bytes),
            taken_at: status.taken_at.map(|t| t.0),
            mode: status.volume_mode,
            filesystem: status.filesystem,
        }
    }

    /// Whether it is there and can be restored.
    pub fn ready(&self) -> bool {
        self.size.is_some() && self.word.as_ref().is_some_and(|word| word.ready)
    }

    /// Name of the VolumeSnapshot.
    pub(super) fn name(&self) -> Option<Namespaced> {
        self.snapshot.as_ref().map(|snapshot| Namespaced::new(&snapshot.namespace, &snapshot.name))
    }

    /// Whose its bytes are.
    pub fn tenant(&self) -> Tenant {
        Tenant::of(self.snapshot.as_ref())
    }
}

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

    /// The snapshot that was taken for the VolumeSnapshot of this name: the newest, if one of that name was deleted before.
    pub fn snapshot_of(&self, key: &Namespaced) -> Option<&Arc<Snapshot>> {
        let named = self.snapshots_named.of(key).filter_map(|id| self.snapshots.get(id));
        let living = named.filter(|snapshot| snapshot.deleting_since.is_none());
        living.max_by_key(|snapshot| snapshot.created)
    }
}
