//! DeleteVolume: the node removes what is on its disk, then the `NodeVolume` goes.

use super::{ControllerService, id};
use thiserror::Error;
use tierce_crds::conditions::node_volume as reasons;
use tokio::time::Instant;

/// Why the volume is not gone (yet).
#[derive(Debug, Error)]
pub enum DeleteError {
    /// CSI requires one.
    #[error("volume_id is missing")]
    NoId,
    /// Another call about the volume is under way.
    #[error("another call about volume {0} is under way")]
    Busy(String),
    /// Still mounted or attached.
    #[error("volume {id} is still in use on node {node}: {message}")]
    InUse {
        /// Volume id.
        id: String,
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// Not in time.
    #[error("volume {id} is not gone in time{}; its node goes on with it", .word.as_ref().map(|w| format!(" ({w})")).unwrap_or_default())]
    Deadline {
        /// Volume id.
        id: String,
        /// What the node said last.
        word: Option<String>,
    },
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
pub(super) async fn delete(
    service: &ControllerService,
    id: &str,
    deadline: Instant,
) -> Result<(), DeleteError> {
    if id.is_empty() {
        return Err(DeleteError::NoId);
    }
    if !id::is_id(id) {
        // No volume of ours has such an id, and CSI wants OK for a volume that does not exist.
        return Ok(());
    }
    let _lock = service.locks.try_lock(id).ok_or_else(|| DeleteError::Busy(id.to_owned()))?;
    // What the node said last while it should have been removing the volume: reason, node, message.
    let mut word = None;
    let gone = tokio::time::timeout_at(deadline, async {
        let api = |source| DeleteError::Api { what: "read the NodeVolume", source };
        let Some(device) = service.find(id).await.map_err(api)? else { return Ok(()) };
        let api = |source| DeleteError::Api { what: "delete the NodeVolume", source };
        if device.deleting_since.is_none() && service.discard(id, Some(&device.uid)).await.map_err(api)? {
            return Ok(());
        }
        let hear = |device: &crate::index::Device| {
            word = device
                .word
                .as_ref()
                .filter(|word| !word.ready && device.deleting_since.is_some())
                .map(|word| (word.reason.clone(), device.node.clone(), word.message.clone()));
        };
        service.gone(id, &device.uid, hear).await.map_err(api)
    })
    .await;
    match gone {
        Ok(result) => result,
        // A pod that just ended may hold it for a moment, so only at the deadline it counts as "in use".
        Err(_) => Err(match word {
            Some((reason, node, message)) if reason == reasons::IN_USE => {
                DeleteError::InUse { id: id.to_owned(), node, message }
            }
            word => DeleteError::Deadline { id: id.to_owned(), word: word.map(|(_, _, message)| message) },
        }),
    }
}
