//! What a store is removing just now.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::StatVfs;

/// What is being removed just now. Between its last name and the end of the call that takes it, a large file is in no list, and not free yet.
#[derive(Debug, Default)]
pub(super) struct Removal(Mutex<Removing>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Removing {
    /// By name: the bytes that it had, and those that were free before.
    pub(super) under_way: BTreeMap<String, (u64, u64)>,
    /// How many came to their end.
    pub(super) ended: u64,
}

impl Removal {
    pub(super) fn now(&self) -> MutexGuard<'_, Removing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that may be taken.
pub(crate) fn free(space: &StatVfs) -> u64 {
    space.f_bavail.saturating_mul(space.f_frsize)
}
