//! What can go wrong on a host, in words that say what to do.

use std::{io, path::PathBuf};

use super::names::NameError;
use crate::sizes;

/// Why a command on this host did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text can't be a name.
    #[error(transparent)]
    InvalidName(NameError),
    /// The text can't be a size.
    #[error("Size '{0}' is not valid: write {form}", form = sizes::FORM)]
    InvalidSize(String),
    /// Another argument makes no sense; the text says which and what to do.
    #[error("{0}")]
    InvalidArgument(String),
    /// No volume has that name.
    #[error("Volume '{0}' not found")]
    NotFound(String),
    /// Two folders have one full name.
    #[error("Volume '{name}' is there twice, as {} and {}: rename one of these folders", first.display(), second.display())]
    Ambiguous {
        /// The full name.
        name: String,
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The name is taken by a volume with other parameters.
    #[error("Volume '{name}' exists with other {what}: {existing}, asked for {requested}")]
    Differs {
        /// The full name.
        name: String,
        /// Which parameter differs.
        what: &'static str,
        /// What it is.
        existing: String,
        /// What was asked for.
        requested: String,
    },
    /// Something uses the volume.
    #[error("Volume '{name}' is in use by: {by}. {advice}")]
    InUse {
        /// The full name.
        name: String,
        /// Who, separated by commas.
        by: String,
        /// What the caller can do.
        advice: &'static str,
    },
    /// The volume's record can't be trusted.
    #[error("The record of volume '{name}', {}, can't be trusted ({reason}): its data is left alone; move the record away to start anew without labels", path.display())]
    BrokenRecord {
        /// The full name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What only root can do.
    #[error("{what} needs root (plain volumes without a size do not): run it with sudo")]
    NeedsRoot {
        /// What was asked for.
        what: String,
    },
    /// The engine refused something.
    #[error(transparent)]
    Engine(#[from] tierce_engine::Error),
    /// The system refused something.
    #[error("can't {doing}")]
    Io {
        /// What was tried, with the object.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// Adds what was tried to an error of the system.
pub(super) trait Context<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source: source.into() })
    }
}
