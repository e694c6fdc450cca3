//! Reasons of a NodeVolume's `Ready` condition.

pub use super::on_node::{
    BROKEN_RECORD, CONFLICT, FAILED, INVALID, NEWER_RECORD, NO_SOURCE, OUT_OF_SPACE, POOL_UNAVAILABLE,
};

/// The device exists with the size asked for.
pub const CREATED: &str = "Created";
/// It is to be deleted or restored, but still mounted or attached.
pub const IN_USE: &str = "InUse";
