//! What each kind that the node carries out has of its own.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tierce_crds::conditions::Verdict;
use tierce_engine::{Engine, Error, VolumeId};

use super::context::{Context, ReconcileError, Shared};
use super::outcome::Outcome;
use crate::metrics::ActionLabel;
use crate::pools::Offer;

/// A kind that this node carries out.
pub(crate) trait Intent:
    Resource<DynamicType = (), Scope = ClusterResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// Its name, for people.
    const KIND: &'static str;
    type Status: Serialize + Send + Sync;
    /// What the disk says about it.
    type Info: Clone + Send + Sync;
    /// One call to the engine.
    type Step: Step;
    /// What a step answers to an order, besides what is then on the disk.
    type Answer: Send;

    /// The node that it is for.
    fn node(&self) -> &str;
    /// The pool that it is in.
    fn pool(&self) -> &str;
    /// The conditions of its status.
    fn conditions(&self) -> &[Condition];

    /// Looks for it in every pool that the node knows.
    fn find(engine: &Engine, id: &VolumeId)
    -> impl Future<Output = Result<Option<Self::Info>, Error>> + Send;
    /// Looks for it in one pool.
    fn find_in(
        engine: &Engine,
        pool: &str,
        id: &VolumeId,
    ) -> impl Future<Output = Result<Option<Self::Info>, Error>> + Send;

    /// The steps that make the object's volume or snapshot where the disk has none, or why that is refused.
    fn making(&self, id: &VolumeId, offer: Offer) -> Result<Vec<Self::Step>, Verdict>;
    /// The steps that bring what is on the disk to what the object asks for, or why that is refused.
    fn converging(&self, info: &Self::Info) -> Result<Vec<Self::Step>, Verdict>;
    /// How to delete it, or why it may not go yet.
    fn deletion(&self) -> Result<Self::Step, Verdict>;
    /// What else is to go before the object may, once it is deleted or where it never was.
    fn remains(&self) -> Option<Self::Step> {
        None
    }

    /// Whether a step may still be carried out, where that can have changed since the object was seen.
    fn still_wants(
        &self,
        _step: &Self::Step,
        _context: &Context<Self>,
    ) -> impl Future<Output = Result<Wanted, ReconcileError>> + Send {
        async { Ok(Wanted::Yes) }
    }
    /// Does one step. `info` is what is on the disk, before and after.
    fn act(
        &self,
        id: &VolumeId,
        step: &Self::Step,
        context: &Context<Self>,
        info: &mut Option<Self::Info>,
    ) -> impl Future<Output = Result<Option<Self::Answer>, Error>> + Send;

    /// The engine's error as a reason that the API documents.
    fn verdict(error: &Error) -> Verdict;
    /// The status to write; `None` where the old one is good enough: a write wakes everybody who watches.
    fn next_status(
        &self,
        outcome: &Outcome<Self::Info>,
        answer: Option<Self::Answer>,
        shared: &Shared,
        now: Timestamp,
    ) -> Option<Self::Status>;
}

/// Whether a step is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Yes,
    /// Not this one; those after it are.
    Skip,
    /// None any more: the object's next version says what is to be done.
    Stop,
}

/// One call to the engine.
pub(crate) trait Step: Debug + Send + Sync {
    fn label(&self) -> ActionLabel;
    /// What the log says when it is done.
    fn done(&self) -> &'static str;
}
