//! One file for each kind of object: whom its changes concern, and what is looked up of it.

pub(super) mod claims;
pub(super) mod classes;
pub(super) mod contents;
pub(super) mod devices;
pub(super) mod key_secrets;
pub(super) mod nodes;
pub(super) mod pods;
pub(super) mod quotas;
pub(super) mod restores;
pub(super) mod shared_volumes;
pub(super) mod snapshots;
pub(super) mod volumes;
mod wishes;
