//! Undoing a stage: what is mounted at the staging folder comes down, a raw block volume's device is
//! detached. It asks no more than the kernel's tables where the pool is gone: who takes a pod down on a dying
//! disk must come to an end.

use std::path::Path;

use super::core::Core;
use crate::{
    Change, Error, VolumeId, VolumeMode,
    mount::{
        place::{Found, Place},
        table,
    },
};

impl Core {
    pub(super) fn unstage(&self, id: &VolumeId, staging: &Path) -> Result<Change<()>, Error> {
        let Some(place) = Place::open(staging)? else { return self.forget_block(id, None) };
        let found = self.find_for_teardown(id);
        let mounts = self.host.mounts()?;
        if let Some(top) = table::top_at(&mounts, place.path()) {
            if !self.is_attached(id, found.as_ref(), |number| top.carries.is_whole_of(number))? {
                return Err(place.foreign(&top.what));
            }
            self.unmount(id, &place)?;
            if let Some(below) = table::top_at(&self.host.mounts()?, place.path()) {
                return Err(place.foreign(&below.what));
            }
            self.host.unseal(&place)?;
            return Ok(Change::Changed(()));
        }
        // A stage that was interrupted between sealing and mounting leaves a folder that its owner can't
        // remove.
        if place.found()? == Found::Directory && place.is_empty_directory()? {
            self.host.unseal(&place)?;
        }
        self.forget_block(id, Some(&place))
    }

    /// Unmounts what is uppermost at that place.
    pub(super) fn unmount(&self, id: &VolumeId, place: &Place) -> Result<(), Error> {
        if self.host.unmount(place)? {
            return Ok(());
        }
        Err(Error::InUse { id: id.clone(), by: format!("open files below {}", place.path().display()) })
    }

    /// Detaches a raw block volume's device, if it is staged at that place (or anywhere, where the place
    /// itself is gone).
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
            self.check_unmounted(id, device.number)?;
            self.detach(pool.as_ref(), &record)?;
        }
        record.staged_at = None;
        pool.save(&record)?;
        Ok(Change::Changed(()))
    }

    /// Detaches a raw block volume's device when its pool is gone: who takes a pod down on a dying disk must
    /// come to an end. The record then still says that it is staged, which counts only while the staging path
    /// exists.
    fn detach_without_record(&self, id: &VolumeId) -> Result<Change<()>, Error> {
        let pools = self.known_pools();
        let devices = self.host.marked(id, Some(&pools))?;
        // The kernel detaches a filesystem's device by itself.
        if !devices.iter().any(|device| !device.autoclear) {
            return Ok(Change::Unchanged(()));
        }
        devices.iter().try_for_each(|device| self.check_unmounted(id, device.number))?;
        let detached = self.host.detach_marked(id, &pools)?;
        Ok(Change::of(detached))
    }
}
