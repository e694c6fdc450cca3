//! The thread that answers the kernel's questions about clients.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::{
    answers::{self, Cache},
    channels,
    error::{ExportError, Trying},
    root,
    table::Table,
};

/// The table that is answered from; `None`: not known yet, so nobody is answered.
pub(super) type Shared = Arc<Mutex<Option<Table>>>;

/// Answers until it is dropped.
pub(super) struct Answering {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// Opens the caches, which from now on wait for us, and answers.
    pub(super) fn start(table: Shared) -> Result<Self, ExportError> {
        let channels: Vec<(Cache, File)> = Cache::ALL
            .into_iter()
            .map(|cache| Ok((cache, channels::open(cache, true)?)))
            .collect::<io::Result<_>>()
            .trying(|| "open the caches of the kernel's NFS server".to_owned())?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).trying(|| "make a way to stop a thread".to_owned())?;
        let stop = Arc::new(stop);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("nfsd-caches".to_owned())
            .spawn(move || serve(&channels, &stopped, &table))
            .trying(|| "start a thread".to_owned())?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(channels: &[(Cache, File)], stop: &OwnedFd, table: &Shared) {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let mut waited: Vec<PollFd<'_>> =
            channels.iter().map(|(_, file)| PollFd::new(file, PollFlags::IN)).collect();
        waited.push(PollFd::new(stop, PollFlags::IN));
        if poll(&mut waited, None).is_err() {
            continue;
        }
        if waited.last().is_some_and(|stop| !stop.revents().is_empty()) {
            return;
        }
        let ready: Vec<bool> = waited.iter().map(|one| !one.revents().is_empty()).collect();
        for ((cache, file), _) in channels.iter().zip(ready).filter(|(_, ready)| *ready) {
            let mut reader = file;
            match reader.read(&mut buffer) {
                Ok(length @ 1..) => {
                    let questions = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    questions.lines().for_each(|question| say(*cache, file, question, table));
                }
                // What was asked is no more.
                Ok(0) => {}
                Err(error) => {
                    tracing::warn!(cache = cache.name(), %error, "a question of the kernel's NFS server could not be read");
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        }
    }
}

/// Answers one question. The table is held meanwhile: a no by an older one would otherwise come after the yes of the next.
fn say(cache: Cache, channel: &File, question: &str, table: &Shared) {
    let table = table.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(table) = table.as_ref() else { return };
    let mounted = |id: &crate::VolumeId| is_mounted(table.root(), &table.path(id));
    let answer = answers::answer(table, cache, question, channels::expiry(), mounted);
    tracing::debug!(cache = cache.name(), question, ?answer, "the kernel's NFS server asked");
    if let Some(answer) = answer
        && let Err(error) = channels::tell(channel, &answer)
    {
        tracing::warn!(cache = cache.name(), answer, %error, "the kernel's NFS server refused an answer");
    }
}

fn is_mounted(root: &Path, path: &Path) -> bool {
    root::device(path).is_some_and(|device| root::device(root).is_some_and(|below| below != device))
}
