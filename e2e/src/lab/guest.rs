//! A guest: a user-mode Linux over the host's root with disks of its own, which can lose its power and come back.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use rustix::process::Pid;

use super::hardware::Hardware;
use super::launch;
use super::processors::Processor;
use super::serial::{Line, Piece};
use crate::command;
use crate::folder::Folder;
use crate::token::token;

/// A boot takes a second; a machine that is busy with other things may need many times that.
const BOOT_LIMIT: Duration = Duration::from_mins(2);
/// From the command to power off to the end of the process.
const OFF_LIMIT: Duration = Duration::from_mins(1);
/// What a running job says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line of its output, without the line feed.
    Line(String),
    /// It ended with this exit status.
    Ended(u8),
}

/// How a job ended, and all of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit status.
    pub status: u8,
    /// What it wrote to standard output and standard error.
    pub output: String,
}

impl Outcome {
    /// The output of a job that succeeded; else an error with that output.
    pub fn success(self) -> Result<String> {
        ensure!(self.status == 0, "the job failed with exit status {}:\n{}", self.status, self.output);
        Ok(self.output)
    }
}

/// A guest, running or switched off. Its disks are as they were left, until it is dropped.
pub struct Guest {
    hardware: Hardware,
    disks: Vec<PathBuf>,
    processor: Processor,
    running: Option<Running>,
    jobs: u32,
    path: PathBuf,
    /// Last, so that it is removed when nothing writes into it any more.
    folder: Option<Folder>,
}

struct Running {
    child: Child,
    input: ChildStdin,
    pieces: Receiver<Piece>,
    /// Output of the job that has not been asked for yet.
    unread: Vec<u8>,
    reader: JoinHandle<()>,
}

impl Guest {
    /// A guest that is switched off, with new empty disks of these sizes in bytes: `/dev/ubda`, `/dev/ubdb`, …
    pub fn new(hardware: Hardware, disks: &[u64]) -> Result<Self> {
        let folder = Folder::new(&format!("lab.{}", hardware.name))?;
        let disks = disks
            .iter()
            .zip('a'..)
            .map(|(&bytes, letter)| folder.disk(&format!("ubd{letter}.img"), bytes))
            .collect::<Result<_>>()?;
        let path = folder.path().to_owned();
        let mut guest = Self::within(hardware, disks, path)?;
        guest.folder = Some(folder);
        Ok(guest)
    }

    /// A guest that is switched off, with these disks, in a folder that stays when this is dropped.
    pub fn within(hardware: Hardware, disks: Vec<PathBuf>, path: PathBuf) -> Result<Self> {
        launch::ensure_possible()?;
        ensure!(disks.len() <= 16, "a guest has at most 16 disks, not {}", disks.len());
        let processor = Processor::take(hardware.processor)?;
        Ok(Self { hardware, disks, processor, running: None, jobs: 0, path, folder: None })
    }

    /// The folder that it shares with the host under the same path, for files in both directions.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// The image files of its disks.
    pub fn disks(&self) -> &[PathBuf] {
        &self.disks
    }

    /// Leaves its folder behind, for a look.
    pub fn keep(&mut self) -> Result<()> {
        self.folder.as_mut().map_or(Ok(()), Folder::keep)
    }

    /// The process whose end is the guest's end; `None` when it is switched off.
    pub fn process(&self) -> Option<Pid> {
        self.running.as_ref().map(|running| Pid::from_child(&running.child))
    }

    /// Boots it and waits until it takes jobs.
    pub fn power_on(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "guest {} is running", self.hardware.name);
        let mark = token()?;
        launch::write(&self.path, &self.hardware, &mark)?;
        let mut command = launch::command(&self.path, &self.hardware, &self.disks, self.processor.number);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(self.console())?)
            // Ctrl-C in the terminal is for the caller alone.
            .process_group(0);
        let (sender, pieces) = mpsc::channel();
        let (started, starting) = mpsc::channel();
        // The guest dies with the thread that started it, so that thread stays with it to its end.
        let reader = std::thread::spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => {
                    started.send(Err(error)).ok();
                    return;
                }
            };
            let output = child.stdout.take();
            if started.send(Ok(child)).is_ok()
                && let Some(output) = output
            {
                read(output, Line::new(&mark), &sender);
            }
        });
        let mut child =
            starting.recv().context("no answer from the thread")?.context("can't start setpriv")?;
        let input = child.stdin.take().context("standard input is piped")?;
        self.running = Some(Running { child, input, pieces, unread: Vec::new(), reader });
        let deadline = Instant::now() + BOOT_LIMIT;
        loop {
            match self.next(deadline).context("while the guest booted")? {
                Some(Piece::Ended(_)) => return Ok(()),
                Some(Piece::Output(_)) => {}
                None => return Err(self.ended("did not boot in time")),
            }
        }
    }

    /// Starts a job: a script for bash. Its output comes from [`Guest::listen`].
    pub fn start(&mut self, script: &str) -> Result<()> {
        self.jobs += 1;
        let job = format!("job-{}.sh", self.jobs);
        std::fs::write(self.path.join(&job), script)?;
        let running = self.running()?;
        running.unread.clear();
        running.input.write_all(format!("{job}\n").as_bytes()).context("the guest has ended")
    }

    /// The next thing that the job says, within `limit`. After that the guest's power is cut.
    pub fn listen(&mut self, limit: Duration) -> Result<Said> {
        match self.hear(limit)? {
            Some(said) => Ok(said),
            None => Err(self.too_late()),
        }
    }

    /// The next thing that the job says; `None`: nothing within `limit`, and it goes on.
    pub fn hear(&mut self, limit: Duration) -> Result<Option<Said>> {
        let deadline = Instant::now() + limit;
        loop {
            let unread = &mut self.running()?.unread;
            if let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
                let line = unread.drain(..=end).collect::<Vec<_>>();
                return Ok(Some(Said::Line(String::from_utf8_lossy(&line[..end]).into_owned())));
            }
            match self.next(deadline)? {
                Some(Piece::Output(bytes)) => self.running()?.unread.extend(bytes),
                Some(Piece::Ended(status)) => return Ok(Some(Said::Ended(status))),
                None => return Ok(None),
            }
        }
    }

    /// Runs a job to its end and returns its output. After `limit` the guest's power is cut.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Outcome> {
        let mut output = Vec::new();
        let status = self.run_to(script, limit, &mut output)?;
        Ok(Outcome { status, output: String::from_utf8_lossy(&output).into_owned() })
    }

    /// Runs a job to its end, its output going to `sink` as it comes. After `limit` the guest's power is cut.
    pub fn run_to(&mut self, script: &str, limit: Duration, sink: &mut dyn Write) -> Result<u8> {
        self.start(script)?;
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline)? {
                Some(Piece::Output(bytes)) => {
                    sink.write_all(&bytes)?;
                    sink.flush()?;
                }
                Some(Piece::Ended(status)) => return Ok(status),
                None => return Err(self.too_late()),
            }
        }
    }

    /// Kills it, as a power cut does: what was not yet on its disks is lost. Nothing of it runs on return.
    pub fn power_cut(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.child.kill().context("can't kill the guest")?;
        // The line ends when the last process of the guest is gone, and with it the locks on the disks.
        running.reader.join().ok();
        running.child.wait().context("can't wait for the guest")?;
        Ok(())
    }

    /// Syncs its disks and switches it off.
    pub fn power_off(&mut self) -> Result<()> {
        let deadline = Instant::now() + OFF_LIMIT;
        let running = self.running()?;
        running.input.write_all(b"off\n").context("the guest has ended")?;
        loop {
            match running.pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.power_cut(),
                Err(RecvTimeoutError::Timeout) => {
                    self.power_cut()?;
                    bail!("guest {} did not power off within {OFF_LIMIT:?}", self.hardware.name);
                }
            }
        }
    }

    /// The last lines of its console: what its kernel and its init said.
    pub fn console_tail(&self) -> String {
        command::tail(&self.console(), 25)
    }

    fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }

    fn running(&mut self) -> Result<&mut Running> {
        let name = &self.hardware.name;
        self.running.as_mut().with_context(|| format!("guest {name} is switched off"))
    }

    /// `None`: nothing came until then.
    fn next(&mut self, deadline: Instant) -> Result<Option<Piece>> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.running()?.pieces.recv_timeout(left) {
            Ok(piece) => Ok(Some(piece)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended("died")),
        }
    }

    fn too_late(&mut self) -> anyhow::Error {
        self.ended("did not end its job in time")
    }

    /// Cuts its power, and says why.
    fn ended(&mut self, problem: &str) -> anyhow::Error {
        let name = self.hardware.name.clone();
        match self.power_cut() {
            Ok(()) => anyhow!("guest {name} {problem}; the end of its console:\n{}", self.console_tail()),
            Err(error) => error.context(format!("guest {name} {problem}")),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.power_cut().ok();
    }
}

/// Reads the serial line to its end. What nobody wants any more is still read, so that the guest is not stopped.
fn read(mut output: impl Read, mut line: Line, sender: &Sender<Piece>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        for piece in line.feed(&buffer[..count]) {
            sender.send(piece).ok();
        }
    }
}
