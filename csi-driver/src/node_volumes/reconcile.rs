//! One `NodeVolume`: look at the disk, plan, carry out, say what came of it. Level-based: it does the same whoever called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::json;
use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_crds::{NodeVolume, names};
use tierce_engine::{Engine, Error, VolumeId, VolumeInfo};
use tracing::{debug, info, warn};

use super::plan::{Disk, Plan, Step, plan};
use super::status::{self, Outcome};
use crate::metrics::{ActionLabel, Metrics, ResultLabel};
use crate::node_storage::Changes;
use crate::pools::PoolBoard;

/// What a reconcile needs.
pub struct Context {
    /// The `NodeVolumes`.
    pub api: Api<NodeVolume>,
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
    /// Names and number of failures in a row.
    pub failures: Mutex<HashMap<String, u32>>,
}

/// Why a reconcile ended early. Each is tried again with growing pauses.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The object can't be read: another version of Tierce wrote it, or somebody by hand.
    #[error("NodeVolume {name} can't be read and is left alone: {reason}")]
    Unreadable {
        /// The object.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The API server refused or is away.
    #[error("cannot {action} NodeVolume {name}")]
    Api {
        /// What we tried.
        action: &'static str,
        /// The object.
        name: String,
        /// Its answer.
        source: kube::Error,
    },
}

/// Makes the disk as the object says.
pub async fn reconcile(
    object: Arc<DeserializeGuard<NodeVolume>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let volume = object.0.as_ref().map_err(|invalid| ReconcileError::Unreadable {
        name: invalid.metadata.name.clone().unwrap_or_default(),
        reason: invalid.error.clone(),
    })?;
    let name = volume.name_any();
    let outcome = match name.parse::<VolumeId>() {
        Ok(id) => converge(volume, &id, &context).await?,
        Err(error) => Some(Outcome::Failed { verdict: status::verdict(&error), largest: None, info: None }),
    };
    let Some(outcome) = outcome else {
        context.succeeded(&name);
        return Ok(Action::await_change());
    };
    context.write_status(volume, &outcome).await?;
    match outcome {
        Outcome::Ready(_) => {
            context.succeeded(&name);
            Ok(Action::await_change())
        }
        Outcome::Failed { verdict, .. } => {
            let pause = context.failed(&name);
            warn!("NodeVolume {name}: {}: {}; again in {pause:?}", verdict.reason, verdict.message);
            Ok(Action::requeue(pause))
        }
    }
}

/// When to try again after an error.
pub(super) fn error_policy(
    object: &DeserializeGuard<NodeVolume>,
    error: &ReconcileError,
    context: &Context,
) -> Action {
    let pause = context.failed(&object.name_any());
    warn!("{}; again in {pause:?}", crate::status_codes::in_words(error));
    Action::requeue(pause)
}

/// Carries out the plan. `None`: nothing is to be said about it.
async fn converge(
    volume: &NodeVolume,
    id: &VolumeId,
    context: &Context,
) -> Result<Option<Outcome>, ReconcileError> {
    if volume.spec.node_name != context.node {
        return Ok(None);
    }
    let found = match context.look(id, &volume.spec.pool).await {
        Ok(found) => found,
        Err(error) => return Ok(Some(failed(&error, None))),
    };
    let disk = found.clone().map_or(Disk::Missing, Disk::Present);
    let steps = match plan(&context.node, volume, id, &disk, context.pools.offer(&volume.spec.pool)) {
        Plan::Ignore => return Ok(None),
        Plan::Refuse(verdict) => {
            return Ok(Some(Outcome::Failed { verdict, largest: None, info: found }));
        }
        Plan::Steps(steps) => steps,
    };
    let mut info = found;
    for step in steps {
        debug!("NodeVolume {id}: {step:?}");
        let done = match &step {
            Step::AddFinalizer => {
                context.add_finalizer(volume).await?;
                context.count(&step, true);
                return Ok(None);
            }
            Step::RemoveFinalizer => {
                context.remove_finalizer(volume).await?;
                context.count(&step, true);
                return Ok(None);
            }
            Step::Create(spec) => context
                .engine
                .create(&volume.spec.pool, spec)
                .await
                .map(|made| info = Some(made.into_inner())),
            Step::Grow(bytes) => {
                context.engine.grow(id, *bytes).await.map(|grown| info = Some(grown.into_inner()))
            }
            Step::SetMountOptions(options) => {
                context.engine.set_mount_options(id, options.clone()).await.map(|_| ())
            }
            Step::Delete { only_if_unused } => {
                context.engine.delete(id, *only_if_unused).await.map(|_| info = None)
            }
        };
        context.count(&step, done.is_ok());
        context.changes.notify();
        match done {
            Ok(()) => info!("NodeVolume {id}: {}", in_words(&step)),
            Err(error) => return Ok(Some(failed(&error, info))),
        }
    }
    Ok(Some(info.map_or_else(vanished, Outcome::Ready)))
}

fn failed(error: &Error, info: Option<VolumeInfo>) -> Outcome {
    Outcome::Failed { verdict: status::verdict(error), largest: status::largest(error), info }
}

/// A plan that ends without a volume ends with the finalizer's removal, so this is never said.
fn vanished() -> Outcome {
    let verdict = Verdict::no(reason::FAILED, "the volume is not there after it was made");
    Outcome::Failed { verdict, largest: None, info: None }
}

fn in_words(step: &Step) -> &'static str {
    match step {
        Step::AddFinalizer => "finalizer added",
        Step::Create(_) => "made",
        Step::SetMountOptions(_) => "mount options set",
        Step::Grow(_) => "grown",
        Step::Delete { .. } => "deleted",
        Step::RemoveFinalizer => "finalizer removed",
    }
}

impl Context {
    async fn write_status(&self, volume: &NodeVolume, outcome: &Outcome) -> Result<(), ReconcileError> {
        let old = volume.status.clone().unwrap_or_default();
        let generation = volume.metadata.generation;
        let Some(next) = status::next(&old, outcome, generation, Timestamp::now()) else { return Ok(()) };
        let patch = json!({
            "apiVersion": "storage.tierce.dev/v1alpha1",
            "kind": "NodeVolume",
            // A new object of the same name must not get the old one's status.
            "metadata": { "uid": volume.metadata.uid },
            "status": next,
        });
        let name = volume.name_any();
        let params = PatchParams::apply(names::MANAGER_NODE).force();
        let written = self.api.patch_status(&name, &params, &Patch::Apply(&patch)).await.map(|_| ());
        gone_is_fine(written).map_err(|source| ReconcileError::Api {
            action: "write the status of",
            name,
            source,
        })
    }

    async fn add_finalizer(&self, volume: &NodeVolume) -> Result<(), ReconcileError> {
        let name = volume.name_any();
        let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(names::FINALIZER_ON_NODE.to_owned());
        // The resource version makes it fail rather than undo what somebody else wrote meanwhile.
        let patch = json!({ "metadata": {
            "resourceVersion": volume.metadata.resource_version,
            "finalizers": finalizers,
        }});
        let written = self.api.patch_metadata(&name, &manager(), &Patch::Merge(&patch)).await.map(|_| ());
        gone_is_fine(written).map_err(|source| ReconcileError::Api {
            action: "put the finalizer on",
            name,
            source,
        })
    }

    async fn remove_finalizer(&self, volume: &NodeVolume) -> Result<(), ReconcileError> {
        let name = volume.name_any();
        let Some(index) = volume.finalizers().iter().position(|name| name == names::FINALIZER_ON_NODE) else {
            return Ok(());
        };
        // The tests make it fail rather than touch a new object of the same name or another finalizer. A resource
        // version would also fail on changes that don't matter, such as a status, and cost a second of waiting.
        let ours = format!("/metadata/finalizers/{index}");
        let patch = serde_json::from_value(json!([
            { "op": "test", "path": "/metadata/uid", "value": volume.metadata.uid },
            { "op": "test", "path": ours, "value": names::FINALIZER_ON_NODE },
            { "op": "remove", "path": ours },
        ]))
        .expect("this is a JSON patch");
        let written = self.api.patch_metadata(&name, &manager(), &Patch::<()>::Json(patch)).await.map(|_| ());
        gone_is_fine(written).map_err(|source| ReconcileError::Api {
            action: "take the finalizer off",
            name,
            source,
        })
    }

    /// What the disk says. "Not there" only comes from the pool of the spec itself, asked just now; another pool that can't be looked into
    /// does not matter, as volumes are made in the pool of the spec only.
    async fn look(&self, id: &VolumeId, pool: &str) -> Result<Option<VolumeInfo>, Error> {
        match self.engine.get(id).await {
            Err(unavailable @ Error::PoolUnavailable(_)) => match self.engine.get_in(pool, id).await {
                Err(Error::UnknownPool { .. }) => Err(unavailable),
                other => other,
            },
            other => other,
        }
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

    fn count(&self, step: &Step, ok: bool) {
        let action = match step {
            Step::AddFinalizer => ActionLabel::AddFinalizer,
            Step::Create(_) => ActionLabel::Create,
            Step::SetMountOptions(_) => ActionLabel::SetMountOptions,
            Step::Grow(_) => ActionLabel::Grow,
            Step::Delete { .. } => ActionLabel::Delete,
            Step::RemoveFinalizer => ActionLabel::RemoveFinalizer,
        };
        self.metrics.reconciled(action, if ok { ResultLabel::Ok } else { ResultLabel::Failed });
    }
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(names::MANAGER_NODE.to_owned()), ..PatchParams::default() }
}

/// An object that is gone needs no status and has no finalizers.
fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
