//! DeleteVolume and `DeleteSnapshot`: the node removes what is on its disk, then the object goes.

use super::{ControllerService, id};
use crate::index::OnNode;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tierce_crds::conditions::node_volume as reasons;
use tokio::time::{Instant, sleep_until};

/// Why the volume or snapshot is not gone (yet).
#[derive(Debug, Error)]
pub enum DeleteError {
    /// CSI requires one.
    #[error("{0}_id is missing")]
    NoId(&'static str),
    /// Another call about it is under way.
    #[error("another call about {0} {1} is under way")]
    Busy(&'static str, String),
    /// Still mounted or attached, or being read.
    #[error("{what} {id} is still in use on node {node}: {message}")]
    InUse {
        /// Volume or snapshot.
        what: &'static str,
        /// Its id.
        id: String,
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// Other namespaces have it as well.
    #[error(
        "volume {id} is shared, and in use in {}: it goes when no pod there uses it and their PersistentVolumes are gone",
        in_words(.namespaces)
    )]
    Shared {
        /// Its id.
        id: String,
        /// Which.
        namespaces: BTreeSet<String>,
    },
    /// Not in time.
    #[error("{what} {id} is not gone in time{}; its node goes on with it", .word.as_ref().map(|w| format!(" ({w})")).unwrap_or_default())]
    Deadline {
        /// Volume or snapshot.
        what: &'static str,
        /// Its id.
        id: String,
        /// What the node said last.
        word: Option<String>,
    },
    /// The API server.
    #[error("cannot {what} the object of the {kind}")]
    Api {
        /// What we tried.
        what: &'static str,
        /// Volume or snapshot.
        kind: &'static str,
        /// Why not.
        source: kube::Error,
    },
}

/// A pod that just ended may hold its volume for a moment, since nothing makes Kubernetes wait for `NodeUnstageVolume`.
/// After this time it counts as in use.
const LET_GO: Duration = Duration::from_secs(5);

/// Namespaces that a message names.
const MOST_NAMED: usize = 20;

fn in_words(namespaces: &BTreeSet<String>) -> String {
    let named: Vec<_> = namespaces.iter().take(MOST_NAMED).map(|name| format!("namespace {name}")).collect();
    named.join(", ")
}

/// Carries out the call, or says why not.
pub(super) async fn delete<T: OnNode>(
    service: &ControllerService,
    id: &str,
    deadline: Instant,
) -> Result<(), DeleteError> {
    if id.is_empty() {
        return Err(DeleteError::NoId(T::WHAT));
    }
    if !id::is_id(id) {
        // Nothing of ours has such an id, and CSI wants OK for what does not exist.
        return Ok(());
    }
    let _lock = service.locks.try_lock(id).ok_or_else(|| DeleteError::Busy(T::WHAT, id.to_owned()))?;
    // What the node said last while it should have been removing it: reason, node, message.
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
        let api = |source| DeleteError::Api { what: "read", kind: T::WHAT, source };
        let Some(found) = service.find::<T>(id).await.map_err(api)? else { return Ok(()) };
        // Kubernetes' own protection of claims knows nothing of pods in other namespaces, and once the object has its deletionTimestamp nothing turns back.
        if let Some(uid) = found.sharer().filter(|_| found.deleting_since.is_none()) {
            let namespaces = service.shares(id, uid).await.map_err(api)?;
            if !namespaces.is_empty() {
                return Err(DeleteError::Shared { id: id.to_owned(), namespaces });
            }
        }
        let api = |source| DeleteError::Api { what: "delete", kind: T::WHAT, source };
        if found.deleting_since.is_none() && service.discard::<T>(id, &found.uid).await.map_err(api)? {
            return Ok(());
        }
        let hear = |now: &T| {
            *word.lock().unwrap_or_else(PoisonError::into_inner) = now
                .word
                .as_ref()
                .filter(|word| !word.ready && now.deleting_since.is_some())
                .map(|word| (word.reason.clone(), now.node.clone(), word.message.clone()));
        };
        service.gone::<T>(id, &found.uid, hear).await.map_err(api)
    };
    tokio::select! {
        result = gone => return result,
        () = patience => {}
    }
    let (what, id) = (T::WHAT, id.to_owned());
    Err(match word.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((reason, node, message)) if reason == reasons::IN_USE => {
            DeleteError::InUse { what, id, node, message }
        }
        word => DeleteError::Deadline { what, id, word: word.map(|(_, _, message)| message) },
    })
}
