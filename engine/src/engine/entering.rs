//! Which pool a call of the node depends on, and its way in there.

use super::{
    core::Core,
    gates::{PLACES, Pass},
    slot::Slot,
};
use crate::{Error, PoolErrorKind, VolumeId};

impl Core {
    /// Waits for a place in the volume's pool. `None`: there are no pools.
    pub(super) async fn enter(&self, id: &VolumeId) -> Result<Option<Pass>, Error> {
        let Some(home) = self.home(id) else { return Ok(None) };
        let name = &home.config.name;
        match self.gates.enter(name, || self.answers(name), || self.suspect(name)).await {
            Ok(pass) => Ok(Some(pass)),
            Err(still) => {
                let reason = format!(
                    "{PLACES} calls for its volumes wait for its disk, and none has come to its end for {} s; the kernel's log may say \
                     why",
                    still.as_secs()
                );
                Err(PoolErrorKind::NotAnswering.because(reason).of(&home.config).into())
            }
        }
    }

    /// Whether a pool is not known to keep callers waiting.
    pub(super) fn answers(&self, pool: &str) -> bool {
        let slots = self.slots();
        let slot = slots.iter().find(|slot| slot.config.name == pool);
        slot.is_none_or(|slot| !slot.is_silent())
    }

    /// The pool that a volume lies in, from memory. Where no pool is known to hold the volume, a pool that
    /// can't be used, as it may lie there.
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
