//! The files of the kernel's caches.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    answers::{Cache, Expiry},
    error::{ExportError, Trying},
};

/// A year: this process may be away for long, and what is valid only as long as it is there would end with it.
const YES: Duration = Duration::from_hours(365 * 24);
/// Short, as nobody may be there later to take it back.
const NO: Duration = Duration::from_mins(1);
/// For how long at most the time of an earlier flush is waited for. Others flush too, and the clock may be set back.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

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

/// Lets the kernel forget all answers of these caches.
///
/// Two flushes within a second, by whomever, push the time of the second one into the future, and what it is meant for stays for so long
/// (`write_flush` in `net/sunrpc/cache.c`). So the second of the one before is waited for; the kernel tells which that was.
pub(super) fn flush(caches: &[Cache]) -> Result<(), ExportError> {
    for cache in caches {
        let path = format!("/proc/net/rpc/{}/flush", cache.name());
        let doing = || format!("flush the kernel's cache {}", cache.name());
        let mut waited = Duration::ZERO;
        while fs::read_to_string(&path).trying(doing)?.trim().parse::<u64>().unwrap_or(0) >= seconds() {
            if waited >= LONGEST_WAIT {
                break;
            }
            thread::sleep(BETWEEN_LOOKS);
            waited += BETWEEN_LOOKS;
        }
        let flushed = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{}\n", seconds()).as_bytes()));
        flushed.trying(doing)?;
    }
    Ok(())
}

/// Seconds since 1970 as the kernel counts them here: by its last tick, which is up to 10 ms behind the clock.
fn seconds() -> u64 {
    const TICK: Duration = Duration::from_millis(20);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(TICK).as_secs()
}
