//! Volumes that are no volumes, yet or any more: the names of their folders in `new` and `trash`, and the
//! removal of these.

use std::{io, os::fd::OwnedFd};

use rustix::{
    fs::{self, AtFlags, FlockOperation, OFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{
    IMAGE,
    beneath::{names, open_beneath},
};
use crate::{VolumeId, lasting::lasting};

/// The name of a volume's folder in `new` or `trash`.
pub(super) fn unique(id: &VolumeId) -> String {
    format!("{id}.{}", Uuid::new_v4().simple())
}

/// Whether a name in `new` or `trash` is one that [`unique`] gives.
pub(super) fn is_ours(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(id, uuid)| {
        id.parse::<VolumeId>().is_ok()
            && Uuid::try_parse(uuid).is_ok_and(|read| read.simple().to_string() == uuid)
    })
}

/// Says to other processes that what is in a folder of `new` is being made, as long as that is open here.
pub(super) fn say_it_is_made(folder: &OwnedFd) {
    // A filesystem below that knows no such locks has no other process beside us either. Who looks has it for a moment.
    while fs::flock(folder, FlockOperation::LockExclusive) == Err(Errno::INTR) {}
}

/// Whether a process makes what is in that folder of `new`; what a killed one left, nobody does.
pub(super) fn is_being_made(new: &OwnedFd, name: &str) -> bool {
    let opened = open_beneath(new, name, OFlags::RDONLY | OFlags::DIRECTORY);
    opened.is_ok_and(|folder| {
        fs::flock(&folder, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Removes a volume's folder in `new` or `trash`: the files in it, then the folder. Ours has no folders in
/// it; one that has is not ours, and stays.
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
