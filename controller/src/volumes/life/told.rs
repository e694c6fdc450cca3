//! What every front says of its life in its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tierce_crds::{Phase, SharedClaim, SharedClient};

/// What a front says of its life. A kind may say more.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) phase: Option<Phase>,
    pub(crate) capacity: Option<String>,
    pub(crate) used: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) claim_name: Option<String>,
    pub(crate) volume_name: Option<String>,
    /// Of one that is shared.
    pub(crate) shared: Option<Shared>,
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
}

/// What one says that is shared.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shared {
    pub(crate) gid: Option<i64>,
    pub(crate) claims: Vec<SharedClaim>,
    pub(crate) clients: Vec<SharedClient>,
}
