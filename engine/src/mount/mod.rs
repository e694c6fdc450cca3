//! Mounts: the kernel's table of them, the places they are made at, and the calls that make them.

pub(crate) mod calls;
pub mod folder;
pub(crate) mod freeze;
pub(crate) mod group;
pub mod mountinfo;
pub(crate) mod place;
pub(crate) mod table;
