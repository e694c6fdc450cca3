//! Locks between all processes of this host: one per full name of a volume, one per volume's data, and some of the whole root. The kernel drops
//! them when their holder dies (flock(2)).
//!
//! Whoever needs several takes that of a volume's snapshots first, then that of its data, then those of names in their order.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{self, AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{
    Error,
    error::Context,
    layout::{LOCKS, Root},
    names::digest,
};

/// What the lock of a volume's data is called, before what its full name becomes.
const DATA: &str = ".data-";
/// The same of that of its snapshots.
const SNAPSHOTS: &str = ".snapshots-";

/// Held while a command changes what it is called after.
#[derive(Debug)]
pub(super) struct Lock {
    folder: OwnedFd,
    name: String,
    /// Whether others may hold it too.
    shared: bool,
    /// The open file is the lock.
    file: OwnedFd,
}

/// A volume of which others may neither take the data nor change what is noted.
#[derive(Debug)]
pub(super) struct Whole {
    /// Given back before that of the data.
    _name: Lock,
    _data: Lock,
}

impl Lock {
    /// Waits until no other command changes the volume of that full name.
    pub(super) fn acquire(root: &Root, full: &str) -> Result<Self, Error> {
        Self::awaited(root, (full, &called(full)), FlockOperation::LockExclusive)
    }

    /// `None`: another command changes it just now.
    pub(super) fn try_acquire(root: &Root, full: &str) -> Result<Option<Self>, Error> {
        Self::locked(root, (full, &called(full)), FlockOperation::NonBlockingLockExclusive)
    }

    /// The same of a lock whose file was found. `volumes`: the full names of those that it may be of.
    pub(super) fn try_found(root: &Root, name: &str, volumes: &[String]) -> Result<Option<Self>, Error> {
        let of = volumes.iter().find(|full| name == data(full) || name == of_snapshots(full));
        let called = called(of.map_or(name, |full| full));
        Self::locked(root, (name, &called), FlockOperation::NonBlockingLockExclusive)
    }

    /// Waits until nobody has it alone.
    pub(super) fn share(root: &Root, full: &str) -> Result<Self, Error> {
        Self::awaited(root, (full, &called(full)), FlockOperation::LockShared)
    }

    /// Held while a volume is copied, however long that takes: its data stays. Who only notes something of it, or mounts it, does not wait.
    pub(super) fn share_data(root: &Root, full: &str) -> Result<Self, Error> {
        Self::awaited(root, (&data(full), &of_data(full)), FlockOperation::LockShared)
    }

    /// Held where a volume may be taken from its place: waits until nobody copies it.
    pub(super) fn data(root: &Root, full: &str) -> Result<Self, Error> {
        Self::awaited(root, (&data(full), &of_data(full)), FlockOperation::LockExclusive)
    }

    /// `None`: another command copies it just now, or takes it away.
    fn try_data(root: &Root, full: &str) -> Result<Option<Self>, Error> {
        Self::locked(root, (&data(full), &of_data(full)), FlockOperation::NonBlockingLockExclusive)
    }

    /// Held while a snapshot of a volume is made, however long that takes, or goes.
    pub(super) fn snapshots(root: &Root, full: &str) -> Result<Self, Error> {
        let called = format!("the snapshots of volume '{full}'");
        Self::awaited(root, (&of_snapshots(full), &called), FlockOperation::LockExclusive)
    }

    fn awaited(root: &Root, lock: (&str, &str), how: FlockOperation) -> Result<Self, Error> {
        loop {
            if let Some(lock) = Self::locked(root, lock, how)? {
                return Ok(lock);
            }
        }
    }

    /// `called`: what the file of that name locks, for messages.
    fn locked(root: &Root, (name, called): (&str, &str), how: FlockOperation) -> Result<Option<Self>, Error> {
        let folder = root.make_folder(LOCKS)?;
        let doing = || format!("lock {called} ({})", root.path().join(LOCKS).join(name).display());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = match fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR) {
                // Whether its owner's command lives only the owner can tell.
                Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                    let user = rustix::process::geteuid().as_raw();
                    let there = fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
                    let hint = if there.is_ok_and(|stat| stat.st_uid != user) {
                        format!(
                            ": another user's command has it, or left it; if it was killed, sudo tierce --host --root {} system prune removes it",
                            root.path().display()
                        )
                    } else {
                        String::new()
                    };
                    return Err(error).doing(|| format!("{}{hint}", doing()));
                }
                other => other.doing(doing)?,
            };
            loop {
                match fs::flock(&file, how) {
                    Err(Errno::INTR) => {}
                    Err(Errno::WOULDBLOCK) => return Ok(None),
                    other => break other.doing(doing)?,
                }
            }
            // The holder before us removed the file it had locked: then ours is not the one that others will find.
            if is_at(&folder, name, &file).doing(doing)? {
                let shared = how == FlockOperation::LockShared;
                return Ok(Some(Self { folder, name: name.to_owned(), shared, file }));
            }
        }
    }

    /// Whether nobody else holds it. It is held alone then.
    fn is_last(&self) -> bool {
        // What was shared may be lost for a moment in between, and the file go with whoever had it then.
        fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_at(&self.folder, &self.name, &self.file).unwrap_or(false)
    }
}

impl Whole {
    /// Waits until no other command copies the volume of that full name or changes it.
    pub(super) fn acquire(root: &Root, full: &str) -> Result<Self, Error> {
        let data = Lock::data(root, full)?;
        Ok(Self { _name: Lock::acquire(root, full)?, _data: data })
    }

    /// `None`: another command copies it just now. One that changes what is noted of it is waited for.
    pub(super) fn unless_copied(root: &Root, full: &str) -> Result<Option<Self>, Error> {
        let Some(data) = Lock::try_data(root, full)? else { return Ok(None) };
        Ok(Some(Self { _name: Lock::acquire(root, full)?, _data: data }))
    }

    /// `None`: another command copies or changes it just now.
    pub(super) fn try_acquire(root: &Root, full: &str) -> Result<Option<Self>, Error> {
        let Some(data) = Lock::try_data(root, full)? else { return Ok(None) };
        Ok(Lock::try_acquire(root, full)?.map(|name| Self { _name: name, _data: data }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held. A file that a killed holder left is used again.
        if !self.shared || self.is_last() {
            let _ = fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// What a lock is of. Those whose names begin with a dot tell it in no words.
fn called(name: &str) -> String {
    if name.starts_with('.') { "what commands share".to_owned() } else { format!("volume '{name}'") }
}

fn of_data(full: &str) -> String {
    format!("the data of volume '{full}'")
}

/// The name of the lock of a volume's snapshots.
pub(super) fn of_snapshots(full: &str) -> String {
    format!("{SNAPSHOTS}{:032x}", digest(full))
}

/// Full names may be as long as a file's name can be.
fn data(full: &str) -> String {
    format!("{DATA}{:032x}", digest(full))
}

/// Whether that file has that name.
pub(super) fn is_at(folder: &OwnedFd, name: &str, file: &OwnedFd) -> rustix::io::Result<bool> {
    let ours = fs::fstat(file)?;
    match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    use super::*;

    fn count(root: &Root) -> usize {
        std::fs::read_dir(root.path().join(LOCKS)).unwrap().count()
    }

    #[test]
    fn whoever_does_not_wait_is_told_that_another_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let held = Lock::acquire(&root, "a").unwrap();
        assert!(Lock::try_acquire(&root, "a").unwrap().is_none());
        assert!(Lock::try_acquire(&root, "b").unwrap().is_some());
        drop(held);
        assert!(Lock::try_acquire(&root, "a").unwrap().is_some());
        assert_eq!(count(&root), 0);
    }

    #[test]
    fn what_is_shared_is_nobodys_alone_until_the_last_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let (one, two) = (Lock::share(&root, "a").unwrap(), Lock::share(&root, "a").unwrap());
        for held in [one, two] {
            assert!(Lock::try_acquire(&root, "a").unwrap().is_none());
            drop(held);
        }
        assert!(Lock::try_acquire(&root, "a").unwrap().is_some());
        assert_eq!(count(&root), 0);
    }

    #[test]
    fn a_volume_that_is_copied_is_noted_of_and_not_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let copied = Lock::share_data(&root, "a").unwrap();
        assert!(Whole::try_acquire(&root, "a").unwrap().is_none());
        assert!(Lock::try_acquire(&root, "a").unwrap().is_some());
        assert!(Whole::try_acquire(&root, "b").unwrap().is_some());
        drop(copied);
        assert!(Whole::try_acquire(&root, "a").unwrap().is_some());
        // The longest full name.
        assert!(Whole::try_acquire(&root, &"a".repeat(255)).unwrap().is_some());
        assert_eq!(count(&root), 0);
    }

    #[test]
    fn only_one_holds_it_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let (inside, shared, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for worker in 0..8 {
                let (root, inside, shared, done) = (&root, &inside, &shared, &done);
                scope.spawn(move || {
                    for round in 0..200 {
                        if (worker + round) % 3 == 0 {
                            let _lock = Lock::share(root, "a").unwrap();
                            shared.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(inside.load(Ordering::SeqCst), 0, "one has it alone");
                            shared.fetch_sub(1, Ordering::SeqCst);
                        } else {
                            let _lock = Lock::acquire(root, "a").unwrap();
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                            assert_eq!(shared.load(Ordering::SeqCst), 0, "others have it too");
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 1600);
        assert_eq!(count(&root), 0);
    }
}
