//! Reasons of a NodeVolume's `Ready` condition, and of `Served`.

pub use super::on_node::{
    BROKEN_RECORD, CONFLICT, FAILED, INVALID, NEWER_RECORD, NO_SOURCE, OUT_OF_SPACE, POOL_UNAVAILABLE,
};

/// The device exists with the size asked for.
pub const CREATED: &str = "Created";
/// It is to be deleted or restored, but still mounted or attached.
pub const IN_USE: &str = "InUse";

/// `Served`: every node that is to use it can.
pub const SERVING: &str = "Serving";
/// `Served`: something else serves NFS on the node that has it, or has the port.
pub const NFS_SERVER_BUSY: &str = "NfsServerBusy";
/// `Served`: the kernel of the node that has it has no NFS server, or the chart has sharing switched off.
pub const NFS_UNSUPPORTED: &str = "NfsUnsupported";
/// `Served`: the node tried, and tries again; the message says what went wrong.
pub const SERVE_FAILED: &str = "ServeFailed";
