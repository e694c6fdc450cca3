//! One lock per full name, between all processes of this host. The kernel drops it when its holder dies (flock(2)).

use std::os::fd::OwnedFd;

use rustix::{
    fs::{self, AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    Error,
    error::Context,
    layout::{LOCKS, Root},
};

/// Held while a command changes a volume.
#[derive(Debug)]
pub(super) struct Lock {
    folder: OwnedFd,
    name: String,
    /// The open file is the lock.
    _file: OwnedFd,
}

impl Lock {
    /// Waits until no other command changes the volume of that full name.
    pub(super) fn acquire(root: &Root, full: &str) -> Result<Self, Error> {
        loop {
            if let Some(lock) = Self::locked(root, full, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    /// `None`: another command changes it just now.
    pub(super) fn try_acquire(root: &Root, full: &str) -> Result<Option<Self>, Error> {
        Self::locked(root, full, FlockOperation::NonBlockingLockExclusive)
    }

    fn locked(root: &Root, full: &str, how: FlockOperation) -> Result<Option<Self>, Error> {
        let folder = root.make_folder(LOCKS)?;
        let doing = || format!("lock volume '{full}' ({})", root.path().join(LOCKS).join(full).display());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = fs::openat(&folder, full, flags, Mode::RUSR | Mode::WUSR).doing(doing)?;
            loop {
                match fs::flock(&file, how) {
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) => return Ok(None),
                    other => break other.doing(doing)?,
                }
            }
            // The holder before us removed the file it had locked: then ours is not the one that others will find.
            let ours = fs::fstat(&file).doing(doing)?;
            match fs::statat(&folder, full, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {
                    return Ok(Some(Self { folder, name: full.to_owned(), _file: file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).doing(doing),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held. A file that a killed holder left is used again.
        let _ = fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn whoever_does_not_wait_is_told_that_another_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let held = Lock::acquire(&root, "a").unwrap();
        assert!(Lock::try_acquire(&root, "a").unwrap().is_none());
        assert!(Lock::try_acquire(&root, "b").unwrap().is_some());
        drop(held);
        assert!(Lock::try_acquire(&root, "a").unwrap().is_some());
        assert_eq!(std::fs::read_dir(folder.path().join(LOCKS)).unwrap().count(), 0);
    }

    #[test]
    fn only_one_holds_it_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let (inside, done) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _lock = Lock::acquire(&root, "a").unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                        done.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 1600);
        assert_eq!(std::fs::read_dir(folder.path().join(LOCKS)).unwrap().count(), 0);
    }
}
