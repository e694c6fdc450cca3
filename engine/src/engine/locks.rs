//! Who works on which volume: one lock for each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use crate::VolumeId;

type Table = Mutex<HashMap<VolumeId, Arc<tokio::sync::Mutex<()>>>>;

/// The locks of the volumes that something works on.
#[derive(Clone, Default)]
pub(super) struct Locks(Arc<Table>);

impl Locks {
    /// Waits until no other call works on any of these.
    pub(super) async fn hold(&self, mut ids: Vec<VolumeId>) -> Held {
        // In one order for all callers, so that no two wait for each other.
        ids.sort();
        ids.dedup();
        let mut held = Held { locks: self.clone(), guards: Vec::with_capacity(ids.len()) };
        for id in ids {
            let guard = self.lock(&id).await;
            held.guards.push((id, guard));
        }
        held
    }

    async fn lock(&self, id: &VolumeId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Drops a volume's lock from the table once it is neither held nor awaited.
    fn forget_unused(&self, id: &VolumeId) {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.get(id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(id);
        }
    }
}

/// The locks of volumes that a call works on.
pub(super) struct Held {
    locks: Locks,
    guards: Vec<(VolumeId, OwnedMutexGuard<()>)>,
}

impl Held {
    /// Lets others work on that volume.
    pub(super) fn release(&mut self, id: &VolumeId) {
        for (id, guard) in self.guards.extract_if(.., |(held, _)| held == id) {
            drop(guard);
            self.locks.forget_unused(&id);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (id, guard) in self.guards.drain(..) {
            drop(guard);
            self.locks.forget_unused(&id);
        }
    }
}
