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
    /// The one whose program has that name.
    pub(super) fn of_program(program: &str) -> Option<Self> {
        match program {
            "dockerd" => Some(Self::Docker),
            "podman" => Some(Self::Podman),
            _ => None,
        }
    }
}
