//! Bytes that a folder's files take on the disk.

use std::{collections::HashSet, os::fd::OwnedFd};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, OFlags, ResolveFlags},
    io::Errno,
};

/// Bytes that the files below a folder take, each counted once however many names it has; folders themselves are not counted, as Docker
/// does not. Files that vanish meanwhile count as gone. `false`: some could not be read, so it is at least that much.
pub(super) fn bytes_used(folder: &OwnedFd) -> rustix::io::Result<(u64, bool)> {
    let mut walk = Walk { seen: HashSet::new(), bytes: 0, whole: true };
    walk.folder(folder)?;
    Ok((walk.bytes, walk.whole))
}

struct Walk {
    seen: HashSet<(u64, u64)>,
    bytes: u64,
    whole: bool,
}

impl Walk {
    fn folder(&mut self, folder: &OwnedFd) -> rustix::io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                // Another filesystem mounted below is not this volume's.
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match fs::openat2(folder, name, flags, fs::Mode::empty(), resolve) {
                    Ok(below) => self.folder(&below)?,
                    Err(Errno::NOENT | Errno::XDEV) => {}
                    Err(Errno::ACCESS | Errno::PERM) => self.whole = false,
                    Err(error) => return Err(error),
                }
            } else if stat.st_nlink <= 1 || self.seen.insert((stat.st_dev, stat.st_ino)) {
                let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
                self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
            }
        }
        Ok(())
    }
}
