//! How many of a node's own calls (for pods that start and end) wait for the disk of one pool at a time. A call that hangs in the kernel can't
//! be taken back and keeps its thread; so each pool has places of its own, and whoever finds none is told instead of taking another thread.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::core::{Core, Slot};
use crate::{Error, PoolErrorKind, VolumeId};

/// How many calls one pool serves at a time.
const PLACES: usize = 16;
/// How long none of them comes to its end before nobody else waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often whoever waits looks whether that is so.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The places of all pools, by their names.
#[derive(Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<String, Arc<Gate>>>,
    /// In which pool a volume was when it was last asked for: one that does not answer can't tell.
    homes: Mutex<HashMap<VolumeId, String>>,
}

struct Gate {
    places: Arc<Semaphore>,
    /// When a call last began or ended.
    moved: Mutex<Instant>,
}

/// A place, until the call is over, whoever still waits for it.
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

    fn homes(&self) -> MutexGuard<'_, HashMap<VolumeId, String>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a volume that was deleted.
    pub(super) fn forget(&self, id: &VolumeId) {
        self.homes().remove(id);
    }
}

impl Core {
    /// Waits for a place in the volume's pool. `None`: there are no pools.
    pub(super) async fn enter(&self, id: &VolumeId) -> Result<Option<Pass>, Error> {
        let Some(home) = self.home(id) else { return Ok(None) };
        let gate = self.gates.of(&home.config.name);
        let place = Arc::clone(&gate.places).acquire_owned();
        tokio::pin!(place);
        loop {
            tokio::select! {
                biased;
                place = &mut place => {
                    *gate.moved() = Instant::now();
                    let place = place.expect("nobody closes a gate");
                    return Ok(Some(Pass { gate, _place: place }));
                }
                () = sleep(LOOK_AGAIN) => {
                    let still = gate.moved().elapsed();
                    if still >= PATIENCE || !self.answers(&home.config.name) {
                        self.suspect(&home.config.name);
                        let reason = format!(
                            "{PLACES} calls for its volumes wait for its disk, and none has come to its end for {} s; the kernel's log \
                             may say why",
                            still.as_secs()
                        );
                        return Err(PoolErrorKind::NotAnswering.because(reason).of(&home.config).into());
                    }
                }
            }
        }
    }

    /// Whether a pool is not known to keep whoever asks it waiting.
    pub(super) fn answers(&self, pool: &str) -> bool {
        let slots = self.slots();
        let slot = slots.iter().find(|slot| slot.config.name == pool);
        slot.is_none_or(|slot| !is_silent(slot))
    }

    /// The pool that a volume lies in, from memory. For one that none is known to hold: a pool that can't be used, as it may lie there.
    fn home(&self, id: &VolumeId) -> Option<Slot> {
        let slots = self.slots();
        let mut homes = self.gates.homes();
        let holds = |slot: &&Slot| slot.opened.as_ref().is_ok_and(|pool| pool.held(id));
        if let Some(slot) = slots.iter().find(holds) {
            if homes.get(id) != Some(&slot.config.name) {
                homes.insert(id.clone(), slot.config.name.clone());
            }
            return Some(slot.clone());
        }
        let known = homes.get(id).and_then(|name| slots.iter().find(|slot| slot.config.name == *name));
        let away = || slots.iter().find(|slot| slot.opened.is_err());
        known.or_else(away).or_else(|| slots.first()).cloned()
    }
}

pub(super) fn is_silent(slot: &Slot) -> bool {
    slot.opened.as_ref().is_err_and(|error| error.kind == PoolErrorKind::NotAnswering)
}
