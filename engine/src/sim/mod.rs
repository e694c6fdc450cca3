//! A simulated host: unprivileged, its state in a plain folder.

use std::path::PathBuf;

use crate::Error;

/// How the simulated host behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimConfig {
    /// Where its state lies; survives a restart of the process.
    pub state: PathBuf,
    /// Size of the disk below every pool, in bytes.
    pub capacity_bytes: u64,
}

/// A simulated host.
pub struct SimHost(());

impl SimHost {
    /// Opens or makes a simulated host.
    ///
    /// # Errors
    /// [`Error::Io`] when its folder can't be made or read.
    pub fn open(_config: SimConfig) -> Result<Self, Error> {
        todo!()
    }
}
