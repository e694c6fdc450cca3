//! Removing a folder with everything in it, and nothing else: through descriptors, on one filesystem, following no link.

use std::{
    ffi::{CStr, OsStr},
    fmt, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
};

use rustix::{
    fs::{self, AtFlags, Dir, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// What is still there: the first that could not be removed, and whether there are others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stuck {
    path: PathBuf,
    why: Errno,
    others: bool,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = if self.others { " and others" } else { "" };
        write!(f, "{}{others} can't be removed: ", self.path.display())?;
        match self.why {
            // What the kernel says where a mount is in the way means little to a person.
            Errno::XDEV | Errno::BUSY => f.write_str("something is mounted there"),
            why => io::Error::from(why).fmt(f),
        }
    }
}

impl std::error::Error for Stuck {}

/// Removes `name` from a folder, whatever it is; what is gone already is fine. What can't be removed does not keep the rest: the error names
/// it by its path below that folder, which is never emptied where something is mounted.
pub(super) fn remove_tree(within: &OwnedFd, name: &CStr) -> io::Result<()> {
    let mut removal = Removal { path: PathBuf::new(), stuck: None };
    if removal.remove(within, name) {
        return Ok(());
    }
    match removal.stuck {
        Some(stuck) => Err(io::Error::new(io::Error::from(stuck.why).kind(), stuck)),
        None => Ok(()),
    }
}

struct Removal {
    /// The folder that is being emptied, below the one that all began in.
    path: PathBuf,
    stuck: Option<Stuck>,
}

impl Removal {
    /// Whether it is gone.
    fn remove(&mut self, within: &OwnedFd, name: &CStr) -> bool {
        let refused = match fs::unlinkat(within, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return true,
            Err(error) => error,
        };
        self.path.push(OsStr::from_bytes(name.to_bytes()));
        let gone = match refused {
            Errno::ISDIR | Errno::PERM => self.remove_folder(within, name, refused),
            _ => self.note(refused),
        };
        self.path.pop();
        gone
    }

    /// The same of a folder; `refused`: why it could not be removed as a file.
    fn remove_folder(&mut self, within: &OwnedFd, name: &CStr, refused: Errno) -> bool {
        let empty = match open(within, name) {
            Ok(folder) => self.empty(&folder),
            Err(Errno::NOENT) => return true,
            // A file, which may not be removed.
            Err(Errno::NOTDIR | Errno::LOOP) => return self.note(refused),
            // An empty one goes without being opened.
            Err(error) => match fs::unlinkat(within, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return true,
                Err(_) => return self.note(error),
            },
        };
        match empty {
            Ok(false) => false,
            Ok(true) => match fs::unlinkat(within, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => true,
                Err(error) => self.note(error),
            },
            Err(error) => self.note(error),
        }
    }

    /// Whether nothing is left in a folder.
    fn empty(&mut self, folder: &OwnedFd) -> rustix::io::Result<bool> {
        // A folder that changes while it is read may skip entries, and is then read again.
        loop {
            let (mut gone, mut left) = (false, false);
            for entry in Dir::read_from(folder)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    let is_gone = self.remove(folder, entry.file_name());
                    gone |= is_gone;
                    left |= !is_gone;
                }
            }
            if !gone {
                return Ok(!left);
            }
        }
    }

    fn note(&mut self, why: Errno) -> bool {
        match &mut self.stuck {
            Some(first) => first.others |= first.path != self.path,
            None => self.stuck = Some(Stuck { path: self.path.clone(), why, others: false }),
        }
        false
    }
}

fn open(within: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let attempt = || fs::openat2(within, name, flags, Mode::empty(), resolve);
    let folder = match attempt() {
        // An ordinary user's own folder may be closed even to its owner.
        Err(Errno::ACCESS) => {
            fs::chmodat(within, name, Mode::RWXU, AtFlags::empty())?;
            attempt()
        }
        other => other,
    }?;
    // Its entries can only be removed by who may write to it.
    let mode = Mode::from_raw_mode(fs::fstat(&folder)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        let _ = fs::fchmod(&folder, mode | Mode::RWXU);
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::{fs as files, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn bug_04_only_the_folder_itself_goes_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        files::create_dir_all(at("victim/a/b/c")).unwrap();
        files::write(at("victim/a/file"), "x").unwrap();
        files::create_dir(at("other")).unwrap();
        files::write(at("other/keep"), "x").unwrap();
        std::os::unix::fs::symlink(at("other"), at("victim/a/link")).unwrap();
        std::os::unix::fs::symlink("..", at("victim/up")).unwrap();
        files::hard_link(at("other/keep"), at("victim/hard")).unwrap();
        files::set_permissions(at("victim/a/b"), files::Permissions::from_mode(0o500)).unwrap();
        let within = OwnedFd::from(files::File::open(folder.path()).unwrap());
        remove_tree(&within, c"victim").unwrap();
        remove_tree(&within, c"victim").unwrap();
        assert!(!at("victim").exists());
        assert_eq!(files::read(at("other/keep")).unwrap(), b"x");
        assert_eq!(files::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_can_not_be_removed_is_named_and_keeps_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let within = OwnedFd::from(files::File::open(folder.path()).unwrap());
        files::create_dir_all(at("victim/a/b")).unwrap();
        files::create_dir_all(at("victim/z")).unwrap();
        files::write(at("victim/a/b/stubborn"), "x").unwrap();
        files::write(at("victim/a/b/other"), "x").unwrap();
        files::write(at("victim/z/file"), "x").unwrap();
        let immutable = |path: &str, how: &str| {
            let changed = std::process::Command::new("chattr").arg(how).arg(at(path)).output();
            changed.is_ok_and(|output| output.status.success())
        };
        if !immutable("victim/a/b/stubborn", "+i") {
            // The test of the command says so.
            return;
        }
        let error = remove_tree(&within, c"victim").unwrap_err().to_string();
        let again = remove_tree(&within, c"victim").unwrap_err().to_string();
        assert!(immutable("victim/a/b/stubborn", "-i"));
        assert!(error.starts_with("victim/a/b/stubborn can't be removed: "), "{error}");
        assert_eq!(error, again);
        assert!(!at("victim/a/b/other").exists() && !at("victim/z").exists());
        remove_tree(&within, c"victim").unwrap();
        assert_eq!(files::read_dir(folder.path()).unwrap().count(), 0);
    }
}
