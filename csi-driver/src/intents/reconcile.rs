//! One object: let its kind carry it out, write what came of it, try again where it failed. Level-based: it does the same
//! whoever called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use tierce_engine::{Engine, VolumeId};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lanes::Lanes;
use super::{Intent, object};
use crate::metrics::{ActionLabel, Metrics, ResultLabel};
use crate::node_storage::Changes;
use crate::pools::PoolBoard;

/// What all kinds share.
pub struct Shared {
    /// The disks.
    pub engine: Engine,
    /// Name of this node.
    pub node: String,
    /// The pools in force.
    pub pools: PoolBoard,
    /// Told when a pool's figures change.
    pub changes: Changes,
    /// Counts.
    pub metrics: Metrics,
    /// Called when something is no longer being read: who wanted to delete, grow or restore it may go on.
    pub copied: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    /// Something was done on a disk, or failed.
    pub fn count(&self, action: ActionLabel, ok: bool) {
        self.metrics.reconciled(action, if ok { ResultLabel::Ok } else { ResultLabel::Failed });
    }
}

/// What a reconcile needs.
pub struct Context<K> {
    /// The objects.
    pub api: Api<K>,
    /// What all kinds share.
    pub shared: Arc<Shared>,
    lanes: Lanes,
    shutdown: CancellationToken,
    failures: Mutex<HashMap<String, u32>>,
}

/// Why a reconcile ended early. Each is tried again with growing pauses.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The object can't be read: another version of Tierce wrote it, or somebody by hand.
    #[error("{kind} {name} can't be read and is left alone: {reason}")]
    Unreadable {
        /// Its kind.
        kind: &'static str,
        /// The object.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The API server refused or is away.
    #[error("cannot {action} {kind} {name}")]
    Api {
        /// What we tried.
        action: &'static str,
        /// Its kind.
        kind: &'static str,
        /// The object.
        name: String,
        /// Its answer.
        source: kube::Error,
    },
}

/// Makes the disk as the object says, once there is a place in its pool's lane.
pub(super) async fn in_lane<K: Intent>(
    guarded: Arc<DeserializeGuard<K>>,
    context: Arc<Context<K>>,
) -> Result<Action, ReconcileError> {
    let _place = match &guarded.0 {
        Ok(object) => {
            let answers = || context.shared.engine.answers(object.pool());
            tokio::select! {
                biased;
                // What has not begun must not hold up the end.
                () = context.shutdown.cancelled() => return Ok(Action::await_change()),
                place = context.lanes.enter(object.pool(), answers) => Some(place),
            }
        }
        Err(_) => None,
    };
    Box::pin(reconcile(guarded, context)).await
}

/// Makes the disk as the object says.
pub async fn reconcile<K: Intent>(
    guarded: Arc<DeserializeGuard<K>>,
    context: Arc<Context<K>>,
) -> Result<Action, ReconcileError> {
    let object = guarded.0.as_ref().map_err(|invalid| ReconcileError::Unreadable {
        kind: K::KIND,
        name: invalid.metadata.name.clone().unwrap_or_default(),
        reason: invalid.error.clone(),
    })?;
    let name = object.name_any();
    let said = match name.parse::<VolumeId>() {
        _ if object.node() != context.shared.node => None,
        Ok(id) => object.carry_out(&id, &context).await?,
        Err(error) => Some(object.misnamed(&error)),
    };
    let Some(said) = said else {
        context.succeeded(&name);
        return Ok(Action::await_change());
    };
    if let Some(status) = &said.status {
        object::write_status(&context, object, status).await?;
    }
    match said.trouble {
        None => {
            context.succeeded(&name);
            Ok(Action::await_change())
        }
        Some(verdict) => {
            let pause = context.failed(&name);
            warn!("{} {name}: {}: {}; again in {pause:?}", K::KIND, verdict.reason, verdict.message);
            Ok(Action::requeue(pause))
        }
    }
}

/// When to try again after an error.
pub(super) fn error_policy<K: Intent>(
    object: &DeserializeGuard<K>,
    error: &ReconcileError,
    context: &Context<K>,
) -> Action {
    let pause = context.failed(&object.name_any());
    warn!("{}; again in {pause:?}", crate::status_codes::in_words(error));
    Action::requeue(pause)
}

impl<K: Intent> Context<K> {
    /// Over this API server. In each pool at most `parallel` objects are carried out at a time; none begins after `shutdown`.
    pub fn new(
        client: kube::Client,
        shared: Arc<Shared>,
        parallel: u16,
        shutdown: CancellationToken,
    ) -> Self {
        let lanes = Lanes::new(parallel);
        Self { api: Api::all(client), shared, lanes, shutdown, failures: Mutex::default() }
    }

    fn succeeded(&self, name: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// How long to wait after one more failure: 1 s, doubled each time, at most 5 min.
    fn failed(&self, name: &str) -> Duration {
        let mut table = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
        let seconds = 1u64.checked_shl(count.saturating_sub(1)).unwrap_or(u64::MAX);
        Duration::from_secs(seconds.clamp(1, 300))
    }
}
