//! Carries out the `NodeVolumes` of this node.

mod carry_out;
mod plan;
mod status;

pub use plan::{Step, plan};
pub use status::{NEWER, Outcome, largest, next, noticeable, verdict};
