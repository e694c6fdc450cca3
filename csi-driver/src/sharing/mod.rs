//! Volumes that pods of several nodes use at once.
//!
//! The node that has the volume binds it into its own pods, and serves it to those nodes that the controller lists in
//! `NodeVolume.spec.export`: `exporter` mounts it for the kernel's NFS server, and what it says goes by `crate::served` into the object's status. The
//! other nodes wait for that (`holder`) and mount it. `kernel` is what both need of the kernel, `linux` has it.
//!
//! The kubelet's own staging folder stays empty: it looks for other mounts of the device there, and would hold up one namespace's claim because
//! of another's. `places` says where the mounts are instead.

mod addresses;
mod entries;
mod exporter;
mod holder;
mod kernel;
mod linux;
mod places;
mod wanted;

pub(crate) use exporter::Exporter;
pub(crate) use holder::{HolderError, Holders, Where};
pub(crate) use kernel::{Kernel, PretendedKernel};
pub(crate) use linux::{LinuxKernel, settings};
pub(crate) use places::Places;

use std::net::IpAddr;
use std::sync::Arc;

/// How this node shares.
#[derive(Clone)]
pub(crate) struct Sharing {
    pub(crate) places: Places,
    pub(crate) kernel: Arc<dyn Kernel>,
    /// This node's addresses, on which it serves.
    pub(crate) addresses: Vec<IpAddr>,
    /// The TCP port there. `None`: nothing is shared, and what was shared before ends.
    pub(crate) port: Option<u16>,
}
