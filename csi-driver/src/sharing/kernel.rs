//! What sharing needs of the kernel, and a stand-in without one.

use std::net::IpAddr;
use std::path::Path;

use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_engine::nfs_client::{Fill, NfsError};
use tierce_engine::{Error, Export, ExportError, VolumeId};
use tierce_runtime::errors::in_words;

/// Where another node serves a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Addresses of one node; the first that answers is taken.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
    pub(crate) volume: VolumeId,
    pub(crate) read_only: bool,
}

/// Why this node does not serve, as its status says it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ServeError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl From<&ExportError> for ServeError {
    fn from(error: &ExportError) -> Self {
        let reason = match error {
            ExportError::Busy { .. } => reason::NFS_SERVER_BUSY,
            ExportError::Unsupported { .. } => reason::NFS_UNSUPPORTED,
            ExportError::Untracked | ExportError::Held { .. } | ExportError::Io { .. } => {
                reason::SERVE_FAILED
            }
        };
        Self { reason, message: in_words(error) }
    }
}

impl ServeError {
    /// As the status of a volume says it.
    pub(crate) fn verdict(&self) -> Verdict {
        Verdict::no(self.reason, self.message.clone())
    }
}

/// All of it may wait for a disk or for another node, within a limit of its own.
pub(crate) trait Kernel: Send + Sync + 'static {
    /// Serves exactly that; whoever is not in it any more is cut off when it returns. With nothing in it the server ends.
    fn serve(&self, table: &[Export]) -> Result<(), ServeError>;
    /// Takes the folder of exports away, if nothing is served or mounted there.
    fn tidy(&self) -> Result<(), ServeError>;
    /// Mounts what another node serves.
    fn mount(&self, remote: &Remote, place: &Path) -> Result<(), NfsError>;
    /// Whether what is mounted at a path is that volume, of another node. Waits for nobody.
    fn is_remote(&self, volume: &VolumeId, path: &Path) -> Result<bool, NfsError>;
    /// Shows it at a pod's target.
    fn bind(&self, volume: &VolumeId, place: &Path, target: &Path, read_only: bool) -> Result<(), NfsError>;
    /// Has what this node wrote to it, and holds in memory, written out by the other node.
    fn flush(&self, volume: &VolumeId, path: &Path) -> Result<(), NfsError>;
    /// Takes it from a place or target, and removes that. `give_up`: even if the other node does not answer, unless it is seen elsewhere too.
    fn unmount(&self, volume: &VolumeId, at: &Path, give_up: bool) -> Result<(), NfsError>;
    /// Its fill level.
    fn fill(&self, volume: &VolumeId, path: &Path) -> Result<Fill, NfsError>;
}

/// Serves nothing and says that it did; other nodes' volumes can't be mounted. For simulated disks.
pub(crate) struct PretendedKernel;

impl Kernel for PretendedKernel {
    fn serve(&self, _: &[Export]) -> Result<(), ServeError> {
        Ok(())
    }

    fn tidy(&self) -> Result<(), ServeError> {
        Ok(())
    }

    fn mount(&self, remote: &Remote, _: &Path) -> Result<(), NfsError> {
        Err(nothing(&remote.volume))
    }

    fn is_remote(&self, _: &VolumeId, _: &Path) -> Result<bool, NfsError> {
        Ok(false)
    }

    fn bind(&self, volume: &VolumeId, _: &Path, _: &Path, _: bool) -> Result<(), NfsError> {
        Err(nothing(volume))
    }

    fn flush(&self, volume: &VolumeId, _: &Path) -> Result<(), NfsError> {
        Err(nothing(volume))
    }

    fn unmount(&self, volume: &VolumeId, _: &Path, _: bool) -> Result<(), NfsError> {
        Err(nothing(volume))
    }

    fn fill(&self, volume: &VolumeId, _: &Path) -> Result<Fill, NfsError> {
        Err(nothing(volume))
    }
}

fn nothing(volume: &VolumeId) -> NfsError {
    NfsError::Place(Error::Unsupported(format!(
        "volume {volume} is on another node, and what is simulated can't be had over the network"
    )))
}
