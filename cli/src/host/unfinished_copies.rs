//! What `volume cp` makes under a hidden name until it is whole, and what is left of that when it is killed.
//!
//! The name is of no other copy, and a note says where it is just now, which its maker holds a lock on: of a maker that is dead exactly that
//! name goes, and no file of a user's, whatever that is called.

use std::{
    cell::RefCell,
    ffi::{CString, OsStr},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self, AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{
    Error,
    error::Context,
    fail,
    layout::{self, LOCKS},
    locks,
    metadata::handle,
    volumes::{Volume, Volumes},
};
use crate::{failure, terminal};

/// How long local paths may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the hidden name begins with. Short, as names may have their greatest length.
const HIDDEN: &str = ".tierce-copy-";

/// What a note's name begins with, beside the locks, before what is of that copy alone.
const NOTE: &str = ".copy-";

/// Whether a file of that name beside the locks is no lock, but such a note.
pub(super) fn is_note(name: &str) -> bool {
    name.starts_with(NOTE)
}

/// A hidden name of its own.
pub(super) fn hidden_name() -> CString {
    hidden(&Uuid::new_v4().simple().to_string())
}

fn hidden(uuid: &str) -> CString {
    CString::new(format!("{HIDDEN}{uuid}")).expect("hexadecimal digits have no NUL")
}

/// The note of a copy under way.
pub(super) struct Note {
    folder: OwnedFd,
    /// The part of the hidden name that is of this copy alone.
    uuid: String,
    /// The full name of the volume that is copied to; empty: a local path is.
    volume: String,
    /// The filesystem of the folder that was noted last, by the number of its device.
    filesystem: RefCell<(u64, String)>,
    /// The open file is the lock.
    file: OwnedFd,
}

impl Note {
    pub(super) fn hidden_name(&self) -> CString {
        hidden(&self.uuid)
    }

    /// Notes the folder in which the next things are made.
    pub(super) fn works_in(&self, folder: &OwnedFd) -> io::Result<()> {
        // One that is deeper than a path can be has none: what is left there stays.
        let path =
            fs::readlinkat(CWD, handle(folder), Vec::new()).map_or_else(|_| Vec::new(), CString::into_bytes);
        let device = fs::fstat(folder)?.st_dev;
        let mut on = self.filesystem.borrow_mut();
        if on.1.is_empty() || on.0 != device {
            *on = (device, filesystem(folder)?);
        }
        let said = [self.volume.as_bytes(), b"\0", on.1.as_bytes(), b"\0", &path].concat();
        // Read only when this process is dead, and of this boot alone: what is written is there.
        let written = rustix::io::pwrite(&self.file, &said, 0)?;
        Ok(fs::ftruncate(&self.file, u64::try_from(written).unwrap_or(u64::MAX))?)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // While it is still held.
        let _ = fs::unlinkat(&self.folder, format!("{NOTE}{}", self.uuid), AtFlags::empty());
    }
}

impl Volumes {
    /// Notes that this process begins to copy into a volume; `None`: to a local path.
    pub(super) fn note_copy(&self, volume: Option<&str>) -> Result<Note, Error> {
        let (folder, uuid) = (self.root.make_folder(LOCKS)?, Uuid::new_v4().simple().to_string());
        let name = format!("{NOTE}{uuid}");
        let doing = || format!("note the copy in {}", self.root.path().join(LOCKS).join(&name).display());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR).doing(doing)?;
            fs::flock(&file, FlockOperation::LockExclusive).doing(doing)?;
            // Whoever saw it before it was locked took it for a dead one's.
            if locks::is_at(&folder, &name, &file).doing(doing)? {
                fail::point("copy: noted");
                let (volume, filesystem) = (volume.unwrap_or_default().to_owned(), RefCell::default());
                return Ok(Note { folder, uuid, volume, filesystem, file });
            }
        }
    }

    /// Removes what killed copies left there. That of a volume whose filesystem is not mounted just now waits until it is, and so does that of
    /// a local path.
    ///
    /// Local paths are asked aside, with patience: what hangs there, or is gone, concerns no other command.
    pub(super) fn remove_unfinished_copies(&self, whose: Whose<'_>) -> Result<(), Error> {
        let Some(folder) = self.root.folder(LOCKS)? else { return Ok(()) };
        let folder = Arc::new(folder);
        let doing = || format!("list {}", self.root.path().join(LOCKS).display());
        let mut asked = Vec::new();
        for name in layout::entries(&folder).doing(doing)? {
            let Some(left) = Left::read(&folder, &name).filter(|left| left.is(whose)) else { continue };
            let told = left.told();
            if left.volume.is_empty() {
                let (tell, answer) = mpsc::channel();
                thread::spawn(move || tell.send(left.remove()));
                asked.push((name, told, answer));
            } else if let Err(error) =
                self.can_be_reached(&left).and_then(|can| can.then(|| left.remove()).transpose())
            {
                failure::warn(&Error::Io { doing: told, source: error });
            }
        }
        let begun = Instant::now();
        for (name, told, answer) in asked {
            match answer.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                // Who cleans up everything wants to know what stays.
                Ok(Ok(false)) if whose == Whose::All => terminal::note(&format!(
                    "Warning: can't {told}: its filesystem is not mounted there now; it goes with the next tierce --host system prune when \
                     that is, and if it never is again, remove {}",
                    self.root.path().join(LOCKS).join(name).display()
                )),
                Ok(Ok(_)) => {}
                Ok(Err(source)) => failure::warn(&Error::Io { doing: told, source }),
                Err(_) => terminal::note(&format!("Warning: can't {told}: that folder does not answer")),
            }
        }
        Ok(())
    }

    /// Whether what is left in a volume can be removed now.
    fn can_be_reached(&self, left: &Left) -> io::Result<bool> {
        let volume = self.find(&left.volume).map_err(io::Error::other)?;
        let is_away = |volume: &Volume| {
            self.device_of(volume).is_some_and(|(_, devices)| !devices.is_mounted(&volume.name, &volume.path))
        };
        Ok(!volume.as_ref().is_some_and(is_away))
    }
}

/// Whose remains are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    All,
    /// Of copies to the volume of that full name.
    Volume(&'a str),
    /// Of copies to local paths on that filesystem, as [`filesystem`] calls it.
    Local(&'a str),
}

/// What a dead copy noted.
struct Left {
    folder: Arc<OwnedFd>,
    uuid: String,
    volume: String,
    filesystem: String,
    path: PathBuf,
    /// Held: nobody else removes it meanwhile.
    _lock: OwnedFd,
}

impl Left {
    /// `None`: no note, or its maker lives, or somebody removes it just now.
    fn read(folder: &Arc<OwnedFd>, name: &str) -> Option<Self> {
        let uuid = name.strip_prefix(NOTE)?.to_owned();
        let lock = layout::open_beneath(folder, name, OFlags::RDWR).ok()?;
        fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        let said = layout::read_file(folder, name).ok()??;
        let mut parts = said.splitn(3, |byte| *byte == 0);
        let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (volume, filesystem) = (text(), text());
        let path = PathBuf::from(OsStr::from_bytes(parts.next().unwrap_or_default()));
        Some(Self { folder: Arc::clone(folder), uuid, volume, filesystem, path, _lock: lock })
    }

    fn is(&self, whose: Whose<'_>) -> bool {
        match whose {
            // One that was killed before it made anything noted nothing.
            _ if self.path.as_os_str().is_empty() => true,
            Whose::All => true,
            Whose::Volume(full) => self.volume == full,
            Whose::Local(filesystem) => self.volume.is_empty() && self.filesystem == filesystem,
        }
    }

    fn told(&self) -> String {
        let hidden = self.path.join(OsStr::from_bytes(hidden(&self.uuid).as_bytes()));
        format!("remove what a killed tierce volume cp left, {}", hidden.display())
    }

    /// Removes it, and the note. `false`: its filesystem is not there.
    fn remove(&self) -> io::Result<bool> {
        if !self.is_gone()? {
            return Ok(false);
        }
        match fs::unlinkat(&*self.folder, format!("{NOTE}{}", self.uuid), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn is_gone(&self) -> io::Result<bool> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for place in self.path.ancestors() {
            let folder = match fs::openat2(CWD, place, flags, Mode::empty(), resolve) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                other => other?,
            };
            if place == self.path {
                match fs::unlinkat(&folder, &*hidden(&self.uuid), AtFlags::empty()) {
                    Ok(()) => return Ok(true),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Where its filesystem is, what is not there is gone. A volume's is, as who asks has seen to that.
            return Ok(!self.volume.is_empty() || filesystem(&folder)? == self.filesystem);
        }
        Ok(true)
    }
}

/// What tells the filesystem of a folder from others: its own id, which it keeps when its disk comes back, or where it has none the number of
/// its device.
pub(super) fn filesystem(folder: &OwnedFd) -> rustix::io::Result<String> {
    match fs::fstatvfs(folder)?.f_fsid {
        0 => Ok(format!("device {:x}", fs::fstat(folder)?.st_dev)),
        id => Ok(format!("{id:x}")),
    }
}
