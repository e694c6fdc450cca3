//! Volumes: the claim of each, and what its status says. `plan` decides, `reconcile` carries out.

mod claim;
mod observed;
mod plan;
#[cfg(test)]
mod plan_tests;
mod reconcile;
mod room_words;
mod status;

pub use observed::{Observed, Start};
pub use plan::{Action, Plan, Said, plan};
pub use reconcile::{VolumeError, VolumeReconciler};
pub(crate) use status::is_settled;
