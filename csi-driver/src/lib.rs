//! The node plugin of Tierce.
//!
//! - `node_service`: the kubelet's calls, checked by `request`, answered with `status_codes`
//! - `registration`: how the kubelet finds us
//! - `intents`: carries out what the controller wants of this node: `node_volumes`, `node_snapshots`
//! - `pools`: which pools this node serves
//! - `sharing`: volumes that several nodes use at once, by their `handle`s; `served` is what is said of them
//! - `node_storage`: reports what the node has, woken by `changes`
//!
//! The disks are the engine's business; sockets, logs and health are the runtime's.

mod changes;
pub mod config;
mod handle;
mod intents;
mod metrics;
mod node_service;
mod node_snapshots;
mod node_storage;
mod node_volumes;
mod ops;
pub mod plugin;
mod pools;
mod registration;
mod request;
mod served;
mod sharing;
mod signed;
pub mod state_lock;
mod status_codes;
