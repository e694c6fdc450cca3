//! Carries out the `NodeSnapshots` of this node.

mod carry_out;
mod plan;
mod status;

pub use plan::{Step, plan};
pub use status::{Outcome, next, verdict};
