//! How much room the pools have, and setting some of it aside.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    core::{Core, PATIENCE},
    opening::not_answering,
    promises::{self, Elsewhere, Promise},
    slot::Slot,
};
use crate::{
    Error, PoolError, PoolErrorKind, PoolReport, PoolUsage, VolumeId,
    pool::{
        Pool,
        space::{self, Disk, Room, Shared},
    },
};

/// How long a call waits for the space of deleted volumes.
const SWEEP_PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    pub(super) fn reports(&self) -> Vec<PoolReport> {
        let slots = self.refresh(None);
        let report = |slot: Slot| {
            let (result, warning) = match slot.opened {
                Ok(pool) => self.figures(&pool),
                Err(error) => (Err(error), None),
            };
            PoolReport { name: slot.config.name, tier: slot.config.tier, result, warning }
        };
        slots.into_iter().map(report).collect()
    }

    /// The figures of a pool, and the fault that somebody has to mend.
    fn figures(&self, pool: &Arc<dyn Pool>) -> (Result<PoolUsage, PoolError>, Option<PoolError>) {
        let me = self.me.clone();
        let asked = self.figures.ask(pool, move |pool| {
            let core = me.upgrade()?;
            Some((core.usage(pool.as_ref()), pool.warning()))
        });
        asked.flatten().unwrap_or_else(|| {
            self.suspect(&pool.config().name);
            (Err(not_answering(pool.config(), PATIENCE)), None)
        })
    }

    fn usage(&self, pool: &dyn Pool) -> Result<PoolUsage, PoolError> {
        let disk = pool.disk()?;
        let promised = pool.promised();
        let sharing = self.sharing(pool, &disk);
        let pending = self.pending().get(&disk.id).copied().unwrap_or(0);
        let room = room(pool, &disk, &sharing, pending);
        Ok(PoolUsage {
            disk: disk.id,
            capacity_bytes: disk.capacity,
            free_bytes: disk.free,
            available_bytes: room.available,
            used_bytes: promised.allocated,
            promised_bytes: promised.bytes,
            volumes: promised.volumes,
            snapshots: promised.snapshots,
            max_volume_bytes: room.largest,
            direct_io: pool.direct_io(),
            thin: pool.thin(),
        })
    }

    /// The pools of a disk, with the bytes of each that wait to be freed. Only these are asked for more than
    /// the kernel knows by itself: another disk may not answer. Never with what is pending held.
    pub(super) fn sharing(&self, own: &dyn Pool, disk: &Disk) -> Vec<(Arc<dyn Pool>, u64)> {
        let same = |pool: Arc<dyn Pool>| {
            if pool.disk_id().ok()? != disk.id {
                return None;
            }
            // Of one look with what is free: what was freed since would count in neither.
            let trash = if pool.id() == own.id() { disk.trash } else { pool.disk().ok()?.trash };
            Some((pool, trash))
        };
        self.pools().into_iter().filter_map(same).collect()
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job that needs space, with that space set aside for as long as the returned reservation lives. `id`: what is then counted by the
    /// pool itself.
    pub(super) fn with_room<T>(
        &self,
        pool: &dyn Pool,
        id: Option<&VolumeId>,
        existing: u64,
        requested: u64,
        work: impl Fn() -> Result<T, Error>,
    ) -> Result<(T, Reservation<'_>), Error> {
        let attempt = || {
            let reservation = self.reserve(pool, id, existing, requested)?;
            Ok((work()?, reservation))
        };
        match attempt() {
            Err(
                Error::OutOfSpace { .. }
                | Error::PoolUnavailable(PoolError { kind: PoolErrorKind::MetadataNearlyFull, .. }),
            ) if self.may_get_room(pool, id, existing, requested) => attempt(),
            other => other,
        }
    }

    /// Waits a while for the space of deleted volumes, which counts as free. Returns `false` if there would
    /// be too little even with that. Where zeros are written over it this takes hours, so the caller must
    /// come again.
    fn may_get_room(&self, pool: &dyn Pool, id: Option<&VolumeId>, existing: u64, requested: u64) -> bool {
        let Ok(disk) = pool.disk() else { return false };
        // What is closed opens when deleted volumes go, whatever the sums say.
        if !disk.closed && self.reserve(pool, id, existing, requested).is_err() {
            return false;
        }
        let start = Instant::now();
        for (pool, _) in self.sharing(pool, &disk) {
            self.sweep_if_due(&pool);
            self.sweeps.wait(pool.id(), Some(SWEEP_PATIENCE.saturating_sub(start.elapsed())));
        }
        true
    }

    /// Sets bytes aside while a volume is made or grown by that much. The error says how many bytes there
    /// are. `existing`: bytes that the volume has.
    fn reserve(
        &self,
        pool: &dyn Pool,
        id: Option<&VolumeId>,
        existing: u64,
        requested: u64,
    ) -> Result<Reservation<'_>, Error> {
        let Some(promises) = self.promises.as_ref().filter(|_| requested > existing) else {
            return self.reserve_beside(pool, existing, requested, Elsewhere::default());
        };
        let disk = pool.disk_id()?;
        let mut own = None;
        let told = promises.set_aside(disk, &mut |others| {
            let shares = |pool: &Arc<dyn Pool>| pool.disk_id().is_ok_and(|id| id == disk);
            let pools: Vec<_> = self.pools().into_iter().filter(shares).collect();
            let elsewhere = Elsewhere::look(&pools, others)?;
            own = Some(self.reserve_beside(pool, existing, requested, elsewhere)?);
            // Who makes a volume is alone with it: what is there of it by now, a dead one began.
            let left = id.map_or(0, |id| promises::begun(&pools, id));
            Ok(Promise { id: id.cloned(), bytes: requested, left })
        })?;
        let own = own.expect("who sets aside has decided");
        Ok(Reservation { _told: Some(told), ..own })
    }

    /// The same, given what others make on the disk.
    fn reserve_beside(
        &self,
        pool: &dyn Pool,
        existing: u64,
        requested: u64,
        elsewhere: Elsewhere,
    ) -> Result<Reservation<'_>, Error> {
        let disk = pool.disk()?;
        let more = requested.saturating_sub(existing);
        let sharing = self.sharing(pool, &disk);
        // What another made since is counted by its pool before it stops pending.
        let mut pending = self.pending();
        let set_aside = pending.entry(disk.id).or_default();
        let (disk, promised) = elsewhere.counted(disk, *set_aside);
        let room = room(pool, &disk, &sharing, promised);
        if more > room.available || requested > room.largest.saturating_add(existing) {
            // No sum of bytes tells of that.
            if let Some(warning) =
                pool.warning().filter(|warning| warning.kind == PoolErrorKind::MetadataNearlyFull)
            {
                return Err(warning.into());
            }
            let largest = space::roughly(room.largest.saturating_add(existing));
            let largest = largest / pool.grain_bytes() * pool.grain_bytes();
            return Err(Error::OutOfSpace { pool: pool.config().name.clone(), requested, largest });
        }
        *set_aside += more;
        Ok(Reservation { _aside: Aside { core: self, disk: disk.id, bytes: more }, _told: None })
    }
}

/// The room that a pool has for new volumes, given what other pools on its disk hold and what is pending.
fn room(pool: &dyn Pool, disk: &Disk, sharing: &[(Arc<dyn Pool>, u64)], pending: u64) -> Room {
    let mut shared = Shared { pending, ..Shared::default() };
    for (other, trash) in sharing {
        let promised = other.promised();
        shared.promised = shared.promised.saturating_add(promised.bytes);
        shared.allocated = shared.allocated.saturating_add(promised.allocated);
        shared.trash = shared.trash.saturating_add(*trash);
    }
    let Room { available, largest } = space::room(pool.config(), disk, &shared);
    let whole = |bytes: u64| bytes / pool.grain_bytes() * pool.grain_bytes();
    Room { available: whole(available), largest: whole(largest) }
}

/// Bytes set aside until the volume counts by itself.
pub(super) struct Reservation<'a> {
    _aside: Aside<'a>,
    /// What other processes are told of it.
    _told: Option<Box<dyn Send>>,
}

/// Bytes of this process.
struct Aside<'a> {
    core: &'a Core,
    disk: u64,
    bytes: u64,
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.core.pending().get_mut(&self.disk) {
            *pending = pending.saturating_sub(self.bytes);
        }
    }
}
