//! `ControllerExpandVolume`: the node grows the device; the filesystem follows with `NodeExpandVolume`.

use super::arguments::{ArgumentError, Size};
use super::{ControllerService, id};
use crate::index::Device;
use crate::quota::{Ask, ReserveError};
use std::sync::Arc;
use thiserror::Error;
use tierce_crds::conditions::node_volume as reasons;
use tierce_crds::{format_bytes, roughly};
use tierce_proto::csi::{ControllerExpandVolumeRequest, ControllerExpandVolumeResponse};
use tokio::time::Instant;

/// Why the volume has not grown (yet).
#[derive(Debug, Error)]
pub enum ExpandError {
    /// The request is not one.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// No such volume.
    #[error("volume {0:?} does not exist")]
    NotFound(String),
    /// Another call about the volume is under way.
    #[error("another call about volume {0} is under way")]
    Busy(String),
    /// Its pool has no room. It goes on by itself when space comes.
    #[error("node {node} has no room to grow volume {id} to {}: at most {} would fit", format_bytes(*.size), roughly(*.largest))]
    NoRoom {
        /// Volume id.
        id: String,
        /// Node.
        node: String,
        /// Bytes asked for.
        size: u64,
        /// Bytes that would fit.
        largest: u64,
    },
    /// No quota has room for it, or that can't be said.
    #[error(transparent)]
    Quota(#[from] ReserveError),
    /// The node can't now, and tries again by itself.
    #[error("node {node} cannot grow volume {id} now and tries again: {message}")]
    NodeTrouble {
        /// Volume id.
        id: String,
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// Not in time.
    #[error("volume {0} has not grown in time; its node goes on with it")]
    Deadline(String),
    /// The API server.
    #[error("cannot {what}")]
    Api {
        /// What we tried.
        what: &'static str,
        /// Why not.
        source: kube::Error,
    },
}

/// Carries out the call, or says why not.
pub(super) async fn expand(
    service: &ControllerService,
    request: &ControllerExpandVolumeRequest,
    deadline: Instant,
) -> Result<ControllerExpandVolumeResponse, ExpandError> {
    let id = request.volume_id.as_str();
    if id.is_empty() {
        return Err(ArgumentError::Missing("volume_id").into());
    }
    let range = request.capacity_range.as_ref().ok_or(ArgumentError::Missing("capacity_range"))?;
    let size = Size::of(Some(range))?;
    if !id::is_id(id) {
        return Err(ExpandError::NotFound(id.to_owned()));
    }
    let _lock = service.locks.try_lock(id).ok_or_else(|| ExpandError::Busy(id.to_owned()))?;
    let grown = tokio::time::timeout_at(deadline, grow(service, id, size)).await;
    let device = grown.unwrap_or_else(|_| Err(ExpandError::Deadline(id.to_owned())))?;
    Ok(ControllerExpandVolumeResponse {
        capacity_bytes: i64::try_from(device.capacity.unwrap_or(device.size)).unwrap_or(i64::MAX),
        // Also for a raw device: the node has to tell the kernel of the new size.
        node_expansion_required: true,
    })
}

async fn grow(service: &ControllerService, id: &str, size: Size) -> Result<Arc<Device>, ExpandError> {
    let api = |source| ExpandError::Api { what: "read the NodeVolume", source };
    let found =
        service.find::<Device>(id).await.map_err(api)?.filter(|device| device.deleting_since.is_none());
    let device = found.ok_or_else(|| ExpandError::NotFound(id.to_owned()))?;
    let asked = asked_of_the_node(&device, size.bytes);
    if asked > device.size {
        room(service, &device, asked)?;
        let tier = service.index.read(|state| state.tier_of(&device.pool).unwrap_or_default().to_owned());
        let ask = Ask { volume: id, tier: &tier, bytes: asked };
        if let Some(reserved) = service.quotas.reserve(device.claim.as_ref(), ask).await? {
            reserved.holds()?;
        }
    }
    if asked != device.size {
        let api = |source| ExpandError::Api { what: "write the size into the NodeVolume", source };
        let bytes = i64::try_from(asked).expect("checked to be at most 1Pi");
        service.set_size(&device, bytes).await.map_err(api)?;
    }
    if device.capacity.is_some_and(|has| has >= size.bytes) {
        return Ok(device);
    }
    let verdict = service.answer(id, &device.uid, |now| verdict(now, asked, size.bytes)).await;
    verdict.unwrap_or_else(|| Err(ExpandError::NotFound(id.to_owned())))
}

/// What is to stand in the spec. The claim's last word counts: a larger growth that the node has not carried out was taken back since.
fn asked_of_the_node(device: &Device, size: u64) -> u64 {
    match device.capacity {
        Some(has) if has < device.size => size.max(has),
        _ => size.max(device.size),
    }
}

/// The node decides in the end; but it would go on with a size that can't fit, so that is not even asked for.
fn room(service: &ControllerService, device: &Device, size: u64) -> Result<(), ExpandError> {
    let offers = service.index.read(crate::index::State::offers);
    let offer = offers.iter().find(|offer| offer.node == device.node && offer.pool == device.pool);
    let largest = device.promise() + offer.filter(|offer| offer.working).map_or(0, |offer| offer.free);
    if size <= largest {
        return Ok(());
    }
    Err(ExpandError::NoRoom { id: device.id.clone(), node: device.node.clone(), size, largest })
}

/// `asked`: what stands in the spec.
fn verdict(device: Arc<Device>, asked: u64, size: u64) -> Option<Result<Arc<Device>, ExpandError>> {
    if device.capacity.is_some_and(|has| has >= size) {
        return Some(Ok(device));
    }
    // Before the watch shows the new spec, the node's word is about the old one.
    let word = device.word.as_ref().filter(|word| device.size == asked && !word.ready)?;
    let (id, node, message) = (device.id.clone(), device.node.clone(), word.message.clone());
    Some(Err(match word.reason.as_str() {
        reasons::OUT_OF_SPACE => {
            let largest = device.largest.or(device.capacity).unwrap_or(0);
            ExpandError::NoRoom { id, node, size, largest }
        }
        _ => ExpandError::NodeTrouble { id, node, message },
    }))
}
