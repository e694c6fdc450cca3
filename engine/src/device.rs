//! Block devices: their numbers, and how a volume is one.

use std::{fmt, fs::File, os::fd::OwnedFd, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Of the driver.
    pub major: u32,
    /// Of the device.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A volume as a device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) number: DeviceNumber,
    /// Its node, as `/dev/loop3`.
    pub(crate) node: PathBuf,
    /// Bytes.
    pub(crate) bytes: u64,
    /// Whether it was attached by this call.
    pub(crate) fresh: bool,
    /// Keeps it attached while we work on it.
    pub(crate) _hold: Option<OwnedFd>,
}

/// A device that a volume is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) number: DeviceNumber,
    pub(crate) node: PathBuf,
    /// Whether the kernel detaches it by itself after the last user.
    pub(crate) autoclear: bool,
}

/// The content of a volume or snapshot that nobody writes to.
#[derive(Debug)]
pub(crate) struct Content {
    /// An image or a device; `None`: a simulated one has no bytes.
    pub(crate) file: Option<File>,
    pub(crate) bytes: u64,
}
