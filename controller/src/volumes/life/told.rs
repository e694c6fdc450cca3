//! What every front says of its life in its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tierce_crds::Phase;

/// What a front says of its life. A kind may say more.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Status {
    pub(crate) phase: Option<Phase>,
    pub(crate) capacity: Option<String>,
    pub(crate) used: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) claim_name: Option<String>,
    pub(crate) volume_name: Option<String>,
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
}
