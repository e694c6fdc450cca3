//! Growing a volume: its device, and the filesystem on it.
//!
//! A volume grows in these steps: (1) image or device grow, (2) the record says so. A crash between leaves a
//! device larger than its record, which the repeated call finds large enough; the filesystem follows when the
//! volume is expanded or staged.

use std::path::Path;

use super::{
    core::Core,
    finding::Located,
    sizes::{large_enough, on_device, whole},
};
use crate::{
    Change, Error, Filesystem, VolumeId, VolumeInfo, VolumeMode,
    crypt::mapper::{self, Mapper},
    device::Device,
    filesystem::grow::GrowError,
    mount::place::Place,
    pool::{
        Pool,
        record::{Record, overhead_bytes},
    },
};

impl Core {
    pub(super) fn grow(&self, id: &VolumeId, size_bytes: u64) -> Result<Change<VolumeInfo>, Error> {
        let requested = whole(size_bytes)?;
        let mut found = self.settled(self.find(id)?)?;
        let size_bytes = on_device(found.pool.as_ref(), requested, found.record.encryption.is_some());
        let existing = found.record.size_bytes;
        if size_bytes < existing {
            return Err(Error::Shrink { id: id.clone(), existing: found.record.usable_bytes(), requested });
        }
        if size_bytes == existing {
            // A growth that was interrupted after the record may have left the device behind.
            found.pool.resize(&found.record)?;
            return Ok(Change::Unchanged(found.info()));
        }
        large_enough(found.record.mode, requested)?;
        self.check_not_read(id)?;
        found.record.set_size(size_bytes, requested);
        self.with_room(found.pool.as_ref(), Some(id), existing, size_bytes, || {
            found.pool.resize(&found.record)?;
            found.pool.save(&found.record)
        })?;
        Ok(Change::Changed(found.info()))
    }

    pub(super) fn expand(&self, id: &VolumeId, path: &Path) -> Result<u64, Error> {
        let found = self.find(id)?;
        let (place, held) = self.device_at(&found, path)?;
        // It is attached, and stays so while it is held; a growth that was interrupted may have left it
        // smaller than its image.
        let device = self.grown_device(found.pool.as_ref(), &found.record)?;
        drop(held);
        let VolumeMode::Filesystem(filesystem) = found.record.mode else { return Ok(device.bytes) };
        match self.host.grow_mounted(&device, filesystem, &place) {
            Ok(_) => Ok(device.bytes),
            Err(GrowError::Offline(reason)) => Err(Error::GrowOffline { id: id.clone(), filesystem, reason }),
            Err(GrowError::Failed(error)) => Err(error),
        }
    }

    pub(super) fn grow_or_warn(
        &self,
        found: &Located,
        device: &Device,
        filesystem: Filesystem,
        place: &Place,
    ) {
        match self.host.grow_mounted(device, filesystem, place) {
            Ok(_) => {}
            Err(GrowError::Offline(reason)) => {
                tracing::debug!(volume = %found.record.id, reason, "the filesystem grows at its next mount");
            }
            Err(GrowError::Failed(error)) => {
                tracing::warn!(volume = %found.record.id, %error, "the filesystem did not grow");
            }
        }
    }

    /// Mounts the filesystem and makes it as large as its device. Returns `true` if it must grow before it is
    /// mounted: then it is not. `tried`: whether it was to grow so already.
    pub(super) fn mount_grown(
        &self,
        found: &Located,
        device: &Device,
        (filesystem, options): (Filesystem, &[String]),
        place: &Place,
        tried: bool,
    ) -> Result<bool, Error> {
        self.host.mount(device, filesystem, options, place)?;
        match self.host.grow_mounted(device, filesystem, place) {
            Ok(_) => Ok(false),
            Err(GrowError::Failed(error)) => {
                // A volume that is smaller than promised is still better than none.
                tracing::warn!(volume = %found.record.id, error = %error, "the filesystem did not grow");
                Ok(false)
            }
            Err(GrowError::Offline(_)) if tried => Ok(false),
            Err(GrowError::Offline(reason)) => {
                tracing::info!(volume = %found.record.id, reason, "growing the filesystem before it is mounted");
                self.host.unmount(place)
            }
        }
    }

    /// The device of a volume that is attached, made as large as its record says: a growth may have been
    /// interrupted.
    pub(super) fn grown_device(&self, pool: &dyn Pool, record: &Record) -> Result<Device, Error> {
        let below = pool.attach(record)?;
        let Some(encryption) = &record.encryption else { return Ok(below) };
        let gone = || Error::InUse {
            id: record.id.clone(),
            by: format!("a stage or unstage: {} is not open", mapper::name(&record.id)),
        };
        let mapper = self.own_mapper(&record.id, encryption, below.number)?.ok_or_else(gone)?;
        self.resized(&mapper, &below)?.ok_or_else(gone)
    }

    /// The mapper as a device that is as large as the device below allows; `None`: it is gone meanwhile.
    pub(super) fn resized(&self, mapper: &Mapper, below: &Device) -> Result<Option<Device>, Error> {
        let crypt = self.host.crypt();
        let Some(device) = crypt.device(mapper)? else { return Ok(None) };
        if device.bytes + overhead_bytes(true) >= below.bytes {
            return Ok(Some(device));
        }
        crypt.resize(mapper)?;
        crypt.device(mapper)
    }
}
