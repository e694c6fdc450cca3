//! What to do about a root that can't be used, and about errors of the system below it.

use std::{io::ErrorKind, path::Path};

use tierce_engine::PoolErrorKind;

use super::{Error, layout::VOLUMES};
use crate::{
    failure::{self, Failure},
    privilege,
};

/// Refuses a root that nothing can be done with.
pub(super) fn check(root: &Path) -> Result<(), Failure> {
    if root.metadata().is_ok_and(|there| !there.is_dir()) {
        return Err(Failure::usage(format!("{} is no folder: name one with --root", root.display())));
    }
    match root.join(VOLUMES).metadata() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Error::Refused(format!(
            "You may not look into {}: run it with sudo, or keep volumes in a folder of your own with --root",
            root.display()
        ))
        .into()),
        _ => Ok(()),
    }
}

/// Adds it where only the system spoke.
pub(super) fn given(failure: Failure, root: &Path) -> Failure {
    let Failure::Command { error, usage } = &failure else { return failure };
    let Some(advice) = error.downcast_ref::<Error>().and_then(|error| advice(error, root)) else {
        return failure;
    };
    let words = format!("{}: {advice}", failure::in_words(error.as_ref()));
    Failure::Command { error: Error::Refused(words).into(), usage: *usage }
}

fn advice(error: &Error, root: &Path) -> Option<&'static str> {
    match error {
        Error::Engine(tierce_engine::Error::PoolUnavailable(trouble))
            if trouble.kind == PoolErrorKind::PathMissing =>
        {
            Some("mount its disk, make the folder, or correct the pool's table in the configuration")
        }
        Error::Io { doing, source } if doing.contains(&*root.to_string_lossy()) => match source.kind() {
            ErrorKind::PermissionDenied if !privilege::is_root() => {
                Some("run it with sudo, or keep volumes in a folder of your own with --root")
            }
            ErrorKind::AlreadyExists => {
                Some("what is there is no volume; move it away, or choose another name")
            }
            _ => None,
        },
        _ => None,
    }
}
