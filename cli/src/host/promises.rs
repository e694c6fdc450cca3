//! The room that commands set aside while they make something, told to each other through files beside the locks: the file's name says how
//! much and for what, and its maker holds a lock on it, which the kernel drops when that dies.

use std::{
    collections::BTreeSet,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{self, AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};
use tierce_engine::{Error, Promise, VolumeId};
use uuid::Uuid;

use super::{
    fail,
    layout::{self, LOCKS, Root},
    locks::Lock,
};

/// What such a file's name begins with. No volume has such a name.
const PREFIX: &str = ".promise-";
/// What the lock of those who decide about one disk is called, before its number.
const TURN: &str = ".promises-of-";
/// What the lock of whoever holds a mounted volume still is called, before the id of its device.
const FREEZE: &str = ".freeze-";

/// All of one root.
pub(super) struct Promises {
    root: Root,
    /// The names of this process's own.
    own: Arc<Mutex<BTreeSet<String>>>,
}

/// What this process set aside.
struct Told {
    folder: OwnedFd,
    name: String,
    own: Arc<Mutex<BTreeSet<String>>>,
    /// The open file is the lock.
    file: OwnedFd,
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
        names(&self.own).remove(&self.name);
    }
}

impl Promises {
    pub(super) fn new(root: &Root) -> Self {
        Self { root: root.clone(), own: Arc::default() }
    }

    /// What other processes set aside on a disk. What killed ones left goes. In that disk's turn.
    fn others(&self, folder: &OwnedFd, disk: u64) -> io::Result<Vec<Promise>> {
        let mut found = Vec::new();
        for name in layout::entries(folder)? {
            let Some((_, promise)) = read(&name).filter(|(of, _)| *of == disk) else { continue };
            if !names(&self.own).contains(&name) && is_held(folder, &name)? {
                found.push(promise);
            }
        }
        Ok(found)
    }

    /// Removes what killed processes left. Where others decide just now they see to it themselves.
    pub(super) fn forget_the_dead(&self) -> Result<(), super::Error> {
        let Some(folder) = self.root.folder(LOCKS)? else { return Ok(()) };
        let disks: BTreeSet<u64> = layout::entries(&folder)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| read(name).map(|(disk, _)| disk))
            .collect();
        for disk in disks {
            // What another user has there hinders no clean-up.
            if let Ok(Some(_turn)) = Lock::try_acquire(&self.root, &turn(disk)) {
                let _ = self.others(&folder, disk);
            }
        }
        Ok(())
    }
}

impl tierce_engine::Promises for Promises {
    fn set_aside(
        &self,
        disk: u64,
        decide: &mut dyn FnMut(&[Promise]) -> Result<Promise, Error>,
    ) -> Result<Box<dyn Send>, Error> {
        let failed = |source: io::Error| Error::Io { doing: "say what room is set aside".to_owned(), source };
        let turn = Lock::acquire(&self.root, &turn(disk)).map_err(io::Error::other).map_err(failed)?;
        let folder = self.root.make_folder(LOCKS).map_err(io::Error::other).map_err(failed)?;
        let promise = decide(&self.others(&folder, disk).map_err(failed)?)?;
        let name = written(disk, &promise);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        names(&self.own).insert(name.clone());
        let told = Told { folder, name, own: Arc::clone(&self.own), file };
        // Nobody looks before the turn ends.
        fs::flock(&told.file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(error.into()))?;
        drop(turn);
        fail::point("room: set aside");
        Ok(Box::new(told))
    }

    fn turn_to_freeze(&self, volume: &VolumeId) -> Result<Box<dyn Send>, Error> {
        let turn = Lock::acquire(&self.root, &format!("{FREEZE}{volume}"));
        let failed = |error| Error::Io {
            doing: "wait for whoever holds the volume still".to_owned(),
            source: io::Error::other(error),
        };
        Ok(Box::new(turn.map_err(failed)?))
    }
}

fn names(own: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

fn turn(disk: u64) -> String {
    format!("{TURN}{disk:x}")
}

/// The name of a file that says it. Files would take room where there may be none.
fn written(disk: u64, Promise { id, bytes, left }: &Promise) -> String {
    let id = id.as_ref().map_or("", |id| id.as_str());
    format!("{PREFIX}{disk:x}-{bytes}-{left}-{}-{id}", Uuid::new_v4().simple())
}

fn read(name: &str) -> Option<(u64, Promise)> {
    let mut fields = name.strip_prefix(PREFIX)?.splitn(5, '-');
    let disk = u64::from_str_radix(fields.next()?, 16).ok()?;
    let (bytes, left) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let _uuid = fields.next()?;
    let id = match fields.next()? {
        "" => None,
        id => Some(id.parse().ok()?),
    };
    Some((disk, Promise { id, bytes, left }))
}

/// Whether a file of that name is no lock, but says what room is set aside.
pub(super) fn is_one(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether its maker lives. What a dead one left is removed.
fn is_held(folder: &OwnedFd, name: &str) -> io::Result<bool> {
    let file =
        match fs::openat(folder, name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
        Ok(()) => match fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use tierce_engine::Promises as _;

    use super::*;

    const DISK: u64 = 0xfd00;

    fn seen(promises: &Promises) -> Vec<Promise> {
        let mut seen = Vec::new();
        let nothing = promises.set_aside(DISK, &mut |others| {
            seen = others.to_vec();
            Err(Error::Unsupported("nothing".to_owned()))
        });
        assert!(nothing.is_err());
        seen
    }

    #[test]
    fn what_a_name_says_is_read_again() {
        for id in [None, Some("h00ff"), Some("before-20261130-215500-00ff00ff")] {
            let promise = Promise { id: id.map(|id| id.parse().unwrap()), bytes: u64::MAX, left: 7 };
            assert_eq!(read(&written(DISK, &promise)), Some((DISK, promise)));
        }
        for other in
            [".promise-", ".promise-fd00-1-", ".promise-fd00-x-0-", ".promises-of-fd00", "promise", ".room"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn others_see_it_until_it_is_over_or_its_maker_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let (here, there) = (Promises::new(&root), Promises::new(&root));
        let promise = Promise { id: Some("one".parse().unwrap()), bytes: 4096, left: 0 };
        let told = here.set_aside(DISK, &mut |_| Ok(promise.clone())).unwrap();
        assert_eq!(seen(&there), std::slice::from_ref(&promise));
        assert!(seen(&here).is_empty(), "its own");
        let other = there.set_aside(DISK + 1, &mut |others| {
            assert!(others.is_empty(), "of another disk");
            Ok(promise.clone())
        });
        drop(other);
        there.forget_the_dead().unwrap();
        assert_eq!(seen(&there), std::slice::from_ref(&promise));
        drop(told);
        assert!(seen(&there).is_empty());
        // As a killed process leaves it.
        let locks = folder.path().join(LOCKS);
        for decides in [true, false] {
            std::fs::write(locks.join(written(DISK, &promise)), "").unwrap();
            if decides {
                assert!(seen(&there).is_empty());
            } else {
                there.forget_the_dead().unwrap();
            }
            assert_eq!(std::fs::read_dir(&locks).unwrap().count(), 0);
        }
    }
}
