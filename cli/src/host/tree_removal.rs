//! Removing a folder with everything in it, and nothing else: through descriptors, on one filesystem, following no link.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    fmt, io,
    os::fd::OwnedFd,
};

use rustix::{
    fs::{self, AtFlags, Mode},
    io::Errno,
};

use super::tree_descent::{self, Descent, each_name};

/// What is still there: the first that could not be removed, and whether there are others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stuck {
    path: Vec<u8>,
    why: Errno,
    others: bool,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = if self.others { " and others" } else { "" };
        write!(f, "{}{others} can't be removed: ", tree_descent::shown(&self.path))?;
        match self.why {
            // What the kernel says where a mount is in the way means little to a person.
            Errno::XDEV | Errno::BUSY => f.write_str("something is mounted there"),
            Errno::STALE => f.write_str("it was moved meanwhile"),
            why => io::Error::from(why).fmt(f),
        }
    }
}

impl std::error::Error for Stuck {}

/// Removes `name` from a folder, whatever it is; what is gone already is fine. What can't be removed does not keep the rest: the error names
/// it by its path below that folder, which is never emptied where something is mounted.
pub(super) fn remove_tree(within: &OwnedFd, name: &CStr) -> io::Result<()> {
    let mut removal = Removal { path: Vec::new(), stuck: None };
    let mut top = Folder::new(c"");
    removal.unlink(within, name, &mut top);
    removal.empty(Descent::new(within, top)?);
    match removal.stuck {
        Some(stuck) => Err(io::Error::new(io::Error::from(stuck.why).kind(), stuck)),
        None => Ok(()),
    }
}

/// A folder that is being emptied.
struct Folder {
    name: CString,
    /// What in it may be a folder, and why it could not be removed as a file.
    waiting: Vec<(CString, Errno)>,
    /// What in it stays.
    staying: HashSet<CString>,
    /// Whether it could not be read to its end.
    is_unread: bool,
    /// Whether anything went since it was last read: a folder that changes while it is read may skip entries.
    changed: bool,
}

impl Folder {
    fn new(name: &CStr) -> Self {
        let (waiting, staying) = (Vec::new(), HashSet::new());
        Self { name: name.to_owned(), waiting, staying, is_unread: false, changed: false }
    }

    fn tell(&mut self, name: &CStr, is_gone: bool) {
        if is_gone {
            self.changed = true;
        } else {
            self.staying.insert(name.to_owned());
        }
    }
}

struct Removal {
    /// The folder that is being emptied, below the one that all began in.
    path: Vec<u8>,
    stuck: Option<Stuck>,
}

impl Removal {
    fn empty(&mut self, mut descent: Descent<Folder>) {
        loop {
            let (here, folder) = descent.here();
            if let Some((name, refused)) = folder.waiting.pop() {
                match self.opened(here, &name, refused) {
                    Ok(below) => {
                        self.path.extend([b"/", name.to_bytes()].concat());
                        let mut inner = Folder::new(&name);
                        self.read(&below, &mut inner);
                        if let Err(error) = descent.enter(below, inner) {
                            return self.note(error);
                        }
                    }
                    Err(is_gone) => folder.tell(&name, is_gone),
                }
            } else if folder.changed && !self.path.is_empty() {
                self.read(here, folder);
            } else {
                match descent.leave() {
                    Ok(Some((_, emptied))) => self.go(&mut descent, &emptied),
                    Ok(None) => return,
                    Err(error) => return self.note(error),
                }
            }
        }
    }

    /// Removes what is no folder from one, and notes what may be.
    fn read(&mut self, here: &OwnedFd, folder: &mut Folder) {
        folder.changed = false;
        let read = each_name(here, |name| {
            if !folder.staying.contains(name) {
                self.unlink(here, name, folder);
            }
            Ok(())
        });
        if let Err(error) = read {
            folder.is_unread = true;
            self.note(error);
        }
    }

    fn unlink(&mut self, here: &OwnedFd, name: &CStr, folder: &mut Folder) {
        match fs::unlinkat(here, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => folder.changed = true,
            Err(refused @ (Errno::ISDIR | Errno::PERM)) => folder.waiting.push((name.to_owned(), refused)),
            Err(error) => {
                self.note_of(name, error);
                folder.tell(name, false);
            }
        }
    }

    /// A folder to be emptied, else whether it is gone. `refused`: why it could not be removed as a file.
    fn opened(&mut self, here: &OwnedFd, name: &CStr, refused: Errno) -> Result<OwnedFd, bool> {
        let error = match open(here, name) {
            Ok(folder) => return Ok(folder),
            Err(Errno::NOENT) => return Err(true),
            // A file, which may not be removed.
            Err(Errno::NOTDIR | Errno::LOOP) => refused,
            // An empty one goes without being opened.
            Err(error) => match fs::unlinkat(here, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Err(true),
                Err(_) => error,
            },
        };
        self.note_of(name, error);
        Err(false)
    }

    /// Removes a folder that was left, if nothing stays in it.
    fn go(&mut self, descent: &mut Descent<Folder>, emptied: &Folder) {
        let (here, folder) = descent.here();
        let mut is_gone = false;
        if emptied.staying.is_empty() && !emptied.is_unread {
            match fs::unlinkat(here, &*emptied.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => is_gone = true,
                Err(error) => self.note(error),
            }
        }
        folder.tell(&emptied.name, is_gone);
        self.path.truncate(self.path.len().saturating_sub(emptied.name.to_bytes().len() + 1));
    }

    fn note_of(&mut self, name: &CStr, why: Errno) {
        let before = self.path.len();
        self.path.extend([b"/", name.to_bytes()].concat());
        self.note(why);
        self.path.truncate(before);
    }

    fn note(&mut self, why: Errno) {
        let path = self.path.strip_prefix(b"/").unwrap_or(&self.path);
        match &mut self.stuck {
            Some(first) => first.others |= first.path != path,
            None => self.stuck = Some(Stuck { path: path.to_vec(), why, others: false }),
        }
    }
}

fn open(within: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let folder = match tree_descent::open_folder(within, name) {
        // An ordinary user's own folder may be closed even to its owner.
        Err(Errno::ACCESS) => {
            fs::chmodat(within, name, Mode::RWXU, AtFlags::empty())?;
            tree_descent::open_folder(within, name)
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
