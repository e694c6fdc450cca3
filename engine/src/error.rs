//! What can go wrong, in words for the caller and variants for its status codes.

use std::{io, path::PathBuf};

use tierce_filesystem::{Filesystem, UnknownFilesystem, mount_options::NotAllowed};

use crate::{
    PoolError,
    id::{InvalidId, VolumeId},
};

/// Why the engine did not do what it was asked. Callers map it exhaustively to their own codes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text can't be a volume id.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// Another argument is out of bounds; the text says which and what to do.
    #[error("{0}")]
    InvalidArgument(String),
    /// No pool holds a volume of this id.
    #[error("volume {id} does not exist on this node")]
    NotFound {
        /// The volume asked for.
        id: VolumeId,
    },
    /// The volume exists with other parameters, or is mounted in another way.
    #[error("volume {id} exists with another {field}: {existing}, asked for {requested}")]
    Conflict {
        /// The volume.
        id: VolumeId,
        /// Which parameter differs.
        field: &'static str,
        /// What the volume has.
        existing: String,
        /// What was asked for.
        requested: String,
    },
    /// The pool can't promise that much.
    #[error(
        "pool {pool} has no room for {requested} bytes; the largest volume that would fit has {largest} bytes"
    )]
    OutOfSpace {
        /// The pool.
        pool: String,
        /// Bytes asked for.
        requested: u64,
        /// The largest volume (for a growth: the largest size of this volume) that would be accepted now, in
        /// bytes.
        largest: u64,
    },
    /// Something still uses the volume.
    #[error("volume {id} is in use by {by}")]
    InUse {
        /// The volume.
        id: VolumeId,
        /// What uses it: a mount point or a device.
        by: String,
    },
    /// A deletion "only if unused" met a volume that was staged before.
    #[error("volume {id} was in use before and may hold data; it was not deleted")]
    MayHoldData {
        /// The volume.
        id: VolumeId,
    },
    /// The staging path does not carry this volume's own device.
    #[error("volume {id} is not staged at {}: {found}", path.display())]
    NotStaged {
        /// The volume.
        id: VolumeId,
        /// The staging path.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// Something that is not this volume is at the target; it was left untouched.
    #[error(
        "{} is not ours to use: {found}; whoever put it there must take it away (a mount: `umount`), then the same call goes on",
        path.display()
    )]
    ForeignTarget {
        /// The path asked for.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The volume's record can't be trusted, or its image is gone; both are left alone.
    #[error("the record of volume {id} can't be trusted, so the volume is left alone: {reason}")]
    BrokenRecord {
        /// The volume.
        id: VolumeId,
        /// What is wrong with it.
        reason: String,
    },
    /// A later Tierce wrote the volume's record; nothing is wrong with the volume.
    #[error("volume {id} is left alone: {reason}")]
    NewerRecord {
        /// The volume.
        id: VolumeId,
        /// Where the record lies, what it says that this program does not know, and what to do.
        reason: String,
    },
    /// The device does not look as the record says; making a filesystem could destroy data, so nothing was
    /// written.
    #[error("volume {id} was not formatted: {reason}")]
    FormatRefused {
        /// The volume.
        id: VolumeId,
        /// What the record says and what the device shows.
        reason: String,
    },
    /// The volume is encrypted and no key was given.
    #[error("volume {id} is encrypted and no key was given for it: give the key that it was made with")]
    KeyMissing {
        /// The volume.
        id: VolumeId,
    },
    /// None of the given keys opens the volume; its header is intact.
    #[error(
        "wrong key: none of the given keys opens volume {id}, whose LUKS2 header is intact: give the key with the fingerprint {expected}"
    )]
    WrongKey {
        /// The volume.
        id: VolumeId,
        /// Fingerprint of the key in force.
        expected: String,
    },
    /// The kernel refuses to grow the mounted filesystem; the next stage will grow it before mounting.
    #[error(
        "the kernel refuses to grow the mounted {filesystem} of volume {id} ({reason}); it grows when the volume is mounted next"
    )]
    GrowOffline {
        /// The volume.
        id: VolumeId,
        /// Its filesystem.
        filesystem: Filesystem,
        /// The kernel's answer.
        reason: String,
    },
    /// The source that a volume or snapshot is to be made from does not exist.
    #[error("{id} can't be made from {from}: that exists on this node neither as a snapshot nor as a volume")]
    SourceNotFound {
        /// The volume or snapshot to be made.
        id: VolumeId,
        /// The source that does not exist.
        from: VolumeId,
    },
    /// The source of a volume, or the snapshot that it is to go back to, is of another kind.
    #[error("volume {id} can't get the content of {from}: its {field} is {existing}, not {requested}")]
    SourceMismatch {
        /// The volume.
        id: VolumeId,
        /// The snapshot or volume with the content.
        from: VolumeId,
        /// Which property differs.
        field: &'static str,
        /// What the source has.
        existing: String,
        /// What the volume needs.
        requested: String,
    },
    /// The content does not fit.
    #[error(
        "volume {id} of {requested} bytes can't get the content of {from}, which has {existing} bytes: ask for at least that"
    )]
    SourceTooLarge {
        /// The volume.
        id: VolumeId,
        /// The snapshot or volume with the content.
        from: VolumeId,
        /// Bytes of the content.
        existing: u64,
        /// Bytes of the volume.
        requested: u64,
    },
    /// The snapshot ran out of its own room, so its content is lost. It can only be deleted.
    #[error("snapshot {id} is no longer valid ({reason}): delete it and take another one")]
    SnapshotInvalid {
        /// The snapshot.
        id: VolumeId,
        /// Why the content is lost.
        reason: String,
    },
    /// A volume in use can't be held still for as long as its copy takes.
    #[error("volume {id} is in use at {by} and can't be copied meanwhile: {reason}")]
    CopyNeedsPause {
        /// The volume to be copied.
        id: VolumeId,
        /// Where it is mounted or staged.
        by: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A volume can't shrink.
    #[error(
        "volume {id} has {existing} bytes and can't shrink to {requested}: make a smaller volume and copy the data"
    )]
    Shrink {
        /// The volume.
        id: VolumeId,
        /// Bytes it has.
        existing: u64,
        /// Bytes asked for.
        requested: u64,
    },
    /// The pool can't be used now.
    #[error(transparent)]
    PoolUnavailable(#[from] PoolError),
    /// No pool of that name is set.
    #[error("pool {pool:?} is not configured on this node")]
    UnknownPool {
        /// The name asked for.
        pool: String,
    },
    /// This host or volume can't do that.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A program failed.
    #[error("a program that works on the disk failed")]
    Command(#[from] CommandError),
    /// The kernel refused something.
    #[error("{doing}")]
    Io {
        /// What was tried, with the object.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl From<UnknownFilesystem> for Error {
    fn from(unknown: UnknownFilesystem) -> Self {
        Self::InvalidArgument(unknown.to_string())
    }
}

impl From<NotAllowed> for Error {
    fn from(option: NotAllowed) -> Self {
        Self::InvalidArgument(option.to_string())
    }
}

/// Why a program failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not installed.
    #[error("{program} is not installed (looked in {looked_in})")]
    Missing {
        /// The program.
        program: &'static str,
        /// The folders that were searched.
        looked_in: String,
    },
    /// The program could not be started.
    #[error("{line}: could not be started")]
    Spawn {
        /// The command line.
        line: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The program ran longer than its limit and was killed.
    #[error("{line}: killed after {seconds} s")]
    Timeout {
        /// The command line.
        line: String,
        /// The limit, in seconds.
        seconds: u64,
    },
    /// The program ended with a code that does not mean success.
    #[error("{line}: {status}; stderr: {stderr:?}; stdout: {stdout:?}")]
    Failed {
        /// The command line.
        line: String,
        /// Exit code or signal, in words.
        status: String,
        /// The exit code, if the program ended by itself.
        code: Option<i32>,
        /// The end of its standard error.
        stderr: String,
        /// The end of its standard output.
        stdout: String,
    },
}

/// Adds what was tried to an error of the system.
pub(crate) trait Context<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing: what(), source: source.into() })
    }
}
