//! One file for each kind of object: what is remembered of it.

pub(super) mod claims;
pub(super) mod classes;
pub(super) mod contents;
pub(super) mod devices;
pub(super) mod key_secrets;
pub(super) mod nodes;
pub(super) mod placed;
pub(super) mod pods;
pub(super) mod snapshots;
pub(super) mod start;
pub(super) mod trimmed;
