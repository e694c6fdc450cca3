//! DeleteVolume: the node removes what is on its disk, then the `NodeVolume` goes.

use super::{ControllerService, id};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tierce_crds::conditions::node_volume as reasons;
use tokio::time::{Instant, sleep_until};

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

/// A pod that just ended may hold its volume for a moment, since nothing makes Kubernetes wait for `NodeUnstageVolume`.
/// After this time it counts as in use.
const LET_GO: Duration = Duration::from_secs(5);

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
    let word = Mutex::new(None);
    let in_use = || {
        let word = word.lock().unwrap_or_else(PoisonError::into_inner);
        word.as_ref().is_some_and(|(reason, ..): &(String, String, String)| reason == reasons::IN_USE)
    };
    let patience = async {
        sleep_until(deadline.min(Instant::now() + LET_GO)).await;
        if !in_use() {
            sleep_until(deadline).await;
        }
    };
    let gone = async {
        let api = |source| DeleteError::Api { what: "read the NodeVolume", source };
        let Some(device) = service.find(id).await.map_err(api)? else { return Ok(()) };
        let api = |source| DeleteError::Api { what: "delete the NodeVolume", source };
        if device.deleting_since.is_none() && service.discard(id, Some(&device.uid)).await.map_err(api)? {
            return Ok(());
        }
        let hear = |device: &crate::index::Device| {
            *word.lock().unwrap_or_else(PoisonError::into_inner) = device
                .word
                .as_ref()
                .filter(|word| !word.ready && device.deleting_since.is_some())
                .map(|word| (word.reason.clone(), device.node.clone(), word.message.clone()));
        };
        service.gone(id, &device.uid, hear).await.map_err(api)
    };
    tokio::select! {
        result = gone => return result,
        () = patience => {}
    }
    Err(match word.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((reason, node, message)) if reason == reasons::IN_USE => {
            DeleteError::InUse { id: id.to_owned(), node, message }
        }
        word => DeleteError::Deadline { id: id.to_owned(), word: word.map(|(_, _, message)| message) },
    })
}
