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

pub use carry_out::look;
pub use context::{Context, ReconcileError, Shared};
pub use intent::{Intent, Step};
pub use outcome::Outcome;
pub use plan::{Disk, Plan, differs, plan, unknown_pool};
pub use reconcile::reconcile;
pub use report::{NEWER, noticeable};
pub use watch::{Intents, Nudges, run};
