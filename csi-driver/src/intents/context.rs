//! What a reconcile works with, and how it may end early.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::{Api, Resource};
use tierce_engine::Engine;
use tokio_util::sync::CancellationToken;

use super::lanes::Lanes;
use crate::changes::Changes;
use crate::metrics::{ActionLabel, Metrics, ResultLabel};
use crate::pools::PoolBoard;
use crate::served::Board;

/// What all kinds share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    /// Name of this node.
    pub(crate) node: String,
    /// The pools in force.
    pub(crate) pools: PoolBoard,
    /// What is said of volumes that other nodes use.
    pub(crate) served: Board,
    /// Told when a pool's figures change.
    pub(crate) changes: Changes,
    pub(crate) metrics: Metrics,
    /// Called when something is no longer being read: who wanted to delete, grow or restore it may go on.
    pub(crate) copied: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    /// Something was done on a disk, or failed.
    pub(crate) fn count(&self, action: ActionLabel, ok: bool) {
        self.metrics.reconciled(action, if ok { ResultLabel::Ok } else { ResultLabel::Failed });
    }
}

/// What a reconcile needs.
pub(crate) struct Context<K> {
    pub(crate) api: Api<K>,
    /// What all kinds share.
    pub(crate) shared: Arc<Shared>,
    pub(super) lanes: Lanes,
    pub(super) shutdown: CancellationToken,
    failures: Mutex<HashMap<String, u32>>,
}

impl<K: Resource<DynamicType = ()>> Context<K> {
    /// Over this API server. In each pool at most `parallel` objects are carried out at a time; none begins after `shutdown`.
    pub(crate) fn new(
        client: kube::Client,
        shared: Arc<Shared>,
        parallel: u16,
        shutdown: CancellationToken,
    ) -> Self {
        let lanes = Lanes::new(parallel);
        Self { api: Api::all(client), shared, lanes, shutdown, failures: Mutex::default() }
    }

    pub(super) fn succeeded(&self, name: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// How long to wait after one more failure: 1 s, doubled each time, at most 5 min.
    pub(super) fn failed(&self, name: &str) -> Duration {
        let mut table = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
        let seconds = 1u64.checked_shl(count.saturating_sub(1)).unwrap_or(u64::MAX);
        Duration::from_secs(seconds.clamp(1, 300))
    }
}

/// Why a reconcile ended early. Each is tried again with growing pauses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The object can't be read: another version of Tierce wrote it, or somebody by hand.
    #[error("{kind} {name} can't be read and is left alone: {reason}")]
    Unreadable { kind: &'static str, name: String, reason: String },
    /// The API server refused or is away.
    #[error("can't {action} {kind} {name}")]
    Api { action: &'static str, kind: &'static str, name: String, source: kube::Error },
}
