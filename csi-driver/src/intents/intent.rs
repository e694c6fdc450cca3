//! What each kind that the node carries out has of its own.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::ClusterResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tierce_crds::conditions::Verdict;
use tierce_engine::{Error, VolumeId};

use super::context::{Context, ReconcileError};

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
