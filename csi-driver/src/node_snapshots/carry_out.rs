//! How the node carries out a `NodeSnapshot` with the engine.

use std::convert::Infallible;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use tierce_crds::conditions::Verdict;
use tierce_crds::{NodeSnapshot, NodeSnapshotStatus};
use tierce_engine::{Engine, Error, SnapshotInfo, VolumeId};

use super::plan::{Step, check, take};
use super::status;
use crate::intents::{Context, Intent, Outcome, Shared};
use crate::pools::Offer;

impl Intent for NodeSnapshot {
    const KIND: &'static str = "NodeSnapshot";
    type Status = NodeSnapshotStatus;
    type Info = SnapshotInfo;
    type Step = Step;
    type Answer = Infallible;

    fn node(&self) -> &str {
        &self.spec.node_name
    }

    fn pool(&self) -> &str {
        &self.spec.pool
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[][..], |status| &status.conditions)
    }

    async fn find(engine: &Engine, id: &VolumeId) -> Result<Option<SnapshotInfo>, Error> {
        engine.get_snapshot(id).await
    }

    async fn find_in(engine: &Engine, pool: &str, id: &VolumeId) -> Result<Option<SnapshotInfo>, Error> {
        engine.get_snapshot_in(pool, id).await
    }

    fn making(&self, id: &VolumeId, offer: Offer) -> Result<Vec<Step>, Verdict> {
        take(self, id, offer)
    }

    fn converging(&self, info: &SnapshotInfo) -> Result<Vec<Step>, Verdict> {
        check(self, info).map(|()| Vec::new())
    }

    fn deletion(&self) -> Result<Step, Verdict> {
        Ok(Step::Delete)
    }

    async fn act(
        &self,
        id: &VolumeId,
        step: &Step,
        context: &Context<Self>,
        info: &mut Option<SnapshotInfo>,
    ) -> Result<Option<Infallible>, Error> {
        let shared = &context.shared;
        match step {
            Step::Take(spec) => {
                *info = Some(shared.engine.snapshot(spec).await?.into_inner());
                (shared.copied)();
            }
            Step::Delete => {
                shared.engine.delete_snapshot(id).await?;
                *info = None;
            }
        }
        Ok(None)
    }

    fn verdict(error: &Error) -> Verdict {
        status::verdict(error)
    }

    fn next_status(
        &self,
        outcome: &Outcome<SnapshotInfo>,
        _answer: Option<Infallible>,
        _: &Shared,
        now: Timestamp,
    ) -> Option<NodeSnapshotStatus> {
        let old = self.status.clone().unwrap_or_default();
        status::next(&old, outcome, self.metadata.generation, now)
    }
}
