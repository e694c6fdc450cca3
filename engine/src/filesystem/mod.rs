//! Filesystems: recognised, made, grown, told apart from their copies.

pub(crate) mod btrfs_id;
pub(crate) mod features;
pub(crate) mod grow;
pub(crate) mod make;
pub(crate) mod maker;
pub(crate) mod probe;
