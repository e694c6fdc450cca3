//! What `volume cp` makes under a hidden name until it is whole, and what is left of that when it is killed.
//!
//! The name is of no other copy, and a note says where it is just now, which its maker holds a lock on: of a maker that is dead exactly that
//! name goes, and no file of a user's, whatever that is called.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
};

use rustix::{
    fs::{self, AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{
    Error,
    error::Context,
    fail,
    layout::{self, LOCKS},
    locks,
    metadata::handle,
    volumes::Volumes,
};

/// What the hidden name begins with. Short, as names may have their greatest length.
const HIDDEN: &str = ".tierce-copy-";

/// What a note's name begins with, beside the locks, before what is of that copy alone.
const NOTE: &str = ".copy-";

/// Whether a file of that name beside the locks is no lock, but such a note.
pub(super) fn is_note(name: &str) -> bool {
    name.starts_with(NOTE)
}

/// A hidden name of its own.
pub(super) fn hidden_name() -> CString {
    hidden(&Uuid::new_v4().simple().to_string())
}

fn hidden(uuid: &str) -> CString {
    CString::new(format!("{HIDDEN}{uuid}")).expect("hexadecimal digits have no NUL")
}

/// The note of a copy under way.
pub(super) struct Note {
    folder: OwnedFd,
    /// The part of the hidden name that is of this copy alone.
    uuid: String,
    /// The full name of the volume that is copied to; empty: a local path is.
    volume: String,
    /// The open file is the lock.
    file: OwnedFd,
}

impl Note {
    pub(super) fn hidden_name(&self) -> CString {
        hidden(&self.uuid)
    }

    /// Notes the folder in which the next things are made.
    pub(super) fn works_in(&self, folder: &OwnedFd) -> io::Result<()> {
        // One that is deeper than a path can be has none: what is left there stays.
        let path =
            fs::readlinkat(CWD, handle(folder), Vec::new()).map_or_else(|_| Vec::new(), CString::into_bytes);
        let said = [self.volume.as_bytes(), b"\0", &path].concat();
        // Read only when this process is dead, and of this boot alone: what is written is there.
        let written = rustix::io::pwrite(&self.file, &said, 0)?;
        Ok(fs::ftruncate(&self.file, u64::try_from(written).unwrap_or(u64::MAX))?)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // While it is still held.
        let _ = fs::unlinkat(&self.folder, format!("{NOTE}{}", self.uuid), AtFlags::empty());
    }
}

impl Volumes {
    /// Notes that this process begins to copy into a volume; `None`: to a local path.
    pub(super) fn note_copy(&self, volume: Option<&str>) -> Result<Note, Error> {
        let (folder, uuid) = (self.root.make_folder(LOCKS)?, Uuid::new_v4().simple().to_string());
        let name = format!("{NOTE}{uuid}");
        let doing = || format!("note the copy in {}", self.root.path().join(LOCKS).join(&name).display());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR).doing(doing)?;
            fs::flock(&file, FlockOperation::LockExclusive).doing(doing)?;
            // Whoever saw it before it was locked took it for a dead one's.
            if locks::is_at(&folder, &name, &file).doing(doing)? {
                fail::point("copy: noted");
                return Ok(Note { folder, uuid, volume: volume.unwrap_or_default().to_owned(), file });
            }
        }
    }

    /// Removes what killed copies left. That of a volume whose filesystem is not mounted just now waits until it is.
    pub(super) fn remove_unfinished_copies(&self) -> Result<(), Error> {
        let Some(folder) = self.root.folder(LOCKS)? else { return Ok(()) };
        let doing = || format!("list {}", self.root.path().join(LOCKS).display());
        for name in layout::entries(&folder).doing(doing)? {
            let Some(uuid) = name.strip_prefix(NOTE) else { continue };
            let Ok(file) = layout::open_beneath(&folder, &name, OFlags::RDWR) else { continue };
            if fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let said = layout::read_file(&folder, &name).doing(doing)?.unwrap_or_default();
            let removed = self.remove_unfinished(uuid, &said).doing(|| {
                format!("remove what a killed tierce volume cp left, {}", hidden(uuid).to_string_lossy())
            });
            match removed {
                Ok(true) => match fs::unlinkat(&folder, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error).doing(doing),
                },
                Ok(false) => {}
                Err(error) => crate::failure::warn(&error),
            }
        }
        Ok(())
    }

    /// `false`: that must wait.
    fn remove_unfinished(&self, uuid: &str, said: &[u8]) -> io::Result<bool> {
        let Some(at) = said.iter().position(|byte| *byte == 0) else { return Ok(true) };
        let (volume, path) = (String::from_utf8_lossy(&said[..at]), &said[at + 1..]);
        if !volume.is_empty() {
            match self.find(&volume).map_err(io::Error::other)? {
                None => return Ok(true),
                Some(volume) => {
                    if let Some((_, devices)) = self.device_of(&volume)
                        && !devices.is_mounted(&volume.name, &volume.path)
                    {
                        return Ok(false);
                    }
                }
            }
        }
        let path = PathBuf::from(OsStr::from_bytes(path));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let folder = match fs::openat2(CWD, &path, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(true),
            other => other?,
        };
        match fs::unlinkat(&folder, &*hidden(uuid), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
