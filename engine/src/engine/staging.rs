//! Staging: a volume becomes a mounted filesystem or an attached device, once per node.
//!
//! The steps of a filesystem, and what a crash after each of them leaves:
//! 1. a restore that was begun is carried to its end: see there
//! 2. the staging folder is made, if its caller has not: an empty folder, which the next stage takes
//! 3. the volume is attached: a loop device that goes with us, or an active logical volume, which is no harm; of an encrypted one also a
//!    mapper, which the next stage takes over if it is the right one (see `encryption`)
//! 4. if it was never formatted, and the guard agrees: the record says *started*: the next stage wipes everything and begins anew. A copy of
//!    a raw device is never formatted: if it carries the filesystem that it shall be read as, the record says *done* with its uuid
//! 5. the filesystem is made and looked at: the same
//! 6. the record says *done* and *used*: from here on it is never formatted again, whatever the disk shows
//! 7. the folder is sealed against writes: an empty folder that is still taken
//! 8. it is mounted, and grown if the device is larger: the repeated call finds the mount, and tries the growth again
//!
//! A raw block volume: (1) as above; (2) the record says where it is staged, and *used*; (3) it is attached. A crash between the two leaves a
//! record that says more than there is: the repeated call attaches, an unstage takes the word back. An encrypted one is opened before (2),
//! so that a wrong key changes nothing.

use std::{path::Path, thread, time::Duration};

use uuid::Uuid;

use super::{
    core::Core,
    encryption::Keys,
    finding::Located,
    guard::{self, Verdict, ensure_unchanged},
};
use crate::{
    Change, Error, Filesystem, StageRequest, VolumeId, VolumeMode,
    device::{Device, DeviceNumber},
    filesystem::{make::NewFilesystem, probe::Probe},
    host::GrowError,
    mount::{
        options,
        place::{Found, Place},
        table::{self, Carries, Mount},
    },
    pool::{
        Pool,
        record::{Format, Record},
    },
};

/// How often, and how far apart, we look whether a device is gone after its detach.
const DETACH_ATTEMPTS: u32 = 50;
const DETACH_PAUSE: Duration = Duration::from_millis(10);

impl Core {
    pub(super) fn stage(
        &self,
        id: &VolumeId,
        staging: &Path,
        request: &StageRequest,
    ) -> Result<Change<()>, Error> {
        let found = self.settled(self.find(id)?)?;
        let keys = Keys::of(request);
        if let Err(conflict) = check_kind(&found.record, request, keys.wanted.is_some()) {
            return Err(self.told_apart(conflict, &found, staging)?);
        }
        let Some(place) = Place::open(staging)? else {
            return Err(Error::InvalidArgument(format!(
                "the folder above {} does not exist",
                staging.display()
            )));
        };
        match found.record.mode {
            VolumeMode::Block => self.stage_block(found, &place, keys),
            VolumeMode::Filesystem(filesystem) => {
                options::check(filesystem, &request.mount_options)?;
                self.stage_filesystem(found, filesystem, &place, &request.mount_options, keys)
            }
        }
    }

    /// A conflict under a name of its own where the volume is staged just there: its caller speaks of a stage that there is.
    fn told_apart(&self, conflict: Error, found: &Located, staging: &Path) -> Result<Error, Error> {
        let Error::Conflict { id, field, existing, requested } = conflict else { return Ok(conflict) };
        let Located { pool, record } = found;
        let is_staged = match (record.mode, Place::open(staging)?) {
            (_, None) => false,
            (VolumeMode::Block, Some(place)) => record.staged_at.as_ref() == Some(&utf8(&place)?),
            (VolumeMode::Filesystem(_), Some(place)) => {
                let attached = self.attached(pool.as_ref(), record)?;
                let mounts = self.host.mounts()?;
                let top = table::top_at(&mounts, place.path());
                attached.zip(top).is_some_and(|(attached, top)| is_whole(top, attached.number))
            }
        };
        let field = match field {
            "mode" if is_staged => "staged mode",
            "filesystem" if is_staged => "staged filesystem",
            "encryption" if is_staged => "staged encryption",
            field => field,
        };
        Ok(Error::Conflict { id, field, existing, requested })
    }

    fn stage_block(&self, found: Located, place: &Place, keys: Keys<'_>) -> Result<Change<()>, Error> {
        let Located { pool, record } = &found;
        if let Some(other) = table::top_at(&self.host.mounts()?, place.path()) {
            return Err(foreign(place, &other.what));
        }
        let path = utf8(place)?;
        let staged = record.staged_at.as_ref() == Some(&path);
        if let Some(elsewhere) = record.staged().filter(|elsewhere| *elsewhere != path)
            && pool.attached(&record.id)?.is_some()
        {
            return Err(Error::InUse { id: record.id.clone(), by: format!("{elsewhere} (staged)") });
        }
        let note = |Located { pool, mut record }: Located| {
            if !staged || !record.used {
                record.staged_at = Some(path);
                record.used = true;
                pool.save(&record)?;
            }
            Ok::<_, Error>(Located { pool, record })
        };
        let device = if record.encryption.is_some() {
            // Opened first: a wrong key stages nothing.
            let (found, device) = self.ready_encrypted(found, keys)?;
            note(found)?;
            device
        } else {
            let Located { pool, record } = note(found)?;
            pool.attach(&record)?
        };
        Ok(Change::of(!staged || device.fresh))
    }

    fn stage_filesystem(
        &self,
        mut found: Located,
        filesystem: Filesystem,
        place: &Place,
        further: &[String],
        keys: Keys<'_>,
    ) -> Result<Change<()>, Error> {
        let attached = self.attached(found.pool.as_ref(), &found.record)?;
        if let Some(top) = table::top_at(&self.host.mounts()?, place.path()) {
            if !attached.is_some_and(|attached| is_whole(top, attached.number)) {
                return Err(foreign(place, &top.what));
            }
            let device = if keys.older.is_empty() {
                self.grown_device(found.pool.as_ref(), &found.record)?
            } else {
                // Mounted, a key rotates as well.
                let (ready, device) = self.ready_encrypted(found, keys)?;
                found = ready;
                device
            };
            // Staged already; but its device may have grown since.
            self.grow_or_warn(&found, &device, filesystem, place);
            return Ok(Change::Unchanged(()));
        }
        match place.found()? {
            Found::Nothing => place.make_directory()?,
            Found::Directory if place.is_empty_directory()? => {}
            Found::Directory => return Err(foreign(place, "a directory with files in it")),
            Found::File | Found::Other => return Err(foreign(place, "no directory")),
        }
        let (found, device) = if found.record.encryption.is_some() {
            self.ready_encrypted(found, keys)?
        } else {
            self.ready(found, filesystem)?
        };
        let mut options = found.record.mount_options.clone();
        options.extend(further.iter().filter(|option| !found.record.mount_options.contains(option)).cloned());
        // btrfs discards without being asked.
        let asked = |option: &String| matches!(option.as_str(), "discard" | "nodiscard");
        if found.pool.keeps_blocks() && !options.iter().any(asked) {
            options.push("nodiscard".to_owned());
        }
        self.host.seal(place)?;
        let mounted = self.mount_grown(&found, &device, filesystem, &options, place);
        if mounted.is_err() {
            // The caller's folder stays as it was.
            let _ = self.host.unseal(place);
        }
        mounted?;
        Ok(Change::Changed(()))
    }

    /// Attaches the volume and sees to it that it carries its filesystem, as the guard allows.
    fn ready(&self, found: Located, filesystem: Filesystem) -> Result<(Located, Device), Error> {
        let Located { pool, mut record } = found;
        let mut device = pool.attach(&record)?;
        let probe = self.host.probe(&device)?;
        let empty = record.format != Format::Never || pool.is_empty(&record.id)?;
        let zeroed = match guard::judge(filesystem, &record.format, &probe, empty) {
            Verdict::Refuse(reason) => return Err(Error::FormatRefused { id: record.id, reason }),
            verdict @ (Verdict::Mount | Verdict::Take(_)) => {
                if let Some(origin) = &record.origin {
                    self.host.distinguish(&device, filesystem, origin.uuid)?;
                }
                let before = record.clone();
                record.used = true;
                if let Verdict::Take(uuid) = verdict {
                    record.format = Format::Done { uuid };
                }
                if record != before {
                    pool.save(&record)?;
                }
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

    /// Makes the filesystem and looks whether it is there. `zeroed`: the device is known to read as zeros.
    pub(super) fn make_filesystem(
        &self,
        record: &Record,
        filesystem: Filesystem,
        uuid: Uuid,
        device: &Device,
        zeroed: bool,
    ) -> Result<(), Error> {
        let new = NewFilesystem { filesystem, uuid, label: &record.label, zeroed };
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

    /// Detaches a pool's device that nothing mounts, and waits until it is gone.
    pub(super) fn release(&self, pool: &dyn Pool, record: &Record) -> Result<(), Error> {
        let id = &record.id;
        for _ in 0..DETACH_ATTEMPTS {
            let Some(device) = pool.attached(id)? else { return Ok(()) };
            if let Some(user) = table::user_of(&self.host.mounts()?, device.number) {
                return Err(Error::InUse { id: id.clone(), by: user.point.display().to_string() });
            }
            pool.detach(id)?;
            thread::sleep(DETACH_PAUSE);
        }
        Err(Error::InUse { id: id.clone(), by: "a process that has its device open".to_owned() })
    }

    /// Mounts the filesystem and makes it as large as its device, before or after mounting, whichever the kernel allows.
    fn mount_grown(
        &self,
        found: &Located,
        device: &Device,
        filesystem: Filesystem,
        options: &[String],
        place: &Place,
    ) -> Result<(), Error> {
        self.host.repair_marked(device, filesystem)?;
        self.host.mount(device, filesystem, options, place)?;
        match self.host.grow_mounted(device, filesystem, place) {
            Ok(_) => Ok(()),
            Err(GrowError::Failed(error)) => {
                // A volume that is smaller than promised is still better than none.
                tracing::warn!(volume = %found.record.id, error = %error, "the filesystem did not grow");
                Ok(())
            }
            Err(GrowError::Offline(reason)) => {
                tracing::info!(volume = %found.record.id, reason, "growing the filesystem before it is mounted");
                if !self.host.unmount(place)? {
                    return Ok(());
                }
                let grown = self.host.grow_unmounted(device, filesystem);
                if let Err(error) = &grown {
                    tracing::warn!(volume = %found.record.id, error = %error, "the filesystem did not grow");
                }
                self.host.mount(device, filesystem, options, place)
            }
        }
    }

    fn grow_or_warn(&self, found: &Located, device: &Device, filesystem: Filesystem, place: &Place) {
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

    pub(super) fn expand(&self, id: &VolumeId, path: &Path) -> Result<u64, Error> {
        let found = self.find(id)?;
        let (place, held) = self.device_at(&found, path)?;
        // It is attached, and stays so while it is held; a growth that was interrupted may have left it smaller than its image.
        let device = self.grown_device(found.pool.as_ref(), &found.record)?;
        drop(held);
        let VolumeMode::Filesystem(filesystem) = found.record.mode else { return Ok(device.bytes) };
        match self.host.grow_mounted(&device, filesystem, &place) {
            Ok(_) => Ok(device.bytes),
            Err(GrowError::Offline(reason)) => Err(Error::GrowOffline { id: id.clone(), filesystem, reason }),
            Err(GrowError::Failed(error)) => Err(error),
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
            (VolumeMode::Filesystem(_), Some(top)) => is_whole(top, device.number),
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
}

/// Whether a mount is the whole filesystem of a device.
pub(super) fn is_whole(mount: &Mount, number: DeviceNumber) -> bool {
    mount.carries == Carries::Filesystem { device: number, whole: true }
}

pub(super) fn foreign(place: &Place, found: &str) -> Error {
    Error::ForeignTarget { path: place.path().to_owned(), found: found.to_owned() }
}

/// The mode can't change, so a caller that expects another one is mistaken.
/// Whether a volume is of the kind that a stage speaks of.
fn check_kind(record: &Record, request: &StageRequest, has_key: bool) -> Result<(), Error> {
    check_mode(&record.id, record.mode, request.block)?;
    let conflict = |field, existing: String, requested: String| {
        Err(Error::Conflict { id: record.id.clone(), field, existing, requested })
    };
    if has_key && record.encryption.is_none() {
        return conflict("encryption", "none".to_owned(), "LUKS2 (a key was given)".to_owned());
    }
    match (record.mode, request.filesystem) {
        (VolumeMode::Filesystem(filesystem), Some(expected)) if expected != filesystem => {
            conflict("filesystem", filesystem.to_string(), expected.to_string())
        }
        _ => Ok(()),
    }
}

pub(super) fn check_mode(id: &VolumeId, mode: VolumeMode, block: bool) -> Result<(), Error> {
    let is_block = mode == VolumeMode::Block;
    if is_block == block {
        return Ok(());
    }
    let name = |block| if block { "block" } else { "filesystem" }.to_owned();
    Err(Error::Conflict { id: id.clone(), field: "mode", existing: name(is_block), requested: name(block) })
}

fn utf8(place: &Place) -> Result<String, Error> {
    let text = place.path().to_str();
    text.map(str::to_owned).ok_or_else(|| {
        Error::InvalidArgument(format!("the staging path {} is not UTF-8", place.path().display()))
    })
}
