//! How the node carries out a `NodeVolume` with the engine.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use tierce_crds::conditions::Verdict;
use tierce_crds::{NodeSnapshot, NodeVolume, NodeVolumeStatus};
use tierce_engine::{Engine, Error, VolumeId, VolumeInfo};

use super::plan::{Step, converge, create, deletion, remains};
use super::status;
use crate::intents::{Context, Intent, Outcome, ReconcileError, Shared, Wanted, look};
use crate::pools::Offer;

impl Intent for NodeVolume {
    const KIND: &'static str = "NodeVolume";
    type Status = NodeVolumeStatus;
    type Info = VolumeInfo;
    type Step = Step;
    type Answer = Answer;

    fn node(&self) -> &str {
        &self.spec.node_name
    }

    fn pool(&self) -> &str {
        &self.spec.pool
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[][..], |status| &status.conditions)
    }

    async fn find(engine: &Engine, id: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        engine.get(id).await
    }

    async fn find_in(engine: &Engine, pool: &str, id: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        engine.get_in(pool, id).await
    }

    fn making(&self, id: &VolumeId, offer: Offer) -> Result<Vec<Step>, Verdict> {
        create(self, id, offer)
    }

    fn converging(&self, info: &VolumeInfo) -> Result<Vec<Step>, Verdict> {
        converge(self, info)
    }

    fn deletion(&self) -> Result<Step, Verdict> {
        deletion(self)
    }

    fn remains(&self) -> Option<Step> {
        remains(self)
    }

    async fn still_wants(&self, step: &Step, context: &Context<Self>) -> Result<Wanted, ReconcileError> {
        Ok(match step {
            Step::Restore { uid, .. } if !still_ordered(context, self, uid).await? => Wanted::Stop,
            Step::DropSafety(safety) if is_recorded(context, safety).await? => Wanted::Skip,
            _ => Wanted::Yes,
        })
    }

    async fn act(
        &self,
        id: &VolumeId,
        step: &Step,
        context: &Context<Self>,
        info: &mut Option<VolumeInfo>,
    ) -> Result<Option<Answer>, Error> {
        act(&context.shared, self, id, step, info).await
    }

    fn verdict(error: &Error) -> Verdict {
        status::verdict(error)
    }

    fn next_status(
        &self,
        outcome: &Outcome<VolumeInfo>,
        answer: Option<Answer>,
        shared: &Shared,
        now: Timestamp,
    ) -> Option<NodeVolumeStatus> {
        let old = self.status.clone().unwrap_or_default();
        let mut answered = old.clone();
        match answer {
            Some(Answer::Restored(uid)) => answered.restored = Some(uid),
            Some(Answer::CalledOff(uid)) => answered.restore_called_off = Some(uid),
            None => {}
        }
        let said = self.name_any().parse().ok().and_then(|id| shared.served.of(&id));
        let next = status::next(&answered, outcome, said, self.metadata.generation, now);
        next.or_else(|| (answered != old).then_some(answered))
    }
}

/// What became of a restore's order.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The order of this UID is carried out.
    Restored(String),
    /// It is called off.
    CalledOff(String),
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

/// Whether a `NodeSnapshot` of this id is there, by the API server's own word. The controller makes one for what a restore kept of before, and
/// takes it back if the volume was to go by then: so whoever of the two comes second sees the other.
async fn is_recorded(context: &Context<NodeVolume>, id: &VolumeId) -> Result<bool, ReconcileError> {
    let snapshots: Api<NodeSnapshot> = Api::all(context.api.clone().into_client());
    let found = snapshots.get_metadata_opt(id.as_str()).await.map_err(|source| ReconcileError::Api {
        action: "look for",
        kind: NodeSnapshot::KIND,
        name: id.to_string(),
        source,
    })?;
    Ok(found.is_some())
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
            *info = look::<NodeVolume>(engine, id, &volume.spec.pool).await?;
            return Ok(Some(Answer::Restored(uid.clone())));
        }
        Step::CallOff { uid, safety } => {
            let called_off = engine.call_off_restore(id, safety).await?;
            (shared.copied)();
            let answer = if called_off { Answer::CalledOff } else { Answer::Restored };
            *info = look::<NodeVolume>(engine, id, &volume.spec.pool).await?;
            return Ok(Some(answer(uid.clone())));
        }
        Step::Delete { only_if_unused } => {
            engine.delete(id, *only_if_unused).await?;
            *info = None;
        }
        Step::DropSafety(safety) => {
            let kept = look::<NodeSnapshot>(engine, safety, &volume.spec.pool).await?;
            if kept.is_some_and(|kept| kept.source == *id) {
                engine.delete_snapshot(safety).await?;
            }
        }
    }
    Ok(None)
}
