//! Reasons that a node gives for everything it keeps, volumes and snapshots alike.

/// The pool has no room for it.
pub const OUT_OF_SPACE: &str = "OutOfSpace";
/// The pool is not there or does not work on this node.
pub const POOL_UNAVAILABLE: &str = "PoolUnavailable";
/// Something of this id exists with other parameters.
pub const CONFLICT: &str = "Conflict";
/// Its record on the disk is damaged, and is left alone.
pub const BROKEN_RECORD: &str = "BrokenRecord";
/// A later version of the node plugin wrote its record, which asks for what this version can't do. The record is left alone.
pub const NEWER_RECORD: &str = "NewerRecord";
/// What it is made from is not on this node, or can't be used.
pub const NO_SOURCE: &str = "NoSource";
/// The pool can't meet the request (for example a size below the filesystem's minimum).
pub const INVALID: &str = "Invalid";
/// The node failed in another way, which the message describes.
pub const FAILED: &str = "Failed";
