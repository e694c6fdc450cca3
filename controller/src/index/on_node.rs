//! Objects that a node carries out (`NodeVolume`, `NodeSnapshot`): whoever has written one waits here for what the node
//! says about it.

use super::shared::Index;
use super::state::State;
use super::table::Table;
use super::{Device, Placed, Snapshot};
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, PoisonError};
use tierce_crds::{NodeSnapshot, NodeVolume};
use tokio::sync::watch;

/// Facts about an object that a node carries out.
pub trait OnNode: PartialEq + Sized + Deref<Target = Placed> {
    /// The object.
    type Object: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + 'static;
    /// For people.
    const WHAT: &'static str;

    /// UID of the SharedVolume through which it is shared with other namespaces.
    fn sharer(&self) -> Option<&str> {
        None
    }
    /// The facts of an object.
    fn from_object(object: Self::Object) -> Self;
    /// Where they are kept.
    fn table(state: &State) -> &Table<String, Self>;
}

impl OnNode for Device {
    type Object = NodeVolume;
    const WHAT: &'static str = "volume";

    fn sharer(&self) -> Option<&str> {
        self.sharer.as_ref().map(|(_, uid)| uid.as_str())
    }

    fn from_object(object: NodeVolume) -> Self {
        Self::of(object)
    }

    fn table(state: &State) -> &Table<String, Self> {
        &state.devices
    }
}

impl OnNode for Snapshot {
    type Object = NodeSnapshot;
    const WHAT: &'static str = "snapshot";

    fn from_object(object: NodeSnapshot) -> Self {
        Self::of(object)
    }

    fn table(state: &State) -> &Table<String, Self> {
        &state.snapshots
    }
}

/// Whether an object is known.
#[derive(Debug)]
pub enum Presence<T> {
    /// It is.
    There(Arc<T>),
    /// It exists, but its content can't be read.
    Unreadable,
    /// It is not, as far as the watch has told.
    Absent,
}

/// Follows one object.
#[derive(Debug)]
pub struct Follower<T> {
    index: Arc<Index>,
    id: String,
    changes: Option<watch::Receiver<()>>,
    kind: PhantomData<fn() -> T>,
}

impl Index {
    /// Follows the object of this id: each later change wakes the [`Follower`]. Other objects are not affected.
    pub fn follow<T: OnNode>(self: &Arc<Self>, id: &str) -> Follower<T> {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = waiters.entry(id.to_owned()).or_insert_with(|| watch::Sender::new(()));
        let changes = Some(sender.subscribe());
        Follower { index: Arc::clone(self), id: id.to_owned(), changes, kind: PhantomData }
    }
}

impl<T: OnNode> Follower<T> {
    /// Waits for a change that was not looked at yet.
    pub async fn changed(&mut self) {
        let changes = self.changes.as_mut().expect("taken away only on drop");
        changes.changed().await.expect("the sender stays while somebody follows");
    }

    /// Looks at once and at every change, until `done` answers something.
    pub async fn until<A>(&mut self, mut done: impl FnMut(Presence<T>) -> Option<A>) -> A {
        loop {
            self.changes.as_mut().expect("taken away only on drop").mark_unchanged();
            let presence = self.index.read(|state| match T::table(state).get(&self.id) {
                Some(facts) => Presence::There(Arc::clone(facts)),
                None if T::table(state).exists(&self.id) => Presence::Unreadable,
                None => Presence::Absent,
            });
            if let Some(answer) = done(presence) {
                return answer;
            }
            self.changed().await;
        }
    }
}

impl<T> Drop for Follower<T> {
    fn drop(&mut self) {
        let mut waiters = self.index.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        self.changes = None;
        if waiters.get(&self.id).is_some_and(|sender| sender.receiver_count() == 0) {
            waiters.remove(&self.id);
        }
    }
}
