//! What the platform team says about a pool, and what the pool answers.

use std::path::PathBuf;

use uuid::Uuid;

use crate::PoolError;

/// One pool of one tier on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// Its name: unique on the node.
    pub name: String,
    /// The tier it serves.
    pub tier: String,
    /// What it is made of.
    pub backend: Backend,
    /// Bytes of the filesystem below that volumes never get; the greater of this and `reserve_percent` counts.
    pub reserve_bytes: u64,
    /// Percent (0 to 90) of the filesystem below that volumes never get.
    pub reserve_percent: u8,
    /// How many times the usable space a thin pool may promise: 1 to 100. Thick pools never promise more than they have.
    pub overcommit: f64,
    /// The pool's own id, where it was open before on this node ([`crate::Engine::pool_ids`]): another one, or an empty directory, is then
    /// refused, since the disk that belongs there is missing.
    pub expected_id: Option<Uuid>,
}

impl PoolConfig {
    /// Whether both are the same place on the same kind of pool: whether the directory may be made says nothing about what lies in it.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        let Backend::Directory { path, provisioning, create_path: _ } = &self.backend;
        let Backend::Directory { path: others_path, provisioning: others, create_path: _ } = &other.backend;
        path == others_path && provisioning == others
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
        /// Whether the directory may be made where it is missing. Say no where a disk should be mounted: a missing mount must show.
        create_path: bool,
    },
}

impl Backend {
    /// Whether the blocks that an encrypted volume frees are given back to the pool. That tells who reads the bare disk which blocks are in
    /// use; without it a thin pool only ever fills. A thick one gains nothing by it.
    pub(crate) fn passes_discards(&self) -> bool {
        let Self::Directory { provisioning, .. } = self;
        *provisioning == Provisioning::Thin
    }
}

/// When an image takes its space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// As it is written.
    Thin,
    /// When the volume is made.
    Thick,
}

/// One pool's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// The tier it serves.
    pub tier: String,
    /// Its fill level, or why it can't be used.
    pub result: Result<PoolUsage, PoolError>,
}

/// A pool's fill level. Pools on one filesystem share its free space, and each counts what the others promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolUsage {
    /// Size of the filesystem below, in bytes.
    pub capacity_bytes: u64,
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
    /// Whether images are read and written past the page cache; `false` where the filesystem below can't, `None` while unknown.
    pub direct_io: Option<bool>,
}
