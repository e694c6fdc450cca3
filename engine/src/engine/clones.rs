//! Volumes that begin with the content of a snapshot or of another volume.
//!
//! In the same pool a clone is made as a snapshot is (see there), with a volume's record. In another pool of
//! the node its bytes are copied into a volume that is made aside; it appears by one step when it is whole. A
//! crash before that leaves remains that the next recovery removes, and the repeated call starts again. The
//! source can't be deleted or changed meanwhile; a call that wants to stage it calls the copy off.
//!
//! With a permission a snapshot's mode may change. A raw device that is to be read as a filesystem is never
//! formatted: it is looked at before it is copied (an encrypted one at its first stage), and must carry just
//! that filesystem. The copy then keeps that uuid.
//!
//! A source whose pool rounded its size up counts with what was asked for; its clone gets all of its bytes.
//!
//! A clone carries its source's filesystem with the same uuid, and the record says so: it is never formatted.
//! What would keep two such filesystems from being mounted at once is settled at each stage. A larger clone's
//! filesystem grows there too.

use std::sync::Arc;

use uuid::Uuid;

use super::{core::Core, finding::Located, guard, locks::Held, new_record::new_record, sizes::on_device};
use crate::{
    Change, Error, Filesystem, VolumeId, VolumeInfo, VolumeMode, VolumeSpec,
    error::Context,
    filesystem::probe::{self, Probe},
    pool::{
        Pause, Pool,
        record::{Format, Origin, Record},
    },
};

impl Core {
    pub(super) fn create_from(
        &self,
        pool: Arc<dyn Pool>,
        spec: &VolumeSpec,
        size_bytes: u64,
        from: &VolumeId,
        held: &mut Held,
    ) -> Result<Change<VolumeInfo>, Error> {
        let id = &spec.id;
        let found = self
            .find_entry(from)?
            .ok_or_else(|| Error::SourceNotFound { id: id.clone(), from: from.clone() })?;
        let source = self.settled(found)?;
        check_content(id, spec.mode, spec.may_convert, size_bytes, spec.encrypted, &source)?;
        let format = match spec.mode {
            mode if mode == source.record.mode => source.record.format.clone(),
            VolumeMode::Filesystem(filesystem) => carried(id, filesystem, &source)?,
            VolumeMode::Block => Format::Never,
        };
        // What the source's pool made of its size is part of its content.
        let asked = on_device(pool.as_ref(), size_bytes, spec.encrypted);
        let device_bytes = asked.max(source.record.size_bytes.next_multiple_of(pool.grain_bytes()));
        let (sector_bytes, encryption) = (source.record.sector_bytes, source.record.encryption.clone());
        let mut record = new_record(spec, format, sector_bytes, encryption);
        record.origin =
            Some(Origin { id: from.clone(), snapshot: source.record.role.is_some(), uuid: Uuid::new_v4() });
        record.set_size(device_bytes, size_bytes);
        let _reading = self.reading(from, id);
        if pool.id() == source.pool.id() {
            self.copy_here(&source, &record, Some(held))?;
        } else {
            check_sectors(&source.record, pool.as_ref(), &record)?;
            let copied = self.copy_over(&source, pool.as_ref(), &record, held);
            self.sweep_if_due(&pool);
            copied?;
        }
        Ok(Change::Changed(Located { pool, record }.info()))
    }

    fn copy_over(
        &self,
        source: &Located,
        pool: &dyn Pool,
        record: &Record,
        held: &mut Held,
    ) -> Result<(), Error> {
        let still = self.source(source)?;
        if let Some(by) = still.user() {
            return Err(Error::CopyNeedsPause {
                id: source.record.id.clone(),
                by: by.to_owned(),
                reason: format!(
                    "its content is to go to another pool, {}; take a snapshot and make the volume from that",
                    pool.config().name
                ),
            });
        }
        tracing::info!(volume = %record.id, from = %source.record.id, pool = pool.config().name, "copying between pools");
        if source.record.role.is_some() {
            // Snapshots are never written to.
            held.release(&source.record.id);
        }
        let fill = || pool.fill(record, &source.record, source.pool.content(&source.record)?, &still);
        self.with_room(pool, Some(&record.id), 0, record.size_bytes, fill).map(drop)
    }
}

/// Refuses content that could not be read on a device of the sectors that it would get in another pool.
fn check_sectors(source: &Record, pool: &dyn Pool, record: &Record) -> Result<(), Error> {
    let (of, here) = (source.sector_bytes, pool.sector_bytes_of(record));
    if can_be_read(source.mode, record.mode, of, here) {
        return Ok(());
    }
    Err(Error::SourceMismatch {
        id: record.id.clone(),
        from: source.id.clone(),
        field: "sector size",
        existing: format!("{of} bytes"),
        requested: format!("{here} as in pool {}", pool.config().name),
    })
}

/// Whether content that was written by sectors of one size can be read by those of another: a partition table
/// counts in sectors, and a filesystem is mounted only where the device's are no larger than its own.
fn can_be_read(from: VolumeMode, to: VolumeMode, of: u32, here: u32) -> bool {
    match (from, to) {
        (VolumeMode::Block, VolumeMode::Block) => here == of,
        // We make these with blocks of 4096 bytes, whatever the device has.
        (VolumeMode::Filesystem(Filesystem::Ext4 | Filesystem::Btrfs), _) => here <= of.max(4096),
        (VolumeMode::Filesystem(Filesystem::Xfs), _) | (VolumeMode::Block, VolumeMode::Filesystem(_)) => {
            here <= of
        }
    }
}

/// The format in the record of a copy that is to read a raw device as a filesystem. Only a device that
/// carries that filesystem is copied. What an encrypted device carries only its key can tell, so the copy's
/// first stage looks.
fn carried(id: &VolumeId, filesystem: Filesystem, source: &Located) -> Result<Format, Error> {
    let Located { pool, record } = source;
    let mismatch = |existing: String| Error::SourceMismatch {
        id: id.clone(),
        from: record.id.clone(),
        field: "content",
        existing,
        requested: filesystem.to_string(),
    };
    if let Some(encryption) = &record.encryption {
        let never_used = || mismatch("nothing at all, as it was never used".to_owned());
        return encryption.made().map(|_| Format::Given).ok_or_else(never_used);
    }
    let content = pool.content(record)?;
    let Some(mut file) = content.file else { return Ok(Format::Given) };
    let probe =
        probe::probe(&mut file, content.bytes).doing(|| format!("read what {} carries", record.id))?;
    match probe {
        Probe::Found(superblock)
            if superblock.filesystem == filesystem && superblock.bytes <= content.bytes =>
        {
            Ok(Format::Done { uuid: superblock.uuid })
        }
        Probe::Found(superblock) if superblock.filesystem == filesystem => {
            Err(mismatch(format!("a {filesystem} of {} bytes, larger than the device,", superblock.bytes)))
        }
        other => Err(mismatch(guard::shown(&other))),
    }
}

/// Whether a volume of that mode, size and encryption can take that content.
pub(super) fn check_content(
    id: &VolumeId,
    mode: VolumeMode,
    may_convert: bool,
    size_bytes: u64,
    encrypted: bool,
    source: &Located,
) -> Result<(), Error> {
    let Located { pool, record } = source;
    let from = || record.id.clone();
    if record.role.is_some()
        && let Some(reason) = pool.damage(record)?
    {
        return Err(Error::SnapshotInvalid { id: from(), reason });
    }
    // A filesystem that a user wrote byte by byte to a raw block device is not for the kernel to mount,
    // unless an administrator permitted that for this snapshot. What a volume carries may be another thing
    // when it is copied.
    let converts = (record.mode == VolumeMode::Block) != (mode == VolumeMode::Block);
    let permitted = may_convert && converts && record.role.is_some();
    if record.mode != mode && !permitted {
        return Err(Error::SourceMismatch {
            id: id.clone(),
            from: from(),
            field: "mode",
            existing: record.mode.to_string(),
            requested: mode.to_string(),
        });
    }
    // Its header and its key go with the content.
    let is_encrypted = record.encryption.is_some();
    if is_encrypted != encrypted {
        let name = |encrypted| if encrypted { "LUKS2" } else { "none" }.to_owned();
        return Err(Error::SourceMismatch {
            id: id.clone(),
            from: from(),
            field: "encryption",
            existing: name(is_encrypted),
            requested: name(encrypted),
        });
    }
    // Not what its pool made of that: who asks for as much as the source was asked for gets all of it.
    if size_bytes < record.asked() {
        return Err(Error::SourceTooLarge {
            id: id.clone(),
            from: from(),
            existing: record.asked(),
            requested: size_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_needs_sectors_no_larger_than_its_own_and_a_raw_device_the_same() {
        const RAW: VolumeMode = VolumeMode::Block;
        const EXT4: VolumeMode = VolumeMode::Filesystem(Filesystem::Ext4);
        const XFS: VolumeMode = VolumeMode::Filesystem(Filesystem::Xfs);
        const BTRFS: VolumeMode = VolumeMode::Filesystem(Filesystem::Btrfs);
        for (from, to, larger, smaller) in [
            (RAW, RAW, false, false),
            (RAW, XFS, false, true),
            (RAW, EXT4, false, true),
            (XFS, XFS, false, true),
            (XFS, RAW, false, true),
            (EXT4, EXT4, true, true),
            (BTRFS, BTRFS, true, true),
            (EXT4, RAW, true, true),
        ] {
            assert!(can_be_read(from, to, 512, 512) && can_be_read(from, to, 4096, 4096), "{from} {to}");
            assert_eq!(can_be_read(from, to, 512, 4096), larger, "{from} of 512 bytes as {to}");
            assert_eq!(can_be_read(from, to, 4096, 512), smaller, "{from} of 4096 bytes as {to}");
        }
    }
}
