//! Making, changing and deleting volumes.
//!
//! Making one, and what a crash after each step leaves:
//! 1. it is looked for in all pools of the node, and room is set aside in memory: nothing
//! 2. the pool makes it with its record (an image in the folder `new`, or one `lvcreate`): remains that the
//!    next recovery removes, or all of it
//! 3. it appears under its id by one step (a rename; for LVM that was step 2): all of it, and the repeated
//!    call finds it
//! 4. both ends of a thick logical volume are zeroed: its tag says that they are not yet, and the volume is
//!    not shown before they are
//!
//! No filesystem and no key slot is made here: the first stage does that.
//!
//! Deleting one: (1) it must not be in use, (2) the key slots of an encrypted one are overwritten, (3) it
//! leaves its id by one step (into the trash, or to a name `d-…`), (4) its space is freed in the background.
//! A crash after (2) leaves a volume that no key opens and only a deletion ends; after (3) it is gone, and
//! the next sweep goes on with (4) where it was.

use super::{
    core::Core,
    finding::Located,
    locks::Held,
    new_record::new_record,
    sizes::{large_enough, on_device, whole},
};
use crate::{
    Change, Error, VolumeId, VolumeInfo, VolumeMode, VolumeSpec, crypt, mount_options,
    pool::record::{Encryption, Format},
};

impl Core {
    pub(super) fn create(
        &self,
        pool_name: &str,
        spec: &VolumeSpec,
        held: &mut Held,
    ) -> Result<Change<VolumeInfo>, Error> {
        let size_bytes = whole(spec.size_bytes)?;
        if let VolumeMode::Filesystem(filesystem) = spec.mode {
            mount_options::check(filesystem, &spec.mount_options)?;
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
        let encryption =
            spec.encrypted.then_some(Encryption { header: Format::Never, key: None, rotating: false });
        let mut record = new_record(spec, Format::Never, sector_bytes, encryption);
        record.set_size(device_bytes, size_bytes);
        self.with_room(pool.as_ref(), Some(&spec.id), 0, device_bytes, || pool.create(&record))?;
        Ok(Change::Changed(Located { pool, record }.info()))
    }

    pub(super) fn set_mount_options(&self, id: &VolumeId, options: Vec<String>) -> Result<Change<()>, Error> {
        let Located { pool, mut record } = self.find(id)?;
        match record.mode {
            VolumeMode::Filesystem(filesystem) => mount_options::check(filesystem, &options)?,
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
