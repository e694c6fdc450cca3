//! `ListVolumes` and `ListSnapshots`: what exists on a disk, by id; a token says after which id the next page begins.

use super::create::topology;
use super::{id, snapshot};
use crate::index::{Device, OnNode, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;
use tierce_proto::csi::{
    ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, Volume,
    list_snapshots_response, list_volumes_response,
};

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

/// One page of volumes.
pub(super) fn volumes(state: &State, request: &ListVolumesRequest) -> Result<ListVolumesResponse, ListError> {
    let exists = |device: &Device| device.capacity.is_some();
    let (found, next_token) = page(state, request.max_entries, &request.starting_token, exists)?;
    let entry =
        |device: Arc<Device>| list_volumes_response::Entry { volume: Some(volume(&device)), status: None };
    Ok(ListVolumesResponse { entries: found.into_iter().map(entry).collect(), next_token })
}

/// One page of snapshots, of those that fit.
pub(super) fn snapshots(
    state: &State,
    request: &ListSnapshotsRequest,
) -> Result<ListSnapshotsResponse, ListError> {
    let fits = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
    let fitting = |snapshot: &crate::index::Snapshot| {
        snapshot.size.is_some()
            && fits(&request.snapshot_id, &snapshot.id)
            && fits(&request.source_volume_id, &snapshot.source)
    };
    let (found, next_token) = page(state, request.max_entries, &request.starting_token, fitting)?;
    let entry = |found: Arc<crate::index::Snapshot>| list_snapshots_response::Entry {
        snapshot: Some(snapshot::answer(&found)),
    };
    Ok(ListSnapshotsResponse { entries: found.into_iter().map(entry).collect(), next_token })
}

/// The objects of a page, and the token of the next.
fn page<T: OnNode>(
    state: &State,
    maximum: i32,
    token: &str,
    listed: impl Fn(&T) -> bool,
) -> Result<(Vec<Arc<T>>, String), ListError> {
    let maximum = usize::try_from(maximum).map_err(|_| ListError::NegativeMaximum)?;
    let after = match token {
        "" => None,
        token => {
            let id = token.strip_prefix(TOKEN).filter(|id| id::is_id(id));
            Some(id.ok_or_else(|| ListError::UnknownToken(token.to_owned()))?)
        }
    };
    let mut found: Vec<_> = T::table(state)
        .iter()
        .filter(|(id, facts)| {
            facts.deleting_since.is_none() && listed(facts) && after.is_none_or(|after| id.as_str() > after)
        })
        .collect();
    found.sort_unstable_by_key(|(id, _)| *id);
    let more = maximum > 0 && found.len() > maximum;
    if more {
        found.truncate(maximum);
    }
    let next = match found.last() {
        Some((last, _)) if more => format!("{TOKEN}{last}"),
        _ => String::new(),
    };
    Ok((found.into_iter().map(|(_, facts)| Arc::clone(facts)).collect(), next))
}

fn volume(device: &Device) -> Volume {
    Volume {
        capacity_bytes: i64::try_from(device.capacity.unwrap_or(0)).unwrap_or(i64::MAX),
        volume_id: device.id.clone(),
        volume_context: BTreeMap::new(),
        content_source: None,
        accessible_topology: vec![topology(&device.node)],
    }
}
