//! What commands left behind: data that could not be removed, and what they were making when they were killed.
//!
//! What is to be removed gets a hidden name of its own first, by one call: from then on it is in nobody's way, whatever becomes of it. What of it
//! can't be removed stays there; the next removal beside it, and `system prune`, try again.

use std::{ffi::CString, io, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    fs::{self, OFlags, RenameFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{
    Error,
    error::Context,
    layout::{self, LOCKS, SNAPSHOTS},
    locks::{self, Lock},
    names::Name,
    promises, tree_removal, tree_size, unfinished_copies,
    volumes::Volumes,
};
use crate::terminal;

/// What removed data is called until it is gone: no name begins with a dot.
const TRASH: &str = ".trash-";

/// What a copy is called until it is whole, before the name that it will have.
pub(super) const NEW: &str = ".new-";

/// Takes something out of everybody's way. Returns its hidden name.
pub(super) fn set_aside(within: &OwnedFd, name: &str) -> rustix::io::Result<String> {
    let hidden = format!("{TRASH}{}", Uuid::new_v4().simple());
    fs::renameat_with(within, name, within, &hidden, RenameFlags::NOREPLACE)?;
    Ok(hidden)
}

/// Removes what was set aside. The error names what could not be removed.
pub(super) fn free(within: &OwnedFd, hidden: &str) -> io::Result<()> {
    let own = remove(within, hidden);
    // It was told of the others' when they were left.
    for other in layout::entries(within).unwrap_or_default() {
        if other.starts_with(TRASH) && other != hidden {
            let _ = remove(within, &other);
        }
    }
    own
}

/// Gives a name free, whatever is there. What of it could not be removed is told, and is in nobody's way.
pub(super) fn give_free(within: &OwnedFd, name: &str) -> io::Result<()> {
    let hidden = match set_aside(within, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if let Err(error) = free(within, &hidden) {
        terminal::note(&format!("Warning: {error}; tierce --host system df shows where"));
    }
    Ok(())
}

fn remove(within: &OwnedFd, hidden: &str) -> io::Result<()> {
    tree_removal::remove_tree(within, &CString::new(hidden)?)
}

/// Data that is left, and takes space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leftover {
    pub(super) path: PathBuf,
    /// Bytes that its files take.
    pub(super) bytes: u64,
    /// Whether these are all: some may not be read.
    pub(super) whole: bool,
}

/// A folder in which something may be left.
struct Place<'a> {
    folder: &'a OwnedFd,
    /// Of volumes, or of the snapshots of one.
    stack: &'a str,
    /// The volume whose snapshots it has.
    volume: Option<&'a str>,
    path: PathBuf,
}

impl Place<'_> {
    /// The full name of the volume that a copy here was to be, or to be a snapshot of.
    fn volume_of(&self, copy: &str) -> Option<String> {
        let short = copy.strip_prefix(NEW)?;
        Name::new(Some(self.stack), self.volume.unwrap_or(short)).map(|name| name.full()).ok()
    }

    /// The name of the lock that whoever makes such a copy holds.
    fn lock_of(&self, full: &str) -> String {
        self.volume.map_or_else(|| full.to_owned(), |_| locks::of_snapshots(full))
    }

    fn entries(&self) -> Result<Vec<String>, Error> {
        layout::entries(self.folder).doing(|| format!("list {}", self.path.display()))
    }

    fn free(&self, hidden: &str, what: &str) -> Result<(), Error> {
        remove(self.folder, hidden)
            .doing(|| format!("free the space of {what}: below {}", self.path.display()))
    }
}

impl Volumes {
    /// What is left of removed data, and of copies that nobody makes any more.
    pub(super) fn leftovers(&self) -> Result<Vec<Leftover>, Error> {
        let mut found = Vec::new();
        self.each_place(&mut |place| {
            for name in place.entries()? {
                // A copy under way is no leftover.
                let is_left = |full: String| {
                    matches!(Lock::try_acquire(&self.root, &place.lock_of(&full)), Ok(Some(_)))
                };
                if !name.starts_with(TRASH) && !place.volume_of(&name).is_some_and(is_left) {
                    continue;
                }
                let path = place.path.join(&name);
                let opened = layout::open_beneath(place.folder, &name, OFlags::RDONLY | OFlags::DIRECTORY);
                let (bytes, whole) = match opened {
                    Ok(folder) => tree_size::bytes_used(&folder),
                    Err(Errno::NOENT) => continue,
                    Err(_) => (0, false),
                };
                found.push(Leftover { path, bytes, whole });
            }
            Ok(())
        })?;
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Frees what is left of removed data, and copies that never became whole. Returns what could not be freed: it does not keep the rest.
    pub(super) fn free_leftovers(&self) -> Result<Vec<Error>, Error> {
        let mut troubles = Vec::new();
        self.each_place(&mut |place| {
            for name in place.entries()? {
                if name.starts_with(TRASH) {
                    troubles.extend(place.free(&name, "removed data").err());
                } else if let Some(full) = place.volume_of(&name) {
                    // A copy under way is no leftover.
                    let _lock = match Lock::try_acquire(&self.root, &place.lock_of(&full)) {
                        Ok(Some(lock)) => lock,
                        Ok(None) => continue,
                        Err(error) => {
                            troubles.push(error);
                            continue;
                        }
                    };
                    let what = format!("the unfinished copy {name} of volume '{full}'");
                    let removed = match set_aside(place.folder, &name) {
                        Ok(hidden) => place.free(&hidden, &what),
                        // Whoever held the lock has ended it.
                        Err(Errno::NOENT) => Ok(()),
                        Err(error) => Err(error).doing(|| format!("remove {what}")),
                    };
                    troubles.extend(removed.err());
                }
            }
            Ok(())
        })?;
        Ok(troubles)
    }

    /// Removes the files of locks whose holders were killed. Returns what could not be looked at: it does not keep the rest.
    pub(super) fn remove_unheld_locks(&self) -> Result<Vec<Error>, Error> {
        let mut troubles = Vec::new();
        let Some(folder) = self.root.folder(LOCKS)? else { return Ok(troubles) };
        let doing = || format!("list {}", self.root.path().join(LOCKS).display());
        let volumes: Vec<String> = self.root.scan()?.0.iter().map(Name::full).collect();
        for name in layout::entries(&folder).doing(doing)? {
            if !promises::is_one(&name) && !unfinished_copies::is_note(&name) {
                // It goes with whoever had it last.
                troubles.extend(Lock::try_found(&self.root, &name, &volumes).err());
            }
        }
        Ok(troubles)
    }

    /// Looks at each folder in which a command hides what it makes or removes.
    fn each_place(&self, look: &mut dyn FnMut(&Place<'_>) -> Result<(), Error>) -> Result<(), Error> {
        for stack in self.folders_below(layout::VOLUMES)? {
            if let Some(folder) = self.root.stack(&stack)? {
                let path = self.root.path().join(layout::VOLUMES).join(&stack);
                look(&Place { folder: &folder, stack: &stack, volume: None, path })?;
            }
        }
        for stack in self.folders_below(SNAPSHOTS)? {
            for volume in self.folders_below(&format!("{SNAPSHOTS}/{stack}"))? {
                let below = format!("{SNAPSHOTS}/{stack}/{volume}");
                if let Some(folder) = self.root.folder(&below)? {
                    let path = self.root.path().join(&below);
                    look(&Place { folder: &folder, stack: &stack, volume: Some(&volume), path })?;
                }
            }
        }
        Ok(())
    }

    /// The folders in a folder below the root.
    pub(super) fn folders_below(&self, below: &str) -> Result<Vec<String>, Error> {
        let doing = || format!("list {}", self.root.path().join(below).display());
        let Some(folder) = self.root.folder(below)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for name in layout::entries(&folder).doing(doing)? {
            if layout::is_folder(&folder, &name).doing(doing)? {
                found.push(name);
            }
        }
        Ok(found)
    }
}
