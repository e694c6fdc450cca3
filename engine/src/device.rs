//! Block devices: their numbers, and how a volume is one.

use std::{fmt, fs::File, os::fd::OwnedFd, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Number of the driver.
    pub major: u32,
    /// Number of the device among the driver's.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The device that a volume is attached as.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) number: DeviceNumber,
    /// The device's node, as `/dev/loop3`.
    pub(crate) node: PathBuf,
    /// Bytes.
    pub(crate) bytes: u64,
    /// Whether this call attached the device.
    pub(crate) fresh: bool,
    /// Keeps the device attached while we work on it.
    pub(crate) _hold: Option<OwnedFd>,
}

/// A device that a volume is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) number: DeviceNumber,
    pub(crate) node: PathBuf,
    /// Whether the kernel detaches the device by itself after the last user.
    pub(crate) autoclear: bool,
}

/// The content of a volume or snapshot that is not being written to.
#[derive(Debug)]
pub(crate) struct Content {
    /// The image or device; `None` in the simulation, where content has no bytes.
    pub(crate) file: Option<File>,
    pub(crate) bytes: u64,
}
