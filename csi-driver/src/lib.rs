//! The node plugin of Tierce.
//!
//! - [`node_service`]: the kubelet's calls, checked by [`request`], answered with [`status_codes`]
//! - [`registration`]: how the kubelet finds us
//! - [`intents`]: carries out what the controller wants of this node: [`node_volumes`], [`node_snapshots`]
//! - [`pools`]: which pools this node serves
//! - [`node_storage`]: reports what the node has, woken by [`changes`]
//!
//! The disks are the engine's business; sockets, logs and health are the runtime's.

pub mod changes;
pub mod config;
pub mod intents;
pub mod metrics;
pub mod node_service;
pub mod node_snapshots;
pub mod node_storage;
pub mod node_volumes;
pub mod plugin;
pub mod pools;
pub mod registration;
pub mod request;
mod signed;
pub mod state_lock;
pub mod status_codes;
