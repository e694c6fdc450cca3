//! What the cluster looks like: facts about every object that decisions need, kept by one watch per kind, with the
//! connections between them. Reading it is cheap and never talks to the API server. Whoever waits for a `NodeVolume`
//! is woken by its name; reconcilers are woken by the keys that a change concerns.

mod by_kind;
mod facts;
mod feed;
mod hearing;
mod key;
mod kinds;
mod news;
mod on_node;
mod relation;
mod room;
mod shared;
mod state;
mod table;
mod topics;
#[cfg(test)]
mod wakes_tests;

pub use facts::claims::{
    Claim, ClaimObject, ClaimOwner, ClaimPhase, OWNERS, Pair, PersistentVolume, PersistentVolumeObject,
};
pub use facts::classes::{Class, ClassObject};
pub use facts::contents::{Content, ContentObject};
pub use facts::devices::Device;
pub use facts::key_secrets::{KeySecret, SecretObject};
pub use facts::nodes::{Node, NodeObject};
pub use facts::placed::{NodeWord, Placed};
pub use facts::pods::{Pod, PodObject};
pub use facts::snapshots::Snapshot;
pub use facts::start::Start;
pub use feed::watch_everything;
pub(crate) use key::{Awaited, Touched};
pub use key::{Key, Namespaced};
pub use kinds::claims::WaitingClaims;
pub use kinds::devices::Devices;
pub use kinds::key_secrets::KeySecrets;
pub use kinds::nodes::{Nodes, Pools};
pub(crate) use kinds::pods::claims_of;
pub use kinds::restores::Restores;
pub(crate) use kinds::restores::{before_content_name, before_id, is_over, of_before};
pub use kinds::snapshots::Snapshots;
pub use kinds::volumes::{MOST_ASKED, Rotations, asked_key};
pub use news::{Affects, Change, News, Tracked};
pub use on_node::{Follower, OnNode, Presence};
pub use shared::{Index, Reservation};
pub use state::State;
pub use table::Table;
pub use topics::{Topic, Wakes};
