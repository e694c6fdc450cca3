//! What it takes to watch a kind: what is kept of each object, and what is told of its changes. Each kind has it in the file of its name in
//! `kinds`; what is kept of it is in `facts`.

use super::key::Key;
use super::state::State;
use super::table::Table;
use super::{
    ClaimObject, ClassObject, ContentObject, NodeObject, PersistentVolumeObject, PodObject, SecretObject,
};
use std::sync::Arc;
use tierce_crds::{NodeSnapshot, NodeStorage, NodeVolume, StoragePool, Volume, VolumeRestore};

/// A kind that is watched.
pub trait Tracked: Sized {
    /// What identifies an object.
    type Key: Key;
    /// What is kept of it.
    type Facts: PartialEq;

    /// What is kept; `None` if the object is of no interest.
    fn facts(self) -> Option<Self::Facts>;
    /// Where it is kept.
    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Facts>;
    /// Keeps the connections; says what the change means for room.
    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects;
    /// What is told of a change, once the connections say so.
    fn news(change: Change<'_, Self>) -> News<'_>;
    /// What is told when all of them were listed.
    fn listed() -> Option<News<'static>> {
        None
    }
}

/// What has become of one object.
pub struct Change<'a, T: Tracked> {
    /// Which.
    pub key: &'a T::Key,
    /// What was known of it.
    pub old: Option<&'a Arc<T::Facts>>,
    /// What is known now; `None` where it is gone, or of no interest any more.
    pub new: Option<&'a Arc<T::Facts>>,
}

impl<T: Tracked> Clone for Change<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Tracked> Copy for Change<'_, T> {}

impl<'a, T: Tracked> Change<'a, T> {
    /// What was known, and what is.
    pub(crate) fn both(self) -> impl Iterator<Item = &'a Arc<T::Facts>> {
        self.old.into_iter().chain(self.new)
    }
}

/// What has become of something.
#[derive(Clone, Copy)]
pub enum News<'a> {
    /// Of a Volume.
    Volume(Change<'a, Volume>),
    /// Of a PersistentVolumeClaim.
    Claim(Change<'a, ClaimObject>),
    /// Of a `PersistentVolume`.
    PersistentVolume(Change<'a, PersistentVolumeObject>),
    /// Of a `NodeVolume`.
    Device(Change<'a, NodeVolume>),
    /// Of a `NodeSnapshot`.
    Snapshot(Change<'a, NodeSnapshot>),
    /// Of a `VolumeSnapshotContent`.
    Content(Change<'a, ContentObject>),
    /// Of a Secret with a key.
    KeySecret(Change<'a, SecretObject>),
    /// Of a `VolumeRestore`.
    Restore(Change<'a, VolumeRestore>),
    /// Of what a node reports.
    Report(Change<'a, NodeStorage>),
    /// Of a `StoragePool`.
    Pool(Change<'a, StoragePool>),
    /// Of a StorageClass.
    Class(Change<'a, ClassObject>),
    /// Of a node.
    Node(Change<'a, NodeObject>),
    /// Of a pod that holds claims.
    Pod(Change<'a, PodObject>),
    /// All `VolumeSnapshotContents` were listed.
    ContentsListed,
    /// Room may have come or gone somewhere.
    Room,
    /// Tiers, or the classes that lead to them, may have come or gone.
    Tiers,
}

/// What a change means for the room that pools have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affects {
    /// Nothing.
    #[default]
    Nothing,
    /// Some may have come or gone.
    Room,
    /// Whole tiers may have.
    Tiers,
}
