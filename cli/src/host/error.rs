//! What can go wrong on a host, in words that say what to do.

use std::{error::Error as _, io, os::fd::OwnedFd, path::PathBuf};

use rustix::fs;
use tierce_client::{Differs, InUse, known};

use super::names::{Name, NameError};
use crate::{failure::Failure, labels::LabelError, sizes};

/// Why a command on this host did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text can't be a name.
    #[error(transparent)]
    InvalidName(#[from] NameError),
    /// The text can't be a size.
    #[error("Size '{0}' is not valid: write {form}", form = sizes::FORM)]
    InvalidSize(String),
    /// Another argument makes no sense; the text says which and what to do.
    #[error("{0}")]
    InvalidArgument(String),
    /// A label or a filter makes no sense.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The volume is not of the kind for that; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// No volume has that name.
    #[error("{}: there are {known}", Self::not_found_words(name))]
    NotFound {
        /// The full name.
        name: String,
        /// The volumes that there are.
        known: String,
    },
    /// The volume has no such snapshot.
    #[error("Volume '{name}' has no snapshot '{snapshot}': there are {known}")]
    SnapshotNotFound {
        /// The full name.
        name: String,
        /// The snapshot.
        snapshot: String,
        /// The snapshots that it has.
        known: String,
    },
    /// The name is taken.
    #[error("{what} exists already: choose another name or remove it first")]
    Exists {
        /// What it is.
        what: String,
    },
    /// An import was killed before the volume was whole.
    #[error(
        "Volume '{name}' holds a part of an archive only, its import was interrupted: import it again, or remove it"
    )]
    HalfMade {
        /// The full name.
        name: String,
    },
    /// What an import filled is not there any more.
    #[error("Volume '{name}' was removed while it was imported: import it again")]
    Replaced {
        /// The full name.
        name: String,
    },
    /// The disk is full in the middle; nothing half-made was left.
    #[error("can't {doing}: the disk is full, {missing} are missing")]
    DiskFull {
        /// What was tried.
        doing: String,
        /// Bytes that were still to come.
        missing: String,
    },
    /// Each file takes an inode, and there are no more of them; nothing half-made was left.
    #[error(
        "can't {doing}: all {inodes} inodes of the filesystem are used, though the disk is not full: a larger ext4 has more, xfs and btrfs make them as they need them"
    )]
    NoInodes {
        /// What was tried.
        doing: String,
        /// How many there are.
        inodes: u64,
    },
    /// A part of what was to be copied could not be, and `--strict` wants all of it.
    #[error("--strict: not kept would be {what}")]
    LeftOut {
        /// What it is.
        what: String,
    },
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
    #[error(transparent)]
    Differs(#[from] Differs),
    /// Something uses the volume.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// Whether a container refers to the volume is not known.
    #[error("Volume '{name}' may be in use. {advice}")]
    Unknown {
        /// The full name.
        name: String,
        /// What to do.
        advice: &'static str,
        /// Who could not be asked.
        source: super::engines::Silent,
    },
    /// Nothing is pruned, as an engine could not be asked.
    #[error("Which volumes nothing uses is not known, so none is removed")]
    NotPruned(#[source] super::engines::Silent),
    /// What was asked for is done, and a part of the data that goes with it is still there.
    #[error("{done}; tierce --host system prune takes the rest once it can: below {}", folder.display())]
    Leftover {
        /// What is done, and what is not.
        done: String,
        /// The folder that the data lies in, under a hidden name.
        folder: PathBuf,
        /// What could not be removed.
        source: io::Error,
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
    /// A later version wrote the volume's record; nothing is wrong with it.
    #[error("The record of volume '{name}', {}, was written by a newer tierce ({reason}): update tierce on this host; the volume is left alone", path.display())]
    NewerRecord {
        /// The full name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What it says that this program does not know.
        reason: String,
    },
    /// A file that the command line names can't be read.
    #[error("can't read {what} {}", path.display())]
    NoSuchFile {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A new volume's key is not there.
    #[error("can't read the key file {}: make a key with {make}", path.display())]
    NoKeyFile {
        /// The file.
        path: PathBuf,
        /// How to make one.
        make: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// An encrypted volume's key can't be read.
    #[error("Volume '{name}' is encrypted, and its key file {} can't be read: bring it back there", path.display())]
    KeyGone {
        /// The full name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// An encrypted volume's passphrase is needed, and nobody can be asked for it.
    #[error(
        "Volume '{name}' is locked, and there is nobody to ask for its passphrase: run tierce --host volume mount {name} at a terminal, or with --passphrase-file"
    )]
    Locked {
        /// The full name.
        name: String,
    },
    /// No pool has that name.
    #[error(
        "Pool '{pool}' is not known; known are {known}: tables [pools.NAME] in the configuration (/etc/tierce/config.toml) add more"
    )]
    UnknownPool {
        /// The name asked for.
        pool: String,
        /// Those that are known.
        known: String,
    },
    /// A volume's device lies where nobody can look.
    #[error(
        "Volume '{name}' lies in pool '{pool}', which is not open: that takes root, and its table [pools.{pool}] in the configuration (/etc/tierce/config.toml)"
    )]
    PoolNotOpen {
        /// The full name.
        name: String,
        /// The pool.
        pool: String,
    },
    /// A volume's device lies in a pool, and there is none at its place.
    #[error(
        "Volume '{name}' lies in pool '{pool}', and {} holds no pool: is its disk mounted?", place.display()
    )]
    PoolMissing {
        /// The full name.
        name: String,
        /// The pool.
        pool: String,
        /// Where it should be.
        place: PathBuf,
    },
    /// What only root can do.
    #[error("{what} needs root: run it with sudo, or {instead}")]
    NeedsRoot {
        /// What was asked for.
        what: &'static str,
        /// What an ordinary user can do.
        instead: &'static str,
    },
    /// The disk has no room for that.
    #[error(
        "Volume '{name}' has no room: {asked} asked for, at most {largest} would fit; remove something (tierce --host system df) or ask for less"
    )]
    NoRoom {
        /// The full name.
        name: String,
        /// The size.
        asked: String,
        /// The largest size that would be accepted.
        largest: String,
    },
    /// A Compose file can't be carried out.
    #[error(transparent)]
    Compose(#[from] super::compose::ComposeError),
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

impl Error {
    /// How it is said that there is no volume of that name.
    pub(super) fn not_found_words(name: &str) -> String {
        format!("Volume '{name}' not found")
    }

    /// Whether the arguments are wrong whatever the state of the host.
    fn is_usage(&self) -> bool {
        matches!(self, Self::Compose(_) | Self::Label(_) | Self::NoKeyFile { .. } | Self::NoSuchFile { .. })
            || matches!(self, Self::InvalidName(_) | Self::InvalidSize(_) | Self::InvalidArgument(_))
                && self.source().is_none()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Command { usage: error.is_usage(), error: error.into() }
    }
}

/// The error of a snapshot that is none of those that the volume has.
pub(super) fn no_snapshot(volume: &Name, snapshot: &str, all: Vec<String>) -> Error {
    Error::SnapshotNotFound { name: volume.full(), snapshot: snapshot.to_owned(), known: known(all) }
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

/// A full disk is told with how much is missing. `within`: what was written to, as it was left.
pub(super) fn full_disk(error: io::Error, missing: u64, doing: String, within: &OwnedFd) -> Error {
    if !is_full_disk(&error) {
        return Error::Io { doing, source: error };
    }
    match fs::fstatvfs(within) {
        // A filesystem that makes inodes as it needs them counts none, or has some as long as it has room.
        Ok(there) if there.f_files > 0 && there.f_ffree == 0 && there.f_bavail > 0 => {
            Error::NoInodes { doing, inodes: there.f_files }
        }
        _ => Error::DiskFull { doing, missing: sizes::used(missing) },
    }
}

/// Whether the disk, or a quota on it, is exhausted. The kind, as libraries wrap the error number.
pub(super) fn is_full_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};

    matches!(error.kind(), StorageFull | QuotaExceeded)
}
