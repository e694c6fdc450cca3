//! Folders that an archive names in the paths of others alone.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{BuildHasher, RandomState},
};

use super::super::tree_descent::shown;

/// A longer path must have an entry for each of its folders, as those of GNU tar and ours do: without, a small archive could ask for many.
pub(super) const LONGEST_UNSAID: usize = 4095;

/// The paths themselves can be far longer than all of the archive.
#[derive(Default)]
pub(super) struct Unsaid {
    hasher: RandomState,
    /// Sums of the paths.
    all: HashSet<u64>,
    /// Some of them, to name one.
    some: BTreeSet<Vec<u8>>,
}

impl Unsaid {
    pub(super) fn add(&mut self, path: &[u8]) {
        self.all.insert(self.hasher.hash_one(path));
        if self.some.len() < 16 {
            self.some.insert(path.to_vec());
        }
    }

    /// There is an entry of it after all, or it is no folder any more.
    pub(super) fn remove(&mut self, path: &[u8]) {
        if self.all.remove(&self.hasher.hash_one(path)) {
            self.some.remove(path);
        }
    }

    /// What is to be told of them; `None`: there are none.
    pub(super) fn in_words(&self) -> Option<String> {
        let count = self.all.len();
        let first = self
            .some
            .first()
            .map_or_else(String::new, |first| format!(", such as '{}'", shown(first).escape_debug()));
        let what = "folders without an entry of their own in the archive, whose owner, mode and time are new";
        (count != 0).then(|| format!("{what}: {count}{first}"))
    }
}
