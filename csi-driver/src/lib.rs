//! The node plugin of Tierce.
//!
//! - `node_service`: the kubelet's calls, checked by `request`, answered with `status_codes`
//! - `registration`: how the kubelet finds us
//! - `intents`: carries out what the controller wants of this node: `node_volumes`, `node_snapshots`
//! - `pools`: which pools this node serves
//! - `node_storage`: reports what the node has, woken by `changes`
//!
//! The disks are the engine's business; sockets, logs and health are the runtime's.

mod changes;
pub mod config;
mod intents;
mod metrics;
mod node_service;
mod node_snapshots;
mod node_storage;
mod node_volumes;
pub mod plugin;
mod pools;
mod registration;
mod request;
mod signed;
pub mod state_lock;
mod status_codes;
