//! Objects that a node carries out (`NodeVolume`, `NodeSnapshot`): whoever has written one waits here for what the node
//! says about it.

use super::tracked::beginning;
use super::{Device, Index, Snapshot, State, Table};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, PoisonError};
use tierce_crds::{NodeSnapshot, NodeVolume, conditions, names};
use tokio::sync::watch;

/// What is remembered of every object that a node carries out.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Name: the CSI id of the volume or snapshot.
    pub id: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Node.
    pub node: String,
    /// `StoragePool`.
    pub pool: String,
    /// When the object was made.
    pub created: Option<Timestamp>,
    /// When it was told to go.
    pub deleting_since: Option<Timestamp>,
    /// Whether the node may still have something of it.
    pub on_node: bool,
    /// What the node says of the present spec; `None` while it says nothing yet.
    pub word: Option<NodeWord>,
}

impl Placed {
    /// Of an object with this metadata, for this node and pool, of which the node says this.
    pub(super) fn of(meta: ObjectMeta, place: (String, String), said: (&[Condition], Option<i64>)) -> Self {
        let ((node, pool), (conditions, observed)) = (place, said);
        Self {
            word: NodeWord::of(conditions, observed, meta.generation),
            on_node: meta.finalizers.iter().flatten().any(|f| f == names::FINALIZER_ON_NODE),
            id: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            node,
            pool,
            created: meta.creation_timestamp.map(|t| t.0),
            deleting_since: meta.deletion_timestamp.map(|t| t.0),
        }
    }
}

/// The `Ready` condition of a `NodeVolume` or `NodeSnapshot`, of the present generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWord {
    /// Whether it is as asked.
    pub ready: bool,
    /// Constant of [`conditions::node_volume`] or [`conditions::node_snapshot`].
    pub reason: String,
    /// For people.
    pub message: String,
}

impl NodeWord {
    /// What these conditions say, if they speak of this generation of the spec.
    fn of(conditions: &[Condition], observed: Option<i64>, generation: Option<i64>) -> Option<Self> {
        let ready = conditions::find(conditions, conditions::READY)?;
        (ready.observed_generation.or(observed) == generation).then(|| Self {
            ready: ready.status == "True",
            reason: ready.reason.clone(),
            message: beginning(ready.message.clone()),
        })
    }
}

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

    /// The facts of an object.
    fn from_object(object: Self::Object) -> Self;
    /// Where they are kept.
    fn table(state: &State) -> &Table<String, Self>;
}

impl OnNode for Device {
    type Object = NodeVolume;
    const WHAT: &'static str = "volume";

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
    /// Tells of every change of the object of this id from now on. Costs nothing to others.
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
