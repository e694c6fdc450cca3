//! A simulated host: unprivileged, its state in a plain folder. Pools, records, placement and every check are
//! the real ones; devices, filesystems and mounts are entries of a file, and images take no space.

mod crypt;
mod devices;
mod host;
mod pool;
mod state;

use std::{path::PathBuf, sync::Arc};

use crypt::SimCrypt;
use state::State;

use crate::{Error, VolumeId, error::Context};

/// How the simulated host behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimConfig {
    /// Where its state lies; survives a restart of the process.
    pub state: PathBuf,
    /// Size of the one disk below all pools, in bytes.
    pub capacity_bytes: u64,
}

/// A simulated host.
///
/// A pool's disk does not answer as long as there is a file `<pool>-hangs` in its folder; with
/// `<pool>-copies-slowly` no copy in it comes to its end, and with `<pool>-syncs-slowly` nothing is written
/// by a look at it. A filesystem does not thaw, and its repair goes on, as long as there is a file
/// `<volume>-hangs`; with `<volume>-mounts-slowly` it is mounted when that is gone.
///
/// What it does not simulate: files (a published directory is empty, and its own; [`Self::write`] stands for
/// them), programs that fail, filesystems that refuse to grow.
pub struct SimHost {
    capacity_bytes: u64,
    state: Arc<State>,
    crypt: SimCrypt,
}

impl SimHost {
    /// Opens or makes a simulated host.
    ///
    /// # Errors
    /// [`Error::Io`] when its folder can't be made or read.
    #[allow(clippy::needless_pass_by_value)] // As every other constructor here.
    pub fn open(config: SimConfig) -> Result<Self, Error> {
        let doing = || format!("open the simulated host in {}", config.state.display());
        std::fs::create_dir_all(&config.state).doing(doing)?;
        let state = State::open(config.state.join("host.json")).doing(doing)?;
        let state = Arc::new(state);
        let crypt = SimCrypt { state: Arc::clone(&state) };
        Ok(Self { capacity_bytes: config.capacity_bytes, state, crypt })
    }

    /// Stands for a user who writes to a volume's filesystem and calls fsync.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has none; [`Error::Io`] when the state can't be written.
    pub fn write(&self, id: &VolumeId, text: &str) -> Result<(), Error> {
        let written = self.state.change_by_others("write", |tables| {
            tables.filesystems.get_mut(id).map(|found| text.clone_into(&mut found.text))
        })?;
        written.ok_or_else(|| Error::NotFound { id: id.clone() })
    }

    /// What was written last to a volume's filesystem, or to the one it was copied from; `None`: it has none.
    pub fn read(&self, id: &VolumeId) -> Option<String> {
        self.state.look(|tables| tables.filesystems.get(id).map(|found| found.text.clone()))
    }

    /// Loses what a kernel loses when the machine is switched off: mounts and attached devices.
    ///
    /// # Errors
    /// [`Error::Io`] when the state can't be written.
    pub fn reboot(&self) -> Result<(), Error> {
        self.state.change_by_others("reboot", |tables| {
            tables.mounts.clear();
            tables.attached.clear();
            tables.mappers.clear();
        })
    }
}
