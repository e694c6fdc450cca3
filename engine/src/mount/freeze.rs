//! Freezing a mounted filesystem for a moment, so that its device holds still.
//!
//! A filesystem that stays frozen hangs everybody who writes to it, so a process of its own is started first:
//! it thaws after the limit, or at once when the process that froze is gone. It holds nothing but the mounted
//! folder and one end of a pipe, and outlives a `kill -9` of its parent. What kills both at the same moment
//! (a container whose first process ends) leaves the filesystem frozen until [`crate::Engine::recover`] of
//! the next process.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    fs,
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
};

use crate::{Error, error::Context, kernel, lasting::lasting};

/// Runs `work` while the filesystem is frozen. `false`: it was thawed before `work` was through. `what`: the
/// mount point, for messages.
pub(crate) fn while_frozen(
    mounted: &OwnedFd,
    limit: Duration,
    what: &str,
    work: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<bool, Error> {
    let doing = || format!("freeze the filesystem at {what}");
    // What is to be written is written before, so that the freeze itself is short.
    fs::syncfs(mounted).doing(|| format!("write out the filesystem at {what}"))?;
    let begun = Instant::now();
    let watchdog = Watchdog::start(mounted, limit).doing(doing)?;
    match lasting("freeze", || kernel::freeze(mounted)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            return Err(Error::Io {
                doing: format!("{}: somebody froze it already (`fsfreeze -u {what}` ends that)", doing()),
                source: error,
            });
        }
        Err(error) => {
            // Nothing is frozen, or it is not known.
            let _ = thaw(mounted);
            return Err(error).doing(doing);
        }
    }
    let frozen = Frozen(mounted);
    let worked = work();
    // After the limit what is frozen may be another's freeze, and the thaw of that says nothing of ours.
    let in_time = begun.elapsed() < limit;
    let thawed = lasting("thaw", || frozen.thaw()).doing(|| format!("thaw the filesystem at {what}"))?;
    drop(watchdog);
    worked.map(|()| thawed && in_time)
}

/// Ends a freeze. Returns `false` if there was none.
pub(crate) fn thaw(mounted: impl AsFd) -> io::Result<bool> {
    match kernel::thaw(mounted) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A freeze that ends with this value, also in a panic.
struct Frozen<'a>(&'a OwnedFd);

impl Frozen<'_> {
    fn thaw(self) -> io::Result<bool> {
        let thawed = thaw(self.0);
        std::mem::forget(self);
        thawed
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = thaw(self.0);
    }
}

/// The process that thaws when we don't.
struct Watchdog {
    process: Pid,
    told: OwnedFd,
}

impl Watchdog {
    fn start(mounted: &OwnedFd, limit: Duration) -> io::Result<Self> {
        let (listening, told) = pipe_with(PipeFlags::CLOEXEC)?;
        let process = kernel::thaw_unless_told(mounted.as_fd(), listening.as_fd(), limit)?;
        Ok(Self { process, told })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // A process that is gone already has thawed and needs no word.
        let _ = rustix::io::write(&self.told, &[1]);
        let _ = waitpid(Some(self.process), WaitOptions::empty());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        path::{Path, PathBuf},
        process::{Command, Stdio},
        thread,
    };

    use rustix::{
        fs::{Mode, OFlags},
        mount::UnmountFlags,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const FOLDER: &str = "TIERCE_FREEZE_FOLDER";

    /// An ext4 on a loop device, unmounted at the end.
    struct Mounted {
        folder: tempfile::TempDir,
    }

    fn run(program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    impl Mounted {
        /// `None` (and a line that says so) without root.
        fn new(test: &str) -> Option<Self> {
            if !rustix::process::geteuid().is_root() {
                println!("skipped: {test} needs root");
                return None;
            }
            let folder = tempfile::Builder::new().prefix("tierce-freeze-").tempdir().unwrap();
            let (image, at) = (folder.path().join("image"), folder.path().join("at"));
            std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
            std::fs::create_dir(&at).unwrap();
            run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
            run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()]);
            Some(Self { folder })
        }

        fn at(&self) -> PathBuf {
            self.folder.path().join("at")
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = thaw(open(&self.at()));
            // The helper of a killed process holds the filesystem until it has ended, a moment after its
            // thaw.
            let start = Instant::now();
            while rustix::mount::unmount(self.at(), UnmountFlags::empty()) == Err(rustix::io::Errno::BUSY) {
                assert!(start.elapsed() < Duration::from_secs(10), "{} stays busy", self.at().display());
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn open(path: &Path) -> OwnedFd {
        fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// How long a write to the filesystem takes.
    fn write(at: &Path) -> Duration {
        let start = Instant::now();
        std::fs::write(at.join("file"), b"x").unwrap();
        start.elapsed()
    }

    #[test]
    fn a_filesystem_is_still_during_the_work_and_writable_after_it() {
        let Some(mounted) = Mounted::new("a_filesystem_is_still_during_the_work") else { return };
        let (at, folder) = (mounted.at(), open(&mounted.at()));
        let mut writer = None;
        let still = while_frozen(&folder, LIMIT, "x", &mut || {
            let at = at.clone();
            writer = Some(thread::spawn(move || write(&at)));
            thread::sleep(Duration::from_millis(300));
            assert!(!writer.as_ref().unwrap().is_finished(), "somebody wrote to a frozen filesystem");
            Ok(())
        });
        assert!(still.unwrap());
        assert!(writer.unwrap().join().unwrap() > Duration::from_millis(250));
        let failed =
            while_frozen(&folder, LIMIT, "x", &mut || Err(Error::Unsupported("no".to_owned()))).unwrap_err();
        assert!(matches!(failed, Error::Unsupported(_)), "{failed:?}");
        write(&at);
        let panicked =
            std::panic::catch_unwind(|| while_frozen(&folder, LIMIT, "x", &mut || panic!("on purpose")));
        assert!(panicked.is_err());
        write(&at);
        kernel::freeze(&folder).unwrap();
        let busy = while_frozen(&folder, LIMIT, "x", &mut || Ok(())).unwrap_err();
        assert!(busy.to_string().contains("fsfreeze -u"), "{busy}");
        assert!(thaw(&folder).unwrap(), "who froze before us was thawed");
    }

    #[test]
    fn bug_31_work_that_hangs_is_cut_off_by_the_thaw() {
        let Some(mounted) = Mounted::new("bug_31_work_that_hangs") else { return };
        let (at, folder) = (mounted.at(), open(&mounted.at()));
        let limit = Duration::from_millis(300);
        let still = while_frozen(&folder, limit, "x", &mut || {
            write(&at);
            Ok(())
        });
        assert!(!still.unwrap(), "the work went on after the thaw and was not told so");
        // Somebody else freezes it then.
        let still = while_frozen(&folder, limit, "x", &mut || {
            write(&at);
            kernel::freeze(&folder).unwrap();
            Ok(())
        });
        assert!(!still.unwrap(), "the freeze of another was taken for one's own");
    }

    #[test]
    #[ignore = "started and killed by the test below"]
    fn freezer() {
        let folder = std::env::var(FOLDER).unwrap();
        while_frozen(&open(Path::new(&folder)), LIMIT, "x", &mut || {
            println!("frozen");
            loop {
                thread::park();
            }
        })
        .unwrap();
    }

    #[test]
    fn bug_31_a_process_killed_while_it_freezes_leaves_nothing_frozen() {
        let Some(mounted) = Mounted::new("bug_31_a_process_killed_while_it_freezes") else { return };
        // At once, and so late that the limit itself is near.
        for pause in [Duration::ZERO, Duration::from_millis(1500)] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "mount::freeze::tests::freezer", "--ignored", "--nocapture"])
                .env(FOLDER, mounted.at())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("frozen")));
            let frozen = Instant::now();
            thread::sleep(pause);
            child.kill().unwrap();
            child.wait().unwrap();
            write(&mounted.at());
            assert!(frozen.elapsed() < LIMIT + Duration::from_millis(500), "{:?}", frozen.elapsed());
        }
    }
}
