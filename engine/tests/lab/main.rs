//! What takes a kernel with a device mapper, LVM and disks that a test may do anything to: the disk lab. Skipped by name elsewhere.
//!
//! The harness runs each of these files in guests of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../behaviour/mod.rs"]
mod behaviour;
#[path = "../converted/mod.rs"]
mod converted;
#[path = "../faults/cycles.rs"]
mod cycles;
#[path = "../device_mapper/mod.rs"]
mod device_mapper;
#[path = "../encrypted/mod.rs"]
mod encrypted;
#[path = "../faults/leftovers.rs"]
mod leftovers;
#[path = "../faults/life.rs"]
mod life;
#[path = "../model/state.rs"]
mod state;
#[path = "../world/mod.rs"]
mod world;

mod bad_disks;
mod fsx;
mod luks;
mod luks_faults;
mod lvm_conversions;
mod lvm_faults;
mod lvm_group_metadata;
mod lvm_incidents;
mod lvm_luks;
mod lvm_never_made;
mod lvm_pools;
mod lvm_second_process;
mod lvm_sizes;
mod lvm_thick;
mod lvm_thick_deleted;
mod lvm_thin;
mod lvm_trouble;
mod nfs_world;
mod replay;
mod sharing;
mod sharing_restarts;
mod slow_disks;
mod thin_full;
mod thin_recovery;
