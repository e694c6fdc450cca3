//! The facts, as the watches change them and everybody else reads them.

use super::hearing::{Ear, Ears};
use super::key::{Key, Namespaced};
use super::news::{Affects, Change, News, Tracked};
use super::state::State;
use super::topics::{Listens, Telling, Topic, listener};
use crate::placement::{self, Place, Refusal, Request};
use crate::run::queue::Queue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Keys that are put in under one lock when somebody begins to listen.
const AT_ONCE: usize = 256;

/// The facts and those who wait for them.
#[derive(Debug, Default)]
pub struct Index {
    inside: Mutex<Inside>,
    /// Whom a change of an object that a node carries out wakes, by its id.
    pub(super) waiters: Mutex<HashMap<String, watch::Sender<()>>>,
    /// Whoever waits for any news of them is told here.
    told: watch::Sender<()>,
    /// How the watches do, by kind.
    ears: Ears,
}

#[derive(Debug, Default)]
struct Inside {
    state: State,
    listeners: Vec<Arc<dyn Listens>>,
}

impl Index {
    /// Looks at the facts.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().state)
    }

    /// Chooses a place for a new volume and keeps its room, in one step, until the reservation is dropped.
    pub fn reserve(self: &Arc<Self>, id: &str, request: &Request) -> Result<(Place, Reservation), Refusal> {
        let state = &mut self.lock().state;
        let place = placement::choose(request, &state.offers(), &state.tiers())?;
        state.reservations.keep(id, place.clone(), request.size);
        state.offers.take();
        Ok((place, Reservation { index: Arc::clone(self), id: id.to_owned() }))
    }

    /// From now on it knows in which namespace the keys are.
    pub fn keys_are_in(&self, namespace: &str) {
        namespace.clone_into(&mut self.lock().state.namespace);
    }

    /// Tells of each later change of an object that a node carries out.
    pub(crate) fn news_of_nodes(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// Changes facts under the lock, then wakes whom it concerns.
    fn change(&self, change: impl FnOnce(&mut Telling<'_>)) {
        let (deliveries, followed) = {
            let mut inside = self.lock();
            let Inside { state, listeners } = &mut *inside;
            let mut telling = Telling::new(state, listeners);
            change(&mut telling);
            telling.done()
        };
        for deliver in deliveries {
            deliver();
        }
        if !followed.is_empty() {
            self.told.send_replace(());
        }
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for waiter in followed.iter().filter_map(|id| waiters.get(id)) {
            waiter.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// The watch of a kind starts anew.
    pub fn begin<T: Tracked>(&self) {
        self.change(|telling| T::table(telling.state).begin());
    }

    /// The watch of a kind has listed everything.
    pub fn end<T: Tracked>(&self) {
        self.change(|telling| {
            for key in T::table(telling.state).end() {
                telling.remove::<T>(&key);
            }
            if let Some(news) = T::listed() {
                telling.tell(&news);
            }
        });
    }

    /// An object exists.
    pub fn put<T: Tracked + Resource>(&self, object: T) {
        let key = T::Key::of(object.meta());
        let facts = object.facts();
        self.change(|telling| {
            let was_unreadable = T::table(telling.state).is_unreadable(&key);
            match facts.map(|facts| T::table(telling.state).put(key.clone(), facts)) {
                None => telling.remove::<T>(&key),
                Some(Err(())) => {}
                Some(Ok(old)) => {
                    let new = T::table(telling.state).get(&key).cloned();
                    telling.connect::<T>(Change { key: &key, old: old.as_ref(), new: new.as_ref() });
                }
            }
            if was_unreadable {
                telling.tell(&News::ReadableAgain);
            }
        });
    }

    /// Notes that an object exists and can't be read. Returns `true` if that was not known.
    pub fn put_unreadable<T: Tracked>(&self, meta: &ObjectMeta) -> bool {
        let mut news = false;
        self.change(|telling| {
            news = T::table(telling.state).put_unreadable(T::Key::of(meta));
            if news {
                // A reservation for it counts no more.
                telling.affects = telling.affects.max(Affects::Room);
            }
        });
        news
    }

    /// An object is gone.
    pub fn remove<T: Tracked>(&self, meta: &ObjectMeta) {
        self.change(|telling| telling.remove::<T>(&T::Key::of(meta)));
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
        let mut inside = self.lock();
        inside.listeners.push(listener::<T>(queue));
        T::all(&inside.state)
    }
}

impl Index {
    /// Why namespaces have no claim of the SharedVolume of this key, in the API server's words, by namespace. Who listens to SharedVolumes is told.
    pub(crate) fn refused(&self, key: &Namespaced, words: BTreeMap<String, String>) {
        self.change(|telling| {
            let known = telling.state.refused.get(key);
            if known.map_or(words.is_empty(), |known| *known == words) {
                return;
            }
            if words.is_empty() {
                telling.state.refused.remove(key);
            } else {
                telling.state.refused.insert(key.clone(), words);
            }
            telling.tell(&News::Refused(key));
        });
    }
}

impl Index {
    /// From now on it is told how the watch of this kind does.
    pub(super) fn hears(&self, kind: &str, ear: &Ear) {
        self.ears.add(kind, ear);
    }

    /// By kind, for how long its watch has been broken.
    pub fn watches_behind(&self) -> Vec<(String, Duration)> {
        self.ears.behind()
    }
}

/// Keeps the room of one volume until dropped.
#[derive(Debug)]
#[must_use = "the room is free again when this is dropped"]
pub struct Reservation {
    index: Arc<Index>,
    id: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let state = &mut self.index.lock().state;
        state.reservations.release(&self.id);
        state.offers.take();
    }
}
