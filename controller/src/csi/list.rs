//! `ListVolumes`: volumes that exist on a disk, by id; a token says after which id the next page begins.

use super::create::topology;
use super::id;
use crate::index::{Device, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;
use tierce_proto::csi::list_volumes_response::Entry;
use tierce_proto::csi::{ListVolumesRequest, ListVolumesResponse, Volume};

/// Why there is no page.
#[derive(Debug, Error)]
pub enum ListError {
    /// CSI forbids it.
    #[error("max_entries is negative")]
    NegativeMaximum,
    /// Not a token of ours.
    #[error("starting_token {0:?} is unknown: list again without one")]
    UnknownToken(String),
}

const TOKEN: &str = "after:";

/// One page.
pub(super) fn list(state: &State, request: &ListVolumesRequest) -> Result<ListVolumesResponse, ListError> {
    let maximum = usize::try_from(request.max_entries).map_err(|_| ListError::NegativeMaximum)?;
    let after = match request.starting_token.as_str() {
        "" => None,
        token => {
            let id = token.strip_prefix(TOKEN).filter(|id| id::is_id(id));
            Some(id.ok_or_else(|| ListError::UnknownToken(token.to_owned()))?)
        }
    };
    let listed = |device: &&Arc<Device>| {
        device.capacity.is_some()
            && device.deleting_since.is_none()
            && after.is_none_or(|after| device.id.as_str() > after)
    };
    let mut devices: Vec<_> = state.devices.iter().map(|(_, device)| device).filter(listed).collect();
    devices.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let more = maximum > 0 && devices.len() > maximum;
    if more {
        devices.truncate(maximum);
    }
    let next_token = match devices.last() {
        Some(last) if more => format!("{TOKEN}{}", last.id),
        _ => String::new(),
    };
    Ok(ListVolumesResponse { entries: devices.into_iter().map(entry).collect(), next_token })
}

fn entry(device: &Arc<Device>) -> Entry {
    let volume = Volume {
        capacity_bytes: i64::try_from(device.capacity.unwrap_or(0)).unwrap_or(i64::MAX),
        volume_id: device.id.clone(),
        volume_context: BTreeMap::new(),
        content_source: None,
        accessible_topology: vec![topology(&device.node)],
    };
    Entry { volume: Some(volume), status: None }
}
