//! The record of a volume: a small file beside its data. It alone says whether the volume was ever formatted or used.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{Owner, SnapshotInfo, VolumeId, VolumeInfo, VolumeMode, crypt::HEADER_BYTES};

/// Fields of a later Tierce. They are written back with the record, but no copy of the volume gets them.
pub(crate) type Further = Map<String, Value>;

/// How far the making of the filesystem came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Format {
    /// Nothing was ever written.
    Never,
    /// mkfs was started and may have written something; the filesystem was never mounted.
    Started {
        /// The uuid mkfs was told.
        uuid: Uuid,
    },
    /// mkfs ended well; the data may be a user's.
    Done {
        /// The filesystem's uuid.
        uuid: Uuid,
    },
    /// A copy of a raw device that shall be read as a filesystem, whose first stage looks what it carries. It is never formatted.
    Given,
}

/// What the engine remembers of a volume's encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encryption {
    /// How far the making of the LUKS2 header came, and the header's uuid.
    pub(crate) header: Format,
    /// Fingerprint of the key in force, once the header was begun.
    pub(crate) key: Option<String>,
    /// Whether a rotation was begun and not ended: there may be slots of other keys than the one in force.
    pub(crate) rotating: bool,
}

impl Encryption {
    /// The header's uuid, once it was made.
    pub(crate) fn made(&self) -> Option<Uuid> {
        match self.header {
            Format::Done { uuid } => Some(uuid),
            Format::Never | Format::Started { .. } | Format::Given => None,
        }
    }
}

/// Everything the engine remembers of a volume. What a new field may be: `docs/decisions/2026-11-29-records-outlive-versions.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: VolumeId,
    /// Bytes of the pool's device; with encryption its header is part of them.
    pub(crate) size_bytes: u64,
    pub(crate) mode: VolumeMode,
    /// Logical block size of the device: part of what is on the disk, as filesystems and partition tables depend on it.
    pub(crate) sector_bytes: u32,
    pub(crate) format: Format,
    /// Whether it was ever staged.
    pub(crate) used: bool,
    /// Where a raw block volume is staged. A filesystem's staging is the kernel's to know.
    pub(crate) staged_at: Option<String>,
    pub(crate) label: String,
    pub(crate) owner: Option<Owner>,
    pub(crate) mount_options: Vec<String>,
    pub(crate) created_at: Timestamp,
    // What follows came later. Left out where it is `None`, so that an older program reads a volume's record that needs none of it.
    /// `None`: a volume. A snapshot is never attached, staged or grown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<SnapshotOf>,
    /// Where the content of a volume came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    /// The last restore in place, under way or done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restore: Option<Restore>,
    /// `None`: not encrypted. A copy has its source's: header, key and data are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
    /// Bytes that were asked for, where the pool made more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked_bytes: Option<u64>,
    /// What only a later Tierce understands.
    #[serde(flatten)]
    pub(crate) further: Further,
}

/// What makes a record a snapshot's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotOf {
    /// The volume it was taken of, which may be gone.
    pub(crate) volume: VolumeId,
    pub(crate) taken_at: Timestamp,
}

/// Where a volume's first content came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// The snapshot or volume, which may be gone.
    pub(crate) id: VolumeId,
    pub(crate) snapshot: bool,
    /// The filesystem's own id, where two with the same can't be mounted at once (btrfs). `Format` keeps the one of the mkfs.
    pub(crate) uuid: Uuid,
}

/// A restore in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restore {
    /// The snapshot whose content the volume gets.
    pub(crate) snapshot: VolumeId,
    /// The snapshot of the content before; also tells one restore from another.
    pub(crate) safety: VolumeId,
    /// `false`: the volume's content may still be the old one, and nobody may use it before it is the new one.
    pub(crate) done: bool,
}

impl Record {
    /// A restore that was begun and must come to its end before anybody uses the volume.
    pub(crate) fn restoring(&self) -> Option<&Restore> {
        self.restore.as_ref().filter(|restore| !restore.done)
    }

    /// Where a raw block volume is staged, as long as that path exists: its owner removes it after the last unstage, also after one that
    /// could not reach this record.
    pub(crate) fn staged(&self) -> Option<&str> {
        let staged_at = self.staged_at.as_deref().filter(|_| self.mode == VolumeMode::Block);
        staged_at.filter(|path| Path::new(path).exists())
    }

    /// Whether anything may have been written to its device, also by us.
    pub(crate) fn may_hold_data(&self) -> bool {
        let encrypted = self.encryption.as_ref().is_some_and(|encryption| encryption.header != Format::Never);
        self.used || self.format != Format::Never || encrypted
    }

    /// Bytes that the volume's user has.
    pub(crate) fn usable_bytes(&self) -> u64 {
        self.size_bytes - overhead_bytes(self.encryption.is_some()).min(self.size_bytes)
    }

    /// Bytes that were asked for: the least that a copy must be asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked_bytes.unwrap_or(u64::MAX).min(self.usable_bytes())
    }

    /// Gives it a device of so many bytes, of which its user asked for so many.
    pub(crate) fn set_size(&mut self, device_bytes: u64, asked: u64) {
        self.size_bytes = device_bytes;
        self.asked_bytes = (self.usable_bytes() != asked).then_some(asked);
    }

    /// What callers see of it.
    pub(crate) fn info(&self, pool: &str, allocated_bytes: u64) -> VolumeInfo {
        VolumeInfo {
            id: self.id.clone(),
            pool: pool.to_owned(),
            size_bytes: self.usable_bytes(),
            allocated_bytes,
            mode: self.mode,
            used: self.used,
            label: self.label.clone(),
            owner: self.owner.clone(),
            mount_options: self.mount_options.clone(),
            source: self.origin.as_ref().map(|origin| origin.id.clone()),
            encrypted: self.encryption.is_some(),
            key_fingerprint: self.encryption.as_ref().and_then(|encryption| encryption.key.clone()),
        }
    }

    /// The same for a snapshot; `None`: it is a volume's.
    pub(crate) fn snapshot_info(
        &self,
        pool: &str,
        allocated_bytes: u64,
        valid: bool,
    ) -> Option<SnapshotInfo> {
        let role = self.role.as_ref()?;
        Some(SnapshotInfo {
            id: self.id.clone(),
            pool: pool.to_owned(),
            source: role.volume.clone(),
            size_bytes: self.asked(),
            allocated_bytes,
            mode: self.mode,
            encrypted: self.encryption.is_some(),
            key_fingerprint: self.encryption.as_ref().and_then(|encryption| encryption.key.clone()),
            taken_at: role.taken_at,
            owner: self.owner.clone(),
            valid,
        })
    }
}

/// Bytes of the pool's device that its user does not get.
pub(crate) fn overhead_bytes(encrypted: bool) -> u64 {
    if encrypted { HEADER_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filesystem;

    fn record() -> Record {
        Record {
            id: "pvc-1".parse().unwrap(),
            size_bytes: 1 << 30,
            mode: VolumeMode::Filesystem(Filesystem::Ext4),
            sector_bytes: 4096,
            format: Format::Done { uuid: Uuid::from_u128(1) },
            used: true,
            staged_at: Some("/x".to_owned()),
            label: "data".to_owned(),
            owner: Some(Owner { namespace: "n".to_owned(), name: "d".to_owned(), uid: "u".to_owned() }),
            mount_options: vec!["noatime".to_owned()],
            created_at: Timestamp::UNIX_EPOCH,
            role: None,
            origin: None,
            restore: None,
            encryption: None,
            asked_bytes: None,
            further: Further::new(),
        }
    }

    #[test]
    fn what_was_asked_for_is_kept_only_where_the_pool_made_more_of_it() {
        let mut record = record();
        record.set_size(64 << 20, 64 << 20);
        assert_eq!((record.asked_bytes, record.asked()), (None, 64 << 20));
        record.set_size(64 << 20, 61 << 20);
        assert_eq!(
            (record.asked_bytes, record.asked(), record.usable_bytes()),
            (Some(61 << 20), 61 << 20, 64 << 20)
        );
        record.encryption = Some(Encryption { header: Format::Never, key: None, rotating: false });
        record.set_size((64 << 20) + HEADER_BYTES, 64 << 20);
        assert_eq!((record.asked_bytes, record.asked()), (None, 64 << 20));
    }
}
