//! What a caller says about a volume, and what the engine answers.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Filesystem, Key, VolumeId, VolumeMode};

/// The owner of a volume. The record keeps it, so that the disks alone can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Namespace of the owner object.
    pub namespace: String,
    /// Name of the owner object.
    pub name: String,
    /// Unique id of the owner object.
    pub uid: String,
}

/// The order for a new volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// The volume's id, which is also the name of its folder.
    pub id: VolumeId,
    /// Size in bytes, rounded up to a multiple of 4096.
    pub size_bytes: u64,
    /// Filesystem or raw block. Can't change later.
    pub mode: VolumeMode,
    /// The filesystem's label; cut to the filesystem's limit.
    pub label: String,
    /// The volume's owner.
    pub owner: Option<Owner>,
    /// Mount options from [`crate::mount_options::ALLOWED`], used by every later stage.
    pub mount_options: Vec<String>,
    /// The snapshot or volume of this node whose content it starts with; `None`: it starts empty. It has at
    /// least the source's size, and its mode unless it may convert.
    pub source: Option<VolumeId>,
    /// Whether a raw device's snapshot may be read as the filesystem asked for, and a filesystem's as a raw
    /// device. The writer of a raw device chose what the kernel reads then, so an administrator must have
    /// permitted it.
    pub may_convert: bool,
    /// Encrypted at rest (LUKS2). Can't change later.
    pub encrypted: bool,
}

/// The order for a new snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSpec {
    /// The snapshot's id, which no volume of the node may have.
    pub id: VolumeId,
    /// The volume of which it is taken.
    pub source: VolumeId,
    /// The snapshot's owner.
    pub owner: Option<Owner>,
}

/// A snapshot as the disk tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The id.
    pub id: VolumeId,
    /// The pool of the snapshot and of its volume.
    pub pool: String,
    /// The volume it was taken of, which may be gone.
    pub source: VolumeId,
    /// Bytes the volume was asked for: the least that a volume made from it must be asked for. It may have
    /// had more, see [`VolumeInfo`].
    pub size_bytes: u64,
    /// Bytes that really take space on the disk, blocks shared with others counted in full.
    pub allocated_bytes: u64,
    /// Filesystem or raw block.
    pub mode: VolumeMode,
    /// Encrypted at rest.
    pub encrypted: bool,
    /// Which key opens a volume made from it: the one that was in force when it was taken.
    pub key_fingerprint: Option<String>,
    /// When the snapshot was taken.
    pub taken_at: Timestamp,
    /// The snapshot's owner.
    pub owner: Option<Owner>,
    /// Whether its content can still be read. One that ran out of its own room can't.
    pub valid: bool,
}

/// A volume as the disk tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// The id.
    pub id: VolumeId,
    /// The pool that holds the volume.
    pub pool: String,
    /// Bytes promised: what was asked for, or what the pool made of that.
    pub size_bytes: u64,
    /// Bytes that really take space on the disk.
    pub allocated_bytes: u64,
    /// Filesystem or raw block.
    pub mode: VolumeMode,
    /// Whether the volume was ever staged, so that it may hold a user's data.
    pub used: bool,
    /// The label, uncut.
    pub label: String,
    /// The volume's owner.
    pub owner: Option<Owner>,
    /// Mount options of the next stage.
    pub mount_options: Vec<String>,
    /// The snapshot or volume whose content it started with.
    pub source: Option<VolumeId>,
    /// Encrypted at rest.
    pub encrypted: bool,
    /// Which key opens it ([`crate::Key::fingerprint`]); `None` where it is not encrypted, or was never
    /// staged.
    pub key_fingerprint: Option<String>,
}

/// A volume whose record can't be trusted; the engine leaves it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRecord {
    /// The pool that holds the volume.
    pub pool: String,
    /// The file (or folder) that is wrong.
    pub file: PathBuf,
    /// The volume's id, where the folder's name still is one.
    pub id: Option<VolumeId>,
    /// What is wrong with the record or image.
    pub reason: String,
}

/// Everything on the disks of the set pools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The sound volumes, by pool and id.
    pub volumes: Vec<VolumeInfo>,
    /// The sound snapshots, by pool and id.
    pub snapshots: Vec<SnapshotInfo>,
    /// The volumes and snapshots whose records can't be trusted.
    pub broken: Vec<BrokenRecord>,
    /// Open pools that could not be listed: what lies in them is unknown.
    pub unread: Vec<String>,
}

/// Whether a call changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<T> {
    /// This call changed something; it may also have unmounted, deleted or detached it.
    Changed(T),
    /// Everything was so already.
    Unchanged(T),
}

impl<T> Change<T> {
    /// The result, whether or not this call changed something.
    pub fn into_inner(self) -> T {
        match self {
            Self::Changed(inner) | Self::Unchanged(inner) => inner,
        }
    }

    /// Whether this call changed something.
    pub const fn changed(&self) -> bool {
        matches!(self, Self::Changed(_))
    }
}

impl Change<()> {
    /// The change of a call without a result.
    pub(crate) const fn of(changed: bool) -> Self {
        if changed { Self::Changed(()) } else { Self::Unchanged(()) }
    }
}

/// What the caller of [`crate::Engine::stage`] expects of the volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StageRequest {
    /// Raw block instead of a mounted filesystem.
    pub block: bool,
    /// The filesystem the caller expects; `None`: whatever the record says.
    pub filesystem: Option<Filesystem>,
    /// Further mount options, added to the record's.
    pub mount_options: Vec<String>,
    /// The key that an encrypted volume is to have.
    pub key: Option<Key>,
    /// Keys that may open it still: once `key` is in force, none of them does.
    pub older_keys: Vec<Key>,
}

/// What the caller of [`crate::Engine::publish`] expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PublishRequest {
    /// Raw block instead of a mounted filesystem.
    pub block: bool,
    /// Mount read-only.
    pub readonly: bool,
    /// Refuse while the volume is published at another target.
    pub exclusive: bool,
}

/// Fill level of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes in use. A raw block volume: bytes that take space in the pool.
    pub used_bytes: u64,
    /// Bytes a user may still write.
    pub available_bytes: u64,
    /// Inodes; `None` for raw block and for filesystems without a limit (btrfs).
    pub inodes: Option<Inodes>,
}

/// Inodes of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inodes {
    /// Inodes in all.
    pub total: u64,
    /// Inodes in use.
    pub used: u64,
    /// Free inodes.
    pub available: u64,
}

/// What [`crate::Engine::recover`] found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Loop devices of ours that were detached, as `/dev/loopN`.
    pub freed_loops: Vec<String>,
    /// Mappers of encrypted volumes that were closed, by name.
    pub closed_mappers: Vec<String>,
    /// Unfinished creations that are now among what was deleted.
    pub thrown_unfinished: usize,
    /// Mounted filesystems that a killed process left frozen in the middle of a snapshot, by mount point.
    pub thawed: Vec<PathBuf>,
    /// What could not be done, for the log.
    pub problems: Vec<String>,
}
