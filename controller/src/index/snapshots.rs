//! NodeSnapshots: what is remembered of each, and whom its changes concern.

use super::devices::bytes;
use super::tracked::Change;
use super::{Namespaced, Placed, State, Table, Tracked, Wakes};
use k8s_openapi::jiff::Timestamp;
use std::ops::Deref;
use std::sync::Arc;
use tierce_crds::{ClaimReference, Filesystem, NodeSnapshot, VolumeMode};

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

    /// The namespace whose users may read it.
    pub fn namespace(&self) -> Option<&str> {
        self.snapshot.as_ref().map(|snapshot| snapshot.namespace.as_str())
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

    fn connect(state: &mut State, change: &Change<'_, Self>, wakes: &mut Wakes) {
        let Change { key, old, new } = *change;
        wakes.snapshots.insert(key.clone());
        wakes.keys.extend(new.is_none().then(|| key.clone()));
        if let Some(new) = new.filter(|new| !state.has_node(&new.node)) {
            wakes.nodes.insert(new.node.clone());
        }
        for snapshot in old.into_iter().chain(new).filter_map(|snapshot| snapshot.snapshot.as_ref()) {
            let restores =
                state.open_restores.iter().filter(|restore| restore.namespace == snapshot.namespace);
            wakes.restores.extend(restores.cloned());
            state.wake_copies(&snapshot.namespace, wakes);
        }
    }
}

impl State {
    /// Snapshots on a node.
    pub fn snapshots_on(&self, node: &str) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.snapshots.iter().map(|(_, snapshot)| snapshot).filter(move |snapshot| snapshot.node == node)
    }

    /// The snapshot that was taken for the VolumeSnapshot of this name: the newest, if one of that name was deleted before.
    pub fn snapshot_of(&self, key: &Namespaced) -> Option<&Arc<Snapshot>> {
        let of_it = |snapshot: &&Arc<Snapshot>| {
            let its = snapshot.snapshot.as_ref();
            snapshot.deleting_since.is_none()
                && its.is_some_and(|its| its.namespace == key.namespace && its.name == key.name)
        };
        self.snapshots
            .iter()
            .map(|(_, snapshot)| snapshot)
            .filter(of_it)
            .max_by_key(|snapshot| snapshot.created)
    }
}
