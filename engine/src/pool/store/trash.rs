//! What was thrown away, and what never became a volume: how much it still takes, and its removal.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, AtFlags, OFlags},
    io::Errno,
};

use super::{
    IMAGE, Store,
    beneath::{names, open_beneath},
    volumes::{is_ours, sizes},
};
use crate::lasting::lasting;

impl Store {
    /// Bytes that deleted volumes still take.
    pub(crate) fn trash_bytes(&self) -> u64 {
        let of =
            |name: &String| fs::statat(&self.trash, Path::new(name).join(IMAGE), AtFlags::SYMLINK_NOFOLLOW);
        names(&self.trash)
            .unwrap_or_default()
            .iter()
            .filter(|name| is_ours(name))
            .filter_map(|name| of(name).ok())
            .map(|stat| sizes(&stat).allocated)
            .sum()
    }

    /// Frees what deleted volumes still take. Returns how many are gone, and what could not be removed.
    pub(crate) fn sweep_trash(&self) -> (usize, Vec<String>) {
        self.sweep(&self.trash, "trash")
    }

    /// Removes what interrupted creations left. Only when none is running.
    pub(crate) fn sweep_new(&self) -> (usize, Vec<String>) {
        self.sweep(&self.new, "new")
    }

    fn sweep(&self, folder: &OwnedFd, called: &str) -> (usize, Vec<String>) {
        let (mut removed, mut problems) = (0, Vec::new());
        let problem = |name: &str, error: io::Error| {
            format!("remove {}: {error}", self.path.join(called).join(name).display())
        };
        match names(folder) {
            Err(error) => problems.push(problem("", error)),
            Ok(names) => {
                for name in names {
                    let outcome = if is_ours(&name) {
                        remove_folder(folder, &name)
                    } else {
                        Err(io::Error::other("its name is none that we give, so it was not touched"))
                    };
                    match outcome {
                        Ok(()) => removed += 1,
                        Err(error) => problems.push(problem(&name, error)),
                    }
                }
            }
        }
        (removed, problems)
    }
}

/// Removes a volume's folder of `new` or `trash`: the files in it, then itself. It has no folders below it; one that does is not ours, and
/// stays.
pub(super) fn remove_folder(within: &OwnedFd, name: &str) -> io::Result<()> {
    let folder = match open_beneath(within, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    // Emptied before its name goes, so that what is still to be freed can be seen meanwhile.
    if let Ok(image) = open_beneath(&folder, IMAGE, OFlags::WRONLY) {
        let _ = lasting("empty a thrown image", || fs::ftruncate(&image, 0));
    }
    for file in names(&folder)? {
        match lasting("unlink a file", || fs::unlinkat(&folder, file.as_str(), AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match lasting("remove a folder", || fs::unlinkat(within, name, AtFlags::REMOVEDIR)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
