//! Objects by which the controller says what should be on this node's disks (`NodeVolume`, `NodeSnapshot`): each is watched,
//! carried out with the engine, and says what came of it. What is particular to a kind is in its own folder.

mod carry_out;
mod context;
mod intent;
mod lanes;
mod object;
mod outcome;
mod plan;
mod reconcile;
mod report;
mod watch;

pub(crate) use carry_out::look;
pub(crate) use context::{Context, ReconcileError, Shared};
pub(crate) use intent::{Intent, Step, Wanted};
pub(crate) use outcome::Outcome;
#[cfg(test)]
pub(crate) use plan::{Disk, Plan, plan, refusal};
pub(crate) use plan::{differs, unknown_pool};
pub(crate) use report::{NEWER, noticeable};
pub(crate) use watch::{Intents, Nudges, run};
