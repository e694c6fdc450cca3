//! What it takes to watch a kind: what is kept of each object, and what is told of its changes. Each kind has it in the file of its name in
//! `kinds`; what is kept of it is in `facts`.

use super::key::{Key, Namespaced};
use super::state::State;
use super::table::Table;
use super::{
    ClaimObject, ClassObject, ContentObject, NodeObject, PersistentVolumeObject, PodObject, SecretObject,
};
use std::sync::Arc;
use tierce_crds::{
    NodeSnapshot, NodeStorage, NodeVolume, SharedVolume, StorageLedger, StoragePool, StorageQuota, Volume,
    VolumeRestore,
};

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

/// A change, by the kind of object that changed.
#[derive(Clone, Copy)]
pub enum News<'a> {
    /// A Volume changed.
    Volume(Change<'a, Volume>),
    /// A SharedVolume changed.
    SharedVolume(Change<'a, SharedVolume>),
    /// A PersistentVolumeClaim changed.
    Claim(Change<'a, ClaimObject>),
    /// A `PersistentVolume` changed.
    PersistentVolume(Change<'a, PersistentVolumeObject>),
    /// A `NodeVolume` changed.
    Device(Change<'a, NodeVolume>),
    /// A `NodeSnapshot` changed.
    Snapshot(Change<'a, NodeSnapshot>),
    /// A `VolumeSnapshotContent` changed.
    Content(Change<'a, ContentObject>),
    /// A Secret with a key changed.
    KeySecret(Change<'a, SecretObject>),
    /// A `VolumeRestore` changed.
    Restore(Change<'a, VolumeRestore>),
    /// The report of a node changed.
    Report(Change<'a, NodeStorage>),
    /// A `StoragePool` changed.
    Pool(Change<'a, StoragePool>),
    /// A `StorageQuota` changed.
    Quota(Change<'a, StorageQuota>),
    /// What is reserved of quotas changed.
    Ledger(Change<'a, StorageLedger>),
    /// A StorageClass changed.
    Class(Change<'a, ClassObject>),
    /// A node changed.
    Node(Change<'a, NodeObject>),
    /// A pod that holds claims changed.
    Pod(Change<'a, PodObject>),
    /// What is known of namespaces without their claim of the SharedVolume of this key.
    Refused(&'a Namespaced),
    /// An object can be read that could not be.
    ReadableAgain,
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
