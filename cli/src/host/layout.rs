//! The folders below the root, reached through descriptors: a name never leads out of its folder, and no symbolic link is followed.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{
    Error,
    error::Context,
    names::{self, Name},
};
use crate::{config::SYSTEM_ROOT, privilege, terminal};

/// Folder of the data of all volumes.
pub(super) const VOLUMES: &str = "volumes";
/// Folder of the snapshots of plain volumes.
pub(super) const SNAPSHOTS: &str = "snapshots";
/// Folder of what is noted of volumes and pools.
pub(super) const STATE: &str = "state";
/// Folder of the records.
pub(super) const RECORDS: &str = "state/records";
/// Folder of the locks.
pub(super) const LOCKS: &str = "state/locks";

const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
/// What those have at root's default place that all others lie below, as Docker's own has: a container's root can leave a program in its volume
/// that runs as root whoever starts it.
const CLOSED_MODE: Mode = Mode::from_raw_mode(0o710);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    path: PathBuf,
}

impl Root {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a volume's data is, for people and other programs.
    pub(super) fn data_path(&self, name: &Name) -> PathBuf {
        self.path.join(VOLUMES).join(name.stack()).join(name.short())
    }

    /// Opens a folder below the root, given as names separated by `/`; `None`: it does not exist.
    pub(super) fn folder(&self, below: &str) -> Result<Option<OwnedFd>, Error> {
        let doing = || format!("open {}", self.path.join(below).display());
        // The root itself may be reached through links; what is below may not.
        let root =
            match fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                other => other.doing(doing)?,
            };
        match open_beneath(&root, below, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some).doing(doing),
        }
    }

    /// Opens a folder below the root, and makes what is missing.
    pub(super) fn make_folder(&self, below: &str) -> Result<OwnedFd, Error> {
        let doing = || format!("make {}", self.path.join(below).display());
        std::fs::create_dir_all(&self.path).doing(doing)?;
        let mut folder =
            fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .doing(doing)?;
        let mut mode = if self.is_closed() { CLOSED_MODE } else { FOLDER_MODE };
        for name in below.split('/') {
            folder = make_beneath(&folder, name, mode).doing(doing)?;
            mode = FOLDER_MODE;
        }
        Ok(folder)
    }

    /// Whether other users of the host are kept out, as engines keep them out of their own folder. Who chose another place than the default one
    /// chose who gets there.
    fn is_closed(&self) -> bool {
        privilege::is_root() && self.path == Path::new(SYSTEM_ROOT)
    }

    /// Closes folders that are open to everybody, as an older release or somebody's hand made them. Another mode is a wish, and stays.
    pub(super) fn close(&self) -> Result<(), Error> {
        // Where no command ever changed anything, these folders may be of something else.
        if !self.is_closed() || self.folder(LOCKS)?.is_none() {
            return Ok(());
        }
        self.close_one(SNAPSHOTS)?;
        let closed = self.close_one(VOLUMES)?;
        // That one is never made by hand: others may have relied on the way.
        if self.close_one(STATE)? && closed {
            terminal::note(&format!(
                "Warning: other users of this host no longer reach the volumes below {0} (its mode is 0710 now): show them one with tierce --host volume attach, or let them all through with chmod 0711 {0}",
                self.path.join(VOLUMES).display()
            ));
        }
        Ok(())
    }

    /// Returns whether it was open.
    fn close_one(&self, below: &str) -> Result<bool, Error> {
        let Some(folder) = self.folder(below)? else { return Ok(false) };
        let doing = || format!("close {} to other users (mode 0710)", self.path.join(below).display());
        let has = fs::fstat(&folder).doing(doing)?;
        let is_open = has.st_uid == 0 && Mode::from_raw_mode(has.st_mode) == FOLDER_MODE;
        if is_open {
            fs::fchmod(&folder, CLOSED_MODE).doing(doing)?;
        }
        Ok(is_open)
    }

    /// The folder of a stack's data, which is made where it is missing.
    pub(super) fn make_stack(&self, stack: &str) -> Result<OwnedFd, Error> {
        self.make_folder(&format!("{VOLUMES}/{stack}"))
    }

    /// The folder of a stack's data.
    pub(super) fn stack(&self, stack: &str) -> Result<Option<OwnedFd>, Error> {
        self.folder(&format!("{VOLUMES}/{stack}"))
    }

    /// Whether there is a folder with that volume's data.
    pub(super) fn has_data(&self, name: &Name) -> Result<bool, Error> {
        match self.stack(name.stack())? {
            None => Ok(false),
            Some(stack) => Ok(is_folder(&stack, name.short())
                .doing(|| format!("look at {}", self.data_path(name).display()))?),
        }
    }

    /// Every folder that is a volume, by full name; and what lies among them and can't be one.
    pub(super) fn scan(&self) -> Result<(Vec<Name>, Vec<PathBuf>), Error> {
        let (mut found, mut odd) = (Vec::new(), Vec::new());
        let Some(volumes) = self.folder(VOLUMES)? else { return Ok((found, odd)) };
        let doing = || format!("list {}", self.path.join(VOLUMES).display());
        for stack in entries(&volumes).doing(doing)? {
            if !names::is_valid(&stack) {
                odd.extend(self.odd(&[&stack]));
                continue;
            }
            let Some(folder) = self.stack(&stack).or_else(not_a_folder)? else { continue };
            for short in entries(&folder).doing(doing)? {
                match Name::new(Some(&stack), &short) {
                    Ok(name) if is_folder(&folder, &short).doing(doing)? => found.push(name),
                    _ => odd.extend(self.odd(&[&stack, &short])),
                }
            }
        }
        found.sort_by_key(Name::full);
        Ok((found, odd))
    }

    /// A path that a person should know about: our own hidden names and a filesystem's `lost+found` are none.
    fn odd(&self, below: &[&str]) -> Option<PathBuf> {
        let last = below.last()?;
        if last.starts_with('.') || *last == "lost+found" {
            return None;
        }
        Some(below.iter().fold(self.path.join(VOLUMES), |path, part| path.join(part)))
    }
}

/// A file or a link where a stack's folder could be is no stack.
fn not_a_folder(error: Error) -> Result<Option<OwnedFd>, Error> {
    match &error {
        Error::Io { source, .. }
            if matches!(Errno::from_io_error(source), Some(Errno::NOTDIR | Errno::LOOP)) =>
        {
            Ok(None)
        }
        _ => Err(error),
    }
}

/// Opens what a relative path leads to below a folder, without following links.
pub(super) fn open_beneath(folder: &OwnedFd, below: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    fs::openat2(folder, below, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Opens one folder below another, and makes it where it is missing.
fn make_beneath(folder: &OwnedFd, name: &str, mode: Mode) -> rustix::io::Result<OwnedFd> {
    match fs::mkdirat(folder, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    open_beneath(folder, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Whether a name is a folder itself, not a link to one.
pub(super) fn is_folder(within: &OwnedFd, name: &str) -> rustix::io::Result<bool> {
    match fs::statat(within, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
        Err(Errno::NOENT) => Ok(false),
        other => Ok(FileType::from_raw_mode(other?.st_mode).is_dir()),
    }
}

/// The names in a folder. One that is no UTF-8 shows with replacement characters, which no valid name has.
pub(super) fn entries(folder: &OwnedFd) -> rustix::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Reads a small file; `None`: it does not exist.
pub(super) fn read_file(folder: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    /// No file of ours is larger.
    const LIMIT: u64 = 1 << 20;
    let file = match open_beneath(folder, name, OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(None),
        other => File::from(other?),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Replaces a file so that a crash leaves the old or the new one, whole.
pub(super) fn write_file(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(fs::openat(folder, &temporary, flags, Mode::from_raw_mode(0o644))?);
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::renameat(folder, &temporary, folder, name)?;
    Ok(fs::fsync(folder)?)
}
