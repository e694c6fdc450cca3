//! One `NodeSnapshot`: look at the disk, plan, carry out, say what came of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use tierce_crds::{NodeSnapshot, NodeSnapshotStatus};
use tierce_engine::{Engine, Error, SnapshotInfo, VolumeId};
use tracing::{debug, info};

use super::plan::{Step, plan};
use super::status::{self, Outcome};
use crate::intents::{Context, Intent, Plan, ReconcileError, Said, add_finalizer, remove_finalizer};
use crate::metrics::ActionLabel;

impl Intent for NodeSnapshot {
    const KIND: &'static str = "NodeSnapshot";
    type Status = NodeSnapshotStatus;

    fn node(&self) -> &str {
        &self.spec.node_name
    }

    fn pool(&self) -> &str {
        &self.spec.pool
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[][..], |status| &status.conditions)
    }

    async fn carry_out(
        &self,
        id: &VolumeId,
        context: &Context<Self>,
    ) -> Result<Option<Said<NodeSnapshotStatus>>, ReconcileError> {
        Ok(converge(self, id, context).await?.map(|outcome| said(self, outcome)))
    }

    fn misnamed(&self, error: &Error) -> Said<NodeSnapshotStatus> {
        said(self, failed(error, None))
    }
}

fn said(snapshot: &NodeSnapshot, outcome: Outcome) -> Said<NodeSnapshotStatus> {
    let old = snapshot.status.clone().unwrap_or_default();
    let status = status::next(&old, &outcome, snapshot.metadata.generation, Timestamp::now());
    Said { status, trouble: outcome.trouble }
}

/// Carries out the plan. `None`: nothing is to be said about it.
async fn converge(
    snapshot: &NodeSnapshot,
    id: &VolumeId,
    context: &Context<NodeSnapshot>,
) -> Result<Option<Outcome>, ReconcileError> {
    let shared = &context.shared;
    let mut info = match look(&shared.engine, id, &snapshot.spec.pool).await {
        Ok(found) => found,
        Err(error) => return Ok(Some(failed(&error, None))),
    };
    let disk = info.clone().into();
    let steps = match plan(snapshot, id, &disk, shared.pools.offer(&snapshot.spec.pool)) {
        Plan::Ignore => return Ok(None),
        Plan::Refuse(verdict) => return Ok(Some(Outcome { info, trouble: Some(verdict) })),
        Plan::Steps(steps) => steps,
    };
    for step in steps {
        debug!("NodeSnapshot {id}: {step:?}");
        let (label, words, done) = match &step {
            Step::AddFinalizer => {
                add_finalizer(context, snapshot).await?;
                shared.count(ActionLabel::AddFinalizer, true);
                return Ok(None);
            }
            Step::RemoveFinalizer => {
                remove_finalizer(context, snapshot).await?;
                shared.count(ActionLabel::RemoveFinalizer, true);
                return Ok(None);
            }
            Step::Take(spec) => {
                let taken = shared.engine.snapshot(spec).await;
                if taken.is_ok() {
                    (shared.copied)();
                }
                (ActionLabel::Take, "taken", taken.map(|taken| info = Some(taken.into_inner())))
            }
            Step::Delete => {
                let deleted = shared.engine.delete_snapshot(id).await;
                (ActionLabel::DeleteSnapshot, "deleted", deleted.map(|_| info = None))
            }
        };
        shared.count(label, done.is_ok());
        shared.changes.notify();
        match done {
            Ok(()) => info!("NodeSnapshot {id}: {words}"),
            Err(error) => return Ok(Some(failed(&error, info))),
        }
    }
    Ok(Some(Outcome { info, trouble: None }))
}

/// What the disk says. "Not there" only comes from the pool of the spec itself, asked just now.
async fn look(engine: &Engine, id: &VolumeId, pool: &str) -> Result<Option<SnapshotInfo>, Error> {
    match engine.get_snapshot(id).await {
        Err(unavailable @ Error::PoolUnavailable(_)) => match engine.get_snapshot_in(pool, id).await {
            Err(Error::UnknownPool { .. }) => Err(unavailable),
            other => other,
        },
        other => other,
    }
}

fn failed(error: &Error, info: Option<SnapshotInfo>) -> Outcome {
    Outcome { info, trouble: Some(status::verdict(error)) }
}
