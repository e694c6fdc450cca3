//! The root of what clients see: a small tmpfs, with a folder for each volume, on which that is mounted. A root of its own has nothing of the
//! node's disk in it, and can be exported whatever that disk's filesystem is.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags};

use super::error::{ExportError, Trying};
use crate::{VolumeId, mountinfo};

const SOURCE: &str = "tierce-exports";

/// Mounts the root where that is due. Returns its path without symbolic links.
pub(super) fn make(exports: &Path) -> Result<PathBuf, ExportError> {
    let doing = || format!("make the root of the exports at {}", exports.display());
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(exports);
    made.trying(doing)?;
    let path = exports.canonicalize().trying(doing)?;
    if !is_there(&path).trying(doing)? {
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        rustix::mount::mount(SOURCE, &path, "tmpfs", flags, c"mode=0755,size=4m").trying(doing)?;
    }
    Ok(path)
}

/// Makes the folder of a volume, so that a client that asks for one that is not mounted yet waits instead of being told that there is none.
pub(super) fn make_folder(root: &Path, id: &VolumeId) -> Result<(), ExportError> {
    match fs::DirBuilder::new().mode(0o700).create(root.join(id.as_str())) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.trying(|| format!("make the folder of the export {id}")),
    }
}

/// Takes the root away, unless something is mounted in it.
pub(super) fn remove(exports: &Path) -> Result<bool, ExportError> {
    let doing = || format!("take down the root of the exports at {}", exports.display());
    let path = match exports.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        path => path.trying(doing)?,
    };
    while is_there(&path).trying(doing)? {
        match rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW) {
            Err(rustix::io::Errno::BUSY) => return Ok(false),
            unmounted => unmounted.trying(doing)?,
        }
    }
    Ok(true)
}

fn is_there(path: &Path) -> io::Result<bool> {
    let text = fs::read("/proc/thread-self/mountinfo")?;
    let lines = mountinfo::parse(&text).map_err(io::Error::other)?;
    Ok(lines.iter().any(|line| line.point == path && line.source == Path::new(SOURCE)))
}

/// The device of what lies at a path.
pub(super) fn device(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.dev())
}

/// The device of the filesystem mounted at a path as the kernel writes it, which for btrfs is another than that of its files.
pub(super) fn mounted_device(path: &Path) -> io::Result<Option<crate::DeviceNumber>> {
    let text = fs::read("/proc/thread-self/mountinfo")?;
    let lines = mountinfo::parse(&text).map_err(io::Error::other)?;
    Ok(lines.iter().rev().find(|line| line.point == path).map(|line| line.device))
}
