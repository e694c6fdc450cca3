//! Objects by which the controller says what should be on this node's disks (`NodeVolume`, `NodeSnapshot`): each is watched,
//! carried out with the engine, and says what came of it. What is particular to a kind is in its own folder.

mod context;
mod intent;
mod lanes;
mod object;
mod plan;
mod reconcile;
mod watch;

pub use context::{Context, ReconcileError, Shared};
pub use intent::{Intent, Said};
pub use object::{add_finalizer, has_finalizer, remove_finalizer};
pub use plan::{Disk, Plan, differs, uncleaned, unknown_pool};
pub use reconcile::reconcile;
pub use watch::{Intents, Nudges, run};
