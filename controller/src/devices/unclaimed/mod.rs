//! What becomes of what nobody speaks of any more: NodeVolumes, NodeSnapshots, and Secrets with keys. Each is looked at when something
//! about it changes, and judged after a grace; the API server's word is asked for before anything is deleted or told.

mod forsaken;
mod guard;
mod keys;
mod memory;
mod need;
pub(super) mod pages;
mod snapshots;
mod teller;
mod volumes;

pub use keys::UnclaimedKeys;
pub use memory::Memory;
pub use snapshots::UnclaimedSnapshots;
pub use teller::Teller;
pub use volumes::Reaper;
