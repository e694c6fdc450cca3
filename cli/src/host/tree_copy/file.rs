//! Copying one regular file.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, Stat},
    io::Errno,
};

use super::super::fail;

/// Bytes copied by one call: small enough that an interrupt is answered soon.
const CHUNK: u64 = 8 << 20;

/// Copies a file under a hidden name, which nothing has, and puts it in place when it is whole.
///
/// `finish` gives it all but its content, the time last: that tells that it is whole.
pub(super) fn copy(
    (source, stat): (&OwnedFd, &Stat),
    to: &OwnedFd,
    (hidden, new): (&CStr, &CStr),
    finish: &dyn Fn(&OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = fs::openat(to, hidden, flags, Mode::RUSR | Mode::WUSR)?;
    fail::point("copy: file begun");
    let copied = content(source, &target, u64::try_from(stat.st_size).unwrap_or(0))
        .and_then(|()| finish(&target))
        .and_then(|()| {
            fail::point("copy: file whole");
            Ok(fs::renameat(to, hidden, to, new)?)
        });
    if copied.is_err() {
        // Nothing half-made stays, above all not on a full disk.
        let _ = fs::unlinkat(to, hidden, AtFlags::empty());
    }
    copied
}

fn content(source: &OwnedFd, target: &OwnedFd, length: u64) -> io::Result<()> {
    if length > 0 && fs::ioctl_ficlone(target, source).is_ok() {
        return Ok(());
    }
    fs::ftruncate(target, length)?;
    let mut at = 0;
    while at < length {
        let start = match fs::seek(source, fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = fs::seek(source, fs::SeekFrom::Hole(start))?.min(length);
        range(source, target, start, end)?;
        at = end.max(start + 1);
    }
    Ok(())
}

fn range(source: &OwnedFd, target: &OwnedFd, mut start: u64, end: u64) -> io::Result<()> {
    while start < end {
        let (mut from, mut to) = (start, start);
        let want = usize::try_from((end - start).min(CHUNK)).unwrap_or(usize::MAX);
        match fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            // Cut off meanwhile.
            Ok(0) => return Ok(()),
            Ok(done) => start += u64::try_from(done).unwrap_or(0),
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return by_hand(source, target, start, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn by_hand(source: &OwnedFd, target: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut source, mut target) = (File::from(source.try_clone()?), File::from(target.try_clone()?));
    source.seek(SeekFrom::Start(start))?;
    target.seek(SeekFrom::Start(start))?;
    io::copy(&mut source.take(end - start), &mut target)?;
    target.flush()
}
