//! What a copy takes over from what it is made of.

use super::devices::Device;
use super::snapshots::Snapshot;
use tierce_crds::{Filesystem, VolumeMode};

/// What a volume starts with that is a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Where the content is, and so the copy.
    pub node: String,
    /// In which pool.
    pub pool: String,
    /// Bytes that a copy has at least.
    pub bytes: u64,
    /// How it is used.
    pub mode: VolumeMode,
    /// With mode Filesystem.
    pub filesystem: Option<Filesystem>,
    /// Whether it is encrypted; a copy is as well.
    pub encrypted: bool,
}

impl Start {
    /// `None`: the snapshot is not taken yet.
    pub fn of_snapshot(snapshot: &Snapshot) -> Option<Self> {
        let (Some(bytes), Some(mode), true) = (snapshot.size, snapshot.mode, snapshot.ready()) else {
            return None;
        };
        Some(Self {
            node: snapshot.node.clone(),
            pool: snapshot.pool.clone(),
            bytes,
            mode,
            filesystem: snapshot.filesystem,
            encrypted: snapshot.encrypted,
        })
    }

    /// `None`: the volume is not made yet.
    pub fn of_volume(device: &Device) -> Option<Self> {
        Some(Self {
            node: device.node.clone(),
            pool: device.pool.clone(),
            bytes: device.least_copy()?,
            mode: device.mode,
            filesystem: device.filesystem,
            encrypted: device.encrypted,
        })
    }
}
