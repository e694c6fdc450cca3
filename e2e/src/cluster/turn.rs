//! Whose turn a cluster's name is: two runs at once, or a run and the broom of one that was killed, would take each other's cluster away.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// How long the broom of a run that was killed may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The right to make or remove the cluster of a name, held by whoever has this open. It leaves no file.
#[derive(Debug)]
pub(super) struct Turn(UnixListener);

impl Turn {
    /// Waits for whoever has it, though not for long.
    pub(super) fn take(name: &str) -> Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("tierce-e2e-cluster-{name}"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => return Ok(Self(listener)),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    ensure!(Instant::now() < deadline, "another run makes, uses or removes cluster {name}");
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error).with_context(|| format!("can't reserve cluster {name}")),
            }
        }
    }
}

impl From<Turn> for OwnedFd {
    fn from(turn: Turn) -> Self {
        turn.0.into()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_was_given_it_holds_it_to_its_end() {
        let name = format!("test-{}", std::process::id());
        let turn = Turn::take(&name).unwrap();
        let mut heir =
            Command::new("sleep").arg("0.5").stdout(Stdio::from(OwnedFd::from(turn))).spawn().unwrap();
        let waited = Turn::take(&name).unwrap();
        assert!(heir.try_wait().unwrap().is_some(), "it was taken from under a living process");
        drop(waited);
        Turn::take(&name).unwrap();
    }
}
