//! Mounts: the kernel's table of them, the places they are made at, the calls that make them, and the options
//! users may set.

pub(crate) mod calls;
pub mod folder;
pub(crate) mod freeze;
pub mod mountinfo;
pub mod options;
pub(crate) mod place;
pub(crate) mod table;
