//! The filesystems that Tierce makes, and what goes with each: said once for the API, which tells people of it, and for the engine, which mounts.

pub mod mount_options;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Filesystem on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// ext4; where the node's kernel does not let the plugin grow it online it grows at the next mount.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Filesystem {
    /// All of them, in the order in which a message lists them.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// The kernel's name of the filesystem.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The longest label, in bytes.
    pub const fn max_label_bytes(self) -> usize {
        match self {
            Self::Ext4 => 16,
            Self::Xfs => 12,
            Self::Btrfs => 255,
        }
    }

    /// The smallest volume that can be made and changed in size, in bytes. mkfs makes a btrfs of 128 MiB too,
    /// but the kernel gives none a size below 256 MiB (`btrfs_ioctl_resize` of Linux).
    pub const fn min_volume_bytes(self) -> u64 {
        const MIB: u64 = 1 << 20;
        match self {
            Self::Ext4 => 16 * MIB,
            Self::Xfs => 300 * MIB,
            Self::Btrfs => 256 * MIB,
        }
    }

    /// A text made into a label: other characters than letters, digits, `.`, `_`, `-` become `-`; cut to the
    /// filesystem's limit.
    pub fn label(self, text: &str) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        text.chars().map(|c| if allowed(c) { c } else { '-' }).take(self.max_label_bytes()).collect()
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Filesystem {
    type Err = UnknownFilesystem;

    fn from_str(text: &str) -> Result<Self, UnknownFilesystem> {
        let named = Self::ALL.into_iter().find(|filesystem| filesystem.name() == text);
        named.ok_or_else(|| UnknownFilesystem { name: text.to_owned() })
    }
}

/// A name that no filesystem of ours has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filesystem {name:?} is not one of ext4, xfs, btrfs")]
pub struct UnknownFilesystem {
    /// The name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_cut_to_the_filesystem_and_has_no_odd_characters() {
        for (filesystem, text, expected) in [
            (Filesystem::Ext4, "my-data", "my-data"),
            (Filesystem::Ext4, "a-very-long-volume-name", "a-very-long-volu"),
            (Filesystem::Xfs, "a-very-long-volume-name", "a-very-long-"),
            (Filesystem::Btrfs, "a b/c\nd,é", "a-b-c-d--"),
            (Filesystem::Ext4, "", ""),
        ] {
            assert_eq!(filesystem.label(text), expected);
        }
        assert_eq!(Filesystem::Btrfs.label(&"x".repeat(400)).len(), 255);
    }

    #[test]
    fn a_filesystem_reads_back_what_it_displays() {
        for filesystem in Filesystem::ALL {
            assert_eq!(filesystem.to_string().parse::<Filesystem>().unwrap(), filesystem);
        }
        let message = "ntfs".parse::<Filesystem>().unwrap_err().to_string();
        assert!(message.contains("ext4, xfs, btrfs"), "{message}");
    }
}
