//! One `NodeVolume`: look at the disk, plan, carry out, say what came of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_crds::{NodeVolume, NodeVolumeStatus};
use tierce_engine::{Engine, Error, VolumeId, VolumeInfo};
use tracing::{debug, info};

use super::plan::{Step, plan};
use super::status::{self, Outcome};
use crate::intents::{Context, Intent, Plan, ReconcileError, Said, Shared, add_finalizer, remove_finalizer};
use crate::metrics::ActionLabel;

impl Intent for NodeVolume {
    const KIND: &'static str = "NodeVolume";
    type Status = NodeVolumeStatus;

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
    ) -> Result<Option<Said<NodeVolumeStatus>>, ReconcileError> {
        Ok(converge(self, id, context).await?.map(|(outcome, answer)| said(self, outcome, answer)))
    }

    fn misnamed(&self, error: &Error) -> Said<NodeVolumeStatus> {
        said(self, failed(error, None), None)
    }
}

/// What became of a restore's order.
#[derive(Debug, Clone)]
enum Answer {
    /// The order of this UID is carried out.
    Restored(String),
    /// It is called off.
    CalledOff(String),
}

fn said(volume: &NodeVolume, outcome: Outcome, answer: Option<Answer>) -> Said<NodeVolumeStatus> {
    let old = volume.status.clone().unwrap_or_default();
    let mut now = old.clone();
    match answer {
        Some(Answer::Restored(uid)) => now.restored = Some(uid),
        Some(Answer::CalledOff(uid)) => now.restore_called_off = Some(uid),
        None => {}
    }
    let next = status::next(&now, &outcome, volume.metadata.generation, Timestamp::now());
    let status = next.or_else(|| (now != old).then_some(now));
    let trouble = match outcome {
        Outcome::Ready(_) => None,
        Outcome::Failed { verdict, .. } => Some(verdict),
    };
    Said { status, trouble }
}

/// Carries out the plan; with the outcome comes the answer to a restore's order. `None`: nothing is to be said.
async fn converge(
    volume: &NodeVolume,
    id: &VolumeId,
    context: &Context<NodeVolume>,
) -> Result<Option<(Outcome, Option<Answer>)>, ReconcileError> {
    let shared = &context.shared;
    let found = match look(&shared.engine, id, &volume.spec.pool).await {
        Ok(found) => found,
        Err(error) => return Ok(Some((failed(&error, None), None))),
    };
    let disk = found.clone().into();
    let steps = match plan(&shared.node, volume, id, &disk, shared.pools.offer(&volume.spec.pool)) {
        Plan::Ignore => return Ok(None),
        Plan::Refuse(verdict) => {
            return Ok(Some((Outcome::Failed { verdict, largest: None, info: found }, None)));
        }
        Plan::Steps(steps) => steps,
    };
    let (mut info, mut answer) = (found, None);
    for step in steps {
        debug!("NodeVolume {id}: {step:?}");
        let done = match &step {
            Step::Restore { uid, .. } if !still_ordered(context, volume, uid).await? => return Ok(None),
            Step::AddFinalizer => {
                add_finalizer(context, volume).await?;
                shared.count(label(&step), true);
                return Ok(None);
            }
            Step::RemoveFinalizer => {
                remove_finalizer(context, volume).await?;
                shared.count(label(&step), true);
                return Ok(None);
            }
            step => act(shared, volume, id, step, &mut info).await,
        };
        shared.count(label(&step), done.is_ok());
        shared.changes.notify();
        match done {
            Ok(given) => {
                info!("NodeVolume {id}: {}", in_words(&step));
                answer = given.or(answer);
            }
            Err(error) => return Ok(Some((failed(&error, info), answer))),
        }
    }
    Ok(Some((info.map_or_else(vanished, Outcome::Ready), answer)))
}

/// Whether the API server itself says that the order stands. A watch that starts anew may show an older state for a moment, and an order
/// that was called off, or is long over, must not be carried out after all.
async fn still_ordered(
    context: &Context<NodeVolume>,
    volume: &NodeVolume,
    uid: &str,
) -> Result<bool, ReconcileError> {
    let name = volume.name_any();
    let found = context.api.get_opt(&name).await.map_err(|source| ReconcileError::Api {
        action: "look at the order in",
        kind: NodeVolume::KIND,
        name,
        source,
    })?;
    let same = found.filter(|now| now.metadata.uid == volume.metadata.uid);
    let order = same.and_then(|now| now.spec.restore);
    Ok(order.is_some_and(|order| order.uid == uid && !order.cancel))
}

async fn act(
    shared: &Shared,
    volume: &NodeVolume,
    id: &VolumeId,
    step: &Step,
    info: &mut Option<VolumeInfo>,
) -> Result<Option<Answer>, Error> {
    let engine = &shared.engine;
    match step {
        // These are for the API server.
        Step::AddFinalizer | Step::RemoveFinalizer => {}
        Step::Create(spec) => {
            let made = engine.create(&volume.spec.pool, spec).await;
            *info = Some(made?.into_inner());
            // Never after a failure: it would be among those that are tried again at once.
            if spec.source.is_some() {
                (shared.copied)();
            }
        }
        Step::Grow(bytes) => *info = Some(engine.grow(id, *bytes).await?.into_inner()),
        Step::SetMountOptions(options) => drop(engine.set_mount_options(id, options.clone()).await?),
        Step::Restore { uid, snapshot, safety } => {
            engine.restore(id, snapshot, safety).await?;
            (shared.copied)();
            *info = look(engine, id, &volume.spec.pool).await?;
            return Ok(Some(Answer::Restored(uid.clone())));
        }
        Step::CallOff { uid, safety } => {
            let called_off = engine.call_off_restore(id, safety).await?;
            (shared.copied)();
            let answer = if called_off { Answer::CalledOff } else { Answer::Restored };
            *info = look(engine, id, &volume.spec.pool).await?;
            return Ok(Some(answer(uid.clone())));
        }
        Step::Delete { only_if_unused } => {
            engine.delete(id, *only_if_unused).await?;
            *info = None;
        }
    }
    Ok(None)
}

/// What the disk says. "Not there" only comes from the pool of the spec itself, asked just now; another pool that can't be looked into
/// does not matter, as volumes are made in the pool of the spec only.
async fn look(engine: &Engine, id: &VolumeId, pool: &str) -> Result<Option<VolumeInfo>, Error> {
    match engine.get(id).await {
        Err(unavailable @ Error::PoolUnavailable(_)) => match engine.get_in(pool, id).await {
            Err(Error::UnknownPool { .. }) => Err(unavailable),
            other => other,
        },
        other => other,
    }
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
        Step::Restore { .. } => "restored",
        Step::CallOff { .. } => "the call to take its restore back is answered",
        Step::Grow(_) => "grown",
        Step::Delete { .. } => "deleted",
        Step::RemoveFinalizer => "finalizer removed",
    }
}

fn label(step: &Step) -> ActionLabel {
    match step {
        Step::AddFinalizer => ActionLabel::AddFinalizer,
        Step::Create(_) => ActionLabel::Create,
        Step::SetMountOptions(_) => ActionLabel::SetMountOptions,
        Step::Restore { .. } => ActionLabel::Restore,
        Step::CallOff { .. } => ActionLabel::CallOffRestore,
        Step::Grow(_) => ActionLabel::Grow,
        Step::Delete { .. } => ActionLabel::Delete,
        Step::RemoveFinalizer => ActionLabel::RemoveFinalizer,
    }
}
