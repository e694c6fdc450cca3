//! Reasons of a StoragePool's `Ready` and `Degraded` conditions.

/// At least one selected node offers the pool.
pub const AVAILABLE: &str = "Available";
/// No node is selected, or none has reported yet.
pub const NO_NODE: &str = "NoNode";
/// No selected node offers the pool; the message says why.
pub const UNAVAILABLE: &str = "Unavailable";
/// Of `Degraded`: at least one selected node can't offer the pool, or needs somebody; the message names them.
pub const NOT_EVERYWHERE: &str = "NotEverywhere";
