//! A record and a pool's settings for the unit tests, which change in them what they are about.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{
    Backend, PoolConfig, Provisioning,
    record::{Format, Further, Record},
};
use crate::VolumeMode;

/// The record of a new volume that nobody has used, with sectors of 512 bytes.
pub(crate) fn record(id: &str, mode: VolumeMode, size_bytes: u64) -> Record {
    Record {
        id: id.parse().unwrap(),
        size_bytes,
        mode,
        sector_bytes: 512,
        format: Format::Never,
        used: false,
        staged_at: None,
        label: String::new(),
        owner: None,
        mount_options: Vec::new(),
        created_at: Timestamp::UNIX_EPOCH,
        role: None,
        origin: None,
        restore: None,
        encryption: None,
        asked_bytes: None,
        further: Further::new(),
    }
}

/// A pool without a reserve that promises what it has.
pub(crate) fn config(name: &str, backend: Backend) -> PoolConfig {
    PoolConfig {
        name: name.to_owned(),
        tier: "t".to_owned(),
        backend,
        reserve_bytes: 0,
        reserve_percent: 0,
        overcommit: 1.0,
        expected_id: None,
    }
}

/// A thin pool in that directory.
pub(crate) fn directory(name: &str, path: impl Into<PathBuf>) -> PoolConfig {
    let backend =
        Backend::Directory { path: path.into(), provisioning: Provisioning::Thin, create_path: false };
    config(name, backend)
}
