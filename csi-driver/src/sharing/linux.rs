//! The kernel that we run on.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tierce_engine::nfs_client::{self, Fill, NfsError};
use tierce_engine::{Error, Export, ExportServer, ServerSettings, VolumeId};

use super::kernel::{Kernel, Remote, ServeError};

/// Limits, all well below what the kubelet gives a call: two minutes.
const MOUNT_LIMIT: Duration = Duration::from_secs(20);
const BIND_LIMIT: Duration = Duration::from_secs(10);
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);
const FILL_LIMIT: Duration = Duration::from_secs(5);

/// The kernel that we run on. Its server is started with the first volume that is served.
pub(crate) struct LinuxKernel {
    settings: ServerSettings,
    /// What this node calls itself to others' servers.
    identity: String,
    server: Mutex<Option<ExportServer>>,
}

impl LinuxKernel {
    pub(crate) fn new(settings: ServerSettings, identity: String) -> Self {
        Self { settings, identity, server: Mutex::default() }
    }

    fn with_server<T>(
        &self,
        work: impl FnOnce(&ExportServer) -> Result<T, tierce_engine::ExportError>,
    ) -> Result<T, ServeError> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_none() {
            *server = Some(ExportServer::start(self.settings.clone()).map_err(|error| ServeError::from(&error))?);
        }
        let Some(server) = server.as_ref() else { unreachable!("it is there now") };
        work(server).map_err(|error| ServeError::from(&error))
    }
}

impl Kernel for LinuxKernel {
    fn serve(&self, table: &[Export]) -> Result<(), ServeError> {
        match self.with_server(|server| server.set(table.to_vec())) {
            // Where nobody of us ever served there is nothing to end.
            Err(error) if table.is_empty() && error.reason != tierce_crds::conditions::node_volume::SERVE_FAILED => Ok(()),
            other => other,
        }
    }

    fn tidy(&self) -> Result<(), ServeError> {
        self.with_server(ExportServer::tidy).map(drop)
    }

    fn mount(&self, remote: &Remote, place: &Path) -> Result<(), NfsError> {
        let mut last = None;
        for &server in &remote.addresses {
            let one = nfs_client::Remote {
                server,
                port: remote.port,
                export: export(&remote.volume),
                read_only: remote.read_only,
                identity: self.identity.clone(),
            };
            match nfs_client::mount(&one, place, MOUNT_LIMIT) {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| NfsError::Place(Error::InvalidArgument("the server has no address".to_owned()))))
    }

    fn is_remote(&self, volume: &VolumeId, path: &Path) -> Result<bool, NfsError> {
        nfs_client::is_ours(path, &export(volume))
    }

    fn bind(&self, volume: &VolumeId, place: &Path, target: &Path, read_only: bool) -> Result<(), NfsError> {
        nfs_client::bind(&export(volume), place, target, read_only, BIND_LIMIT).map(drop)
    }

    fn unmount(&self, volume: &VolumeId, at: &Path, give_up: bool) -> Result<(), NfsError> {
        nfs_client::unmount(&export(volume), at, give_up, UNMOUNT_LIMIT).map(drop)
    }

    fn fill(&self, volume: &VolumeId, path: &Path) -> Result<Fill, NfsError> {
        nfs_client::fill(&export(volume), path, FILL_LIMIT)
    }
}

/// What a server calls a volume.
fn export(volume: &VolumeId) -> String {
    format!("/{volume}")
}

/// How this node serves: records on its own disk, the word of this boot in a folder that a boot empties.
pub(crate) fn settings(
    state_dir: &Path,
    run_dir: PathBuf,
    exports_dir: &Path,
    addresses: Vec<std::net::IpAddr>,
    port: u16,
) -> ServerSettings {
    ServerSettings {
        state_dir: state_dir.join("nfs"),
        run_dir: run_dir.join("nfsd"),
        exports_dir: exports_dir.to_owned(),
        addresses,
        port,
        threads: THREADS,
    }
}

/// Threads of the kernel's server: as many requests are worked on at a time.
const THREADS: u32 = 16;
