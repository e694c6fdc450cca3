//! Every file of a volume, in an order that is always the same; and whether they are still as they were.

use std::{ffi::CString, io, os::fd::OwnedFd};

use rustix::{
    fs::{self, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::refusal::bad;

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
        let file = open(folder, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let opened = fs::fstat(&file)?;
        if (opened.st_dev, opened.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            return Err(changed(self.path));
        }
        Ok(file)
    }
}

/// Tells each, a folder before what is in it.
pub(super) fn walk(folder: &OwnedFd, tell: &mut dyn FnMut(&Found<'_>) -> io::Result<()>) -> io::Result<()> {
    tell(&Found { path: b"", stat: fs::fstat(folder)?, handle: folder, within: None })?;
    below(folder, b"", tell)
}

fn below(
    folder: &OwnedFd,
    path: &[u8],
    tell: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    for name in &names {
        let path =
            if path.is_empty() { name.to_bytes().to_vec() } else { [path, b"/", name.to_bytes()].concat() };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match fs::openat(folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(changed(&path)),
            other => other?,
        };
        let stat = fs::fstat(&handle)?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            tell(&Found { path: &path, stat, handle: &handle, within: Some((folder, name)) })?;
            continue;
        }
        let inner = match open(folder, name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::XDEV) => {
                return Err(bad(&format!(
                    "something else is mounted at '{}', and covers what the volume has there: unmount it first",
                    String::from_utf8_lossy(&path)
                )));
            }
            Err(Errno::NOENT) => return Err(changed(&path)),
            other => other?,
        };
        let stat = fs::fstat(&inner)?;
        tell(&Found { path: &path, stat, handle: &inner, within: Some((folder, name)) })?;
        below(&inner, &path, tell)?;
    }
    Ok(())
}

fn open(folder: &OwnedFd, name: &CString, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    fs::openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

pub(super) fn changed(path: &[u8]) -> io::Error {
    let path = if path.is_empty() { b"." } else { path };
    bad(&format!(
        "'{}' changed meanwhile, so that this would be of no one moment: stop what writes to the volume, or give the volume a size",
        String::from_utf8_lossy(path)
    ))
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
