//! The device that a volume's user sees: the pool's, or the mapper of an encrypted volume. Who uses it, and
//! taking it away.

use std::{path::Path, sync::Arc, thread, time::Duration};

use super::{core::Core, finding::Located};
use crate::{
    Error, VolumeId, VolumeMode,
    crypt::mapper::{self, Mapper, Standing},
    device::{Attached, Device, DeviceNumber},
    mount::{
        place::Place,
        table::{self, Carries},
    },
    pool::{
        Pool,
        record::{Encryption, Format, Record},
    },
};

/// How often, and how far apart, we look whether the kernel has made a device or let go of it.
pub(super) const ATTEMPTS: u32 = 50;
pub(super) const PAUSE: Duration = Duration::from_millis(10);

impl Core {
    /// The uppermost device of a volume that is attached.
    pub(super) fn attached(&self, pool: &dyn Pool, record: &Record) -> Result<Option<Attached>, Error> {
        let below = pool.attached(&record.id)?;
        match (&record.encryption, below) {
            (Some(encryption), Some(below)) => {
                let mapper = self.own_mapper(&record.id, encryption, below.number)?;
                Ok(Some(mapper.map_or(below, |mapper| mapper.attached())))
            }
            (_, below) => Ok(below),
        }
    }

    /// The device that the volume's user sees, held so that it stays; it is never attached or opened for
    /// that.
    pub(super) fn device(&self, pool: &dyn Pool, record: &Record) -> Result<Option<Device>, Error> {
        let Some(below) = pool.device(record)? else { return Ok(None) };
        let Some(encryption) = &record.encryption else { return Ok(Some(below)) };
        match self.own_mapper(&record.id, encryption, below.number)? {
            Some(mapper) => self.host.crypt().device(&mapper),
            None => Ok(None),
        }
    }

    /// The volume's device, which must be what is at that path (staged or published).
    pub(super) fn device_at(&self, found: &Located, path: &Path) -> Result<(Place, Device), Error> {
        let id = &found.record.id;
        let not_staged =
            |what: &str| Error::NotStaged { id: id.clone(), path: path.to_owned(), found: what.to_owned() };
        let place = Place::open(path)?.ok_or_else(|| not_staged("its parent does not exist"))?;
        let device = self
            .device(found.pool.as_ref(), &found.record)?
            .ok_or_else(|| not_staged("the volume is not attached"))?;
        let mounts = self.host.mounts()?;
        let ours = match (found.record.mode, table::top_at(&mounts, place.path())) {
            (VolumeMode::Filesystem(_), Some(top)) => top.carries.is_whole_of(device.number),
            (VolumeMode::Block, Some(top)) => top.carries == Carries::Node { device: device.number },
            // A staged raw block volume shows nothing at its staging path.
            (VolumeMode::Block, None) => found
                .record
                .staged_at
                .as_deref()
                .is_some_and(|staged_at| Path::new(staged_at) == place.path()),
            (VolumeMode::Filesystem(_), None) => false,
        };
        if !ours {
            return Err(not_staged(
                table::top_at(&mounts, place.path()).map_or("nothing is mounted there", |top| &top.what),
            ));
        }
        Ok((place, device))
    }

    /// Whether the volume is attached as a device for which `ours` holds. Where the pool can't tell, the
    /// kernel can: our devices carry their volume's name.
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

    /// Detaches the volume's device. The caller has checked that it is not mounted.
    pub(super) fn detach(&self, pool: &dyn Pool, record: &Record) -> Result<bool, Error> {
        if record.encryption.is_some()
            && let Some(mapper) = self.host.crypt().mapper(&record.id)?
            && mapper.is_made_by_us()
            && !self.host.crypt().close(&mapper)?
        {
            return Err(Error::InUse { id: record.id.clone(), by: self.host.crypt().users(&mapper) });
        }
        // The copy that is made of it reads from below it. A device that is not open is not in use, and goes
        // at the next chance.
        if self.check_not_read(&record.id).is_err() {
            return Ok(true);
        }
        pool.detach(&record.id)
    }

    /// Detaches a pool's device that nothing mounts, and waits until it is gone.
    pub(super) fn release(&self, pool: &dyn Pool, record: &Record) -> Result<(), Error> {
        let id = &record.id;
        for _ in 0..ATTEMPTS {
            let Some(device) = pool.attached(id)? else { return Ok(()) };
            self.check_unmounted(id, device.number)?;
            pool.detach(id)?;
            thread::sleep(PAUSE);
        }
        Err(Error::InUse { id: id.clone(), by: "a process that has its device open".to_owned() })
    }

    /// Fails while the volume is staged, mounted or open.
    pub(super) fn check_unused(&self, pool: &dyn Pool, record: &Record) -> Result<(), Error> {
        let in_use = |by: String| Err(Error::InUse { id: record.id.clone(), by });
        for attempt in 0..=ATTEMPTS {
            let Some(device) = self.attached(pool, record)? else { return Ok(()) };
            self.check_unmounted(&record.id, device.number)?;
            if let Some(staged_at) = record.staged() {
                return in_use(format!("{staged_at} (staged)"));
            }
            if record.mode == VolumeMode::Block {
                self.detach(pool, record)?;
            }
            // The kernel detaches a device a moment after its last mount went; a mount in another namespace
            // keeps it for longer.
            if attempt == ATTEMPTS {
                return in_use(self.host.lying_on(&device).unwrap_or_else(|| {
                    let node = device.node.display();
                    format!("{node}: a process or another mount namespace still has it open")
                }));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The mapper of that volume, if it may be used.
    pub(super) fn own_mapper(
        &self,
        id: &VolumeId,
        encryption: &Encryption,
        below: DeviceNumber,
    ) -> Result<Option<Mapper>, Error> {
        let (Format::Started { uuid } | Format::Done { uuid }) = &encryption.header else { return Ok(None) };
        let ours = |mapper: &Mapper| mapper::judge(mapper, *uuid, below) == Standing::Ours;
        Ok(self.host.crypt().mapper(id)?.filter(ours))
    }

    /// Fails while the device is mounted or bound somewhere.
    pub(super) fn check_unmounted(&self, id: &VolumeId, number: DeviceNumber) -> Result<(), Error> {
        match table::user_of(&self.host.mounts()?, number) {
            Some(user) => Err(Error::InUse { id: id.clone(), by: user.point.display().to_string() }),
            None => Ok(()),
        }
    }
}
