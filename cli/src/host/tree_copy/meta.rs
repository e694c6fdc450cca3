//! Owner, mode, extended attributes and times of a copy.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

/// Gives an open copy what its open source has. The time comes last: it tells that the copy is whole.
pub(super) fn keep(source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let (owner, group) = owner(stat);
    may(fs::fchown(target, owner, group))?;
    attributes(source, target)?;
    // After the owner, whose change takes set-user-id away.
    fs::fchmod(target, mode(stat))?;
    Ok(fs::futimens(target, &times(stat))?)
}

/// The same for a symbolic link, which has no mode of its own.
pub(super) fn keep_link(folder: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (owner, group) = owner(stat);
    may(fs::chownat(folder, name, owner, group, AtFlags::SYMLINK_NOFOLLOW))?;
    Ok(fs::utimensat(folder, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The same for pipes, sockets and devices, which are better not opened.
pub(super) fn keep_node(folder: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    keep_link(folder, name, stat)?;
    fs::chmodat(folder, name, mode(stat), AtFlags::empty())?;
    Ok(fs::utimensat(folder, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// An ordinary user's copies are that user's, as with `cp -a`.
fn may(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        other => Ok(other?),
    }
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn attributes(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    for name in names(source)? {
        let value = value(source, &name)?;
        match fs::fsetxattr(target, &*name, &value, XattrFlags::empty()) {
            Ok(()) => {}
            // The system's own labels are the target system's to set, and not every filesystem has every kind.
            Err(Errno::PERM | Errno::OPNOTSUPP) if !name.to_bytes().starts_with(b"user.") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Names of the extended attributes of an open file.
pub(in super::super) fn names(file: impl AsFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut buffer = vec![0; 64 << 10];
    let length = match fs::flistxattr(&file, &mut buffer) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let parts = buffer[..length].split_inclusive(|&byte| byte == 0);
    Ok(parts.filter_map(|part| CStr::from_bytes_with_nul(part).ok().map(CStr::to_owned)).collect())
}

/// One extended attribute of an open file.
pub(in super::super) fn value(file: impl AsFd, name: &CStr) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let length = fs::fgetxattr(&file, name, &mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}
