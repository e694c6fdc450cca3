//! The parts of the benchmark, and where each of them is measured.

use clap::ValueEnum;

use crate::sanity::stand::Storage;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// CreateVolume and DeleteVolume at the controller's socket.
    Calls,
    /// The node plugin is killed.
    Restart,
    /// fio on a volume and on a plain file.
    Io,
    /// Resident memory of both programs.
    Memory,
    /// The disk engine's operations beside the bare commands: LVM, encryption, snapshots.
    Disks,
    /// Claims on a cluster: one at a time, 100 and 200 at once.
    Claims,
    /// Pods with a new Volume and with emptyDir.
    Pods,
    /// API writes for each Volume.
    Writes,
    /// Claims and pods over a thin pool, on a node with a kernel of its own.
    Guest,
}

/// Where a part is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Stand(Storage),
    Engine,
    Cluster,
    Guest,
}

impl Stage {
    pub(super) fn place(self) -> Place {
        match self {
            Self::Calls | Self::Restart | Self::Io => Place::Stand(Storage::Directory),
            Self::Memory => Place::Stand(Storage::Simulator),
            Self::Disks => Place::Engine,
            Self::Claims | Self::Pods | Self::Writes => Place::Cluster,
            Self::Guest => Place::Guest,
        }
    }

    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
