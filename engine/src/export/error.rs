//! Why a volume can't be exported.

use std::io;

/// Why exports could not be set.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Somebody else serves NFS on this node; that server was left alone.
    #[error(
        "this node already serves NFS ({what}), so shared volumes can't be exported from it: stop that server, or give Tierce another node"
    )]
    Busy {
        /// How that shows.
        what: String,
    },
    /// The kernel has no NFS server.
    #[error("the kernel of this node can't serve NFS: {reason}")]
    Unsupported {
        /// What is missing.
        reason: String,
    },
    /// The kernel did not take our records of clients; the server was stopped again, since locks would not outlive its next start.
    #[error("the kernel's NFS server did not ask for the records of its clients; it was stopped again")]
    Untracked,
    /// Clients could not be taken off a volume; the same call goes on with that.
    #[error("{clients} clients still hold files of volume {volume} open")]
    Held {
        /// The volume's id.
        volume: String,
        /// How many.
        clients: usize,
    },
    /// The kernel or a disk refused something.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Adds what was tried to an error of the system.
pub(super) trait Trying<T> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, ExportError>;
}

impl<T, E: Into<io::Error>> Trying<T> for Result<T, E> {
    fn trying(self, what: impl FnOnce() -> String) -> Result<T, ExportError> {
        self.map_err(|source| ExportError::Io { doing: what(), source: source.into() })
    }
}
