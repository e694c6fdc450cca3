//! A simulated pool: the real folder layout and records, without images.

use std::{io, os::fd::OwnedFd, sync::Arc, thread, time::Duration};

use uuid::Uuid;

use super::{
    devices::{attached, node},
    state::State,
};
use crate::{
    Error, PoolError, PoolErrorKind, Provisioning, VolumeId, VolumeMode,
    device::{Attached, Content, Device},
    pool::{
        Backend, Copies, Devices, Pause, Pool, PoolConfig, Promised, Release, Rest, Scanned, Space, Volumes,
        cut_short, gave_way,
        ledger::{ImageSize, Ledger},
        record::Record,
        space::Disk,
        store::{Broken, Store},
    },
};

/// All simulated pools lie on one disk.
const DISK: u64 = 1;

pub(super) struct SimPool {
    config: PoolConfig,
    store: Store,
    ledger: Ledger,
    capacity_bytes: u64,
    state: Arc<State>,
}

impl SimPool {
    pub(super) fn open(
        config: &PoolConfig,
        known: Option<Uuid>,
        capacity_bytes: u64,
        state: Arc<State>,
    ) -> Result<Self, PoolError> {
        let Backend::Directory { path, create_path, .. } = &config.backend else {
            return Err(PoolErrorKind::InvalidSettings.because("the simulation has no LVM").of(config));
        };
        let store = Store::open(&config.name, path, *create_path, known, false)?;
        let pool = Self { config: config.clone(), store, ledger: Ledger::default(), capacity_bytes, state };
        pool.scan()?;
        Ok(pool)
    }

    /// Waits where a real pool would copy byte by byte.
    fn copy_slowly(&self, source: &Record, goes_on: &dyn Fn() -> bool) -> Result<(), Error> {
        while self.state.copies_slowly(&self.config.name) {
            if !goes_on() {
                return Err(gave_way(&source.id));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits where a real pool would ask its disk.
    fn wait_for_disk(&self) {
        while self.state.hangs(&self.config.name) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn error(&self, error: &io::Error) -> PoolError {
        PoolError::of_system(&self.config.name, self.store.path(), "can't list the volumes", error)
    }
}

impl Pool for SimPool {
    fn config(&self) -> &PoolConfig {
        &self.config
    }

    fn id(&self) -> Uuid {
        self.store.id
    }

    fn check(&self) -> Result<(), PoolError> {
        self.store.check()
    }

    fn reach_disk(&self) -> io::Result<()> {
        while self.state.syncs_slowly(&self.config.name) {
            thread::sleep(Duration::from_millis(10));
        }
        self.wait_for_disk();
        Ok(())
    }

    fn sector_bytes(&self, mode: VolumeMode) -> u32 {
        match mode {
            VolumeMode::Filesystem(_) => 4096,
            VolumeMode::Block => 512,
        }
    }
}

impl Space for SimPool {
    fn disk_id(&self) -> Result<u64, PoolError> {
        Ok(DISK)
    }

    fn disk(&self) -> Result<Disk, PoolError> {
        Ok(Disk {
            id: DISK,
            capacity: self.capacity_bytes,
            free: self.capacity_bytes,
            trash: 0,
            closed: false,
        })
    }

    fn promised(&self) -> Promised {
        self.ledger.promised(|id| self.allocated(id))
    }

    fn promised_to(&self, id: &VolumeId) -> u64 {
        self.ledger.promised_to(id)
    }

    fn direct_io(&self) -> Option<bool> {
        None
    }
}

impl Volumes for SimPool {
    fn scan(&self) -> Result<Vec<Scanned>, PoolError> {
        self.wait_for_disk();
        let image = |_: &VolumeId, record: Option<&Record>| {
            Some(ImageSize { allocated: 0, length: record.map_or(0, |record| record.size_bytes) })
        };
        self.ledger.scan(&self.store, image).map_err(|error| self.error(&error))
    }

    fn held(&self, id: &VolumeId) -> bool {
        self.ledger.holds(id)
    }

    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        self.wait_for_disk();
        self.store.load(id)
    }

    fn save(&self, record: &Record) -> Result<(), Error> {
        self.wait_for_disk();
        self.store.save(record)?;
        self.ledger.set(record);
        Ok(())
    }

    fn allocated(&self, _: &VolumeId) -> u64 {
        0
    }

    fn create(&self, record: &Record) -> Result<(), Error> {
        self.wait_for_disk();
        // A crash in the middle of a deletion may have left something of an older volume.
        let clear = |_: &OwnedFd| self.state.change("create", |tables| tables.forget(&record.id));
        self.store.insert(record, clear)?;
        self.ledger.set(record);
        Ok(())
    }

    fn resize(&self, _: &Record) -> Result<(), Error> {
        self.wait_for_disk();
        Ok(())
    }

    fn delete(&self, id: &VolumeId) -> Result<bool, Error> {
        self.wait_for_disk();
        let removed = self.store.remove(id)?;
        self.ledger.remove(id);
        self.state.change("delete", |tables| tables.forget(id))?;
        Ok(removed)
    }
}

impl Copies for SimPool {
    fn copy<'a>(
        &'a self,
        record: &'a Record,
        source: &'a Record,
        pause: &dyn Pause,
    ) -> Result<Option<Rest<'a>>, Error> {
        self.wait_for_disk();
        let copy = || {
            self.state.change("copy", |tables| {
                tables.forget(&record.id);
                tables.copy(&source.id, &record.id);
            })
        };
        if pause.user().is_none() {
            self.store.insert(record, |_| {
                self.copy_slowly(source, &|| pause.goes_on())?;
                copy()
            })?;
            self.ledger.set(record);
            return Ok(None);
        }
        pause.hold(&mut || copy())?;
        Ok(Some(Box::new(move |goes_on| {
            self.store
                .insert(record, |_| self.copy_slowly(source, goes_on).map_err(|_| cut_short(&source.id)))?;
            self.ledger.set(record);
            Ok(())
        })))
    }

    fn content(&self, record: &Record) -> Result<Content, Error> {
        Ok(Content { file: None, bytes: record.size_bytes })
    }

    fn fill(&self, record: &Record, source: &Record, _: Content, pause: &dyn Pause) -> Result<(), Error> {
        self.wait_for_disk();
        let copy = |_: &OwnedFd| {
            self.copy_slowly(source, &|| pause.goes_on())?;
            self.state.change("copy", |tables| {
                tables.forget(&record.id);
                tables.copy(&source.id, &record.id);
            })
        };
        self.store.insert(record, copy)?;
        self.ledger.set(record);
        Ok(())
    }

    fn bytes_to_roll_back(&self, volume: &Record) -> u64 {
        if self.config.backend.provisioning() == Provisioning::Thick { volume.size_bytes } else { 0 }
    }

    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error> {
        self.wait_for_disk();
        let copy =
            |_: &OwnedFd| self.state.change("roll back", |tables| tables.copy(&snapshot.id, &volume.id));
        self.store.exchange(volume, copy)?;
        self.ledger.set(volume);
        Ok(())
    }
}

impl Release for SimPool {
    fn has_trash(&self) -> bool {
        self.wait_for_disk();
        self.store.has_trash()
    }

    fn sweep(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>) {
        self.wait_for_disk();
        self.store.sweep_trash(goes_on)
    }

    fn throw_unfinished(&self) -> (usize, Vec<String>) {
        self.wait_for_disk();
        self.store.throw_unfinished()
    }

    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error> {
        Ok(self.state.look(|tables| !tables.filesystems.contains_key(id) && !tables.headers.contains_key(id)))
    }

    fn wipe(&self, record: &Record) -> Result<bool, Error> {
        self.wait_for_disk();
        self.state.change("wipe", |tables| {
            tables.headers.remove(&record.id);
            tables.filesystems.remove(&record.id)
        })?;
        Ok(true)
    }
}

impl Devices for SimPool {
    fn attach(&self, record: &Record) -> Result<Device, Error> {
        self.wait_for_disk();
        let id = &record.id;
        let fresh = self.attached(id)?.is_none();
        let block = record.mode == VolumeMode::Block;
        let encrypted = record.encryption.is_some();
        let (known, noted) = self.state.look(|tables| {
            let noted = !encrypted || tables.sizes.get(id) == Some(&record.size_bytes);
            (tables.known_number(id), noted)
        });
        let number = match known {
            // Nothing to note: the file with all tables need not be written again.
            Some(number) if (!block || !fresh) && noted => number,
            _ => self.state.change("attach", |tables| {
                if block {
                    tables.attached.insert(id.clone());
                }
                if encrypted {
                    tables.sizes.insert(id.clone(), record.size_bytes);
                }
                tables.number(id)
            })?,
        };
        Ok(Device { number, node: node(number), bytes: record.size_bytes, fresh, _hold: None })
    }

    fn attached(&self, id: &VolumeId) -> Result<Option<Attached>, Error> {
        Ok(self.state.look(|tables| attached(tables, id)))
    }

    fn device(&self, record: &Record) -> Result<Option<Device>, Error> {
        Ok(self.attached(&record.id)?.map(|Attached { number, node, .. }| Device {
            number,
            node,
            bytes: record.size_bytes,
            fresh: false,
            _hold: None,
        }))
    }

    fn detach(&self, id: &VolumeId) -> Result<bool, Error> {
        self.state.change("detach", |tables| tables.attached.remove(id))
    }

    fn free_stale(&self, is_stale: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut freed, mut problems) = (Vec::new(), Vec::new());
        let attached: Vec<VolumeId> = self.state.look(|tables| tables.attached.iter().cloned().collect());
        for id in attached {
            // Another pool's volume is that pool's to judge.
            if !matches!(self.store.folder(&id), Ok(Some(_))) {
                continue;
            }
            if let Ok(Some(device)) = self.attached(&id)
                && is_stale(&id, &device)
            {
                match self.detach(&id) {
                    Ok(_) => freed.push(device.node.display().to_string()),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        (freed, problems)
    }
}
