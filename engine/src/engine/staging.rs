//! Staging: a volume becomes a mounted filesystem or an attached device, once per node.
//!
//! The steps of a filesystem, and what a crash after each of them leaves:
//! 1. a restore that was begun is carried to its end: see there
//! 2. the staging folder is made, if its caller has not: an empty folder, which the next stage takes
//! 3. the volume is attached: a loop device that goes with us, or an active logical volume, which is no harm;
//!    of an encrypted one also a mapper, which the next stage takes over if it is the right one (see
//!    `encryption`)
//! 4. if it was never formatted, and the guard agrees: the record says *started*: the next stage wipes
//!    everything and starts again. A copy of a raw device is never formatted: if it carries the filesystem
//!    that it is to be read as, the record says *done* with its uuid
//! 5. the filesystem is made, emptied of what mkfs puts into it, and looked at: the same
//! 6. the record says *done* and *used*: from here on it is never formatted again, whatever the disk shows
//! 7. where the filesystem says that it has errors, it is repaired, and all begins anew: see
//!    `overhauling`
//! 8. the folder is sealed against writes: an empty folder that is still taken
//! 9. it is mounted, and grown if the device is larger: the repeated call finds the mount, and tries the
//!    growth again. Where it can't grow so, it is unmounted, grown, and all begins anew
//!
//! A raw block volume: (1) as above; (2) the record says where it is staged, and *used*; (3) it is attached.
//! A crash between the two leaves a record that says more than there is: the repeated call attaches, an
//! unstage takes the word back. An encrypted one is opened before (2), so that a wrong key changes nothing.

use std::path::Path;

use super::{
    core::Core,
    encryption::Keys,
    finding::Located,
    overhauls::{Overhaul, Staged, Subject},
};
use crate::{
    Change, Error, Filesystem, StageRequest, VolumeId, VolumeMode,
    mount::{
        place::{Found, Place},
        table,
    },
    mount_options,
    pool::record::Record,
};

impl Core {
    pub(super) fn stage(
        &self,
        id: &VolumeId,
        staging: &Path,
        request: &StageRequest,
        done: &[Overhaul],
    ) -> Result<Staged, Error> {
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
            VolumeMode::Block => self.stage_block(found, &place, keys).map(Staged::Done),
            VolumeMode::Filesystem(filesystem) => {
                mount_options::check(filesystem, &request.mount_options)?;
                self.stage_filesystem(found, filesystem, &place, (&request.mount_options, keys, done))
            }
        }
    }

    /// A conflict under a name of its own where the volume is staged just there: its caller speaks of a stage
    /// that there is.
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
                attached.zip(top).is_some_and(|(attached, top)| top.carries.is_whole_of(attached.number))
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
            return Err(place.foreign(&other.what));
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
        (further, keys, done): (&[String], Keys<'_>, &[Overhaul]),
    ) -> Result<Staged, Error> {
        let attached = self.attached(found.pool.as_ref(), &found.record)?;
        if let Some(top) = table::top_at(&self.host.mounts()?, place.path()) {
            if !attached.is_some_and(|attached| top.carries.is_whole_of(attached.number)) {
                return Err(place.foreign(&top.what));
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
            return Ok(Staged::Done(Change::Unchanged(())));
        }
        match place.found()? {
            Found::Nothing => place.make_directory()?,
            Found::Directory if place.is_empty_directory()? => {}
            Found::Directory => return Err(place.foreign("a directory with files in it")),
            Found::File | Found::Other => return Err(place.foreign("no directory")),
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
        let needs = |overhaul, found: Located, device| {
            let Located { pool, record } = found;
            Ok(Staged::Needs(overhaul, Subject { pool, id: record.id, device, filesystem }))
        };
        if !done.contains(&Overhaul::Repair) && self.host.wants_repair(&device, filesystem)? {
            return needs(Overhaul::Repair, found, device);
        }
        self.host.seal(place)?;
        let tried = done.contains(&Overhaul::Growth);
        let mounted = self.mount_grown(&found, &device, (filesystem, &options), place, tried);
        if !matches!(mounted, Ok(false)) {
            // The caller's folder stays as it was.
            let _ = self.host.unseal(place);
        }
        if mounted? { needs(Overhaul::Growth, found, device) } else { Ok(Staged::Done(Change::Changed(()))) }
    }
}

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

/// The mode can't change, so a caller that expects another one is mistaken.
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
