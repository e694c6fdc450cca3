//! What is mounted where, in the engine's terms.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::device::DeviceNumber;

/// What a mount carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Carries {
    /// The filesystem on a block device; `whole`: its root, not a folder of it.
    Filesystem { device: DeviceNumber, whole: bool },
    /// A block device's node, bound onto a file.
    Node { device: DeviceNumber },
    /// Anything else.
    Other,
}

impl Carries {
    /// Whether the mount carries the whole filesystem of the device.
    pub(crate) fn is_whole_of(self, number: DeviceNumber) -> bool {
        self == Self::Filesystem { device: number, whole: true }
    }

    /// Whether the mount carries the device, in whatever way.
    pub(crate) fn is_of(self, number: DeviceNumber) -> bool {
        match self {
            Self::Filesystem { device, .. } | Self::Node { device } => device == number,
            Self::Other => false,
        }
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// Number of the mount that this one lies on, and covers if both have the same point.
    pub(crate) parent: u64,
    pub(crate) point: PathBuf,
    pub(crate) carries: Carries,
    pub(crate) readonly: bool,
    /// What the mount carries, for messages: `ext4 of /dev/loop3`.
    pub(crate) what: String,
}

/// The uppermost mount at a point.
pub(crate) fn top_at<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    let here = || mounts.iter().filter(|mount| mount.point == point);
    // The table lists a covering mount after the covered one, and names the covered one as its parent.
    here()
        .rfind(|mount| !here().any(|other| other.parent == mount.id && other.id != mount.id))
        .or_else(|| here().next_back())
}

/// A place where the device is mounted or bound, for "in use by" messages.
pub(crate) fn user_of(mounts: &[Mount], device: DeviceNumber) -> Option<&Mount> {
    mounts.iter().find(|mount| mount.carries.is_of(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, parent: u64, point: &str, minor: u32) -> Mount {
        let device = DeviceNumber { major: 7, minor };
        let carries = Carries::Filesystem { device, whole: true };
        Mount { id, parent, point: point.into(), carries, readonly: false, what: String::new() }
    }

    #[test]
    fn the_covering_mount_counts_not_the_covered_one() {
        let mounts = [
            mount(1, 0, "/", 0),
            mount(2, 1, "/a", 1),
            mount(3, 2, "/a", 2),
            mount(4, 1, "/b", 3),
            mount(5, 3, "/a/c", 4),
        ];
        for (point, expected) in
            [("/a", Some(3)), ("/b", Some(4)), ("/a/c", Some(5)), ("/c", None), ("/", Some(1))]
        {
            assert_eq!(top_at(&mounts, Path::new(point)).map(|mount| mount.id), expected, "{point}");
        }
        // The namespace's root mount may name itself as its parent.
        assert_eq!(top_at(&[mount(1, 1, "/", 0)], Path::new("/")).map(|mount| mount.id), Some(1));
    }
}
