//! Carries out the `NodeVolumes` of this node.

mod plan;
mod reconcile;
mod status;
mod watch;

pub use plan::{Disk, Plan, Step, plan};
pub use reconcile::{Context, ReconcileError, reconcile};
pub use status::{Outcome, largest, next, signed, verdict};
pub use watch::{NodeVolumes, Nudges, run};
