//! Undoing a stage: what is mounted at the staging folder comes down, a raw block volume's device is detached. It asks no more than the kernel's
//! tables where the pool is gone: who takes a pod down on a dying disk must come to an end.

use std::{path::Path, sync::Arc};

use super::{
    core::Core,
    staging::{foreign, is_whole},
};
use crate::{
    Change, Error, VolumeId, VolumeMode,
    device::DeviceNumber,
    mount::{
        place::{Found, Place},
        table,
    },
    pool::{Pool, record::Record},
};

impl Core {
    pub(super) fn unstage(&self, id: &VolumeId, staging: &Path) -> Result<Change<()>, Error> {
        let Some(place) = Place::open(staging)? else { return self.forget_block(id, None) };
        let found = self.find_for_teardown(id);
        let mounts = self.host.mounts()?;
        if let Some(top) = table::top_at(&mounts, place.path()) {
            if !self.is_attached(id, found.as_ref(), |number| is_whole(top, number))? {
                return Err(foreign(&place, &top.what));
            }
            if !self.host.unmount(&place)? {
                return Err(Error::InUse {
                    id: id.clone(),
                    by: format!("open files below {}", place.path().display()),
                });
            }
            if let Some(below) = table::top_at(&self.host.mounts()?, place.path()) {
                return Err(foreign(&place, &below.what));
            }
            self.host.unseal(&place)?;
            return Ok(Change::Changed(()));
        }
        // A stage that was interrupted between sealing and mounting leaves a folder that its owner can't remove.
        if place.found()? == Found::Directory && place.is_empty_directory()? {
            self.host.unseal(&place)?;
        }
        self.forget_block(id, Some(&place))
    }

    /// Detaches a raw block volume's device, if it is staged at that place (or anywhere, where the place itself is gone).
    fn forget_block(&self, id: &VolumeId, place: Option<&Place>) -> Result<Change<()>, Error> {
        let Some((pool, Some(mut record))) = self.find_for_teardown(id) else {
            return self.detach_without_record(id);
        };
        let here = match (&record.staged_at, place) {
            (None, _) => false,
            (Some(staged_at), Some(place)) => place.path() == Path::new(staged_at),
            (Some(staged_at), None) => !Path::new(staged_at).exists(),
        };
        if record.mode != VolumeMode::Block || !here {
            return Ok(Change::Unchanged(()));
        }
        if let Some(device) = self.attached(pool.as_ref(), &record)? {
            if let Some(user) = table::user_of(&self.host.mounts()?, device.number) {
                return Err(Error::InUse { id: id.clone(), by: user.point.display().to_string() });
            }
            self.detach(pool.as_ref(), &record)?;
        }
        record.staged_at = None;
        pool.save(&record)?;
        Ok(Change::Changed(()))
    }

    /// Detaches a raw block volume's device when its pool is gone: who takes a pod down on a dying disk must come to an end. The record then
    /// still says that it is staged, which counts only while the staging path exists.
    fn detach_without_record(&self, id: &VolumeId) -> Result<Change<()>, Error> {
        let pools = self.known_pools();
        let devices = self.host.marked(id, Some(&pools))?;
        // The kernel detaches a filesystem's device by itself.
        if !devices.iter().any(|device| !device.autoclear) {
            return Ok(Change::Unchanged(()));
        }
        let mounts = self.host.mounts()?;
        if let Some(user) = devices.iter().find_map(|device| table::user_of(&mounts, device.number)) {
            return Err(Error::InUse { id: id.clone(), by: user.point.display().to_string() });
        }
        let detached = self.host.detach_marked(id, &pools)?;
        Ok(Change::of(detached))
    }

    /// Whether the volume is attached as a device of which `ours` holds. Where its pool can't tell, the kernel can: our devices carry their
    /// volume's name.
    pub(super) fn is_attached(
        &self,
        id: &VolumeId,
        found: Option<&(Arc<dyn Pool>, Option<Record>)>,
        ours: impl Fn(DeviceNumber) -> bool,
    ) -> Result<bool, Error> {
        if let Some((pool, record)) = found {
            let attached = match record {
                Some(record) => self.attached(pool.as_ref(), record),
                None => pool.attached(id),
            };
            if let Ok(Some(attached)) = attached
                && ours(attached.number)
            {
                return Ok(true);
            }
        }
        Ok(self.host.marked(id, None)?.iter().any(|attached| ours(attached.number)))
    }
}
