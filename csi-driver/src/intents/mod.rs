//! Objects by which the controller says what should be on this node's disks (`NodeVolume`, `NodeSnapshot`): each is watched,
//! carried out with the engine, and says what came of it. What is particular to a kind is in its own folder.

mod lanes;
mod object;
mod plan;
mod reconcile;
mod watch;

use std::fmt::Debug;
use std::future::Future;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tierce_crds::conditions::Verdict;
use tierce_engine::{Error, VolumeId};

pub use object::{add_finalizer, has_finalizer, remove_finalizer};
pub use plan::{Disk, Plan, differs, uncleaned, unknown_pool};
pub use reconcile::{Context, ReconcileError, Shared, reconcile};
pub use watch::{Intents, Nudges, run};

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Said<S> {
    /// The status to write; `None` where the old one is good enough.
    pub status: Option<S>,
    /// Why it is not as it should be, so that it is tried again.
    pub trouble: Option<Verdict>,
}

/// A kind that this node carries out.
pub trait Intent:
    Resource<DynamicType = (), Scope = ClusterResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// For people.
    const KIND: &'static str;
    /// Its status.
    type Status: Serialize + Send + Sync;

    /// The node that it is for.
    fn node(&self) -> &str;
    /// The pool that it is in.
    fn pool(&self) -> &str;
    /// What it says now.
    fn conditions(&self) -> &[Condition];
    /// Makes the disk as the object says. `None`: nothing is to be said about it.
    fn carry_out(
        &self,
        id: &VolumeId,
        context: &Context<Self>,
    ) -> impl Future<Output = Result<Option<Said<Self::Status>>, ReconcileError>> + Send;
    /// What it says when its name can't be the id of anything.
    fn misnamed(&self, error: &Error) -> Said<Self::Status>;
}
