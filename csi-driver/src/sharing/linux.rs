//! The kernel that we run on.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tierce_engine::nfs_client::{self, Fill, NfsError};
use tierce_engine::{Error, Export, ExportError, ExportServer, ServerSettings, VolumeId};

use super::kernel::{Kernel, Remote, ServeError};

/// Limits, all well below what the kubelet gives a call: two minutes.
const MOUNT_LIMIT: Duration = Duration::from_secs(20);
const BIND_LIMIT: Duration = Duration::from_secs(10);
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);
/// The kubelet asks again where that is not enough.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
const FILL_LIMIT: Duration = Duration::from_secs(5);
/// Threads of the kernel's server: as many requests are worked on at a time.
const THREADS: u32 = 16;

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
        work: impl FnOnce(&ExportServer) -> Result<T, ExportError>,
    ) -> Result<T, ServeError> {
        let mut kept = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = match kept.take() {
            Some(server) => server,
            None => ExportServer::start(self.settings.clone()).map_err(|error| ServeError::from(&error))?,
        };
        work(kept.insert(server)).map_err(|error| ServeError::from(&error))
    }

    /// Whether nothing was served since this node booted: then the kernel's server need not even be loaded to see that.
    fn is_untouched(&self) -> bool {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let is_empty =
            |folder: &Path| std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        server.is_none() && is_empty(&self.settings.run_dir) && !self.settings.exports_dir.exists()
    }
}

impl Kernel for LinuxKernel {
    fn serve(&self, table: &[Export]) -> Result<(), ServeError> {
        if table.is_empty() && self.is_untouched() {
            return Ok(());
        }
        self.with_server(|server| server.set(table.to_vec()))
    }

    fn tidy(&self) -> Result<(), ServeError> {
        if !self.is_untouched() && self.with_server(ExportServer::tidy)? {
            // Left where something else lies in it.
            let _ = std::fs::remove_dir(&self.settings.exports_dir);
        }
        Ok(())
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
        Err(last.unwrap_or_else(|| {
            NfsError::Place(Error::InvalidArgument("the server has no address".to_owned()))
        }))
    }

    fn is_remote(&self, volume: &VolumeId, path: &Path) -> Result<bool, NfsError> {
        nfs_client::is_ours(path, &export(volume))
    }

    fn bind(&self, volume: &VolumeId, place: &Path, target: &Path, read_only: bool) -> Result<(), NfsError> {
        nfs_client::bind(&export(volume), place, target, read_only, BIND_LIMIT).map(drop)
    }

    fn flush(&self, volume: &VolumeId, path: &Path) -> Result<(), NfsError> {
        nfs_client::flush(&export(volume), path, FLUSH_LIMIT)
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
    run_dir: &Path,
    exports_dir: &Path,
    addresses: Vec<IpAddr>,
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
