//! Who said that it uses a volume. A holder that is dead is forgotten: its process ended, or the host was booted anew.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, error::Context};

/// One use of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attachment {
    /// Its name in messages.
    pub(super) consumer: String,
    pub(super) holder: Holder,
    /// Where the volume is shown to it, by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<PathBuf>,
    #[serde(default)]
    pub(super) read_only: bool,
    /// How many times the holder asked for the volume; the use ends when it was given back as often.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub(super) count: u32,
}

pub(super) const fn once() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_once(count: &u32) -> bool {
    *count == 1
}

/// What ends a use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Holder {
    /// The end of this boot.
    Boot {
        /// The kernel's id of the boot.
        boot: String,
    },
    /// The end of a container, which whoever runs it tells us; or the end of this boot.
    Container {
        /// The kernel's id of the boot.
        boot: String,
        id: String,
    },
    /// The end of a process.
    Process {
        /// The kernel's id of the boot.
        boot: String,
        pid: u32,
        /// When it started, in clock ticks since the boot: numbers are used again.
        started: u64,
    },
}

impl Holder {
    pub(super) fn boot() -> Result<Self, Error> {
        Ok(Self::Boot { boot: boot_id()? })
    }

    /// A container of this boot.
    pub(super) fn container(id: &str) -> Result<Self, Error> {
        Ok(Self::Container { boot: boot_id()?, id: id.to_owned() })
    }

    /// A process that runs now.
    pub(super) fn process(pid: u32) -> Result<Self, Error> {
        let started = started(pid).ok_or_else(|| {
            Error::InvalidArgument(format!("Process {pid} does not run: name one that does with --pid"))
        })?;
        Ok(Self::Process { boot: boot_id()?, pid, started })
    }

    /// A process that asks for something just now; one that has ended meanwhile does not hold.
    pub(super) fn caller(pid: u32) -> Result<Self, Error> {
        Ok(Self::Process { boot: boot_id()?, pid, started: started(pid).unwrap_or_default() })
    }

    /// Whether it still holds.
    pub(super) fn is_alive(&self) -> Result<bool, Error> {
        Ok(match self {
            Self::Boot { boot } | Self::Container { boot, .. } => *boot == boot_id()?,
            Self::Process { boot, pid, started: then } => *boot == boot_id()? && started(*pid) == Some(*then),
        })
    }
}

fn boot_id() -> Result<String, Error> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(FILE).doing(|| format!("read {FILE}"))?.trim().to_owned())
}

/// When a process started; `None`: there is no such process, or it is dead and only waits for its parent.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_holds_until_it_ends_and_a_boot_until_the_next() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let holder = Holder::process(child.id()).unwrap();
        assert!(holder.is_alive().unwrap());
        let reused = match holder.clone() {
            Holder::Process { boot, pid, started } => Holder::Process { boot, pid, started: started + 1 },
            _ => unreachable!(),
        };
        assert!(!reused.is_alive().unwrap());
        child.kill().unwrap();
        // A zombie holds nothing: it has closed its files.
        while holder.is_alive().unwrap() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(Holder::process(child.id()).is_err());
        assert!(Holder::boot().unwrap().is_alive().unwrap());
        assert!(!Holder::Boot { boot: "another".to_owned() }.is_alive().unwrap());
    }
}
