//! The real host.

use super::Host;

/// The Linux machine we run on.
pub struct LinuxHost(());

impl LinuxHost {
    /// The real host.
    pub fn new() -> Self {
        Self(())
    }
}

impl Host for LinuxHost {}
