//! The thread that keeps the records of clients for the kernel's server, which asks over a pipe (`include/uapi/linux/nfsd/cld.h`).
//!
//! The kernel makes the pipe when its first thread starts, waits a second for somebody to open it, and otherwise goes another way, on which
//! locks are lost; so we wait for the pipe before. It waits for ever for the answer to a question that was read, but asks again where a
//! reader goes away that has read a part: so the last byte is read when all is on the disk, and the answer follows at once.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fs::{self, Mode, OFlags},
};

use super::{
    error::{ExportError, Trying},
    records::{ClientId, Records},
};

const PIPE: &str = "nfsd/cld";
/// Bytes before the client's id, and the longest id.
const HEADER: usize = 10;
const LONGEST_ID: usize = 1024;
/// All of the shorter one of the two kinds of messages but its last byte.
const FIRST: usize = HEADER + LONGEST_ID - 1;
const EINPROGRESS: i16 = -115;
const EACCES: i16 = -13;
const EIO: i16 = -5;
const EINVAL: i16 = -22;
/// While there is no pipe: the kernel waits a second.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// What the kernel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Create = 0,
    Remove = 1,
    Check = 2,
    GraceDone = 3,
    GraceStart = 4,
    GetVersion = 5,
}

/// Keeps the records until it is dropped.
pub(super) struct Tracking {
    stop: Arc<OwnedFd>,
    /// How many starts of the server got their clients from us.
    starts: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Tracking {
    /// Returns when the thread looks for the pipe in `pipes`, a mounted `rpc_pipefs`. `grace_is_over`: of a server that runs already.
    pub(super) fn start(pipes: OwnedFd, folder: &Path, grace_is_over: bool) -> Result<Self, ExportError> {
        let doing = || format!("open the records of NFS clients in {}", folder.display());
        let mut records = Records::open(folder).trying(doing)?;
        if grace_is_over && records.in_grace() {
            // Nobody was here when the kernel said so.
            records.grace_ends().trying(doing)?;
        }
        let stop =
            Arc::new(eventfd(0, EventfdFlags::CLOEXEC).trying(|| "make a way to stop a thread".to_owned())?);
        let starts = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&starts));
        let (ready, waiting) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("nfsd-clients".to_owned())
            .spawn(move || {
                fail::fail_point!("nfs tracker");
                let _ = ready.send(());
                serve(&pipes, &stopped, &counted, &mut records);
            })
            .trying(|| "start a thread".to_owned())?;
        let _ = waiting.recv();
        Ok(Self { stop, starts, thread: Some(thread) })
    }

    /// How many starts of the server got their clients from us.
    pub(super) fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether a pipe of that server is there.
pub(super) fn has_pipe(pipes: impl AsFd) -> bool {
    fs::statat(pipes, PIPE, fs::AtFlags::empty()).is_ok()
}

fn serve(pipes: &OwnedFd, stop: &OwnedFd, starts: &AtomicU64, records: &mut Records) {
    loop {
        let pipe = fs::openat(pipes, PIPE, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
        let patience = if pipe.is_ok() { Duration::from_secs(1) } else { BETWEEN_LOOKS };
        let timeout = Timespec::try_from(patience).ok();
        loop {
            let mut waited = vec![PollFd::new(stop, PollFlags::IN)];
            waited.extend(pipe.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            let _ = poll(&mut waited, timeout.as_ref());
            if !waited[0].revents().is_empty() {
                return;
            }
            let events = waited.get(1).map_or(PollFlags::empty(), PollFd::revents);
            let Ok(pipe) = &pipe else { break };
            if events.intersects(PollFlags::ERR | PollFlags::HUP) {
                break;
            }
            if events.is_empty() {
                // The one that we hold may be an earlier server's.
                if !has_pipe(pipes) {
                    break;
                }
                continue;
            }
            if let Err(error) = hear(pipe, starts, records) {
                tracing::debug!(%error, "the kernel's NFS server closed the pipe for the records of its clients");
                break;
            }
        }
    }
}

/// Reads one message and answers it.
fn hear(pipe: &OwnedFd, starts: &AtomicU64, records: &mut Records) -> io::Result<()> {
    let mut message = vec![0; FIRST];
    let length = match rustix::io::read(pipe, &mut message) {
        Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
        length => length?,
    };
    if length < FIRST {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let (command, status, clients) = carry_out(&message, records);
    let mut rest = [0; 256];
    let length = rustix::io::read(pipe, &mut rest)?;
    message.extend_from_slice(&rest[..length]);
    for client in &clients {
        write(pipe, &about(client, &message))?;
    }
    write(pipe, &answered(message, command, status))?;
    if command == Some(Command::GraceStart) && status == 0 {
        tracing::info!(
            clients = clients.len(),
            "the kernel's NFS server started with the records of its clients"
        );
        starts.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

fn write(pipe: &OwnedFd, message: &[u8]) -> io::Result<()> {
    rustix::io::write(pipe, message)?;
    Ok(())
}

/// Does what a message asks for. Returns the status to be answered, and the clients to be named before.
fn carry_out(message: &[u8], records: &mut Records) -> (Option<Command>, i16, Vec<ClientId>) {
    let command = command_of(message);
    let mut named = Vec::new();
    let done = match (command, client_of(message)) {
        (Some(Command::Create), Some(client)) => records.add(client),
        (Some(Command::Remove), Some(client)) => records.remove(client),
        (Some(Command::Check), Some(client)) if records.knows(client) => Ok(()),
        (Some(Command::Check), Some(_)) => return (command, EACCES, named),
        (Some(Command::GraceDone), _) => records.grace_ends(),
        (Some(Command::GraceStart), _) => records.grace_starts().map(|clients| named = clients),
        (Some(Command::GetVersion), _) => Ok(()),
        (_, None) | (None, _) => return (command, EINVAL, named),
    };
    match done {
        Ok(()) => (command, 0, named),
        Err(error) => {
            tracing::error!(?command, %error, "the records of NFS clients could not be written: locks of theirs may be lost when the server stops");
            (command, EIO, named)
        }
    }
}

fn command_of(message: &[u8]) -> Option<Command> {
    use Command::{Check, Create, GetVersion, GraceDone, GraceStart, Remove};
    [Create, Remove, Check, GraceDone, GraceStart, GetVersion]
        .into_iter()
        .find(|one| *one as u8 == message[1])
}

/// The client that a message is about; `None`: it can't be told.
fn client_of(message: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_ne_bytes([message[8], message[9]]));
    if length == 0 { None } else { message.get(HEADER..HEADER + length) }
}

/// The message that names a client before the answer to `question`.
fn about(client: &[u8], question: &[u8]) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&EINPROGRESS.to_ne_bytes());
    message[8..].fill(0);
    let length = u16::try_from(client.len()).unwrap_or_default();
    message[8..HEADER].copy_from_slice(&length.to_ne_bytes());
    message[HEADER..HEADER + usize::from(length)].copy_from_slice(client);
    message
}

fn answered(mut message: Vec<u8>, command: Option<Command>, status: i16) -> Vec<u8> {
    const NEWEST: u8 = 2;
    message[2..4].copy_from_slice(&status.to_ne_bytes());
    if command == Some(Command::GetVersion) {
        message[8] = NEWEST;
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(command: Command, client: &[u8], length: usize) -> Vec<u8> {
        let mut message = vec![0; length];
        message[..2].copy_from_slice(&[2, command as u8]);
        message[4..8].copy_from_slice(&77_u32.to_ne_bytes());
        message[8..10].copy_from_slice(&u16::try_from(client.len()).unwrap().to_ne_bytes());
        message[10..10 + client.len()].copy_from_slice(client);
        message
    }

    #[test]
    fn clients_are_kept_and_named_when_the_server_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = Records::open(&folder.path().join("nfs")).unwrap();
        let mut ask =
            |command, client: &[u8]| carry_out(&message(command, client, 1067)[..FIRST], &mut records);
        assert_eq!(ask(Command::GetVersion, b""), (Some(Command::GetVersion), 0, vec![]));
        assert_eq!(ask(Command::GraceStart, b"").1, 0);
        assert_eq!(ask(Command::GraceDone, b"").1, 0);
        assert_eq!(ask(Command::Create, b"node-2").1, 0);
        assert_eq!(ask(Command::Create, b"").1, EINVAL);
        assert_eq!(ask(Command::Check, b"node-2").1, 0);
        assert_eq!(ask(Command::Check, b"node-3").1, EACCES);
        let (_, status, clients) = ask(Command::GraceStart, b"");
        assert_eq!((status, clients), (0, vec![b"node-2".to_vec()]));
    }

    #[test]
    fn answers_have_the_kernels_form() {
        let question = message(Command::GraceStart, b"x", 1067);
        let named = about(b"node-2", &question);
        assert_eq!(named.len(), 1067);
        assert_eq!(&named[..2], &[2, 4]);
        assert_eq!(i16::from_ne_bytes([named[2], named[3]]), EINPROGRESS);
        assert_eq!(u32::from_ne_bytes(named[4..8].try_into().unwrap()), 77);
        assert_eq!(client_of(&named), Some(&b"node-2"[..]));
        assert!(named[16..].iter().all(|&byte| byte == 0), "no principal of Kerberos");
        let answer = answered(message(Command::GetVersion, b"", 1034), Some(Command::GetVersion), 0);
        assert_eq!((answer.len(), answer[8]), (1034, 2));
        let mut unknown = question.clone();
        unknown[1] = 9;
        let folder = tempfile::tempdir().unwrap();
        let mut records = Records::open(&folder.path().join("nfs")).unwrap();
        assert_eq!(carry_out(&unknown, &mut records), (None, EINVAL, vec![]));
        let mut too_long = question;
        too_long[8..10].copy_from_slice(&u16::MAX.to_ne_bytes());
        assert_eq!(client_of(&too_long), None);
    }
}
