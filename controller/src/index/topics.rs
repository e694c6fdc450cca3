//! Who is woken by what. A kind tells what has become of an object ([`News`]). A topic, declared beside the kind or the reconciler whose keys
//! it has, says which of them that concerns. A reconciler listens to the topics it wants, and costs nothing where nobody does.

use super::news::{Affects, Change, News, Tracked};
use super::state::State;
use crate::run::queue::{self, Queue};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Up to this many keys of one change are looked at at once; more than that wait until the changes settle.
const FEW: usize = 16;

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

/// From now on what the topic tells of is put into the queue.
pub(super) fn listener<T: Topic>(queue: &Queue<T::Key>) -> Arc<dyn Listens> {
    Arc::new(Listener::<T>(queue.clone()))
}

/// Tells of changes under the lock, and collects what is to be done after it.
pub(super) struct Telling<'a> {
    pub(super) state: &'a mut State,
    listeners: &'a [Arc<dyn Listens>],
    pub(super) affects: Affects,
    deliveries: Vec<Delivery>,
    /// Ids of objects that a node carries out and that have changed.
    followed: Vec<String>,
}

impl<'a> Telling<'a> {
    pub(super) fn new(state: &'a mut State, listeners: &'a [Arc<dyn Listens>]) -> Self {
        Self { state, listeners, affects: Affects::Nothing, deliveries: Vec::new(), followed: Vec::new() }
    }

    pub(super) fn tell(&mut self, news: &News<'_>) {
        match news {
            News::Device(change) => self.followed.push(change.key.clone()),
            // Volumes and snapshots share their ids.
            News::Snapshot(change) => self.followed.push(change.key.clone()),
            _ => {}
        }
        self.deliveries.extend(self.listeners.iter().filter_map(|listener| listener.hear(self.state, news)));
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

impl Telling<'_> {
    pub(super) fn connect<T: Tracked>(&mut self, change: Change<'_, T>) {
        let affects = T::connect(self.state, &change);
        self.affects = self.affects.max(affects);
        self.tell(&T::news(change));
    }

    pub(super) fn remove<T: Tracked>(&mut self, key: &T::Key) {
        let old = T::table(self.state).remove(key);
        self.connect::<T>(Change { key, old: old.as_ref(), new: None });
    }
}
