//! A volume as results show it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Error,
    census::Census,
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
    /// Bytes used.
    pub(super) size: u64,
    pub(super) created_at: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) in_use_by: Vec<String>,
}

impl View {
    pub(super) fn of(volumes: &Volumes, volume: &Volume, census: &Census) -> Result<Self, Error> {
        let (size, whole) = volumes.bytes_used(volume)?;
        if !whole {
            eprintln!(
                "Warning: some folders of volume '{}' can't be read: its size is at least what is shown",
                volume.name
            );
        }
        Ok(Self {
            name: volume.name.full(),
            driver: DRIVER,
            mountpoint: volume.path.display().to_string(),
            scope: DRIVER,
            size,
            created_at: volume.created_at()?.to_string(),
            labels: volume.record.as_ref().map(|record| record.labels.clone()).unwrap_or_default(),
            in_use_by: Users::of(volume, census)?.names(),
        })
    }
}
