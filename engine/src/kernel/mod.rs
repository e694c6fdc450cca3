//! The kernel calls for which no safe wrapper exists: loop devices, device-mapper, discarding and zeroing,
//! growing and freezing mounted filesystems, one mount attribute, and what child processes do besides running
//! a program. Nothing is decided here.
#![allow(unsafe_code)]

mod block_device;
mod child;
pub(crate) mod device_mapper;
mod loop_device;
mod mounted;
mod process;

pub(crate) use block_device::{block_device_bytes, block_discard, block_zero};
pub(crate) use child::{Call, fill_in, in_child};
pub(crate) use loop_device::{
    LOOP_AUTOCLEAR, LOOP_DIRECT_IO, LoopStatus, loop_clear, loop_configure, loop_get_free, loop_set_capacity,
    loop_status,
};
pub(crate) use mounted::{
    btrfs_grow, btrfs_id, freeze, mount_set_readonly, thaw, thaw_unless_told, xfs_bytes, xfs_grow,
};
pub(crate) use process::die_with_parent;
