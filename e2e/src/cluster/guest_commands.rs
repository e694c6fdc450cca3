//! Commands for a guest, from any process of the host: through a socket, by way of the guest's serial line.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::layout::{Node, State};
use crate::lab::{Guest, quoted};

/// The import of an image is the longest.
const LIMIT: Duration = Duration::from_mins(10);
/// How long a caller may take to say what it wants.
const ASK_LIMIT: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u8,
    stdout: String,
    stderr: String,
}

/// The end of the socket that a guest's process holds.
pub(super) struct Commands(UnixListener);

impl Commands {
    /// Takes commands from now on; they wait until the guest runs.
    pub(super) fn listen(socket: &Path) -> Result<Self> {
        if socket.exists() {
            // From before the power cut.
            std::fs::remove_file(socket)?;
        }
        let listener =
            UnixListener::bind(socket).with_context(|| format!("can't listen on {}", socket.display()))?;
        Ok(Self(listener))
    }

    /// Runs the command that waits.
    pub(super) fn answer(&self, guest: &mut Guest) -> Result<()> {
        let (mut stream, _) = self.0.accept()?;
        stream.set_read_timeout(Some(ASK_LIMIT))?;
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked)?;
        let line: Vec<String> = serde_json::from_slice(&asked).context("the caller broke off")?;
        let words: Vec<String> = line.iter().map(|word| quoted(word)).collect();
        let outcome = guest.run(&format!("{} >$lab/stdout 2>$lab/stderr", words.join(" ")), LIMIT)?;
        let text = |name: &str| -> Result<String> {
            Ok(String::from_utf8_lossy(&std::fs::read(guest.folder().join(name))?).into_owned())
        };
        let answer = Answer { status: outcome.status, stdout: text("stdout")?, stderr: text("stderr")? };
        Ok(stream.write_all(&serde_json::to_vec(&answer)?)?)
    }
}

impl AsFd for Commands {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs a command in a node's guest, with its output on ours; returns its exit status.
pub fn ask(state: &Path, name: &str, line: &[String]) -> Result<u8> {
    let socket = State::at(state).guest_socket(Node::parse(name)?);
    let mut stream = UnixStream::connect(&socket).with_context(|| format!("{name} is switched off"))?;
    stream.write_all(&serde_json::to_vec(line)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(!answer.is_empty(), "{name} ended before the command did");
    let answer: Answer = serde_json::from_slice(&answer)?;
    std::io::stdout().write_all(answer.stdout.as_bytes())?;
    std::io::stderr().write_all(answer.stderr.as_bytes())?;
    Ok(answer.status)
}
