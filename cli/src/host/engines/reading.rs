//! Files that others may have put there, read as such.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsRawFd,
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::fs::{self, FileType, Mode, OFlags};

use super::sources;

/// No file that we read is larger.
const LIMIT: u64 = 1 << 20;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is no file")]
    NoFile,
    #[error("it has more than {} MiB", LIMIT >> 20)]
    TooLarge,
    #[error("it does not answer within {} s", .0.as_secs())]
    TooSlow(Duration),
}

impl Unread {
    /// Whether it is as if there were none, for whoever asks with our rights.
    pub(super) fn is_absent(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        matches!(self, Self::Io(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied))
    }
}

/// What a file has. A pipe, a device and what never ends are refused, and one on a server that is gone is not waited for.
pub(super) fn read(path: &Path, patience: Duration) -> Result<Vec<u8>, Unread> {
    let name = path.display().to_string();
    // Nobody can take back a call that waits for a server. Its thread is left to itself, and no second one waits for the same.
    if sources::is_stuck(&name, patience) {
        return Err(Unread::TooSlow(patience));
    }
    let (found, answer) = mpsc::channel();
    let asked = path.to_owned();
    thread::Builder::new().spawn(move || {
        sources::waits_for(&name);
        let text = read_file(&asked);
        sources::waits_no_more_for(&name);
        // Nobody waits any more: it was too slow.
        let _ = found.send(text);
    })?;
    answer.recv_timeout(patience).unwrap_or(Err(Unread::TooSlow(patience)))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Unread> {
    // A device does something when it is opened; only what it is can be seen before.
    let place = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)?;
    let has = fs::fstat(&place).map_err(io::Error::from)?;
    if FileType::from_raw_mode(has.st_mode) != FileType::RegularFile {
        return Err(Unread::NoFile);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = fs::open(format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty());
    let mut text = Vec::new();
    File::from(file.map_err(io::Error::from)?).take(LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LIMIT { Err(Unread::TooLarge) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_common_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let read = |name: &str| read(&at(name), Duration::from_mins(1));
        std::fs::write(at("file"), "text").unwrap();
        assert_eq!(read("file").unwrap(), b"text");
        assert!(read("none").unwrap_err().is_absent());
        fs::mknodat(fs::CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        for name in ["pipe", "device", ""] {
            let error = read(name).unwrap_err();
            assert!(matches!(error, Unread::NoFile) && !error.is_absent(), "{name}: {error}");
        }
        File::create(at("large")).unwrap().set_len(LIMIT + 1).unwrap();
        assert!(matches!(read("large"), Err(Unread::TooLarge)));
    }

    #[test]
    fn one_that_is_waited_for_already_is_not_waited_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        sources::waits_for(&file.display().to_string());
        assert!(matches!(read(&file, Duration::ZERO), Err(Unread::TooSlow(_))));
    }
}
