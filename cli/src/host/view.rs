//! A volume as results show it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Error,
    engines::Answer,
    snapshots_and_clones::Snapshot,
    users::Users,
    volumes::{Volume, Volumes},
};

/// The driver that every listing names.
pub(super) const DRIVER: &str = "local";

/// A volume in full, with the keys that Docker's `volume inspect` has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct View {
    pub(super) name: String,
    pub(super) driver: &'static str,
    pub(super) mountpoint: String,
    pub(super) scope: &'static str,
    pub(super) size: u64,
    /// Bytes it may use; missing: as many as the disk has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) filesystem: Option<&'static str>,
    /// What it lies on, of a volume with a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pool: Option<String>,
    /// Of a volume with a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encrypted: Option<bool>,
    pub(super) created_at: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) in_use_by: Vec<String>,
}

impl View {
    pub(super) fn of(
        volumes: &Volumes,
        volume: &Volume,
        mut users: Users,
        engines: &Answer,
    ) -> Result<Self, Error> {
        users.add_containers(volume, engines)?;
        Ok(Self {
            name: volume.name.full(),
            driver: DRIVER,
            mountpoint: volume.path.display().to_string(),
            scope: DRIVER,
            size: volumes.bytes_told(volume),
            limit: volume.device.as_ref().map(|device| device.size_bytes),
            filesystem: volume.filesystem().map(tierce_engine::Filesystem::name),
            pool: volume.device.as_ref().map(|device| device.pool.clone()),
            encrypted: volume.device.as_ref().map(|device| device.encrypted),
            created_at: volume.created_at()?.to_string(),
            labels: volume.record.as_ref().map(|record| record.labels.clone()).unwrap_or_default(),
            in_use_by: users.names(),
        })
    }
}

/// A snapshot as results show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SnapshotView {
    pub(super) name: String,
    pub(super) volume: String,
    pub(super) taken_at: String,
    /// Bytes it takes, shared ones counted in full.
    pub(super) size: u64,
}

impl SnapshotView {
    pub(super) fn of(volume: &str, snapshot: &Snapshot) -> Self {
        Self {
            name: snapshot.name.clone(),
            volume: volume.to_owned(),
            taken_at: snapshot.taken_at.to_string(),
            size: snapshot.bytes,
        }
    }
}
