//! What every pool can do, as an LVM pool does it.

use std::io;

use uuid::Uuid;

use super::{LvmPool, call, devices, names, open};
use crate::{
    Error, PoolError, PoolErrorKind, VolumeId, VolumeMode,
    device::{Attached, Content, Device},
    pool::{
        Pause, Pool, PoolConfig, Promised, Rest, Scanned, ThinUsage, record::Record, space::Disk,
        store::Broken,
    },
};

impl Pool for LvmPool {
    fn config(&self) -> &PoolConfig {
        &self.config
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn check(&self) -> Result<(), PoolError> {
        for (path, number) in &self.devices {
            if open::number(path).ok() != Some(*number) {
                let reason = format!("the group's device {} is gone: bring the disk back", path.display());
                return Err(self.error(PoolErrorKind::MissingDevices.because(reason)));
            }
        }
        // One that the group got since is not looked at before the pool is opened anew; what is missing then is named.
        if self.view().lacks_devices {
            let reason =
                format!("volume group {} has devices that were not there when it was opened", self.group);
            return Err(self.error(PoolErrorKind::MissingDevices.because(reason)));
        }
        // Taken for gone it would be opened anew, without the volume that is being made.
        self.level().map(drop)
    }

    fn reach_disk(&self) -> io::Result<()> {
        self.devices.iter().try_for_each(|(path, _)| devices::read_past_cache(path))
    }

    fn tend(&self) {
        // Here, so that whoever asks how much room there is need not wait for LVM. Somebody may have freed some since the last look.
        if self.view().lacks_metadata() {
            self.ask_for_metadata();
        }
        // The group may have got space since the kernel told that the pool fills up.
        if let Some(watch) = self.watch.get()
            && self.is_due()
        {
            watch.nudge();
        }
    }

    fn disk_id(&self) -> Result<u64, PoolError> {
        Ok(open::disk_id(self.id))
    }

    fn disk(&self) -> Result<Disk, PoolError> {
        self.check_metadata();
        self.space()
    }

    fn promised(&self) -> Promised {
        self.promises()
    }

    fn direct_io(&self) -> Option<bool> {
        None
    }

    fn warning(&self) -> Option<PoolError> {
        self.needs_somebody()
    }

    fn thin(&self) -> Option<ThinUsage> {
        self.level().ok().flatten().map(|fill| fill.usage())
    }

    fn scan(&self) -> Result<Vec<Scanned>, PoolError> {
        self.renew(&self.turn()).map_err(|error| {
            let reason = format!("can't list the volumes of {}: {}", self.group, call::words(&error));
            self.error(PoolErrorKind::Failed.because(reason))
        })?;
        if let Err(error) = self.finish_swaps() {
            tracing::warn!(pool = self.config.name, %error, "can't end an interrupted restore");
        }
        let view = self.view().clone();
        Ok(view.scanned(|id, entry| self.takes(&names::volume(id), entry.size)))
    }

    fn held(&self, id: &VolumeId) -> bool {
        self.view().volumes.contains_key(id)
    }

    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        // From memory: nobody but us writes these tags. Each scan looks again.
        let known = || self.view().volumes.get(id).map(|entry| entry.record.clone());
        // Where an exchange of its content failed between the two names a volume has none, but it is not gone.
        if known().is_none() && !self.swaps_of(id).is_empty() {
            self.finish_swaps()?;
        }
        Ok(known())
    }

    fn load_anew(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        self.renew(&self.turn())?;
        self.load(id)
    }

    fn save(&self, record: &Record) -> Result<(), Error> {
        self.save_record(record)
    }

    fn allocated(&self, id: &VolumeId) -> u64 {
        let size = self.view().volumes.get(id).map(|entry| entry.size);
        size.map_or(0, |size| self.takes(&names::volume(id), size))
    }

    fn sector_bytes(&self, _: VolumeMode) -> u32 {
        self.sector_bytes
    }

    fn sector_bytes_of(&self, record: &Record) -> u32 {
        // The mapper over an encrypted one has sectors of its own.
        if record.encryption.is_some() { record.sector_bytes } else { self.sector_bytes }
    }

    fn grain_bytes(&self) -> u64 {
        self.view().extent.max(1)
    }

    fn is_zeroed(&self) -> bool {
        self.thin_pool.is_some()
    }

    fn create(&self, record: &Record) -> Result<(), Error> {
        self.make_volume(record)
    }

    fn copy<'a>(
        &'a self,
        record: &'a Record,
        source: &'a Record,
        pause: &dyn Pause,
    ) -> Result<Option<Rest<'a>>, Error> {
        self.copy_of(record, source, pause)
    }

    fn bytes_for_copy(&self, record: &Record, source: &Record, in_use: bool) -> u64 {
        if in_use && self.thin_pool.is_none() {
            self.bytes_while_in_use(record, source)
        } else {
            record.size_bytes
        }
    }

    fn overwrites_copies(&self) -> bool {
        // dm-thin never writes again to a chunk that was there when a snapshot was taken, whether anybody shares it by now or not.
        self.thin_pool.is_none()
    }

    fn content(&self, record: &Record) -> Result<Content, Error> {
        self.content_of(record)
    }

    fn fill(
        &self,
        record: &Record,
        source: &Record,
        content: Content,
        pause: &dyn Pause,
    ) -> Result<(), Error> {
        self.fill_new(record, &source.id, &content, &|| pause.goes_on())
    }

    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error> {
        self.swap(volume, snapshot)
    }

    fn resize(&self, record: &Record) -> Result<(), Error> {
        self.grow(record)
    }

    fn delete(&self, id: &VolumeId) -> Result<bool, Error> {
        self.set_aside(id)
    }

    fn has_trash(&self) -> bool {
        !self.view().deleted.is_empty() || !self.left().is_empty()
    }

    fn sweep(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>) {
        self.sweep_deleted(goes_on)
    }

    fn throw_unfinished(&self) -> (usize, Vec<String>) {
        self.throw_all_unfinished()
    }

    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error> {
        self.is_unwritten(id)
    }

    fn wipe(&self, record: &Record) -> Result<bool, Error> {
        self.wipe_unused(record)
    }

    fn attach(&self, record: &Record) -> Result<Device, Error> {
        self.take_device(record)
    }

    fn attached(&self, id: &VolumeId) -> Result<Option<Attached>, Error> {
        self.in_use_as(id)
    }

    fn device(&self, record: &Record) -> Result<Option<Device>, Error> {
        self.device_in_use(record)
    }

    fn detach(&self, id: &VolumeId) -> Result<bool, Error> {
        self.deactivate(id)
    }

    fn resume(&self) -> Vec<String> {
        self.resume_devices()
    }

    fn free_stale(&self, _: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>) {
        self.free_devices()
    }
}
