//! What the platform team says about a pool, and what the pool answers.

use std::path::PathBuf;

use uuid::Uuid;

use crate::pool_error::{PoolError, Trouble};

/// One pool of one tier on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// The pool's name, unique on the node.
    pub name: String,
    /// The tier that the pool serves.
    pub tier: String,
    /// What the pool is made of.
    pub backend: Backend,
    /// Bytes of the filesystem below that volumes never get; the greater of this and `reserve_percent`
    /// counts.
    pub reserve_bytes: u64,
    /// Percent (0 to 90) of the filesystem below that volumes never get.
    pub reserve_percent: u8,
    /// How many times the usable space a thin pool may promise: 1 to 100. Thick pools never promise more than
    /// they have.
    pub overcommit: f64,
    /// The pool's own id, where it was open before on this node ([`crate::Engine::pool_ids`]): another one,
    /// or an empty directory, is then refused, since the disk that belongs there is missing.
    pub expected_id: Option<Uuid>,
}

impl PoolConfig {
    /// Whether both configurations name the same place and kind of pool. The devices that a group may be made
    /// from do not matter: they say nothing about what lies in it.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        match (&self.backend, &other.backend) {
            (
                Backend::Directory { path, provisioning, create_path: _ },
                Backend::Directory { path: others_path, provisioning: others, create_path: _ },
            ) => path == others_path && provisioning == others,
            (
                Backend::Lvm { volume_group, kind, devices: _ },
                Backend::Lvm { volume_group: others_group, kind: others, devices: _ },
            ) => volume_group == others_group && kind.thin_pool() == others.thin_pool(),
            (Backend::Directory { .. }, Backend::Lvm { .. })
            | (Backend::Lvm { .. }, Backend::Directory { .. }) => false,
        }
    }
}

impl Trouble {
    /// The trouble as the error of this pool.
    pub(crate) fn of(self, config: &PoolConfig) -> PoolError {
        PoolError {
            pool: config.name.clone(),
            path: config.backend.place(),
            kind: self.kind,
            reason: self.reason,
            errno: None,
        }
    }
}

/// What a pool is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A directory of image files.
    Directory {
        /// The directory, absolute.
        path: PathBuf,
        /// Whether images take their space at once.
        provisioning: Provisioning,
        /// Whether the directory may be made where it is missing. Say no where a disk should be mounted: a
        /// missing mount must show.
        create_path: bool,
    },
    /// Logical volumes of an LVM volume group.
    Lvm {
        /// The group's name.
        volume_group: String,
        /// Thin or thick volumes.
        kind: LvmKind,
        /// The block devices to make the group from where it is missing, and the only ones that are looked at
        /// for it. A device that carries anything is refused and left untouched. Empty: the group is never
        /// made, and is looked for on every disk but loop devices, network disks and device-mapper devices.
        devices: Vec<PathBuf>,
    },
}

impl Backend {
    /// The path at which the pool lies, for messages.
    pub(crate) fn place(&self) -> PathBuf {
        match self {
            Self::Directory { path, .. } => path.clone(),
            Self::Lvm { volume_group, kind, .. } => {
                let group = PathBuf::from("/dev").join(volume_group);
                kind.thin_pool().map_or_else(|| group.clone(), |pool| group.join(pool))
            }
        }
    }

    /// Whether volumes take their space at once.
    pub(crate) fn provisioning(&self) -> Provisioning {
        match self {
            Self::Directory { provisioning, .. } => *provisioning,
            Self::Lvm { kind: LvmKind::Thin(_), .. } => Provisioning::Thin,
            Self::Lvm { kind: LvmKind::Thick, .. } => Provisioning::Thick,
        }
    }
}

/// How the volumes of an LVM pool take their space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LvmKind {
    /// Volumes take space as they are written, from a thin pool of the group.
    Thin(ThinPool),
    /// Volumes take their space when they are made.
    Thick,
}

impl LvmKind {
    /// The thin pool's name.
    pub(crate) fn thin_pool(&self) -> Option<&str> {
        match self {
            Self::Thin(pool) => Some(&pool.name),
            Self::Thick => None,
        }
    }
}

/// A thin pool of a volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinPool {
    /// The thin pool's name in the group.
    pub name: String,
    /// The thin pool's size in bytes where it has to be made; `None`: it is only made in a group that was
    /// made from `devices`, over 90 % of the group. The rest is for its growth.
    pub size_bytes: Option<u64>,
    /// Bytes of a chunk where it has to be made: a multiple of 64 KiB up to 1 GiB; `None`: as LVM chooses.
    pub chunk_bytes: Option<u64>,
    /// Whether the thin pool is extended from the group's free space when it fills up.
    pub extend: bool,
}

impl Backend {
    /// Whether the blocks that an encrypted volume frees are given back to the pool. A reader of the bare
    /// disk then sees which blocks are in use; without it a thin pool only ever fills. A thick pool gains
    /// nothing by it.
    pub(crate) fn passes_discards(&self) -> bool {
        self.provisioning() == Provisioning::Thin
    }
}

/// When an image takes its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// An image takes space as it is written.
    Thin,
    /// An image takes its space when the volume is made.
    Thick,
}

/// One pool's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReport {
    /// The pool's name.
    pub name: String,
    /// The tier that the pool serves.
    pub tier: String,
    /// The pool's fill level, or why the pool can't be used.
    pub result: Result<PoolUsage, PoolError>,
    /// A fault that somebody has to mend although the pool can be used, as a thin pool without a free chunk.
    pub warning: Option<PoolError>,
}

/// A pool's fill level. Pools on one filesystem share its free space, and each counts what the others
/// promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolUsage {
    /// Tells what pools lie on apart: those with equal ids share capacity and free space.
    pub disk: u64,
    /// Size of the filesystem below, in bytes.
    pub capacity_bytes: u64,
    /// Bytes of the filesystem below that nothing takes.
    pub free_bytes: u64,
    /// Bytes that the pool would still promise, over any number of volumes.
    pub available_bytes: u64,
    /// Bytes that the pool's volumes really take.
    pub used_bytes: u64,
    /// Sum of the sizes of the pool's volumes and snapshots.
    pub promised_bytes: u64,
    /// Number of the pool's volumes.
    pub volumes: u64,
    /// Number of the pool's snapshots.
    pub snapshots: u64,
    /// The largest single volume that would be accepted now, in bytes.
    pub max_volume_bytes: u64,
    /// Whether images are read and written past the page cache; `false` where the filesystem below can't,
    /// `None` while unknown.
    pub direct_io: Option<bool>,
    /// Further figures of an LVM thin pool.
    pub thin: Option<ThinUsage>,
}

/// Fill level of an LVM thin pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThinUsage {
    /// Data in use, in hundredths of a percent.
    pub data: u16,
    /// Metadata in use, in hundredths of a percent.
    pub metadata: u16,
}
