//! Copying one regular file.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::OwnedFd, unix::fs::FileExt},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::super::{fail, metadata::handle, tree_descent::open};

/// Bytes copied by one call: small enough that an interrupt is answered soon.
const CHUNK: u64 = 8 << 20;

/// Bytes that are compared at once.
const COMPARED: u64 = 1 << 20;

/// Whether an earlier copy is whole. Its size and time alone don't say so: what changed may have both as before, and what was not yet on the
/// disk at a power cut has both too.
pub(super) fn is_copied((source, stat): (&OwnedFd, &Stat), to: &OwnedFd, new: &CStr) -> bool {
    // Whatever can't be read is copied, which tells what is wrong with the source.
    there(stat, to, new).and_then(|copy| is_same(source, &copy, length(stat))).unwrap_or(false)
}

/// What is there, if it is a file of that size and time.
fn there(stat: &Stat, to: &OwnedFd, new: &CStr) -> io::Result<File> {
    let found = open(to, new, OFlags::PATH)?;
    let there = fs::fstat(&found)?;
    if !FileType::from_raw_mode(there.st_mode).is_file()
        || (there.st_size, there.st_mtime, there.st_mtime_nsec)
            != (stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
    {
        return Err(Errno::NOENT.into());
    }
    Ok(fs::open(handle(&found), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Compares two files of that length; where both have a hole nothing is read.
fn is_same(source: &OwnedFd, copy: &File, length: u64) -> io::Result<bool> {
    let source = File::from(source.try_clone()?);
    let bytes = usize::try_from(length.min(COMPARED)).unwrap_or(0);
    let (mut one, mut other) = (vec![0; bytes], vec![0; bytes]);
    let mut at = 0;
    loop {
        at = data_from(&source, at)?.min(data_from(copy, at)?);
        if at >= length {
            return Ok(true);
        }
        let count = usize::try_from(length - at).unwrap_or(usize::MAX).min(bytes);
        source.read_exact_at(&mut one[..count], at)?;
        copy.read_exact_at(&mut other[..count], at)?;
        if one[..count] != other[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
}

/// Where the next byte is that is no hole's.
fn data_from(file: &File, at: u64) -> io::Result<u64> {
    match fs::seek(file, fs::SeekFrom::Data(at)) {
        Err(Errno::NXIO) => Ok(u64::MAX),
        other => Ok(other?),
    }
}

fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

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
    let copied = content(source, &target, length(stat)).and_then(|()| finish(&target)).and_then(|()| {
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
