//! A path where something is, or will be, mounted: held by its parent's descriptor and its own name, so that
//! nothing can swap what lies between.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Error, error::Context, lasting::lasting};

/// Mode of a mount point that waits for its mount: only root can look inside.
const SEALED: Mode = Mode::empty();

/// Mode of one that nothing is mounted on any more: its owner, who made it, can remove it.
const UNSEALED: Mode = Mode::RWXU;

/// What is at a place, apart from mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Directory,
    File,
    Other,
}

/// A path at which something is or will be mounted: the folder above, held open, and a name in it.
#[derive(Debug)]
pub(crate) struct Place {
    parent: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Opens the parent folder of a path. `None` where it is missing: then nothing can be at the path either.
    ///
    /// The parent may be reached through symbolic links (a kubelet's root often is); the last component never
    /// is.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let bad = |why: &str| Error::InvalidArgument(format!("path {} {why}", path.display()));
        if !path.is_absolute() {
            return Err(bad("is not absolute"));
        }
        if path.components().any(|component| component == Component::ParentDir)
            || path.as_os_str().as_bytes().contains(&0)
        {
            return Err(bad("has '..' or a NUL in it"));
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(bad("is the root"));
        };
        let parent = match fs::open(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                return Err(bad("has a parent that is no directory"));
            }
            other => other.doing(|| format!("open {}", above.display()))?,
        };
        let real =
            fs::readlink(fd_path(&parent), Vec::new()).doing(|| format!("resolve {}", above.display()))?;
        let path = Path::new(OsStr::from_bytes(real.as_bytes())).join(name);
        Ok(Some(Self { parent, name: name.to_owned(), path }))
    }

    /// The path without symbolic links, as mountinfo writes it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The error for a place at which something else was found.
    pub(crate) fn foreign(&self, found: &str) -> Error {
        Error::ForeignTarget { path: self.path.clone(), found: found.to_owned() }
    }

    /// A path for calls that only take one: the parent by its descriptor, then the name, which must not be
    /// followed.
    pub(crate) fn call_path(&self) -> PathBuf {
        Path::new(&fd_path(&self.parent)).join(&self.name)
    }

    /// Looks what is there. This asks the filesystem, so call it only where nothing is mounted.
    pub(crate) fn found(&self) -> Result<Found, Error> {
        match fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(error).doing(|| format!("look at {}", self.path.display())),
            Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Found::Directory,
                FileType::RegularFile if stat.st_size == 0 => Found::File,
                _ => Found::Other,
            }),
        }
    }

    /// A handle for mount calls.
    pub(crate) fn handle(&self) -> io::Result<OwnedFd> {
        Ok(self.open_beneath(OFlags::PATH)?)
    }

    /// A handle for calls on the mounted filesystem itself.
    pub(crate) fn directory(&self) -> Result<OwnedFd, Error> {
        self.open_beneath(OFlags::RDONLY | OFlags::DIRECTORY)
            .doing(|| format!("open {}", self.path.display()))
    }

    fn open_beneath(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // BENEATH would refuse nothing more than NO_SYMLINKS does for a single name, and NO_XDEV must stay
        // off: mounts are crossed here.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(
            &self.parent,
            &self.name,
            flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    }

    /// Whether the directory there has no entries.
    pub(crate) fn is_empty_directory(&self) -> Result<bool, Error> {
        let directory = self.directory()?;
        let mut entries = fs::Dir::read_from(&directory).doing(|| format!("read {}", self.path.display()))?;
        let other = entries.find(|entry| match entry {
            Ok(entry) => !matches!(entry.file_name().to_bytes(), b"." | b".."),
            Err(_) => true,
        });
        Ok(other.is_none())
    }

    /// Makes a directory.
    pub(crate) fn make_directory(&self) -> Result<(), Error> {
        match lasting("make a directory", || fs::mkdirat(&self.parent, &self.name, UNSEALED)) {
            Err(Errno::EXIST) => Ok(()),
            other => other.doing(|| format!("make directory {}", self.path.display())),
        }
    }

    /// Makes an empty file, to bind a device node onto.
    pub(crate) fn make_file(&self) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match lasting("make a file", || fs::openat(&self.parent, &self.name, flags, UNSEALED)) {
            Err(Errno::EXIST) => Ok(()),
            other => other.map(drop).doing(|| format!("make file {}", self.path.display())),
        }
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&self) -> Result<(), Error> {
        self.remove(AtFlags::REMOVEDIR)
    }

    /// Removes a file.
    pub(crate) fn remove_file(&self) -> Result<(), Error> {
        self.remove(AtFlags::empty())
    }

    fn remove(&self, flags: AtFlags) -> Result<(), Error> {
        match lasting("remove a mount point", || fs::unlinkat(&self.parent, &self.name, flags)) {
            Err(Errno::NOENT) => Ok(()),
            other => other.doing(|| format!("remove {}", self.path.display())),
        }
    }

    /// Makes the directory or file at the place untouchable even for root, as far as its filesystem can: what
    /// a program writes to a mount point that lost its mount would be lost (and would fill the host's disk).
    pub(crate) fn seal(&self) -> Result<(), Error> {
        let handle = self.open_beneath(OFlags::RDONLY).doing(|| format!("open {}", self.path.display()))?;
        // One that a crash or a reboot left sealed can't be changed, and need not be.
        if fs::ioctl_getflags(&handle).is_ok_and(|flags| flags.contains(fs::IFlags::IMMUTABLE)) {
            return Ok(());
        }
        lasting("close to others", || fs::fchmod(&handle, SEALED))
            .doing(|| format!("close {} to others", self.path.display()))?;
        // Not every filesystem has this flag (tmpfs before 6.6, overlayfs); the mode above is then all there
        // is.
        let _ = change_flags(&handle, |flags| flags | fs::IFlags::IMMUTABLE);
        Ok(())
    }

    /// Undoes [`Self::seal`].
    pub(crate) fn unseal(&self) -> Result<(), Error> {
        let handle = match self.open_beneath(OFlags::RDONLY) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.doing(|| format!("open {}", self.path.display()))?,
        };
        match change_flags(&handle, |flags| flags - fs::IFlags::IMMUTABLE) {
            Ok(()) | Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error).doing(|| format!("make {} changeable", self.path.display())),
        }
        lasting("open to its owner", || fs::fchmod(&handle, UNSEALED))
            .doing(|| format!("open {} to its owner", self.path.display()))
    }
}

fn change_flags(handle: &OwnedFd, change: impl FnOnce(fs::IFlags) -> fs::IFlags) -> rustix::io::Result<()> {
    let before = fs::ioctl_getflags(handle)?;
    let after = change(before);
    if after == before { Ok(()) } else { lasting("change flags", || fs::ioctl_setflags(handle, after)) }
}

/// The path by which the kernel finds an open descriptor again.
pub(crate) fn fd_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_one_place_are_refused() {
        for bad in ["", "relative/path", "/", "/tmp/../etc", "/proc/version/x", "/tmp/a\0b"] {
            let result = Place::open(Path::new(bad));
            assert!(matches!(result, Err(Error::InvalidArgument(_))), "{bad:?}: {result:?}");
        }
        assert!(Place::open(Path::new("/nonesuch/folder/x")).unwrap().is_none());
    }

    #[test]
    fn the_last_component_is_never_followed_and_its_parents_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
        let last = Place::open(&folder.path().join("link")).unwrap().unwrap();
        assert_eq!(last.found().unwrap(), Found::Other);
        assert!(
            last.handle()
                .is_ok_and(|handle| fs::fstat(&handle)
                    .is_ok_and(|stat| !FileType::from_raw_mode(stat.st_mode).is_dir()))
                || last.handle().is_err()
        );
        assert!(last.directory().is_err());
        let through = Place::open(&folder.path().join("link/target")).unwrap().unwrap();
        assert_eq!(through.path(), real.canonicalize().unwrap().join("target"));
        through.make_directory().unwrap();
        through.make_directory().unwrap();
        assert!(real.join("target").is_dir());
        assert!(through.is_empty_directory().unwrap());
        through.remove_directory().unwrap();
        through.remove_directory().unwrap();
        assert_eq!(through.found().unwrap(), Found::Nothing);
    }
}
