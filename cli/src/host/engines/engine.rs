//! The engines that are known.

use std::fmt;

/// An engine of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Engine {
    Docker,
    Podman,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        })
    }
}

impl Engine {
    /// The engine that a process is.
    pub(in super::super) fn of_process(pid: u32) -> Option<Self> {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        match program.file_name()?.to_str()? {
            "dockerd" => Some(Self::Docker),
            "podman" => Some(Self::Podman),
            _ => None,
        }
    }
}
