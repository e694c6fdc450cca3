//! Facts by key, as a watch tells them. A watch that starts anew lists what exists; what it does not list is gone.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// Facts about all objects of one kind.
#[derive(Debug)]
pub struct Table<K, V> {
    live: HashMap<K, Arc<V>>,
    /// Objects that exist but can't be read as what they should be. Their last readable facts, if any, stay in `live`.
    unreadable: HashSet<K>,
    /// Whether all that exists has been listed once.
    whole: bool,
    /// Keys listed so far while a watch starts anew.
    listed: Option<HashSet<K>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { live: HashMap::new(), unreadable: HashSet::new(), whole: false, listed: None }
    }
}

impl<K: Clone + Eq + Hash, V: PartialEq> Table<K, V> {
    /// The facts about one object.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.live.get(key)
    }

    /// Whether an object of this key exists, readable or not.
    pub fn exists<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.live.contains_key(key) || self.unreadable.contains(key)
    }

    /// All objects that can be read.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.live.iter()
    }

    /// Number of objects that can be read.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no object can be read.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Whether the object of this key can't be read.
    pub(super) fn is_unreadable(&self, key: &K) -> bool {
        self.unreadable.contains(key)
    }

    /// Number of objects that can't be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// Whether all that exists has been listed once, so that what is not here was not there then.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The watch starts again.
    pub(super) fn begin(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// Ends a listing. Returns the keys that it did not list; the caller has to [remove](Self::remove) each.
    pub(super) fn end(&mut self) -> Vec<K> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        self.whole = true;
        let known = self.live.keys().chain(&self.unreadable);
        known.filter(|key| !listed.contains(*key)).cloned().collect::<HashSet<_>>().into_iter().collect()
    }

    /// Notes the facts of an object that exists. `Ok`: the facts before, if any; `Err`: nothing has changed.
    pub(super) fn put(&mut self, key: K, facts: V) -> Result<Option<Arc<V>>, ()> {
        self.seen(&key);
        self.unreadable.remove(&key);
        if self.live.get(&key).is_some_and(|old| **old == facts) {
            return Err(());
        }
        Ok(self.live.insert(key, Arc::new(facts)))
    }

    /// Notes that the object exists and can't be read. Returns `true` if that was not known.
    pub(super) fn put_unreadable(&mut self, key: K) -> bool {
        self.seen(&key);
        self.unreadable.insert(key)
    }

    /// The object exists but is of no interest (any more), or it is gone.
    pub(super) fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        self.unreadable.remove(key);
        self.live.remove(key)
    }

    fn seen(&mut self, key: &K) {
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut table: Table<&str, u8> = Table::default();
        assert_eq!(table.put("a", 1), Ok(None));
        assert_eq!(table.put("b", 1), Ok(None));
        assert!(table.put_unreadable("c"));
        table.begin();
        assert_eq!(table.put("b", 1), Err(()), "nothing changed");
        let mut gone = table.end();
        gone.sort_unstable();
        assert_eq!(gone, ["a", "c"]);
        assert_eq!(table.remove(&"a").as_deref(), Some(&1));
        assert!(table.end().is_empty(), "no list is under way");
    }

    #[test]
    fn an_unreadable_object_exists_with_its_last_readable_facts() {
        let mut table: Table<&str, u8> = Table::default();
        let _ = table.put("a", 1);
        assert!(table.put_unreadable("a") && !table.put_unreadable("a"));
        assert!(table.put_unreadable("b"));
        assert_eq!(table.get("a").map(|v| **v), Some(1));
        assert!(table.exists("b") && table.get("b").is_none());
        assert_eq!(table.put("b", 2), Ok(None));
        assert_eq!(table.unreadable(), 1);
    }
}
