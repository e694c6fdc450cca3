//! Growing a filesystem to its device.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{fs, io::Errno};

use super::{
    make,
    probe::{self, Probe, Superblock},
};
use crate::{Error, Filesystem, Runner, device::Device, error::Context, kernel, lasting::lasting};

/// Why a mounted filesystem did not grow.
#[derive(Debug)]
pub(crate) enum GrowError {
    /// The kernel never grows it while mounted; the text is its answer.
    Offline(String),
    /// Anything else.
    Failed(Error),
}

/// Grows a filesystem that is not mounted.
pub(crate) fn unmounted(runner: &dyn Runner, device: &Device, filesystem: Filesystem) -> Result<(), Error> {
    match filesystem {
        Filesystem::Ext4 => {
            lasting("check", || runner.run(&make::ext4_check(&device.node)))?;
            lasting("grow", || runner.run(&make::ext4_grow(&device.node)))?;
            Ok(())
        }
        Filesystem::Xfs | Filesystem::Btrfs => {
            Err(Error::Unsupported(format!("{filesystem} grows only while it is mounted")))
        }
    }
}

/// Grows a mounted filesystem to its device, unless it fills it already. Returns its size in bytes.
/// `mounted`: its root, whose path is `at`.
pub(crate) fn mounted(
    device: &Device,
    filesystem: Filesystem,
    mounted: &OwnedFd,
    at: &Path,
) -> Result<u64, GrowError> {
    let before = bytes(device, filesystem, mounted).map_err(GrowError::Failed)?;
    if before.saturating_add(make::slack_bytes(filesystem)) > device.bytes {
        return Ok(before);
    }
    let grown = lasting("grow", || match filesystem {
        Filesystem::Ext4 => ext4_grow(mounted, device.bytes),
        Filesystem::Xfs => kernel::xfs_grow(mounted, device.bytes),
        Filesystem::Btrfs => kernel::btrfs_grow(mounted),
    });
    match grown {
        Ok(()) => bytes(device, filesystem, mounted).map_err(GrowError::Failed),
        // ext4 wants CAP_SYS_RESOURCE; an old layout can't be grown while mounted at all.
        Err(error)
            if filesystem == Filesystem::Ext4
                && [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP, Errno::NOTTY]
                    .iter()
                    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Err(GrowError::Offline(error.to_string()))
        }
        Err(source) => Err(GrowError::Failed(Error::Io {
            doing: format!("grow the {filesystem} at {} to {} bytes", at.display(), device.bytes),
            source,
        })),
    }
}

/// Size of a mounted filesystem in bytes, its own metadata included.
fn bytes(device: &Device, filesystem: Filesystem, mounted: &OwnedFd) -> Result<u64, Error> {
    let doing = || format!("ask the {filesystem} on {} for its size", device.node.display());
    match filesystem {
        // statfs leaves ext4's metadata out; its superblock is up to date in the device's cache.
        Filesystem::Ext4 => match probe::of(device)? {
            Probe::Found(Superblock { bytes, .. }) => Ok(bytes),
            _ => Err(Error::Io { doing: doing(), source: io::ErrorKind::InvalidData.into() }),
        },
        Filesystem::Xfs => kernel::xfs_bytes(mounted).doing(doing),
        Filesystem::Btrfs => {
            let stat = fs::fstatvfs(mounted).doing(doing)?;
            Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
        }
    }
}

fn ext4_grow(mounted: &OwnedFd, bytes: u64) -> io::Result<()> {
    let block = fs::fstatvfs(mounted)?.f_bsize.max(1);
    Ok(fs::ext4_ioc_resize_fs(mounted, bytes / block)?)
}
