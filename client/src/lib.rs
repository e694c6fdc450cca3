//! The verbs on a cluster: its volumes, snapshots and what is known of them, read and written as the person whose credentials are used.
//!
//! Requests and answers are values. Nothing here prints, asks, or ends the process: the command `tierce` does that, and whatever else
//! shows a cluster's volumes to people can use the same verbs.

mod access;
mod conflicts;
pub mod create;
mod error;
pub mod events;
pub mod inspect;
mod known;
pub mod labels;
pub mod list;
mod names;
pub mod prune;
pub mod removal;
pub mod resize;
pub mod restore;
pub mod snapshots;
pub mod space;
mod tried;
mod users;
pub mod version;
pub mod wait;

pub use access::{Cluster, Connection, contexts};
pub use conflicts::{Differs, InUse};
pub use error::Error;
pub use known::known;
pub use tried::Tried;
pub use users::{Users, in_words};

/// Who made an object, as `kubectl get --show-managed-fields` shows it.
const MANAGER: &str = "tierce-cli";
