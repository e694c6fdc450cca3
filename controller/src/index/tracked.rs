//! What it takes to watch a kind: what identifies its objects, what is kept of each, and whom its changes concern. Each kind has it in
//! the file of its own name.

use super::topics::{Affects, News, Telling};
use super::{Index, State, Table};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespaced {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Namespaced {
    /// Of these two.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

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

/// What identifies an object of a kind.
pub trait Key: Clone + Eq + Hash {
    /// In an object's metadata; empty where the metadata is.
    fn of(meta: &ObjectMeta) -> Self;
}

impl Key for String {
    fn of(meta: &ObjectMeta) -> Self {
        meta.name.clone().unwrap_or_default()
    }
}

impl Key for Namespaced {
    fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

/// What is kept of the metadata of an object that any user may write: labels, annotations, owners and finalizers of strangers can make up most
/// of a megabyte in each. Of the finalizers `ours` is kept, where it is there.
pub(super) fn named(meta: ObjectMeta, ours: &str) -> ObjectMeta {
    let finalizers = meta.finalizers.map(|mut all| {
        all.retain(|finalizer| finalizer == ours);
        all.shrink_to_fit();
        all
    });
    ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        finalizers,
        ..ObjectMeta::default()
    }
}

/// The beginning of a text that somebody else wrote; longer ones tell nobody more.
pub(super) fn beginning(mut text: String) -> String {
    const MOST: usize = 1024;
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
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
    pub(super) fn both(self) -> impl Iterator<Item = &'a Arc<T::Facts>> {
        self.old.into_iter().chain(self.new)
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
        self.change(|telling| match facts {
            None => telling.remove::<T>(&key),
            Some(facts) => {
                let Ok(old) = T::table(telling.state).put(key.clone(), facts) else { return };
                let new = T::table(telling.state).get(&key).cloned();
                telling.connect::<T>(Change { key: &key, old: old.as_ref(), new: new.as_ref() });
            }
        });
    }

    /// An object exists and can't be read. Whether that is news.
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

impl Telling<'_> {
    fn connect<T: Tracked>(&mut self, change: Change<'_, T>) {
        let affects = T::connect(self.state, &change);
        self.affects = self.affects.max(affects);
        self.tell(&T::news(change));
    }

    fn remove<T: Tracked>(&mut self, key: &T::Key) {
        let old = T::table(self.state).remove(key);
        self.connect::<T>(Change { key, old: old.as_ref(), new: None });
    }
}
