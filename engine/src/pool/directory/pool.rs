//! What every pool can do, as a directory pool does it.

use std::{fs::File, io, sync::atomic::Ordering};

use rustix::{
    fs::{self, FallocateFlags, OFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{DirectoryPool, UNKNOWN, YES, image::Unused};
use crate::{
    Error, PoolError, VolumeId, VolumeMode,
    device::Content,
    error::Context,
    lasting::lasting,
    pool::{
        Copies, Pause, Pool, PoolConfig, Promised, Release, Rest, Scanned, Space, Volumes, gave_way, images,
        record::Record,
        space::Disk,
        store::{self, Broken},
    },
};

/// Sector size of the devices of filesystem volumes, in bytes: writes then never make the filesystem below
/// read before it writes.
const FILESYSTEM_SECTOR: u32 = 4096;

impl Pool for DirectoryPool {
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
        self.store.reach_disk()
    }

    fn sector_bytes(&self, mode: VolumeMode) -> u32 {
        match mode {
            VolumeMode::Filesystem(_) => FILESYSTEM_SECTOR,
            VolumeMode::Block => self.block_sector,
        }
    }

    fn keeps_blocks(&self) -> bool {
        self.thick
    }
}

impl Space for DirectoryPool {
    fn disk_id(&self) -> Result<u64, PoolError> {
        Ok(self.disk)
    }

    fn disk(&self) -> Result<Disk, PoolError> {
        let bad = |error: io::Error| self.error("can't ask the filesystem for its size", &error);
        let (space, trash) = self.store.space().map_err(bad)?;
        Ok(Disk {
            id: self.disk,
            capacity: space.f_blocks.saturating_mul(space.f_frsize),
            free: store::free(&space),
            trash,
            closed: false,
        })
    }

    fn promised(&self) -> Promised {
        self.ledger.promised(|id| self.allocated(id))
    }

    fn promised_to(&self, id: &VolumeId) -> u64 {
        self.ledger.promised_to(id)
    }

    fn begun(&self, id: &VolumeId) -> u64 {
        self.store.bytes_begun(id)
    }

    fn direct_io(&self) -> Option<bool> {
        match self.direct_io.load(Ordering::Relaxed) {
            UNKNOWN => None,
            state => Some(state == YES),
        }
    }
}

impl Volumes for DirectoryPool {
    fn scan(&self) -> Result<Vec<Scanned>, PoolError> {
        self.ledger
            .scan(&self.store, |id, _| self.store.image_size(id))
            .map_err(|error| self.error("can't list the volumes", &error))
    }

    fn held(&self, id: &VolumeId) -> bool {
        self.ledger.holds(id)
    }

    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        self.store.load(id)
    }

    fn save(&self, record: &Record) -> Result<(), Error> {
        self.store.save(record)?;
        self.ledger.set(record);
        Ok(())
    }

    fn allocated(&self, id: &VolumeId) -> u64 {
        self.store.image_size(id).map_or(0, |size| size.allocated)
    }

    fn create(&self, record: &Record) -> Result<(), Error> {
        self.store.insert(record, |folder| {
            let image = self.new_image(folder, &record.id)?;
            self.lengthen(&image, record)
        })?;
        self.ledger.set(record);
        Ok(())
    }

    fn resize(&self, record: &Record) -> Result<(), Error> {
        let image = self.open_image(&record.id, OFlags::RDWR)?;
        self.lengthen(&image, record)?;
        if let Some(device) = self.find(&record.id)? {
            device.follow_image().doing(|| format!("grow {}", device.node().display()))?;
        }
        Ok(())
    }

    fn delete(&self, id: &VolumeId) -> Result<bool, Error> {
        let removed = self.store.remove(id)?;
        self.ledger.remove(id);
        self.forget_device(id);
        Ok(removed)
    }
}

impl Copies for DirectoryPool {
    fn copy<'a>(
        &'a self,
        record: &'a Record,
        source: &'a Record,
        pause: &dyn Pause,
    ) -> Result<Option<Rest<'a>>, Error> {
        let from = File::from(self.open_image(&source.id, OFlags::RDONLY)?);
        self.check_length(&from, source)?;
        self.store.insert(record, |folder| self.copy_image(folder, record, &from, source, pause))?;
        self.ledger.set(record);
        Ok(None)
    }

    fn content(&self, record: &Record) -> Result<Content, Error> {
        let image = self.open_image(&record.id, OFlags::RDONLY)?;
        self.check_length(&image, record)?;
        Ok(Content { file: Some(File::from(image)), bytes: record.size_bytes })
    }

    fn fill(
        &self,
        record: &Record,
        source: &Record,
        content: Content,
        pause: &dyn Pause,
    ) -> Result<(), Error> {
        let doing = || format!("copy {} to {}", source.id, self.image_path(&record.id).display());
        self.store.insert(record, |folder| {
            let image = self.new_image(folder, &record.id)?;
            self.lengthen(&image, record)?;
            let image = File::from(image);
            if let Some(file) = &content.file {
                let goes_on = || pause.goes_on();
                let whole = lasting("copy data", || images::copy_data(file, content.bytes, &image, &goes_on))
                    .map_err(|error| self.full_or(error, record, doing))?;
                if !whole {
                    return Err(gave_way(&source.id));
                }
            }
            image.sync_all().doing(doing)
        })?;
        self.ledger.set(record);
        Ok(())
    }

    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error> {
        let from = File::from(self.open_image(&snapshot.id, OFlags::RDONLY)?);
        self.check_length(&from, snapshot)?;
        self.store.exchange(volume, |folder| self.copy_image(folder, volume, &from, snapshot, &Unused))?;
        self.ledger.set(volume);
        self.forget_device(&volume.id);
        Ok(())
    }
}

impl Release for DirectoryPool {
    fn has_trash(&self) -> bool {
        self.store.has_trash()
    }

    fn sweep(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>) {
        self.store.sweep_trash(goes_on)
    }

    fn throw_unfinished(&self) -> (usize, Vec<String>) {
        self.store.throw_unfinished()
    }

    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error> {
        let image = File::from(self.open_image(id, OFlags::RDONLY)?);
        images::all_zeros(&image).doing(|| format!("read {}", self.image_path(id).display()))
    }

    fn wipe(&self, record: &Record) -> Result<bool, Error> {
        let image = self.open_image(&record.id, OFlags::RDWR)?;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match lasting("empty an image", || fs::fallocate(&image, punch, 0, record.size_bytes)) {
            Err(Errno::OPNOTSUPP) => return Ok(false),
            other => other.doing(|| format!("empty {}", self.image_path(&record.id).display()))?,
        }
        if self.thick {
            fs::fallocate(&image, FallocateFlags::empty(), 0, record.size_bytes)
                .doing(|| format!("allocate {}", self.image_path(&record.id).display()))?;
        }
        Ok(true)
    }
}
