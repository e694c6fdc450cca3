//! Finding where volumes and snapshots lie, and describing them.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{
    core::{Core, PATIENCE},
    opening::not_answering,
    slot::Slot,
};
use crate::{
    BrokenRecord, Error, Inventory, SnapshotInfo, VolumeId, VolumeInfo,
    pool::{Pool, record::Record, store::Broken},
};

/// The least time between two tries of pools that can't be used, by calls that need a volume.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A pool and one volume's record in it, sound or not.
type Entry = (Arc<dyn Pool>, Result<Record, Error>);

/// A volume and where it lies.
pub(super) struct Located {
    pub(super) pool: Arc<dyn Pool>,
    pub(super) record: Record,
}

impl Core {
    /// Finds where a volume lies, whether or not its record is sound. A pool that came back is opened for it.
    fn locate(&self, id: &VolumeId) -> Result<Option<Entry>, Error> {
        match self.look_for(id) {
            Err(Error::PoolUnavailable(_)) if self.is_any_closed() && self.may_try_again() => {
                self.refresh(None);
                self.look_for(id)
            }
            other => other,
        }
    }

    fn is_any_closed(&self) -> bool {
        self.slots().iter().any(|slot| slot.opened.is_err())
    }

    /// Whether pools that can't be used may be tried by a caller that is no report: at most once in
    /// [`RETRY_PAUSE`].
    fn may_try_again(&self) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = tried.is_none_or(|last| now.duration_since(last) >= RETRY_PAUSE);
        if due {
            *tried = Some(now);
        }
        due
    }

    fn look_for(&self, id: &VolumeId) -> Result<Option<Entry>, Error> {
        let mut unavailable = None;
        let mut slots = self.slots();
        // Where it was before comes first: then a disk that hangs holds up only its own volumes.
        let holds = |slot: &Slot| slot.opened.as_ref().is_ok_and(|pool| pool.held(id));
        slots.sort_by_key(|slot| !holds(slot));
        let alone = slots.len() == 1;
        for slot in slots {
            let depends = alone || holds(&slot);
            match slot.opened {
                Ok(pool) => match if depends { pool.load(id) } else { self.ask_for(&pool, id) } {
                    Ok(None) => {}
                    Ok(Some(record)) => {
                        return Ok(Some((pool, record.map_err(|broken| broken.into_error(id)))));
                    }
                    Err(error) => unavailable = Some(error),
                },
                Err(error) => unavailable = Some(error.into()),
            }
        }
        // It may lie where we can't look: "not found" would be a guess.
        unavailable.map_or(Ok(None), Err)
    }

    /// Asks for a volume's record in a pool that most likely does not hold it, and so must delay no caller.
    fn ask_for(&self, pool: &Arc<dyn Pool>, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        let asked = id.clone();
        self.questions.ask(pool, move |pool| pool.load(&asked)).unwrap_or_else(|| {
            self.suspect(&pool.config().name);
            Err(not_answering(pool.config(), PATIENCE).into())
        })
    }

    /// Finds the volume, which must exist.
    pub(super) fn find(&self, id: &VolumeId) -> Result<Located, Error> {
        self.find_maybe(id)?.ok_or_else(|| Error::NotFound { id: id.clone() })
    }

    /// Finds the volume, if it exists. Fails if a snapshot has that id.
    pub(super) fn find_maybe(&self, id: &VolumeId) -> Result<Option<Located>, Error> {
        self.find_entry(id)?.map(Located::volume).transpose()
    }

    /// Finds the volume or snapshot, if it exists.
    pub(super) fn find_entry(&self, id: &VolumeId) -> Result<Option<Located>, Error> {
        match self.locate(id)? {
            None => Ok(None),
            Some((pool, record)) => Ok(Some(Located { pool, record: record? })),
        }
    }

    /// Finds the volume or snapshot in the pools that can be used: a pool that is down does not stop
    /// creations in the others.
    pub(super) fn find_entry_usable(&self, id: &VolumeId) -> Result<Option<Located>, Error> {
        match self.find_entry(id) {
            Err(Error::PoolUnavailable(_)) => Ok(None),
            other => other,
        }
    }

    /// Finds the pool that a volume lies in, even if its record is broken. Returns `None` also where we can't
    /// look: taking a volume down must not need more than the kernel's tables.
    pub(super) fn find_for_teardown(&self, id: &VolumeId) -> Option<(Arc<dyn Pool>, Option<Record>)> {
        match self.locate(id) {
            Ok(Some((pool, record))) => Some((pool, record.ok())),
            Ok(None) | Err(_) => None,
        }
    }

    pub(super) fn get(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        Ok(self.find_maybe(id)?.map(|found| found.info()))
    }

    pub(super) fn get_in(&self, pool: &str, id: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        self.load_in(pool, id)?.map(|found| found.volume().map(|volume| volume.info())).transpose()
    }

    /// Finds a volume or snapshot in that pool alone.
    pub(super) fn load_in(&self, pool: &str, id: &VolumeId) -> Result<Option<Located>, Error> {
        Located::load(&self.pool(pool)?, id)
    }

    pub(super) fn list(&self) -> Inventory {
        let mut inventory = Inventory::default();
        let slots = self.slots();
        inventory
            .unread
            .extend(slots.iter().filter(|slot| slot.opened.is_err()).map(|slot| slot.config.name.clone()));
        for pool in slots.into_iter().filter_map(|slot| slot.opened.ok()) {
            let name = &pool.config().name;
            let scanned = match self.lists.ask(&pool, |pool| pool.scan()) {
                Some(Ok(scanned)) => scanned,
                None => {
                    self.suspect(name);
                    inventory.unread.push(name.clone());
                    continue;
                }
                // The pool's report says the same.
                Some(Err(error)) => {
                    tracing::warn!(pool = name, %error, "can't list a pool");
                    inventory.unread.push(name.clone());
                    continue;
                }
            };
            for volume in scanned {
                match volume.record {
                    Ok(record) => {
                        let valid = is_valid(pool.as_ref(), &record);
                        match record.snapshot_info(name, volume.allocated, valid) {
                            Some(snapshot) => inventory.snapshots.push(snapshot),
                            None => inventory.volumes.push(record.info(name, volume.allocated)),
                        }
                    }
                    Err(broken) => inventory.broken.push(BrokenRecord {
                        pool: name.clone(),
                        file: broken.file,
                        id: volume.id,
                        reason: broken.why.to_string(),
                    }),
                }
            }
        }
        inventory
    }
}

impl Located {
    /// Finds another volume or snapshot of the same pool. All that a restore needs lies there, and no other
    /// pool is asked, which may be away.
    pub(super) fn beside(&self, id: &VolumeId) -> Result<Option<Self>, Error> {
        Self::load(&self.pool, id)
    }

    fn load(pool: &Arc<dyn Pool>, id: &VolumeId) -> Result<Option<Self>, Error> {
        let Some(record) = pool.load(id)? else { return Ok(None) };
        let record = record.map_err(|broken| broken.into_error(id))?;
        Ok(Some(Self { pool: Arc::clone(pool), record }))
    }

    /// Fails if this is a snapshot.
    pub(super) fn volume(self) -> Result<Self, Error> {
        if self.record.role.is_some() { Err(self.wrong_kind()) } else { Ok(self) }
    }

    /// The error for a snapshot where a volume is asked for, or the other way round.
    pub(super) fn wrong_kind(&self) -> Error {
        let kinds = ["volume", "snapshot"].map(str::to_owned);
        let [mut requested, mut existing] = kinds;
        if self.record.role.is_none() {
            std::mem::swap(&mut requested, &mut existing);
        }
        Error::Conflict { id: self.record.id.clone(), field: "kind", existing, requested }
    }

    pub(super) fn info(&self) -> VolumeInfo {
        self.record.info(&self.pool.config().name, self.pool.allocated(&self.record.id))
    }

    /// The snapshot as callers see it; `None` if this is a volume.
    pub(super) fn snapshot_info(&self) -> Option<SnapshotInfo> {
        let Self { pool, record } = self;
        record.snapshot_info(&pool.config().name, pool.allocated(&record.id), is_valid(pool.as_ref(), record))
    }
}

/// Whether a snapshot's content is still there. One that can't be asked now is no less valid for it.
fn is_valid(pool: &dyn Pool, record: &Record) -> bool {
    record.role.is_none() || !matches!(pool.damage(record), Ok(Some(_)))
}
