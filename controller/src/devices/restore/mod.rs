//! VolumeRestores: a Volume gets the content of a snapshot back, in place and once. The steps, and what a crash after each
//! leaves:
//!
//! 1. No pod uses the volume and the snapshot fits: the finalizer is set. A crash leaves a VolumeRestore that starts over.
//! 2. The order goes into `NodeVolume.spec.restore`. From then on the node is at it, whatever becomes of the controller;
//!    its engine keeps what was there as a snapshot first, and finds its way after a crash by its own record.
//! 3. The node says `status.restored`. A crash leaves an order that is done, which nobody carries out twice.
//! 4. What was there before becomes a `NodeSnapshot` and a VolumeSnapshot. Their names follow from the VolumeRestore's UID,
//!    so that a second try finds them.
//! 5. The order is taken off, the status says `Restored`, the finalizer goes.
//!
//! One that is deleted after (2) is called off, if that is still possible:
//!
//! 1. The order gets the word `cancel`. The node alone knows whether it has begun: a crash leaves a question that is answered some time.
//! 2. The node says `status.restoreCalledOff`, and nothing of it has happened or will; or `status.restored`, and it goes on at (4) above.
//! 3. The key for what would have been kept goes, then the order. A crash leaves an answer that stands: both are done again.
//! 4. The status says `CalledOff`, and the finalizer goes.
//!
//! A volume that is deleted before (4) of the first list takes what was there before with it: nobody was told of that yet, and it was the volume's.
//! Its node removes both, unless it finds the `NodeSnapshot`; who makes that looks afterwards whether the volume stays, and takes it back
//! if not. So neither a snapshot that no object speaks of is left, nor an object without its snapshot.

mod plan;
#[cfg(test)]
mod plan_tests;
mod reconcile;

pub use plan::{Action, Observed, Plan, Said, plan};
pub use reconcile::RestoreReconciler;
