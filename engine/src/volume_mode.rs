//! How a volume appears to its user: as a raw block device, or as a filesystem.

use std::fmt;

use serde::{Deserialize, Serialize};
use tierce_filesystem::Filesystem;

/// How a volume appears to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeMode {
    /// A mounted filesystem.
    Filesystem(Filesystem),
    /// A raw block device.
    Block,
}

impl fmt::Display for VolumeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem(filesystem) => write!(f, "filesystem {filesystem}"),
            Self::Block => f.write_str("block"),
        }
    }
}
