//! Every file of a volume, in an order that is always the same; and whether they are still as they were.

use std::{ffi::CString, io, os::fd::OwnedFd};

use rustix::{
    fs::{self, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    super::tree_descent::{Descent, each_name, open, open_folder, shown},
    refusal::bad,
};

/// One file or folder.
pub(super) struct Found<'a> {
    /// Below the volume's folder; empty: that folder itself.
    pub(super) path: &'a [u8],
    pub(super) stat: Stat,
    /// A mere path for all but folders.
    pub(super) handle: &'a OwnedFd,
    /// The folder that it lies in and its name there, but for the volume's own.
    pub(super) within: Option<(&'a OwnedFd, &'a CString)>,
}

impl Found<'_> {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens a file's content.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let (folder, name) = self.within.ok_or(Errno::ISDIR)?;
        let file = open(folder, name, OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(|error| unread(self.path, &error.into()))?;
        let opened = fs::fstat(&file)?;
        if (opened.st_dev, opened.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            return Err(changed(self.path));
        }
        Ok(file)
    }
}

/// A folder that is being walked.
struct Inside {
    /// Names that were not told yet, the next one last.
    waiting: Vec<CString>,
    /// The length of its path.
    length: usize,
}

/// Tells each, a folder before what is in it.
pub(super) fn walk(top: &OwnedFd, tell: &mut dyn FnMut(&Found<'_>) -> io::Result<()>) -> io::Result<()> {
    tell(&Found { path: b"", stat: fs::fstat(top)?, handle: top, within: None })?;
    let mut path = Vec::new();
    let mut descent = Descent::new(top, Inside { waiting: names(top)?, length: 0 })?;
    loop {
        let (folder, inside) = descent.here();
        path.truncate(inside.length);
        let Some(name) = inside.waiting.pop() else {
            match descent.leave() {
                Ok(Some(_)) => continue,
                Ok(None) => return Ok(()),
                Err(Errno::STALE) => return Err(changed(&path)),
                Err(error) => return Err(error.into()),
            }
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name.to_bytes());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match fs::openat(folder, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(changed(&path)),
            other => other.map_err(|error| unread(&path, &error.into()))?,
        };
        let within = Some((folder, &name));
        let stat = fs::fstat(&handle)?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            tell(&Found { path: &path, stat, handle: &handle, within })?;
            continue;
        }
        let inner = match open_folder(folder, &name) {
            Err(Errno::XDEV) => {
                return Err(bad(&format!(
                    "something else is mounted at '{}', and covers what the volume has there: unmount it first",
                    shown(&path)
                )));
            }
            Err(Errno::NOENT) => return Err(changed(&path)),
            other => other.map_err(|error| unread(&path, &error.into()))?,
        };
        tell(&Found { path: &path, stat: fs::fstat(&inner)?, handle: &inner, within })?;
        let waiting = names(&inner).map_err(|error| unread(&path, &error.into()))?;
        let inside = Inside { waiting, length: path.len() };
        descent.enter(inner, inside)?;
    }
}

/// The names in a folder, in reverse order.
fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    each_name(folder, |name| {
        names.push(name.to_owned());
        rustix::io::Result::Ok(())
    })?;
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

pub(super) fn changed(path: &[u8]) -> io::Error {
    let path = if path.is_empty() { b"." } else { path };
    bad(&format!(
        "'{}' changed meanwhile, so that this would be of no one moment: stop what writes to the volume, or give the volume a size",
        shown(path)
    ))
}

/// Says which file could not be read.
pub(super) fn unread(path: &[u8], error: &io::Error) -> io::Error {
    let path = if path.is_empty() { b"." } else { path };
    io::Error::new(error.kind(), format!("'{}': {error}", shown(path)))
}

/// What tells that a file is still the same: who it is, its size, and when it and its metadata were changed.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

/// How each file was.
#[derive(Debug, Default)]
pub(super) struct Traces(Vec<Trace>);

impl Traces {
    pub(super) fn note(&mut self, stat: &Stat) {
        self.0.push(trace(stat));
    }

    /// Looks at each once more.
    pub(super) fn are_still_so(&self, folder: &OwnedFd) -> io::Result<()> {
        let mut before = self.0.iter();
        walk(folder, &mut |found| match before.next() {
            Some(before) if *before == trace(&found.stat) => Ok(()),
            _ => Err(changed(found.path)),
        })?;
        if before.next().is_some() { Err(changed(b"")) } else { Ok(()) }
    }
}

fn trace(stat: &Stat) -> Trace {
    Trace {
        inode: stat.st_ino,
        size: stat.st_size,
        modified: (stat.st_mtime, stat.st_mtime_nsec),
        changed: (stat.st_ctime, stat.st_ctime_nsec),
    }
}
