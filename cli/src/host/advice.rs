//! What to do about a root that can't be used, and about errors of the system below it.

use std::{io::ErrorKind, os::unix::fs::MetadataExt, path::Path};

use rustix::io::Errno;
use tierce_engine::PoolErrorKind;

use super::{Error, layout::VOLUMES};
use crate::{
    config::SYSTEM_ROOT,
    failure::{self, Failure},
    privilege,
};

/// Refuses a root that nothing can be done with.
pub(super) fn check(root: &Path) -> Result<(), Failure> {
    if root.metadata().is_ok_and(|there| !there.is_dir()) {
        return Err(Failure::usage(format!("{} is no folder: name one with --root", root.display())));
    }
    match root.join(VOLUMES).metadata() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let words = format!("You may not look into {}: {}", root.display(), as_root(root));
            Err(Error::Refused(words).into())
        }
        _ => Ok(()),
    }
}

/// Adds it where only the system spoke.
pub(super) fn given(failure: Failure, root: &Path) -> Failure {
    let Failure::Command { error, usage } = &failure else { return failure };
    let Some(words) = error.downcast_ref::<Error>().and_then(|error| in_words(error, root)) else {
        return failure;
    };
    Failure::Command { error: Error::Refused(words).into(), usage: *usage }
}

/// Tells of an error on standard error, with what to do about it.
pub(super) fn tell(error: &Error, root: &Path) {
    match in_words(error, root) {
        Some(words) => failure::tell(&Error::Refused(words), false),
        None => failure::tell(error, false),
    }
}

/// An error of the system with what to do about it; `None`: it says that itself.
fn in_words(error: &Error, root: &Path) -> Option<String> {
    Some(format!("{}: {}", failure::in_words(error), advice(error, root)?))
}

fn advice(error: &Error, root: &Path) -> Option<String> {
    let is_denied =
        |source: &std::io::Error| source.kind() == ErrorKind::PermissionDenied && !privilege::is_root();
    let text = match error {
        Error::Engine(tierce_engine::Error::PoolUnavailable(trouble))
            if trouble.kind == PoolErrorKind::PathMissing =>
        {
            "mount its disk, make the folder, or correct the pool's table in the configuration"
        }
        Error::Leftover { source, .. } if is_denied(source) => {
            return Some(format!("for files of another user that takes {} system prune", command(root)));
        }
        Error::Io { doing, source } if doing.contains(&*root.to_string_lossy()) && is_no_folder(source) => {
            "no link is followed below the root: put the folder itself there, or keep all elsewhere with --root"
        }
        Error::Io { doing, source } if doing.contains(&*root.to_string_lossy()) => match source.kind() {
            ErrorKind::PermissionDenied if is_denied(source) => return Some(as_root(root)),
            ErrorKind::AlreadyExists => "what is there is no volume; move it away, or choose another name",
            _ => return None,
        },
        _ => return None,
    };
    Some(text.to_owned())
}

/// Whether there is a link, or a file, where a folder belongs.
fn is_no_folder(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTDIR | Errno::LOOP))
}

/// What a user does about what only root may.
fn as_root(root: &Path) -> String {
    if root == Path::new(SYSTEM_ROOT) {
        return "run it with sudo, or keep volumes in a folder of your own with --root".to_owned();
    }
    let is_own = root.metadata().is_ok_and(|folder| folder.uid() == rustix::process::geteuid().as_raw());
    if is_own {
        // What containers without root leave belongs to further ids of the user's.
        return format!(
            "for files of another user, as containers leave them, run it as {} ...",
            command(root)
        );
    }
    format!("run it as {} ..., or keep volumes in a folder of your own with --root", command(root))
}

/// The command as root, who has volumes elsewhere by default.
fn command(root: &Path) -> String {
    format!("sudo tierce --host --root {}", root.display())
}
