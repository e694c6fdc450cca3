//! Going down a tree of folders, however deep it is: without recursion, with few descriptors, and never out of it.

use std::{collections::VecDeque, ffi::CStr, os::fd::OwnedFd};

use rustix::{
    fs::{self, Dir, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

/// How many of the innermost folders are open at once. The others are reached again through `..`, which is cheap and rare.
const OPEN: usize = 16;

/// The way from the top of a tree to one folder in it, with what the caller notes of each folder.
pub(super) struct Descent<T> {
    top: OwnedFd,
    of_top: T,
    /// Below the top, the outermost first.
    levels: Vec<Level<T>>,
    /// The innermost of them that are open, the innermost last. At least one where there are levels.
    open: VecDeque<OwnedFd>,
}

struct Level<T> {
    identity: Identity,
    note: T,
}

/// Device and inode.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

impl<T> Descent<T> {
    pub(super) fn new(top: &OwnedFd, of_top: T) -> rustix::io::Result<Self> {
        let top = rustix::io::fcntl_dupfd_cloexec(top, 0)?;
        Ok(Self { top, of_top, levels: Vec::new(), open: VecDeque::new() })
    }

    /// The innermost folder, and what is noted of it.
    pub(super) fn here(&mut self) -> (&OwnedFd, &mut T) {
        let note = self.levels.last_mut().map_or(&mut self.of_top, |level| &mut level.note);
        (self.open.back().unwrap_or(&self.top), note)
    }

    /// Goes into a folder, which lies in the innermost one.
    pub(super) fn enter(&mut self, folder: OwnedFd, note: T) -> rustix::io::Result<()> {
        let identity = identity(&fs::fstat(&folder)?);
        if self.open.len() == OPEN {
            self.open.pop_front();
        }
        self.open.push_back(folder);
        self.levels.push(Level { identity, note });
        Ok(())
    }

    /// Goes back, and returns the folder that was left; `None`: that is the top.
    ///
    /// [`Errno::STALE`] where somebody moved that folder meanwhile: what is above it now is not what was. Nobody can go on from there.
    pub(super) fn leave(&mut self) -> rustix::io::Result<Option<(OwnedFd, T)>> {
        let (Some(folder), Some(level)) = (self.open.pop_back(), self.levels.pop()) else { return Ok(None) };
        if self.open.is_empty()
            && let Some(above) = self.levels.last()
        {
            match reopened(&folder, above.identity) {
                Ok(above) => self.open.push_back(above),
                Err(error) => {
                    self.levels.clear();
                    return Err(error);
                }
            }
        }
        Ok(Some((folder, level.note)))
    }
}

/// What is above a folder, if it is still that one.
fn reopened(below: &OwnedFd, above: Identity) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = fs::openat2(below, c"..", flags, Mode::empty(), resolve)?;
    if identity(&fs::fstat(&folder)?) == above { Ok(folder) } else { Err(Errno::STALE) }
}

/// Opens what a name in a folder is, on the same filesystem, following no link.
pub(super) fn open(within: &OwnedFd, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    fs::openat2(within, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

pub(super) fn open_folder(within: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    open(within, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Whether a folder is another one, or lies somewhere below it.
pub(super) fn lies_in(folder: &OwnedFd, other: &OwnedFd) -> rustix::io::Result<bool> {
    let other = identity(&fs::fstat(other)?);
    let mut at = rustix::io::fcntl_dupfd_cloexec(folder, 0)?;
    loop {
        let here = identity(&fs::fstat(&at)?);
        if here == other {
            return Ok(true);
        }
        at = match fs::openat(&at, c"..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            // Nobody can tell; a copy looks again at each folder that it goes into.
            Err(Errno::ACCESS) => return Ok(false),
            above => above?,
        };
        // The root is above itself.
        if identity(&fs::fstat(&at)?) == here {
            return Ok(false);
        }
    }
}

/// Tells each name in a folder.
pub(super) fn each_name<E: From<Errno>>(
    folder: &OwnedFd,
    mut tell: impl FnMut(&CStr) -> Result<(), E>,
) -> Result<(), E> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            tell(entry.file_name())?;
        }
    }
    Ok(())
}

/// A path as messages show it: of a very long one the begin and the end.
pub(super) fn shown(path: &[u8]) -> String {
    const HALF: usize = 128;
    let text = String::from_utf8_lossy(path);
    let count = text.chars().count();
    if count <= 2 * HALF {
        return text.into_owned();
    }
    let begin: String = text.chars().take(HALF).collect();
    let end: String = text.chars().skip(count - HALF).collect();
    format!("{begin}…{end}")
}

#[cfg(test)]
mod tests {
    use std::fs as files;

    use super::*;

    /// A top with that many folders `d` in one another below it.
    fn deep(levels: usize) -> (tempfile::TempDir, Descent<usize>) {
        let world = tempfile::tempdir().unwrap();
        files::create_dir(world.path().join("top")).unwrap();
        let top = OwnedFd::from(files::File::open(world.path().join("top")).unwrap());
        let mut descent = Descent::new(&top, 0).unwrap();
        for level in 1..=levels {
            let (here, _) = descent.here();
            fs::mkdirat(here, c"d", Mode::RWXU).unwrap();
            let below = open_folder(here, c"d").unwrap();
            descent.enter(below, level).unwrap();
        }
        (world, descent)
    }

    #[test]
    fn few_folders_are_open_and_each_is_found_again() {
        let (world, mut descent) = deep(100);
        assert_eq!(descent.open.len(), OPEN);
        for level in (1..=100).rev() {
            let (here, note) = descent.here();
            assert_eq!(*note, level);
            fs::mkdirat(here, level.to_string(), Mode::RWXU).unwrap();
            let (_, left) = descent.leave().unwrap().unwrap();
            assert_eq!(left, level);
        }
        assert!(descent.leave().unwrap().is_none());
        for level in 1..=100 {
            let path = format!("top/{}{level}", "d/".repeat(level));
            assert!(world.path().join(&path).is_dir(), "{path}");
        }
    }

    #[test]
    fn a_folder_that_was_moved_out_leads_nowhere() {
        let (world, mut descent) = deep(20);
        // The fourth is closed by now; the fifth goes elsewhere.
        let fourth = world.path().join("top").join("d/".repeat(4));
        files::rename(fourth.join("d"), world.path().join("elsewhere")).unwrap();
        let mut left = 0;
        let end = loop {
            match descent.leave() {
                Ok(Some(_)) => left += 1,
                other => break other.map(|_| ()),
            }
        };
        assert_eq!((end, left), (Err(Errno::STALE), 15));
        assert!(descent.leave().unwrap().is_none());
    }

    #[test]
    fn a_very_long_path_is_shown_by_its_ends() {
        assert_eq!(shown(b"a/b"), "a/b");
        let long = shown(["first/", &"d/".repeat(5000), "last"].concat().as_bytes());
        assert!(long.starts_with("first/d/") && long.ends_with("/d/last"), "{long}");
        assert!(long.chars().count() < 300, "{long}");
    }
}
