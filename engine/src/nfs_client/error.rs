//! Why a volume of another node can't be used.

use std::{io, path::PathBuf, time::Duration};

use crate::Error;

/// Why a volume of another node can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NfsError {
    /// The server did not answer in time. The same call goes on.
    #[error("{doing}: no answer within {} s", limit.as_secs())]
    TimedOut {
        /// What was tried.
        doing: String,
        /// For how long.
        limit: Duration,
    },
    /// Files are open there.
    #[error("files are open below {}", path.display())]
    Busy {
        /// The place.
        path: PathBuf,
    },
    /// What is at the place is something else, or nothing where it should be mounted.
    #[error("{} does not carry {expected}: {found}", path.display())]
    Foreign {
        /// The place.
        path: PathBuf,
        /// What should be mounted.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The kernel refused something.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path is not one, or what is at it can't be changed.
    #[error(transparent)]
    Place(#[from] Error),
}

/// Adds what was tried to an error of the system.
pub(super) trait Trying<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, NfsError>;
}

impl<T, E: Into<io::Error>> Trying<T> for Result<T, E> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, NfsError> {
        self.map_err(|source| NfsError::Io { doing: what(), source: source.into() })
    }
}
