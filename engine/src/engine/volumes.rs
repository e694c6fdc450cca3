//! Making, changing, growing and deleting volumes.
//!
//! Making one, and what a crash after each step leaves:
//! 1. it is looked for in all pools of the node, and room is set aside in memory: nothing
//! 2. the pool makes it with its record (an image in the folder `new`, or one `lvcreate`): remains that the next recovery removes, or all
//!    of it
//! 3. it appears under its id by one step (a rename; for LVM that was step 2): all of it, and the repeated call finds it
//! 4. both ends of a thick logical volume are zeroed: its tag says that they are not, and they are before anybody sees them
//!
//! No filesystem and no key slot is made here: the first stage does that.
//!
//! Growing one: (1) image or device grow, (2) the record says so. A crash between leaves a device larger than its record, which the repeated
//! call finds large enough; the filesystem follows when the volume is expanded or staged.
//!
//! Deleting one: (1) nobody may use it, (2) the key slots of an encrypted one are overwritten, (3) it leaves its id by one step (into the
//! trash, or to a name `d-…`), (4) its space is freed in the background. A crash after (2) leaves a volume that no key opens and only a
//! deletion ends; after (3) it is gone, and the next sweep goes on with (4) where it was.

use std::{
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Held, core::Core, finding::Located, room::Reservation};
use crate::{
    Change, Error, PoolError, PoolErrorKind, VolumeId, VolumeInfo, VolumeMode, VolumeSpec, crypt,
    mount::{options, table},
    pool::{
        Pool,
        record::{Encryption, Format, Further, Record, overhead_bytes},
        space::GRAIN,
    },
};

/// The largest volume, in bytes: 1 PiB.
const MAX_VOLUME_BYTES: u64 = 1 << 50;

/// How often, and how far apart, we look whether the kernel let go of a device after its last mount.
pub(super) const RELEASE_ATTEMPTS: u32 = 50;
pub(super) const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// How long a call waits for the space of deleted volumes.
const SWEEP_PATIENCE: Duration = Duration::from_secs(5);

/// A size as volumes have it: a whole number of [`GRAIN`], within bounds.
fn whole(size_bytes: u64) -> Result<u64, Error> {
    let rounded =
        size_bytes.checked_next_multiple_of(GRAIN).filter(|size| (GRAIN..=MAX_VOLUME_BYTES).contains(size));
    rounded.ok_or_else(|| {
        Error::InvalidArgument(format!(
            "a volume has between {GRAIN} bytes and 1 PiB, not {size_bytes} bytes"
        ))
    })
}

/// An error for a size that the volume's filesystem can't have.
fn large_enough(mode: VolumeMode, size_bytes: u64) -> Result<(), Error> {
    match mode {
        VolumeMode::Filesystem(filesystem) if size_bytes < filesystem.min_volume_bytes() => {
            Err(Error::InvalidArgument(format!(
                "{filesystem} needs a volume of at least {} MiB, not {size_bytes} bytes",
                filesystem.min_volume_bytes() >> 20
            )))
        }
        _ => Ok(()),
    }
}

/// What a volume of that size takes of its pool, in bytes.
pub(super) fn on_device(pool: &dyn Pool, size_bytes: u64, encrypted: bool) -> u64 {
    (size_bytes + overhead_bytes(encrypted)).next_multiple_of(pool.grain_bytes())
}

impl Core {
    pub(super) fn create(
        &self,
        pool_name: &str,
        spec: &VolumeSpec,
        held: &mut Held,
    ) -> Result<Change<VolumeInfo>, Error> {
        let size_bytes = whole(spec.size_bytes)?;
        if let VolumeMode::Filesystem(filesystem) = spec.mode {
            options::check(filesystem, &spec.mount_options)?;
        }
        large_enough(spec.mode, size_bytes)?;
        if spec.source.as_ref() == Some(&spec.id) {
            return Err(Error::InvalidArgument(format!("volume {} can't be made from itself", spec.id)));
        }
        // A volume is looked for in all pools: the same id twice on a node would make "which one" a guess.
        let pool = self.pool(pool_name)?;
        if let Some(found) = self.find_entry_usable(&spec.id)? {
            return unchanged(&found.volume()?, pool_name, spec, size_bytes);
        }
        if let Some(from) = &spec.source {
            return self.create_from(pool, spec, size_bytes, from, held);
        }
        let device_bytes = on_device(pool.as_ref(), size_bytes, spec.encrypted);
        let sector_bytes = if spec.encrypted { crypt::SECTOR_BYTES } else { pool.sector_bytes(spec.mode) };
        let mut record = Record {
            id: spec.id.clone(),
            size_bytes: device_bytes,
            mode: spec.mode,
            sector_bytes,
            format: Format::Never,
            used: false,
            staged_at: None,
            label: spec.label.clone(),
            owner: spec.owner.clone(),
            mount_options: spec.mount_options.clone(),
            created_at: Timestamp::now(),
            role: None,
            origin: None,
            restore: None,
            encryption: spec.encrypted.then_some(Encryption {
                header: Format::Never,
                key: None,
                rotating: false,
            }),
            asked_bytes: None,
            further: Further::new(),
        };
        record.set_size(device_bytes, size_bytes);
        self.with_room(pool.as_ref(), 0, device_bytes, || pool.create(&record))?;
        Ok(Change::Changed(Located { pool, record }.info()))
    }

    /// Does something that needs space, with that space set aside for as long as the answer lives.
    pub(super) fn with_room<T>(
        &self,
        pool: &dyn Pool,
        existing: u64,
        requested: u64,
        work: impl Fn() -> Result<T, Error>,
    ) -> Result<(T, Reservation<'_>), Error> {
        let attempt = || {
            let reservation = self.reserve(pool, existing, requested)?;
            Ok((work()?, reservation))
        };
        match attempt() {
            Err(
                Error::OutOfSpace { .. }
                | Error::PoolUnavailable(PoolError { kind: PoolErrorKind::MetadataNearlyFull, .. }),
            ) if self.may_get_room(pool, existing, requested) => attempt(),
            other => other,
        }
    }

    /// Waits a while for what deleted volumes take, which counts as free. `false`: there would be too little even without them. Where zeros
    /// are written over them it takes hours, so whoever needs the space comes again.
    fn may_get_room(&self, pool: &dyn Pool, existing: u64, requested: u64) -> bool {
        let Ok(disk) = pool.disk() else { return false };
        // What is closed opens when deleted volumes go, whatever the sums say.
        if !disk.closed && self.reserve(pool, existing, requested).is_err() {
            return false;
        }
        let start = Instant::now();
        for (pool, _) in self.sharing(&disk) {
            self.sweep_if_due(&pool);
            self.sweeps.wait(pool.id(), Some(SWEEP_PATIENCE.saturating_sub(start.elapsed())));
        }
        true
    }

    pub(super) fn set_mount_options(&self, id: &VolumeId, options: Vec<String>) -> Result<Change<()>, Error> {
        let Located { pool, mut record } = self.find(id)?;
        match record.mode {
            VolumeMode::Filesystem(filesystem) => options::check(filesystem, &options)?,
            VolumeMode::Block if options.is_empty() => {}
            VolumeMode::Block => {
                return Err(Error::InvalidArgument("a raw block volume has no mount options".to_owned()));
            }
        }
        if record.mount_options == options {
            return Ok(Change::Unchanged(()));
        }
        record.mount_options = options;
        pool.save(&record)?;
        Ok(Change::Changed(()))
    }

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
        self.with_room(found.pool.as_ref(), existing, size_bytes, || {
            found.pool.resize(&found.record)?;
            found.pool.save(&found.record)
        })?;
        Ok(Change::Changed(found.info()))
    }

    pub(super) fn delete(&self, id: &VolumeId, only_if_unused: bool) -> Result<Change<()>, Error> {
        let Some(Located { pool, record }) = self.find_maybe(id)? else { return Ok(Change::Unchanged(())) };
        self.check_not_read(id)?;
        if only_if_unused && record.used {
            return Err(Error::MayHoldData { id: id.clone() });
        }
        self.check_unused(pool.as_ref(), &record)?;
        self.erase_keys(pool.as_ref(), &record)?;
        let deleted = pool.delete(id)?;
        self.gates.forget(id);
        self.sweep_if_due(&pool);
        Ok(Change::of(deleted))
    }

    /// An error while the volume is staged, mounted or open.
    pub(super) fn check_unused(&self, pool: &dyn Pool, record: &Record) -> Result<(), Error> {
        let in_use = |by: String| Err(Error::InUse { id: record.id.clone(), by });
        for attempt in 0..=RELEASE_ATTEMPTS {
            let Some(device) = self.attached(pool, record)? else { return Ok(()) };
            if let Some(user) = table::user_of(&self.host.mounts()?, device.number) {
                return in_use(user.point.display().to_string());
            }
            if let Some(staged_at) = record.staged() {
                return in_use(format!("{staged_at} (staged)"));
            }
            if record.mode == VolumeMode::Block {
                self.detach(pool, record)?;
            }
            // The kernel detaches a device a moment after its last mount went; a mount in another namespace keeps it for longer.
            if attempt == RELEASE_ATTEMPTS {
                return in_use(self.host.lying_on(&device).unwrap_or_else(|| {
                    let node = device.node.display();
                    format!("{node}: a process or another mount namespace still has it open")
                }));
            }
            thread::sleep(RELEASE_PAUSE);
        }
        Ok(())
    }
}

/// Whether an existing volume is what was asked for.
fn unchanged(
    found: &Located,
    pool_name: &str,
    spec: &VolumeSpec,
    size_bytes: u64,
) -> Result<Change<VolumeInfo>, Error> {
    let conflict = |field, existing: String, requested: String| {
        Err(Error::Conflict { id: spec.id.clone(), field, existing, requested })
    };
    let pool = &found.pool.config().name;
    if pool != pool_name {
        return conflict("pool", pool.clone(), pool_name.to_owned());
    }
    if found.record.mode != spec.mode {
        return conflict("mode", found.record.mode.to_string(), spec.mode.to_string());
    }
    let origin = found.record.origin.as_ref().map(|origin| &origin.id);
    if origin != spec.source.as_ref() {
        let name = |id: Option<&VolumeId>| id.map_or("none".to_owned(), ToString::to_string);
        return conflict("source", name(origin), name(spec.source.as_ref()));
    }
    let encrypted = found.record.encryption.is_some();
    if encrypted != spec.encrypted {
        let name = |encrypted| if encrypted { "LUKS2" } else { "none" }.to_owned();
        return conflict("encryption", name(encrypted), name(spec.encrypted));
    }
    let existing = found.record.usable_bytes();
    if existing < size_bytes {
        return conflict("size", format!("{existing} bytes"), format!("{size_bytes} bytes"));
    }
    Ok(Change::Unchanged(found.info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_blocks_within_bounds() {
        for (asked, expected) in [
            (0, None),
            (1, Some(4096)),
            (4096, Some(4096)),
            (4097, Some(8192)),
            (1 << 50, Some(1 << 50)),
            ((1 << 50) + 1, None),
            (u64::MAX, None),
        ] {
            assert_eq!(whole(asked).ok(), expected, "{asked}");
        }
        let message = whole(0).unwrap_err().to_string();
        assert!(message.contains("4096 bytes and 1 PiB"), "{message}");
    }
}
