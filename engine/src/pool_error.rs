//! Why a pool can't be used: a kind that a person can look up, and words that say what to do.

use std::{io, path::PathBuf};

use rustix::io::Errno;

/// Why a pool can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pool {pool}: {}: {reason}", path.display())]
pub struct PoolError {
    /// The pool.
    pub pool: String,
    /// The path that is the trouble.
    pub path: PathBuf,
    /// What kind of trouble it is.
    pub kind: PoolErrorKind,
    /// What is wrong and what mends it, in words, with the system's name of the error in parentheses.
    pub reason: String,
    /// The system's error number, where there is one.
    pub errno: Option<i32>,
}

impl PoolError {
    /// The system refused something.
    pub(crate) fn of_system(pool: &str, path: impl Into<PathBuf>, what: &str, error: &io::Error) -> Self {
        let errno = error.raw_os_error();
        Self {
            pool: pool.to_owned(),
            path: path.into(),
            kind: PoolErrorKind::of_errno(errno),
            reason: format!("{what}: {error}"),
            errno,
        }
    }
}

/// The kinds of trouble with a pool. Each message names the object and the command that mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolErrorKind {
    /// It was not looked at yet.
    NotOpened,
    /// The pool's own settings can't be met by any disk: a name that LVM does not take, a path that is not
    /// absolute.
    InvalidSettings,
    /// Another pool of the node is there already.
    UsedByOtherPool,
    /// The disk below does not answer.
    NotAnswering,
    /// The path is missing, or leads over something that is no directory.
    PathMissing,
    /// The path can't be written.
    PathNotWritable,
    /// The filesystem below has no space left.
    FilesystemFull,
    /// What is there is not what was there before: a disk is missing, or not mounted.
    OtherDisk,
    /// A later Tierce made the pool, in a form that this one does not know.
    NewerPool,
    /// The directory is no pool yet and has something in it, so it was not touched.
    ForeignContent,
    /// There is no volume group of that name.
    NoSuchVolumeGroup,
    /// Devices of the volume group, or devices it is to be made from, are missing.
    MissingDevices,
    /// Two devices carry the same LVM id.
    DuplicateDevices,
    /// A device that the volume group is to be made from carries something, so it was not touched.
    ForeignSignature,
    /// A device that the volume group is to be made from is in use or can't be read.
    DeviceUnusable,
    /// There is no thin pool of that name.
    NoSuchThinPool,
    /// The logical volume of that name is no thin pool.
    NotAThinPool,
    /// The thin pool does not zero what it hands out.
    ThinPoolNotZeroing,
    /// LVM and the thin pool disagree about what was made last.
    TransactionMismatch,
    /// The thin pool's metadata must be checked before it may be written.
    NeedsCheck,
    /// The thin pool has no room for its metadata.
    MetadataFull,
    /// The metadata of the thin pool, or of the volume group, is so full that nothing more is made in the
    /// pool. Its volumes go on.
    MetadataNearlyFull,
    /// The thin pool's metadata can't be written.
    MetadataReadOnly,
    /// The thin pool has no chunk left: writes to new places fail. Volumes can still be read.
    OutOfData,
    /// The thin pool can't be activated, or the kernel gave up on it.
    ThinPoolFailed,
    /// Anything else; the words say what.
    Failed,
}

impl PoolErrorKind {
    /// The kind of an error of the system, as it is where a directory is opened or written.
    pub(crate) fn of_errno(errno: Option<i32>) -> Self {
        match errno.map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::PathMissing,
            Some(Errno::PERM | Errno::ACCESS | Errno::ROFS) => Self::PathNotWritable,
            Some(Errno::NOSPC | Errno::DQUOT) => Self::FilesystemFull,
            Some(Errno::STALE) => Self::OtherDisk,
            _ => Self::Failed,
        }
    }

    /// With these words.
    pub(crate) fn because(self, reason: impl Into<String>) -> Trouble {
        Trouble { kind: self, reason: reason.into() }
    }
}

/// What is wrong, without the pool that it is wrong with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: PoolErrorKind,
    pub(crate) reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_number_has_its_kind() {
        for (errno, expected) in [
            (Some(Errno::NOENT), PoolErrorKind::PathMissing),
            (Some(Errno::NOTDIR), PoolErrorKind::PathMissing),
            (Some(Errno::ACCESS), PoolErrorKind::PathNotWritable),
            (Some(Errno::ROFS), PoolErrorKind::PathNotWritable),
            (Some(Errno::NOSPC), PoolErrorKind::FilesystemFull),
            (Some(Errno::STALE), PoolErrorKind::OtherDisk),
            (Some(Errno::IO), PoolErrorKind::Failed),
            (None, PoolErrorKind::Failed),
        ] {
            let errno = errno.map(Errno::raw_os_error);
            assert_eq!(PoolErrorKind::of_errno(errno), expected, "{errno:?}");
        }
    }
}
