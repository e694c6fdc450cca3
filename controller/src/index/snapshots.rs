//! What is remembered of snapshots and of restores in place, and whom their changes concern.

use super::facts::{NodeWord, bytes};
use super::{Namespaced, State, Table, Tracked, Wakes};
use crate::restore;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;
use tierce_crds::{ClaimReference, Filesystem, NodeSnapshot, VolumeMode, VolumeRestore, conditions, names};

/// A `NodeSnapshot`.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Name: the CSI snapshot id.
    pub id: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Node.
    pub node: String,
    /// `StoragePool`.
    pub pool: String,
    /// Id of the volume that it is taken of.
    pub source: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Which key opens it.
    pub fingerprint: Option<String>,
    /// The VolumeSnapshot that it is taken for.
    pub snapshot: Option<ClaimReference>,
    /// When the object was made.
    pub created: Option<Timestamp>,
    /// When it was told to go.
    pub deleting_since: Option<Timestamp>,
    /// Whether the node may still have something of it.
    pub on_node: bool,
    /// Bytes of the volume at that moment; `None` until it exists.
    pub size: Option<u64>,
    /// The moment whose data it holds.
    pub taken_at: Option<Timestamp>,
    /// What it holds.
    pub mode: Option<VolumeMode>,
    /// With mode Filesystem.
    pub filesystem: Option<Filesystem>,
    /// What the node says; `None` while it says nothing yet.
    pub word: Option<NodeWord>,
}

impl Snapshot {
    /// The facts of this object.
    pub fn of(object: NodeSnapshot) -> Self {
        let NodeSnapshot { metadata: meta, spec, status } = object;
        let status = status.unwrap_or_default();
        let word = NodeWord::of(&status.conditions, status.observed_generation, meta.generation);
        Self {
            id: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            node: spec.node_name,
            pool: spec.pool,
            source: spec.source,
            encrypted: spec.encrypted,
            fingerprint: status.key_fingerprint,
            snapshot: spec.snapshot,
            created: meta.creation_timestamp.map(|t| t.0),
            deleting_since: meta.deletion_timestamp.map(|t| t.0),
            on_node: meta.finalizers.iter().flatten().any(|f| f == names::FINALIZER_ON_NODE),
            size: status.size_bytes.map(bytes),
            taken_at: status.taken_at.map(|t| t.0),
            mode: status.volume_mode,
            filesystem: status.filesystem,
            word,
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

    fn key(meta: &ObjectMeta) -> String {
        meta.name.clone().unwrap_or_default()
    }

    fn facts(self) -> Option<Snapshot> {
        Some(Snapshot::of(self))
    }

    fn table(state: &mut State) -> &mut Table<String, Snapshot> {
        &mut state.snapshots
    }

    fn connect(
        state: &mut State,
        key: &String,
        old: Option<&Arc<Snapshot>>,
        new: Option<&Arc<Snapshot>>,
        wakes: &mut Wakes,
    ) {
        wakes.snapshots.insert(key.clone());
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

impl Tracked for VolumeRestore {
    type Key = Namespaced;
    type Facts = Self;

    fn key(meta: &ObjectMeta) -> Namespaced {
        Namespaced::of(meta)
    }

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        self.metadata.annotations = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.restores
    }

    fn connect(
        state: &mut State,
        key: &Namespaced,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        wakes: &mut Wakes,
    ) {
        wakes.restores.insert(key.clone());
        if new.is_some_and(|restore| !is_over(restore)) {
            state.open_restores.insert(key.clone());
        } else {
            state.open_restores.remove(key);
        }
        // The next restore of the same volume may have waited for this one.
        for restore in old.into_iter().chain(new) {
            state.wake_restores(&Namespaced::new(&key.namespace, &restore.spec.volume), wakes);
        }
    }
}

/// Whether nothing will be done about it any more.
fn is_over(restore: &VolumeRestore) -> bool {
    let ours = restore.metadata.finalizers.iter().flatten().any(|f| f == names::FINALIZER_RESTORE);
    !ours && (restore::is_over(restore) || restore.metadata.deletion_timestamp.is_some())
}

impl State {
    /// Open restores of this Volume are looked at again.
    pub(super) fn wake_restores(&self, volume: &Namespaced, wakes: &mut Wakes) {
        let of_it = |key: &&Namespaced| {
            key.namespace == volume.namespace
                && self.restores.get(*key).is_some_and(|restore| restore.spec.volume == volume.name)
        };
        wakes.restores.extend(self.open_restores.iter().filter(of_it).cloned());
    }

    /// Volumes of the namespace that wait for what they start with are looked at again.
    pub(super) fn wake_copies(&self, namespace: &str, wakes: &mut Wakes) {
        wakes.volumes.extend(self.copies.iter().filter(|key| key.namespace == namespace).cloned());
    }

    /// The `NodeVolume` behind the claim of this name.
    pub fn device_of(&self, claim: &Namespaced) -> Option<&Arc<super::Device>> {
        let found = self.claims.get(claim)?;
        // A claim may name any PersistentVolume; it counts only if that one names the claim.
        let bound = found.volume_name.as_ref().and_then(|name| self.persistent_volumes.get(name));
        match bound.filter(|pv| pv.claim_uid.as_ref() == Some(&found.uid)) {
            Some(pv) => self.devices.get(&pv.handle),
            None => self.devices.get(&found.device_id()),
        }
    }

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

    /// The namespaces whose users may read the volume of this id: those of the claims that its PersistentVolumes are bound
    /// to, else that of the claim it was made for. A retained volume may have come to another namespace.
    pub fn namespace_of(&self, id: &str) -> Option<String> {
        let names = self.volumes_of_handle.get(id).into_iter().flatten();
        let mut bound = names
            .filter_map(|name| self.persistent_volumes.get(name))
            .filter_map(|pv| pv.claim.as_ref().map(|claim| claim.namespace.clone()));
        bound.next().or_else(|| {
            self.devices.get(id).and_then(|device| device.claim.as_ref()).map(|claim| claim.namespace.clone())
        })
    }
}
