//! What it takes to watch a kind: what identifies its objects, what is kept of each, and whom its changes concern. Each kind has it in
//! the file of its own name.

use super::{Index, State, Table, Wakes};
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
    /// Keeps the connections, and says whom the change concerns.
    fn connect(state: &mut State, change: &Change<'_, Self>, wakes: &mut Wakes);
    /// All of them were listed.
    fn listed(_: &State, _: &mut Wakes) {}
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

/// What has become of one object.
pub struct Change<'a, T: Tracked> {
    /// Which.
    pub key: &'a T::Key,
    /// What was known of it.
    pub old: Option<&'a Arc<T::Facts>>,
    /// What is known now; `None` where it is gone, or of no interest any more.
    pub new: Option<&'a Arc<T::Facts>>,
}

impl Index {
    /// The watch of a kind starts anew.
    pub fn begin<T: Tracked>(&self) {
        self.change(|state, _| T::table(state).begin());
    }

    /// The watch of a kind has listed everything.
    pub fn end<T: Tracked>(&self) {
        self.change(|state, wakes| {
            for key in T::table(state).end() {
                remove::<T>(state, &key, wakes);
            }
            T::listed(state, wakes);
        });
    }

    /// An object exists.
    pub fn put<T: Tracked + Resource>(&self, object: T) {
        let key = T::Key::of(object.meta());
        let facts = object.facts();
        self.change(|state, wakes| match facts {
            None => {
                remove::<T>(state, &key, wakes);
            }
            Some(facts) => {
                let Ok(old) = T::table(state).put(key.clone(), facts) else { return };
                let new = T::table(state).get(&key).cloned();
                let change = Change { key: &key, old: old.as_ref(), new: new.as_ref() };
                T::connect(state, &change, wakes);
            }
        });
    }

    /// An object exists and can't be read. Whether that is news.
    pub fn put_unreadable<T: Tracked>(&self, meta: &ObjectMeta) -> bool {
        let mut news = false;
        self.change(|state, wakes| {
            news = T::table(state).put_unreadable(T::Key::of(meta));
            // A reservation for it counts no more.
            wakes.space |= news;
        });
        news
    }

    /// An object is gone.
    pub fn remove<T: Tracked>(&self, meta: &ObjectMeta) {
        self.change(|state, wakes| remove::<T>(state, &T::Key::of(meta), wakes));
    }
}

fn remove<T: Tracked>(state: &mut State, key: &T::Key, wakes: &mut Wakes) {
    let old = T::table(state).remove(key);
    T::connect(state, &Change { key, old: old.as_ref(), new: None }, wakes);
}
