//! The plugin's unix socket: systemd's, or one of our own.

use std::{fs, io, os::unix::net::UnixStream, path::Path};

use listenfd::ListenFd;
use tokio::net::UnixListener;

use super::super::{Error, error::Context};

/// Takes the socket that systemd handed over, or makes one. A file that a killed predecessor left is replaced; a living one is not.
pub(super) fn listen(path: &Path) -> Result<UnixListener, Error> {
    let doing = || format!("listen on {}", path.display());
    if let Some(handed_over) =
        ListenFd::from_env().take_unix_listener(0).doing(|| "take systemd's socket".to_owned())?
    {
        handed_over.set_nonblocking(true).doing(doing)?;
        return UnixListener::from_std(handed_over).doing(doing);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| refused(error, path))?;
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            return Err(Error::Refused(format!(
                "Another process serves {} already: stop it, or choose another --socket",
                path.display()
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).doing(doing)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error, path)),
    }
    let listener = UnixListener::bind(path).map_err(|error| refused(error, path))?;
    // Whoever may speak to it may read every volume.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(path, mode).doing(doing)?;
    Ok(listener)
}

fn refused(error: io::Error, path: &Path) -> Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Error::Refused(format!(
            "You may not listen on {}: run it with sudo, or choose a place of your own with --socket",
            path.display()
        ));
    }
    Error::Io { doing: format!("listen on {}", path.display()), source: error }
}
