//! The pools of a node and what they hold. All of this blocks; [`super::Engine`] runs it where that is allowed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::opening::Looks;
use crate::{
    Backend, BrokenRecord, Error, Inventory, LvmKind, PoolConfig, PoolError, PoolErrorKind, PoolReport,
    PoolUsage, SnapshotInfo, VolumeId, VolumeInfo,
    host::Host,
    pool::{
        Pool,
        record::Record,
        space::{self, Disk, Room, Shared},
    },
};

/// The least time between two tries of pools that can't be used, by calls that need a volume.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A configured pool.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) config: PoolConfig,
    pub(super) opened: Result<Arc<dyn Pool>, PoolError>,
    /// The pool's own id, once seen: what lies at the path later must be the same, or a disk is missing.
    pub(super) known: Option<Uuid>,
}

/// A pool and one volume's record in it, sound or not.
type Entry = (Arc<dyn Pool>, Result<Record, Error>);

/// The engine's inner part.
pub(super) struct Core {
    pub(super) host: Arc<dyn Host>,
    /// For threads that may outlive a call.
    me: Weak<Self>,
    slots: RwLock<Vec<Slot>>,
    /// Held while pools are opened: opened twice, a pool would count its volumes twice.
    opening: Mutex<()>,
    looks: Looks,
    /// When a caller last tried the pools that can't be used.
    tried: Mutex<Option<Instant>>,
    /// The pools that were cleaned up in this process; `None`: nobody asked for that yet.
    recovered: Mutex<Option<HashSet<Uuid>>>,
    /// What is being copied right now, and what for.
    readers: Mutex<HashMap<VolumeId, Vec<VolumeId>>>,
    /// Bytes being promised right now, by disk.
    pending: Mutex<HashMap<u64, u64>>,
    /// Held while deleted volumes' space is freed: who waits for that space waits for this.
    sweeping: Mutex<()>,
}

/// A volume and where it lies.
pub(super) struct Located {
    pub(super) pool: Arc<dyn Pool>,
    pub(super) record: Record,
}

impl Core {
    pub(super) fn new(host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            host,
            me: me.clone(),
            slots: RwLock::default(),
            opening: Mutex::default(),
            looks: Looks::default(),
            tried: Mutex::default(),
            recovered: Mutex::default(),
            readers: Mutex::default(),
            pending: Mutex::default(),
            sweeping: Mutex::default(),
        })
    }

    pub(super) fn set_pools(&self, configs: Vec<PoolConfig>) {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.slots();
        let slot = |config: PoolConfig| {
            let same = |slot: &&Slot| slot.config.name == config.name && slot.config.same_place(&config);
            // The same place with another reserve is still the same disk.
            let known = before.iter().find(same).and_then(|slot| slot.known).or(config.expected_id);
            let unchanged = |slot: &&Slot| {
                let expected_id = slot.config.expected_id;
                slot.config == PoolConfig { expected_id, ..config.clone() }
            };
            match before.iter().find(unchanged) {
                Some(same) => Slot { known, ..same.clone() },
                None => Slot { opened: Err(not_opened(&config)), config, known },
            }
        };
        // Opened before the lock is taken: a disk that hangs must not stop the calls for others.
        let slots = without_twins(self.looked_at(configs.into_iter().map(slot).collect()));
        *self.slots.write().unwrap_or_else(PoisonError::into_inner) = slots;
    }

    fn looked_at(&self, slots: Vec<Slot>) -> Vec<Slot> {
        let me = self.me.clone();
        // An engine that is gone needs no answer.
        self.looks.at(slots, move |slot| match me.upgrade() {
            Some(core) => core.refreshed(slot),
            None => slot,
        })
    }

    /// The pool as it is now: closed if it went away, opened if it came back.
    fn refreshed(&self, slot: Slot) -> Slot {
        let opened = match &slot.opened {
            Ok(pool) if pool.check().is_ok() => return slot,
            _ => self.host.open_pool(&slot.config, slot.known),
        };
        if let Err(error) = &opened
            && slot.opened.as_ref().err() != Some(error)
        {
            tracing::warn!(pool = slot.config.name, %error, "the pool can't be used");
        }
        if let Ok(pool) = &opened {
            self.recover_late(pool.as_ref());
        }
        let known = opened.as_ref().ok().map(|pool| pool.id()).or(slot.known);
        Slot { opened, config: slot.config, known }
    }

    /// Looks again at every pool, or at the one of that name.
    fn refresh(&self, only: Option<&str>) -> Vec<Slot> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = self.slots();
        let due = |slot: &Slot| only.is_none_or(|name| slot.config.name == name);
        let asked = slots.iter().filter(|slot| due(slot)).cloned().collect();
        let mut answers = self.looked_at(asked).into_iter();
        for slot in slots.iter_mut().filter(|slot| due(slot)) {
            *slot = answers.next().expect("each that was asked is answered for");
        }
        let slots = without_twins(slots);
        self.slots.write().unwrap_or_else(PoisonError::into_inner).clone_from(&slots);
        slots
    }

    fn slots(&self) -> Vec<Slot> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ids of all pools that were seen, usable or not.
    pub(super) fn known_pools(&self) -> Vec<Uuid> {
        self.slots().into_iter().filter_map(|slot| slot.known).collect()
    }

    /// The pools that can be used.
    pub(super) fn pools(&self) -> Vec<Arc<dyn Pool>> {
        self.slots().into_iter().filter_map(|slot| slot.opened.ok()).collect()
    }

    /// The pool of that name, which must be usable now.
    pub(super) fn pool(&self, name: &str) -> Result<Arc<dyn Pool>, Error> {
        let named = |slots: Vec<Slot>| {
            let slot = slots.into_iter().find(|slot| slot.config.name == name);
            slot.map(|slot| slot.opened).ok_or_else(|| Error::UnknownPool { pool: name.to_owned() })
        };
        match named(self.slots())? {
            Ok(pool) if pool.check().is_ok() => Ok(pool),
            _ => Ok(named(self.refresh(Some(name)))??),
        }
    }

    /// Where a volume lies, record sound or not. A pool that came back is opened for it.
    fn locate(&self, id: &VolumeId) -> Result<Option<Entry>, Error> {
        match self.look_for(id) {
            Err(Error::PoolUnavailable(_)) if self.may_try_again() => {
                self.refresh(None);
                self.look_for(id)
            }
            other => other,
        }
    }

    /// Whether pools that can't be used may be tried by a caller that is no report: at most once in [`RETRY_PAUSE`].
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
        slots.sort_by_key(|slot| !slot.opened.as_ref().is_ok_and(|pool| pool.held(id)));
        for slot in slots {
            match slot.opened {
                Ok(pool) => match pool.load(id) {
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

    /// The volume, which must exist.
    pub(super) fn find(&self, id: &VolumeId) -> Result<Located, Error> {
        self.find_maybe(id)?.ok_or_else(|| Error::NotFound { id: id.clone() })
    }

    /// The volume, if it exists. A snapshot of that id is an error.
    pub(super) fn find_maybe(&self, id: &VolumeId) -> Result<Option<Located>, Error> {
        self.find_entry(id)?.map(Located::volume).transpose()
    }

    /// The volume or snapshot, if it exists.
    pub(super) fn find_entry(&self, id: &VolumeId) -> Result<Option<Located>, Error> {
        match self.locate(id)? {
            None => Ok(None),
            Some((pool, record)) => Ok(Some(Located { pool, record: record? })),
        }
    }

    /// The same, but a pool that is down elsewhere does not stop creations in the others.
    pub(super) fn find_entry_usable(&self, id: &VolumeId) -> Result<Option<Located>, Error> {
        match self.find_entry(id) {
            Err(Error::PoolUnavailable(_)) => Ok(None),
            other => other,
        }
    }

    /// The pool that a volume lies in, even if its record is broken or it lies nowhere that we can see: taking a volume down must not need
    /// more than the kernel's tables.
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

    /// A volume or snapshot, looked for in that pool alone.
    pub(super) fn load_in(&self, pool: &str, id: &VolumeId) -> Result<Option<Located>, Error> {
        let pool = self.pool(pool)?;
        let Some(record) = pool.load(id)? else { return Ok(None) };
        let record = record.map_err(|broken| broken.into_error(id))?;
        Ok(Some(Located { pool, record }))
    }

    pub(super) fn list(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for pool in self.pools() {
            let name = &pool.config().name;
            let scanned = match pool.scan() {
                Ok(scanned) => scanned,
                // The pool's report says the same.
                Err(error) => {
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
                        reason: broken.reason,
                    }),
                }
            }
        }
        inventory
    }

    pub(super) fn reports(&self) -> Vec<PoolReport> {
        let slots = self.refresh(None);
        let report = |slot: Slot| {
            let warning = slot.opened.as_ref().ok().and_then(|pool| pool.warning());
            let result = slot.opened.and_then(|pool| self.usage(pool.as_ref()));
            PoolReport { name: slot.config.name, tier: slot.config.tier, result, warning }
        };
        slots.into_iter().map(report).collect()
    }

    pub(super) fn pool_ids(&self) -> Vec<(String, Uuid)> {
        self.slots().into_iter().filter_map(|slot| Some((slot.config.name, slot.known?))).collect()
    }

    fn usage(&self, pool: &dyn Pool) -> Result<PoolUsage, PoolError> {
        let disk = pool.disk()?;
        let promised = pool.promised();
        let room = self.room(pool, &disk, *self.pending().get(&disk.id).unwrap_or(&0));
        Ok(PoolUsage {
            capacity_bytes: disk.capacity,
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

    fn room(&self, pool: &dyn Pool, disk: &Disk, pending: u64) -> Room {
        let mut shared = Shared { pending, ..Shared::default() };
        for other in self.pools() {
            let Ok(others_disk) = other.disk() else { continue };
            if others_disk.id == disk.id {
                let promised = other.promised();
                shared.promised = shared.promised.saturating_add(promised.bytes);
                shared.allocated = shared.allocated.saturating_add(promised.allocated);
                shared.trash = shared.trash.saturating_add(others_disk.trash);
            }
        }
        let Room { available, largest } = space::room(pool.config(), disk, &shared);
        let whole = |bytes: u64| bytes / pool.grain_bytes() * pool.grain_bytes();
        Room { available: whole(available), largest: whole(largest) }
    }

    /// Notes that `source` is being copied into `target`, as long as the answer lives.
    pub(super) fn reading(&self, source: &VolumeId, target: &VolumeId) -> Reading<'_> {
        self.readers().entry(source.clone()).or_default().push(target.clone());
        Reading { core: self, source: source.clone(), target: target.clone() }
    }

    /// An error if it is being copied: who wants to delete it need not wait for that to end.
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

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets bytes aside while a volume is made or grown by that much, or says how many there are. `existing`: bytes the volume has.
    pub(super) fn reserve(
        &self,
        pool: &dyn Pool,
        existing: u64,
        requested: u64,
    ) -> Result<Reservation<'_>, Error> {
        let disk = pool.disk()?;
        let more = requested.saturating_sub(existing);
        let mut pending = self.pending();
        let set_aside = pending.entry(disk.id).or_default();
        let room = self.room(pool, &disk, *set_aside);
        if more > room.available || requested > room.largest.saturating_add(existing) {
            let largest = space::roughly(room.largest.saturating_add(existing));
            let largest = largest / pool.grain_bytes() * pool.grain_bytes();
            return Err(Error::OutOfSpace { pool: pool.config().name.clone(), requested, largest });
        }
        *set_aside += more;
        Ok(Reservation { core: self, disk: disk.id, bytes: more })
    }

    /// Frees what deleted volumes still take.
    pub(super) fn sweep(&self) {
        let _sweeping = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in self.pools() {
            let (_, problems) = pool.sweep();
            for problem in problems {
                tracing::warn!(pool = pool.config().name, problem, "can't free a deleted volume's space yet");
            }
        }
    }
}

impl Located {
    /// It, if it is a volume.
    pub(super) fn volume(self) -> Result<Self, Error> {
        if self.record.role.is_some() { Err(self.wrong_kind()) } else { Ok(self) }
    }

    /// It is a snapshot where a volume is asked for, or the other way round.
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

    /// What callers see of a snapshot; `None`: it is a volume.
    pub(super) fn snapshot_info(&self) -> Option<SnapshotInfo> {
        let Self { pool, record } = self;
        record.snapshot_info(&pool.config().name, pool.allocated(&record.id), is_valid(pool.as_ref(), record))
    }
}

/// Whether a snapshot's content is still there. One that can't be asked now is no less valid for it.
fn is_valid(pool: &dyn Pool, record: &Record) -> bool {
    record.role.is_none() || !matches!(pool.damage(record), Ok(Some(_)))
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

/// Bytes set aside until the volume counts by itself.
pub(super) struct Reservation<'a> {
    core: &'a Core,
    disk: u64,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(pending) = self.core.pending().get_mut(&self.disk) {
            *pending = pending.saturating_sub(self.bytes);
        }
    }
}

/// Two pools over one place would each count and offer the same volumes: only the first is used.
fn without_twins(mut slots: Vec<Slot>) -> Vec<Slot> {
    let mut seen: HashMap<Uuid, String> = HashMap::new();
    for slot in &mut slots {
        let Ok(pool) = &slot.opened else { continue };
        if let Some(first) = seen.get(&pool.id()) {
            let what = match &slot.config.backend {
                Backend::Directory { .. } => "directory",
                Backend::Lvm { kind: LvmKind::Thin(_), .. } => "thin pool",
                Backend::Lvm { kind: LvmKind::Thick, .. } => "volume group",
            };
            let reason = format!("pool {first} uses this {what} already");
            // Not known by that id any more, so that a directory of its own is taken when it comes.
            slot.known = None;
            slot.opened = Err(PoolErrorKind::UsedByOtherPool.because(reason).of(&slot.config));
        } else {
            seen.insert(pool.id(), slot.config.name.clone());
        }
    }
    slots
}

fn not_opened(config: &PoolConfig) -> PoolError {
    PoolErrorKind::NotOpened.because("not opened yet").of(config)
}
