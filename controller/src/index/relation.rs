//! Which objects speak of what, so that a change finds those whom it concerns without looking at any other.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// Keys of objects, by a word that they speak of.
#[derive(Debug)]
pub(crate) struct Relation<W, K>(HashMap<W, Few<K>>);

/// Most words are spoken of by one object: then no set is made.
#[derive(Debug)]
enum Few<K> {
    One(K),
    Many(HashSet<K>),
}

impl<W, K> Default for Relation<W, K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<W: Eq + Hash, K: Clone + Eq + Hash> Relation<W, K> {
    /// The object of this key spoke of the old words, and now speaks of the new ones.
    pub(crate) fn change(
        &mut self,
        key: &K,
        old: impl IntoIterator<Item = W>,
        new: impl IntoIterator<Item = W>,
    ) {
        for word in old {
            self.remove(&word, key);
        }
        for word in new {
            match self.0.get_mut(&word) {
                None => {
                    self.0.insert(word, Few::One(key.clone()));
                }
                Some(few) => few.insert(key),
            }
        }
    }

    fn remove(&mut self, word: &W, key: &K) {
        let empty = match self.0.get_mut(word) {
            None => false,
            Some(Few::One(one)) => one == key,
            Some(Few::Many(many)) => {
                many.remove(key);
                many.is_empty()
            }
        };
        if empty {
            self.0.remove(word);
        }
    }

    /// Those that speak of the word, in no order.
    pub(crate) fn of<Q: Eq + Hash + ?Sized>(&self, word: &Q) -> impl Iterator<Item = &K> + use<'_, W, K, Q>
    where
        W: Borrow<Q>,
    {
        let (one, many) = match self.0.get(word) {
            None => (None, None),
            Some(Few::One(one)) => (Some(one), None),
            Some(Few::Many(many)) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// Whether anything speaks of the word.
    pub(crate) fn has<Q: Eq + Hash + ?Sized>(&self, word: &Q) -> bool
    where
        W: Borrow<Q>,
    {
        self.0.contains_key(word)
    }

    /// All that is spoken of.
    pub(crate) fn words(&self) -> impl Iterator<Item = &W> {
        self.0.keys()
    }
}

impl<K: Clone + Eq + Hash> Few<K> {
    fn insert(&mut self, key: &K) {
        match self {
            Self::One(one) if one == key => {}
            Self::One(one) => *self = Self::Many([one.clone(), key.clone()].into()),
            Self::Many(many) => {
                many.insert(key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_says_what_a_look_at_all_objects_would(
            changes in prop::collection::vec((0..6_u8, prop::collection::vec(0..4_u8, 0..3)), 0..40)
        ) {
            let (mut relation, mut all) = (Relation::default(), HashMap::<u8, Vec<u8>>::new());
            for (key, words) in changes {
                let old = all.insert(key, words.clone()).unwrap_or_default();
                relation.change(&key, old, words);
            }
            for word in 0..4 {
                let found: BTreeSet<_> = relation.of(&word).copied().collect();
                let speaking = all.iter().filter(|(_, words)| words.contains(&word)).map(|(key, _)| *key);
                prop_assert_eq!(relation.has(&word), !found.is_empty());
                prop_assert_eq!(found, speaking.collect());
            }
        }
    }
}
