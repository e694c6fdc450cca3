//! What the engine knows in memory. Its parts are where they are used: the pools, where volumes lie, how much room there is. All of it blocks;
//! [`super::Engine`] runs it where that is allowed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    asking::Questions, disks::Disks, gates::Gates, opening::Looks, overhauls::Overhauls, promises::Promises,
    slot::Slot, sweeps::Sweeps,
};
use crate::{VolumeId, host::Host};

/// How long a caller waits for a pool that it does not depend on.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long a list waits for the volumes of one pool.
const MORE_PATIENCE: Duration = Duration::from_secs(30);

/// The state and the blocking operations behind [`super::Engine`].
pub(super) struct Core {
    pub(super) host: Arc<dyn Host>,
    /// For threads that may outlive a call.
    pub(super) me: Weak<Self>,
    pub(super) slots: RwLock<Vec<Slot>>,
    /// Held while pools are opened: opened twice, a pool would count its volumes twice.
    pub(super) opening: Mutex<()>,
    pub(super) looks: Looks,
    /// Questions whether a volume lies in a pool.
    pub(super) questions: Questions,
    /// Questions for a pool's figures.
    pub(super) figures: Questions,
    /// Questions for a pool's volumes.
    pub(super) lists: Questions,
    pub(super) gates: Gates,
    pub(super) disks: Disks,
    /// Why no new pool may be made; `None`: pools may be made.
    pub(super) unmade: Mutex<Option<String>>,
    /// When a caller last tried the pools that can't be used.
    pub(super) tried: Mutex<Option<Instant>>,
    /// The pools that are cleaned up in this process, each once; `None`: nobody asked for that yet.
    recovered: Mutex<Option<HashMap<Uuid, Arc<OnceLock<()>>>>>,
    /// What is being copied right now, and what for.
    pub(super) readers: Mutex<HashMap<VolumeId, Vec<VolumeId>>>,
    /// How many calls of the node wait for a volume's lock.
    pub(super) wanted: Mutex<HashMap<VolumeId, usize>>,
    /// Bytes being promised right now, by disk.
    pub(super) pending: Mutex<HashMap<u64, u64>>,
    /// What other processes promise; `None`: no other has these pools.
    pub(super) promises: Option<Arc<dyn Promises>>,
    pub(super) sweeps: Sweeps,
    pub(super) overhauls: Arc<Overhauls>,
}

impl Core {
    pub(super) fn new(host: Arc<dyn Host>, promises: Option<Arc<dyn Promises>>) -> Arc<Self> {
        let disks = Disks::new(host.disk_patience());
        Self::with(host, Looks::default(), disks, promises)
    }

    pub(super) fn with(
        host: Arc<dyn Host>,
        looks: Looks,
        disks: Disks,
        promises: Option<Arc<dyn Promises>>,
    ) -> Arc<Self> {
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
            disks,
            unmade: Mutex::default(),
            tried: Mutex::default(),
            recovered: Mutex::default(),
            readers: Mutex::default(),
            wanted: Mutex::default(),
            pending: Mutex::default(),
            promises,
            sweeps: Sweeps::default(),
            overhauls: Arc::default(),
        })
    }

    pub(super) fn recovered(&self) -> MutexGuard<'_, Option<HashMap<Uuid, Arc<OnceLock<()>>>>> {
        self.recovered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
