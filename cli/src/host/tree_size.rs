//! Bytes that a folder's files take on the disk.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{self, AtFlags, FileType},
    io::Errno,
};

use super::tree_descent::{Descent, Identity, each_name, identity, open_folder};

/// Bytes that the files below a folder take, each counted once however many names it has; folders themselves are not counted, as Docker
/// does not. Files that vanish meanwhile count as gone. `false`: some could not be read, so it is at least that much.
pub(super) fn bytes_used(folder: &OwnedFd) -> (u64, bool) {
    let mut sum = Sum { seen: HashSet::new(), bytes: 0, whole: true };
    let went = sum.tree(folder);
    (sum.bytes, sum.whole && went.is_ok())
}

struct Sum {
    seen: HashSet<Identity>,
    bytes: u64,
    whole: bool,
}

impl Sum {
    fn tree(&mut self, top: &OwnedFd) -> rustix::io::Result<()> {
        let below = self.files(top);
        let mut descent = Descent::new(top, below)?;
        loop {
            let (here, waiting) = descent.here();
            let Some(name) = waiting.pop() else {
                match descent.leave()? {
                    Some(_) => continue,
                    None => return Ok(()),
                }
            };
            match open_folder(here, &name) {
                Ok(folder) => {
                    let below = self.files(&folder);
                    descent.enter(folder, below)?;
                }
                // Another filesystem mounted below is not this volume's.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                Err(_) => self.whole = false,
            }
        }
    }

    /// Adds the files of one folder up, and returns the folders in it.
    fn files(&mut self, folder: &OwnedFd) -> Vec<CString> {
        let mut below = Vec::new();
        if each_name(folder, |name| self.file(folder, name, &mut below)).is_err() {
            self.whole = false;
        }
        below
    }

    fn file(&mut self, folder: &OwnedFd, name: &CStr, below: &mut Vec<CString>) -> rustix::io::Result<()> {
        let stat = match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            below.push(name.to_owned());
        } else if stat.st_nlink <= 1 || self.seen.insert(identity(&stat)) {
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
        }
        Ok(())
    }
}
