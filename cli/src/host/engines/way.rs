//! How an engine is asked.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::engine::Engine;

/// How an engine that is there is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Socket {
        engine: Engine,
        path: PathBuf,
        /// Whether somebody chose it: then its containers count, whoever may ask there.
        is_chosen: bool,
        /// Whether its command is asked where nobody listens.
        or_command: bool,
    },
    PodmanCommand,
    /// There is no socket to ask it, and it may have containers.
    None {
        engine: Engine,
        why: String,
        /// Whether it is there and down, and not anywhere.
        is_down: bool,
    },
}

impl Way {
    pub(super) const fn engine(&self) -> Engine {
        match self {
            Self::Socket { engine, .. } | Self::None { engine, .. } => *engine,
            Self::PodmanCommand => Engine::Podman,
        }
    }

    /// Whether it leads to that socket, by whatever path.
    pub(super) fn is_at(&self, socket: &Path) -> bool {
        matches!(self, Self::Socket { path, .. } if is_one(path, socket))
    }
}

/// Whether two paths are of one socket.
pub(super) fn is_one(path: &Path, other: &Path) -> bool {
    let same =
        |one: &fs::Metadata, other: &fs::Metadata| one.dev() == other.dev() && one.ino() == other.ino();
    path == other
        || fs::metadata(path).is_ok_and(|one| fs::metadata(other).is_ok_and(|other| same(&one, &other)))
}

/// Those that are given, without further paths of one socket.
pub(super) fn once_each(sockets: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for socket in sockets {
        if !found.iter().any(|known| is_one(known, &socket)) {
            found.push(socket);
        }
    }
    found
}
