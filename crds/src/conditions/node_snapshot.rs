//! Reasons of a NodeSnapshot's `Ready` condition.

pub use super::on_node::{
    BROKEN_RECORD, CONFLICT, FAILED, INVALID, NEWER_RECORD, NO_SOURCE, OUT_OF_SPACE, POOL_UNAVAILABLE,
};

/// The snapshot exists and can be restored.
pub const TAKEN: &str = "Taken";
/// It is to be deleted, but a volume is being made from it or restored to it.
pub const IN_USE: &str = "InUse";
/// It ran out of its own space, or was taken and is gone: it can't be restored any more.
pub const LOST: &str = "Lost";
