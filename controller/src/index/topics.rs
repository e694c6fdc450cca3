//! Who is woken by what. A kind tells what has become of an object ([`News`]). A topic, declared beside the kind whose keys it has, says which
//! of them that concerns. A reconciler listens to the topics it wants, and costs nothing where nobody does.

use super::kinds::claims::{ClaimObject, PersistentVolumeObject};
use super::kinds::pods::PodObject;
use super::tracked::Change;
use super::{ClassObject, ContentObject, Index, Namespaced, NodeObject, SecretObject, State};
use crate::run::queue::{self, Queue};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::{NodeSnapshot, NodeStorage, NodeVolume, StoragePool, Volume, VolumeRestore};

/// So many that one change concerns are looked at at once. More of them are a crowd, and wait until it settles.
const FEW: usize = 16;
/// Keys that are put in under one lock when somebody begins to listen.
const AT_ONCE: usize = 256;

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

/// Something that others wait for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Awaited {
    /// What is behind the claim, or the Volume, of this name.
    Volume(Namespaced),
    /// What was taken for the VolumeSnapshot of this name.
    Snapshot(Namespaced),
}

/// Keys that a reconciler looks at, and what makes it look.
pub trait Topic: 'static {
    /// What identifies one.
    type Key: queue::Key;
    /// How long a crowd takes to settle.
    const SETTLES: Duration = Duration::from_secs(1);
    /// How long after somebody begins to listen the known ones are looked at.
    const FIRST_LOOK: Duration = Duration::ZERO;

    /// All of them.
    fn all(state: &State) -> Vec<Self::Key>;
    /// Whether a look would find nothing to do: known ones that are settled are not looked at just because somebody begins to listen.
    fn is_settled(_: &State, _: &Self::Key) -> bool {
        false
    }
    /// Wakes those whom the news concern. What it costs must not grow with those whom they don't.
    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Self::Key>);
}

/// Whom a change concerns; collected under the lock, woken after it.
#[derive(Debug)]
pub struct Wakes<K> {
    now: HashSet<K>,
    soon: HashSet<K>,
}

impl<K: queue::Key> Wakes<K> {
    /// Looked at as soon as possible.
    pub fn now(&mut self, key: K) {
        self.now.insert(key);
    }

    /// Looked at together with what else happens until it settles.
    pub fn soon(&mut self, keys: impl IntoIterator<Item = K>) {
        self.soon.extend(keys);
    }

    /// A few are looked at as soon as possible, a crowd when it settles.
    pub fn all(&mut self, keys: impl IntoIterator<Item = K>) {
        let mut keys = keys.into_iter();
        let few: Vec<_> = keys.by_ref().take(FEW).collect();
        match keys.next() {
            None => self.now.extend(few),
            Some(next) => self.soon.extend(few.into_iter().chain([next]).chain(keys)),
        }
    }

    fn deliver(self, queue: &Queue<K>, settles: Duration) {
        for key in self.now {
            queue.add(key);
        }
        for key in self.soon {
            queue.add_after(key, settles);
        }
    }
}

/// Wakes whom news concern.
pub(super) type Delivery = Box<dyn FnOnce()>;

/// Somebody who listens to a topic.
pub(super) trait Listens: fmt::Debug + Send + Sync {
    fn hear(&self, state: &mut State, news: &News<'_>) -> Option<Delivery>;
}

struct Listener<T: Topic>(Queue<T::Key>);

impl<T: Topic> fmt::Debug for Listener<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<T>())
    }
}

impl<T: Topic> Listens for Listener<T> {
    fn hear(&self, state: &mut State, news: &News<'_>) -> Option<Delivery> {
        let mut wakes = Wakes { now: HashSet::new(), soon: HashSet::new() };
        T::hear(state, news, &mut wakes);
        if wakes.now.is_empty() && wakes.soon.is_empty() {
            return None;
        }
        let queue = self.0.clone();
        Some(Box::new(move || wakes.deliver(&queue, T::SETTLES)))
    }
}

impl Index {
    /// From now on changes put keys of this topic into the queue; what is known and not settled is put in first.
    pub async fn listen<T: Topic>(&self, queue: &Queue<T::Key>) {
        for keys in self.subscribe::<T>(queue).chunks(AT_ONCE) {
            let unsettled = self.read(|state| {
                let unsettled = keys.iter().filter(|key| !T::is_settled(state, key));
                unsettled.cloned().collect::<Vec<_>>()
            });
            for key in unsettled {
                queue.add_after(key, T::FIRST_LOOK);
            }
            tokio::task::yield_now().await;
        }
    }

    /// From now on changes put keys of this topic into the queue. Returns those that are known.
    pub(super) fn subscribe<T: Topic>(&self, queue: &Queue<T::Key>) -> Vec<T::Key> {
        let mut state = self.lock();
        state.listeners.push(Arc::new(Listener::<T>(queue.clone())));
        T::all(&state)
    }
}

/// Tells of changes under the lock, and collects what is to be done after it.
pub(super) struct Telling<'a> {
    pub(super) state: &'a mut State,
    pub(super) affects: Affects,
    deliveries: Vec<Delivery>,
    /// Ids of objects that a node carries out and that have changed.
    followed: Vec<String>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(state: &'a mut State) -> Self {
        Self { state, affects: Affects::Nothing, deliveries: Vec::new(), followed: Vec::new() }
    }

    pub(super) fn tell(&mut self, news: &News<'_>) {
        match news {
            News::Device(change) => self.followed.push(change.key.clone()),
            // Volumes and snapshots share their ids.
            News::Snapshot(change) => self.followed.push(change.key.clone()),
            _ => {}
        }
        let listeners = std::mem::take(&mut self.state.listeners);
        self.deliveries.extend(listeners.iter().filter_map(|listener| listener.hear(self.state, news)));
        self.state.listeners = listeners;
    }

    /// What is to be done after the lock.
    pub(super) fn done(mut self) -> (Vec<Delivery>, Vec<String>) {
        let news = match self.affects {
            Affects::Nothing => None,
            Affects::Room => Some(News::Room),
            Affects::Tiers => {
                self.state.tiers.take();
                Some(News::Tiers)
            }
        };
        if let Some(news) = news {
            self.state.offers.take();
            self.tell(&news);
        }
        (self.deliveries, self.followed)
    }
}
