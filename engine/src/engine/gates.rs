//! How many of a node's own calls (for pods that start and end) wait for the disk of one pool at a time. A
//! call that hangs in the kernel can't be taken back and keeps its thread; so each pool has places of its
//! own, and whoever finds none waits without a thread: until one is free, however long that takes, or until
//! the pool's disk is known to hang.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use crate::VolumeId;

/// How many calls one pool serves at a time.
pub(super) const PLACES: usize = 16;
/// How long none of them comes to its end before somebody asks the disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a waiting call checks that.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The places of all pools, by their names.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<String, Arc<Gate>>>,
    /// The pool in which a volume was when it was last asked for: a pool that does not answer can't tell.
    homes: Mutex<HashMap<VolumeId, String>>,
}

struct Gate {
    places: Arc<Semaphore>,
    /// When a call last began or ended.
    moved: Mutex<Instant>,
}

/// A place, kept until the call is over, even if its caller has given up.
pub(super) struct Pass {
    gate: Arc<Gate>,
    _place: OwnedSemaphorePermit,
}

impl Gate {
    fn moved(&self) -> MutexGuard<'_, Instant> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        *self.gate.moved() = Instant::now();
    }
}

impl Gates {
    fn of(&self, pool: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            || Arc::new(Gate { places: Arc::new(Semaphore::new(PLACES)), moved: Mutex::new(Instant::now()) });
        Arc::clone(gates.entry(pool.to_owned()).or_insert_with(new))
    }

    pub(super) fn homes(&self) -> MutexGuard<'_, HashMap<VolumeId, String>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place in that pool. `answers`: whether the pool is not known to keep callers waiting.
    /// `suspect` is called each time when none of its calls has begun or ended for a while: they may do what
    /// takes long. The error is for how long that was.
    pub(super) async fn enter(
        &self,
        pool: &str,
        answers: impl Fn() -> bool,
        suspect: impl Fn(),
    ) -> Result<Pass, Duration> {
        let gate = self.of(pool);
        let mut asked = Instant::now();
        let place = Arc::clone(&gate.places).acquire_owned();
        tokio::pin!(place);
        loop {
            tokio::select! {
                biased;
                place = &mut place => {
                    *gate.moved() = Instant::now();
                    let place = place.expect("nobody closes a gate");
                    return Ok(Pass { gate, _place: place });
                }
                () = sleep(LOOK_AGAIN) => {
                    let still = gate.moved().elapsed();
                    if !answers() {
                        return Err(still);
                    }
                    if still >= PATIENCE && asked.elapsed() >= PATIENCE {
                        asked = Instant::now();
                        suspect();
                    }
                }
            }
        }
    }

    /// Forgets a volume that was deleted.
    pub(super) fn forget(&self, id: &VolumeId) {
        self.homes().remove(id);
    }
}
