//! What the caller says of the server and of its exports.

use std::{net::IpAddr, path::PathBuf};

use uuid::Uuid;

use crate::VolumeId;

/// How this node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Folder on the node's own disk for the records of clients, by which they keep their locks over a restart of the server or a reboot. It
    /// is made; its parent must exist.
    pub state_dir: PathBuf,
    /// Folder that outlives this process (a pod's own is no such folder), for the word that the server of this boot is ours.
    pub run_dir: PathBuf,
    /// Folder below which the exported volumes are mounted, each at its id. It becomes the root of what clients see: a tmpfs is mounted there.
    pub exports_dir: PathBuf,
    /// The node's addresses, on which is served.
    pub addresses: Vec<IpAddr>,
    /// TCP port, usually 2049.
    pub port: u16,
    /// Threads of the kernel's server.
    pub threads: u32,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// A volume that other nodes may mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The volume: mounted at its id below [`ServerSettings::exports_dir`], and mounted by clients as `/<id>`.
    pub id: VolumeId,
    /// What file handles carry. It stays the same for the volume's life, and differs from that of every other volume: a clone has its
    /// source's filesystem id.
    pub fsid: Uuid,
    /// The group that a client's root gets, while its user becomes nobody.
    pub gid: u32,
    /// Addresses that may mount it.
    pub clients: Vec<(IpAddr, Access)>,
    /// Whether these are all. Where they are not, nobody who could mount it before is taken off, and whoever else asks waits.
    pub complete: bool,
    /// Whether it is mounted below [`ServerSettings::exports_dir`] now. Otherwise its clients wait, and lose nothing.
    pub open: bool,
}

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// On which addresses.
    pub addresses: Vec<IpAddr>,
    /// On which TCP port.
    pub port: u16,
    /// Open exports that somebody may mount, by id.
    pub exports: Vec<VolumeId>,
}
