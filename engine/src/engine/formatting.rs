//! Making a volume's filesystem once, and taking the one that is there for the volume's, as the guard
//! decides.

use uuid::Uuid;

use super::{
    core::Core,
    finding::Located,
    guard::{self, Verdict, ensure_unchanged},
};
use crate::{
    Error, Filesystem,
    device::Device,
    filesystem::{make::NewFilesystem, probe::Probe},
    pool::{
        Pool,
        record::{Format, Record},
    },
};

impl Core {
    /// Attaches the volume and sees to it that it carries its filesystem, as the guard allows.
    pub(super) fn ready(&self, found: Located, filesystem: Filesystem) -> Result<(Located, Device), Error> {
        let Located { pool, mut record } = found;
        let mut device = pool.attach(&record)?;
        let probe = self.host.probe(&device)?;
        let empty = record.format != Format::Never || pool.is_empty(&record.id)?;
        let zeroed = match guard::judge(filesystem, &record.format, &probe, empty) {
            Verdict::Refuse(reason) => return Err(Error::FormatRefused { id: record.id, reason }),
            verdict @ (Verdict::Mount | Verdict::Take(_)) => {
                self.accept(pool.as_ref(), &mut record, filesystem, &device, &verdict)?;
                return Ok((Located { pool, record }, device));
            }
            Verdict::Format => pool.is_zeroed(),
            Verdict::FormatAgain => {
                drop(device);
                ensure_unchanged(pool.as_ref(), &record)?;
                self.release(pool.as_ref(), &record)?;
                let zeroed = pool.wipe(&record)?;
                device = pool.attach(&record)?;
                zeroed
            }
        };
        let uuid = Uuid::new_v4();
        record.format = Format::Started { uuid };
        pool.save(&record)?;
        self.make_filesystem(&record, filesystem, uuid, &device, zeroed)?;
        // From here on it may be mounted, so it is never formatted again.
        record.format = Format::Done { uuid };
        record.used = true;
        pool.save(&record)?;
        Ok((Located { pool, record }, device))
    }

    pub(super) fn check_filesystem(
        &self,
        pool: &dyn Pool,
        record: &mut Record,
        filesystem: Filesystem,
        device: &Device,
    ) -> Result<(), Error> {
        match guard::judge(filesystem, &record.format, &self.host.probe(device)?, false) {
            verdict @ (Verdict::Mount | Verdict::Take(_)) => {
                self.accept(pool, record, filesystem, device, &verdict)
            }
            Verdict::Refuse(reason) => Err(Error::FormatRefused { id: record.id.clone(), reason }),
            // Both are made in one go; a record that says otherwise was not written by us.
            Verdict::Format | Verdict::FormatAgain => Err(Error::FormatRefused {
                id: record.id.clone(),
                reason: "the record says its LUKS2 header is made, but not its filesystem".to_owned(),
            }),
        }
    }

    /// Takes a filesystem that the guard found to be the volume's: a copy's gets an id of its own, and the
    /// record says what it is.
    fn accept(
        &self,
        pool: &dyn Pool,
        record: &mut Record,
        filesystem: Filesystem,
        device: &Device,
        verdict: &Verdict,
    ) -> Result<(), Error> {
        if let Some(origin) = &record.origin {
            self.host.distinguish(device, filesystem, origin.uuid)?;
        }
        let before = record.clone();
        record.used = true;
        if let Verdict::Take(uuid) = verdict {
            record.format = Format::Done { uuid: *uuid };
        }
        if *record == before { Ok(()) } else { pool.save(record) }
    }

    /// Makes the filesystem and looks whether it is there. `zeroed`: the device is known to read as zeros.
    pub(super) fn make_filesystem(
        &self,
        record: &Record,
        filesystem: Filesystem,
        uuid: Uuid,
        device: &Device,
        zeroed: bool,
    ) -> Result<(), Error> {
        let new = NewFilesystem { filesystem, uuid, label: &record.label, bytes: device.bytes, zeroed };
        self.host.make_filesystem(device, &new)?;
        match self.host.probe(device)? {
            Probe::Found(superblock) if superblock.filesystem == filesystem && superblock.uuid == uuid => {
                Ok(())
            }
            other => {
                let reason = format!("mkfs ended well, but the device then showed {other:?}");
                Err(Error::FormatRefused { id: record.id.clone(), reason })
            }
        }
    }
}
