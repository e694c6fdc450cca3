//! Folders shown at another place: how the plain volumes of a host reach who uses them.

use std::path::Path;

use rustix::io::Errno;

use crate::{
    Error,
    error::Context,
    mount::{
        calls,
        place::{Found, Place},
    },
};

/// Shows a folder (or what is mounted at it) at an empty folder.
///
/// # Errors
/// [`Error::ForeignTarget`] when `to` is no empty folder; [`Error::InvalidArgument`], [`Error::Io`].
pub fn show(from: &Path, to: &Path, readonly: bool) -> Result<(), Error> {
    let (from, to) = (open(from)?, open(to)?);
    match to.found()? {
        Found::Directory if to.is_empty_directory()? => calls::bind(&from, &to, readonly, |_| Ok(())),
        Found::Nothing => Err(foreign(&to, "there is no folder")),
        _ => Err(foreign(&to, "not an empty folder")),
    }
}

/// Takes the uppermost mount at a path away; `false`: it is busy.
///
/// # Errors
/// [`Error::InvalidArgument`], [`Error::Io`].
pub fn hide(at: &Path) -> Result<bool, Error> {
    let place = open(at)?;
    match calls::unmount(&place) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(false),
        Err(error) => Err(error).doing(|| format!("unmount {}", place.path().display())),
    }
}

fn open(path: &Path) -> Result<Place, Error> {
    Place::open(path)?
        .ok_or_else(|| Error::InvalidArgument(format!("the folder above {} does not exist", path.display())))
}

fn foreign(place: &Place, found: &str) -> Error {
    Error::ForeignTarget { path: place.path().to_owned(), found: found.to_owned() }
}
