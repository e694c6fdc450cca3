//! What the engine knows in memory. Its parts are where they are used: the pools, where volumes lie, how much room there is. All of it blocks;
//! [`super::Engine`] runs it where that is allowed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{asking::Questions, gates::Gates, opening::Looks, slot::Slot, sweeps::Sweeps};
use crate::{Error, VolumeId, host::Host, pool::Pool};

/// How long a caller waits for a pool that it does not depend on.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long a list waits for the volumes of one pool.
const MORE_PATIENCE: Duration = Duration::from_secs(30);

/// The engine's inner part.
pub(super) struct Core {
    pub(super) host: Arc<dyn Host>,
    /// For threads that may outlive a call.
    pub(super) me: Weak<Self>,
    pub(super) slots: RwLock<Vec<Slot>>,
    /// Held while pools are opened: opened twice, a pool would count its volumes twice.
    pub(super) opening: Mutex<()>,
    pub(super) looks: Looks,
    /// Whether a volume lies in a pool.
    pub(super) questions: Questions,
    /// What a pool has.
    pub(super) figures: Questions,
    /// What lies in a pool.
    pub(super) lists: Questions,
    pub(super) gates: Gates,
    /// When each pool's disk last answered, by the pool's name.
    pub(super) answered: Mutex<HashMap<String, Instant>>,
    /// When a caller last tried the pools that can't be used.
    pub(super) tried: Mutex<Option<Instant>>,
    /// The pools that were cleaned up in this process; `None`: nobody asked for that yet.
    recovered: Mutex<Option<HashSet<Uuid>>>,
    /// What is being copied right now, and what for.
    readers: Mutex<HashMap<VolumeId, Vec<VolumeId>>>,
    /// How many calls of the node wait for a volume's lock.
    wanted: Mutex<HashMap<VolumeId, usize>>,
    /// Bytes being promised right now, by disk.
    pub(super) pending: Mutex<HashMap<u64, u64>>,
    pub(super) sweeps: Sweeps,
}

impl Core {
    pub(super) fn new(host: Arc<dyn Host>) -> Arc<Self> {
        Self::with(host, Looks::default())
    }

    pub(super) fn with(host: Arc<dyn Host>, looks: Looks) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            host,
            me: me.clone(),
            slots: RwLock::default(),
            opening: Mutex::default(),
            looks,
            questions: Questions::new(PATIENCE),
            figures: Questions::new(PATIENCE),
            lists: Questions::new(MORE_PATIENCE),
            gates: Gates::default(),
            answered: Mutex::default(),
            tried: Mutex::default(),
            recovered: Mutex::default(),
            readers: Mutex::default(),
            wanted: Mutex::default(),
            pending: Mutex::default(),
            sweeps: Sweeps::default(),
        })
    }

    /// Notes that `source` is being copied into `target`, as long as the answer lives.
    pub(super) fn reading(&self, source: &VolumeId, target: &VolumeId) -> Reading<'_> {
        self.readers().entry(source.clone()).or_default().push(target.clone());
        Reading { core: self, source: source.clone(), target: target.clone() }
    }

    /// Notes that a call of the node waits for the volume, as long as the answer lives.
    pub(super) fn want(&self, id: &VolumeId) -> Want<'_> {
        *self.wanted().entry(id.clone()).or_default() += 1;
        Want { core: self, id: id.clone() }
    }

    pub(super) fn is_wanted(&self, id: &VolumeId) -> bool {
        self.wanted().contains_key(id)
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<VolumeId, usize>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error if it is being copied: who wants to delete it, or to change its size or content, need not wait for that to end.
    pub(super) fn check_not_read(&self, id: &VolumeId) -> Result<(), Error> {
        match self.readers().get(id).and_then(|targets| targets.first()) {
            Some(target) => {
                Err(Error::InUse { id: id.clone(), by: format!("the making of volume {target} from it") })
            }
            None => Ok(()),
        }
    }

    pub(super) fn recovered(&self) -> MutexGuard<'_, Option<HashSet<Uuid>>> {
        self.recovered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<VolumeId, Vec<VolumeId>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what was deleted in that pool be freed in the background.
    pub(super) fn sweep_if_due(&self, pool: &Arc<dyn Pool>) {
        if pool.has_trash() {
            self.sweeps.start(Arc::clone(pool));
        }
    }

    /// The same in all pools.
    pub(super) fn start_sweeps(&self) {
        for pool in self.pools() {
            self.sweep_if_due(&pool);
        }
    }

    /// The same, and waits for it.
    pub(super) fn sweep(&self) {
        self.start_sweeps();
        for pool in self.pools() {
            self.sweeps.wait(pool.id(), None);
        }
    }
}

/// A call that waits for a volume.
pub(super) struct Want<'a> {
    core: &'a Core,
    id: VolumeId,
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        let mut wanted = self.core.wanted();
        if let Some(count) = wanted.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.id);
            }
        }
    }
}

/// A copy under way.
pub(super) struct Reading<'a> {
    core: &'a Core,
    source: VolumeId,
    target: VolumeId,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut readers = self.core.readers();
        if let Some(targets) = readers.get_mut(&self.source) {
            targets.retain(|target| *target != self.target);
            if targets.is_empty() {
                readers.remove(&self.source);
            }
        }
    }
}
