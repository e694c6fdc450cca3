//! The engine that calls us, and whether one that could be asked is that.

use std::{path::Path, time::Duration};

use tokio::{net::UnixStream, time::timeout};

use super::engine::Engine;

/// The program that a process runs; `None`: that can't be seen.
fn program(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.to_str()?;
    // As after an upgrade.
    Some(name.strip_suffix(" (deleted)").unwrap_or(name).to_owned())
}

/// A process at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Peer {
    /// `None`: it is of another namespace.
    pub(in super::super) pid: Option<u32>,
    pub(in super::super) uid: u32,
}

/// Who is behind a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    Nobody,
    /// That can't be known.
    Unknown,
    Is(Peer),
}

/// An engine that calls us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Caller {
    engine: Engine,
    process: Peer,
}

impl Caller {
    /// The engine that a process is.
    pub(in super::super) fn of(process: Peer) -> Option<Self> {
        Some(Self { engine: Engine::of_program(&program(process.pid?)?)?, process })
    }

    /// Whether it may be the engine of that kind which is asked there.
    pub(super) fn may_be(&self, engine: Engine, listener: Listener) -> bool {
        let program = match listener {
            Listener::Is(peer) => peer.pid.and_then(program),
            Listener::Nobody | Listener::Unknown => None,
        };
        self.may_run(engine, listener, program.as_deref())
    }

    fn may_run(&self, engine: Engine, listener: Listener, program: Option<&str>) -> bool {
        let listener = match listener {
            Listener::Is(listener) => listener,
            Listener::Unknown => return self.engine == engine,
            // A Docker that calls us listens; Podman needs nobody who does.
            Listener::Nobody => return self.engine == engine && engine == Engine::Podman,
        };
        if listener.pid.is_some() && listener.pid == self.process.pid {
            return true;
        }
        // Each user has containers of its own.
        if listener.uid != self.process.uid {
            return false;
        }
        match program {
            // Who listens for others says nothing of whom for.
            None | Some("systemd" | "init") => self.engine == engine,
            // Processes of one user's Podman share its containers and their locks; one Docker is one process.
            Some(program) => Engine::of_program(program)
                .is_some_and(|listens| listens == self.engine && listens == Engine::Podman),
        }
    }
}

pub(super) fn listener(socket: &Path, patience: Duration) -> Listener {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};

    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Listener::Unknown;
    };
    let stream = match runtime.block_on(async { timeout(patience, UnixStream::connect(socket)).await }) {
        Ok(Err(error)) if matches!(error.kind(), ConnectionRefused | NotFound) => return Listener::Nobody,
        other => other,
    };
    let Ok(Ok(peer)) = stream.map(|stream| stream.and_then(|stream| stream.peer_cred())) else {
        return Listener::Unknown;
    };
    // 0 is a process that has no number here.
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    Listener::Is(Peer { pid, uid: peer.uid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_engine_that_calls_is_taken_for_it() {
        use Engine::{Docker, Podman};
        let peer = |pid, uid| Listener::Is(Peer { pid, uid });
        let of = |engine| Caller { engine, process: Peer { pid: Some(7), uid: 0 } };
        for (caller, way, listener, program, expected) in [
            (Docker, Docker, peer(Some(7), 0), Some("dockerd"), true),
            (Docker, Docker, peer(Some(8), 0), Some("dockerd"), false),
            (Docker, Docker, peer(Some(1), 0), Some("systemd"), true),
            (Docker, Docker, peer(Some(9), 1000), Some("systemd"), false),
            (Docker, Docker, peer(None, 0), None, true),
            (Docker, Docker, Listener::Unknown, None, true),
            (Docker, Docker, Listener::Nobody, None, false),
            (Podman, Podman, Listener::Nobody, None, true),
            (Docker, Podman, peer(Some(1), 0), Some("systemd"), false),
            (Docker, Podman, Listener::Unknown, None, false),
            (Podman, Podman, peer(Some(8), 0), Some("podman"), true),
            (Podman, Podman, peer(Some(8), 1000), Some("podman"), false),
            (Podman, Podman, peer(Some(8), 0), Some("other"), false),
            // Podman in Docker's name.
            (Podman, Docker, peer(Some(8), 0), Some("podman"), true),
            (Podman, Docker, peer(Some(1), 0), Some("systemd"), false),
        ] {
            assert_eq!(
                of(caller).may_run(way, listener, program),
                expected,
                "{caller} {way} {listener:?} {program:?}"
            );
        }
    }
}
