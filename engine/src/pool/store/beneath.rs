//! Files and folders beneath a descriptor: no symbolic link and no other filesystem leads away from it.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{self, Dir, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::lasting::lasting;

/// Opens one name below a folder: no symbolic links, no other filesystem.
pub(crate) fn open_beneath(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    fs::openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Reads a whole file; `None` if there is none.
pub(super) fn read_file(folder: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    /// No record is larger; a file that is, is not one.
    const LIMIT: u64 = 1 << 20;
    let fd = match open_beneath(folder, name, OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    File::from(fd).take(LIMIT).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Replaces a file so that a crash leaves the old or the new one, whole. `durable`: when this returns it is
/// on the disk.
pub(super) fn write_file(folder: &OwnedFd, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
    let temporary = temporary(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    lasting("write a file aside", || {
        let fd = fs::openat(folder, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        if durable { file.sync_all() } else { Ok(()) }
    })?;
    lasting("replace a file", || fs::renameat(folder, temporary.as_str(), folder, name))?;
    if durable { Ok(fs::fsync(folder)?) } else { Ok(()) }
}

/// The name of a file while it is written.
pub(super) fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// The names in a folder.
pub(super) fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}
