//! Talking with a program that runs: its input, what it says, and its end, all at once and with a limit. By
//! poll(2) in the calling thread, so that it needs no runtime, which may be gone before the program is.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// How a program ended and what it said.
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Ending,
    Input,
    Output,
    Errors,
}

/// Gives a program its input and waits for its end; `None`: it took longer than `limit`, and was killed.
/// Processes that it leaves behind are not waited for, also when they hold its streams.
pub(super) fn hold(child: Child, input: &[u8], limit: Duration) -> io::Result<Option<Said>> {
    let deadline = Instant::now() + limit;
    let mut running = Running(Some(child));
    let child = running.0.as_mut().expect("it was just put there");
    let ending = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let (mut stdin, mut output, mut errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    for pipe in
        [stdin.as_ref().map(AsFd::as_fd), output.as_ref().map(AsFd::as_fd), errors.as_ref().map(AsFd::as_fd)]
    {
        pipe.map_or(Ok(()), |pipe| ioctl_fionbio(pipe, true))?;
    }
    let (mut left, mut stdout, mut stderr) = (input, Vec::new(), Vec::new());
    loop {
        let Some(patience) = deadline.checked_duration_since(Instant::now()) else { return Ok(None) };
        let parts = [
            (Part::Ending, Some(ending.as_fd()), PollFlags::IN),
            (Part::Input, stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (Part::Output, output.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (Part::Errors, errors.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let ready = ready(&parts, patience)?;
        let is_ready = |part: Part| ready.contains(&part);
        if is_ready(Part::Input) && !feed(stdin.as_mut(), &mut left) {
            stdin = None;
        }
        // What it said before it ended is in the pipes when its end is known.
        let ended = is_ready(Part::Ending);
        if (ended || is_ready(Part::Output)) && !drain(output.as_mut(), &mut stdout)? {
            output = None;
        }
        if (ended || is_ready(Part::Errors)) && !drain(errors.as_mut(), &mut stderr)? {
            errors = None;
        }
        if ended {
            return Ok(Some(Said { status: running.end()?, stdout, stderr }));
        }
    }
}

fn ready(
    parts: &[(Part, Option<BorrowedFd<'_>>, PollFlags)],
    patience: Duration,
) -> rustix::io::Result<Vec<Part>> {
    let open = parts.iter().filter_map(|(part, fd, flags)| Some((*part, (*fd)?, *flags)));
    let (names, mut fds): (Vec<Part>, Vec<PollFd<'_>>) =
        open.map(|(part, fd, flags)| (part, PollFd::from_borrowed_fd(fd, flags))).unzip();
    let patience = Timespec::try_from(patience).map_err(|_| Errno::INVAL)?;
    match poll(&mut fds, Some(&patience)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let ready = names.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    Ok(ready.map(|(part, _)| part).collect())
}

/// Writes as much as fits. Whether there is more to write.
fn feed(pipe: Option<&mut impl Write>, left: &mut &[u8]) -> bool {
    let Some(pipe) = pipe else { return false };
    while !left.is_empty() {
        match pipe.write(left) {
            Ok(0) => return false,
            Ok(written) => *left = &left[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A program that ended without reading says by its exit code what was wrong.
            Err(_) => return false,
        }
    }
    false
}

/// Reads what is there. Whether more may come.
fn drain(pipe: Option<&mut impl Read>, into: &mut Vec<u8>) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut piece = [0; 8 << 10];
    loop {
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(false),
            Ok(length) => into.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A program that does not outlive our interest in it.
struct Running(Option<Child>);

impl Running {
    fn end(mut self) -> io::Result<ExitStatus> {
        self.0.take().expect("it ends once").wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let _ = child.kill();
        // One that waits in the kernel for a disk dies only when that answers, and nothing should wait for
        // that.
        let _ = thread::Builder::new().name("tierce-reaper".to_owned()).spawn(move || child.wait());
    }
}
