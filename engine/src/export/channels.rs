//! The files of the kernel's caches.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    answers::{Cache, Expiry},
    error::{ExportError, Trying},
};

/// A year: this process may be away for long, and what is valid only as long as it is there would end with it.
const YES: Duration = Duration::from_hours(365 * 24);
/// Short, as nobody may be there later to take it back.
const NO: Duration = Duration::from_mins(1);
/// Two flushes within a second push the time of the second one into the future, and the entries that it is meant for stay for so long
/// (`write_flush` in `net/sunrpc/cache.c`).
const BETWEEN_FLUSHES: Duration = Duration::from_millis(1100);

/// When what is said now is to be asked again.
pub(super) fn expiry() -> Expiry {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Expiry { yes: (now + YES).as_secs(), no: (now + NO).as_secs() }
}

/// The file through which a cache asks, and is told. `asked`: to be read too; whoever only tells must not count as somebody who answers.
pub(super) fn open(cache: Cache, asked: bool) -> io::Result<File> {
    OpenOptions::new().read(asked).write(true).open(format!("/proc/net/rpc/{}/channel", cache.name()))
}

/// Tells a cache one line: in one call, since the kernel takes each for a line of its own.
pub(super) fn tell(mut channel: &File, line: &str) -> io::Result<()> {
    let written = channel.write(line.as_bytes())?;
    if written == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// When the caches were flushed last.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    last: Option<Instant>,
}

impl Flushes {
    /// Lets the kernel forget all answers of these caches. Waits until the flush before is a second old.
    pub(super) fn flush(&mut self, caches: &[Cache]) -> Result<(), ExportError> {
        if let Some(last) = self.last {
            thread::sleep(BETWEEN_FLUSHES.saturating_sub(last.elapsed()));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for cache in caches {
            let path = format!("/proc/net/rpc/{}/flush", cache.name());
            let flushed = OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write_all(format!("{now}\n").as_bytes()));
            flushed.trying(|| format!("flush the kernel's cache {}", cache.name()))?;
        }
        self.last = Some(Instant::now());
        Ok(())
    }
}
