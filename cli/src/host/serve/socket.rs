//! The plugin's unix socket: systemd's, or one of our own.

use std::{
    fs, io,
    path::{Path, absolute},
};

use listenfd::ListenFd;
use tierce_socket::{Socket, SocketError, SocketFile};
use tokio::net::UnixListener;

use super::super::{Error, error::Context};
use crate::args::PLUGIN_SOCKET;

/// Takes the socket that systemd handed over, or makes one, whose file goes with what is returned second.
pub(super) async fn listen(path: &Path) -> Result<(UnixListener, Option<SocketFile>), Error> {
    let doing = || format!("listen on {}", path.display());
    if let Some(handed_over) =
        ListenFd::from_env().take_unix_listener(0).doing(|| "take systemd's socket".to_owned())?
    {
        handed_over.set_nonblocking(true).doing(doing)?;
        return Ok((UnixListener::from_std(handed_over).doing(doing)?, None));
    }
    let path = absolute(path).doing(doing)?;
    if let Some(folder) = path.parent() {
        check_folder(folder, &path)?;
    }
    let (listener, file) = Socket::bind(&path).await.map_err(|error| refused(error, &path))?.into_parts();
    Ok((listener, Some(file)))
}

/// Where Docker looks for plugins a folder is made; elsewhere a path that leads nowhere is a slip.
fn check_folder(folder: &Path, path: &Path) -> Result<(), Error> {
    if Path::new(PLUGIN_SOCKET).parent() == Some(folder) {
        return fs::create_dir_all(folder).map_err(|error| not_allowed(error, path));
    }
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(not_allowed(error, path)),
        _ => Err(Error::Refused(format!(
            "Can't listen on {}: {} is no folder; make it first, or choose another --socket",
            path.display(),
            folder.display()
        ))),
    }
}

fn refused(error: SocketError, path: &Path) -> Error {
    match error {
        SocketError::InUse(_) => Error::Refused(format!(
            "Another process serves {} already: stop it, or choose another --socket",
            path.display()
        )),
        SocketError::NotASocket(_) => Error::Refused(format!(
            "{} is there and is no socket, so it was left alone: choose another --socket",
            path.display()
        )),
        SocketError::TooLong(_) => Error::InvalidArgument(error.to_string()),
        SocketError::Io { source, .. } => not_allowed(source, path),
        SocketError::NotAbsolute(_) => Error::Refused(error.to_string()),
    }
}

fn not_allowed(error: io::Error, path: &Path) -> Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Error::Refused(format!(
            "You may not listen on {}: run it with sudo, or choose a place of your own with --socket",
            path.display()
        ));
    }
    Error::Io { doing: format!("listen on {}", path.display()), source: error }
}
