//! Where the copies of files with several names are, for their other names: as paths, since open files would be too many.

use std::{collections::HashMap, ffi::CString, io, os::fd::OwnedFd};

use rustix::{
    fs::{self, OFlags},
    io::Errno,
};

use super::super::tree_descent::{Identity, identity, open};

pub(super) struct FirstNames {
    top: OwnedFd,
    /// Folders of the copy, each as the one above it and its name there, before those that are in it.
    folders: Vec<(Place, CString)>,
    /// So many of them lead to a file.
    needed: usize,
    files: HashMap<Identity, FirstName>,
}

/// Which folder of the copy, from 1; 0: its top.
pub(super) type Place = usize;

pub(super) const TOP: Place = 0;

struct FirstName {
    within: Place,
    name: CString,
    copy: Identity,
}

impl FirstNames {
    pub(super) fn below(top: &OwnedFd) -> io::Result<Self> {
        Ok(Self { top: top.try_clone()?, folders: Vec::new(), needed: 0, files: HashMap::new() })
    }

    /// Goes into a folder of the copy.
    pub(super) fn enter(&mut self, within: Place, name: CString) -> Place {
        self.folders.push((within, name));
        self.folders.len()
    }

    /// Forgets a folder that was left, and those in it, unless they lead to a file.
    pub(super) fn leave(&mut self, place: Place) {
        self.folders.truncate(place.saturating_sub(1).max(self.needed));
    }

    /// Notes the copy of a file.
    pub(super) fn note(&mut self, source: Identity, within: Place, name: CString, copy: Identity) {
        self.needed = self.needed.max(within);
        self.files.insert(source, FirstName { within, name, copy });
    }

    /// The copy of a file; `None`: there is none, or it is not where it was made any more.
    pub(super) fn copy_of(&self, source: Identity) -> io::Result<Option<OwnedFd>> {
        let Some(first) = self.files.get(&source) else { return Ok(None) };
        let mut steps = vec![(&first.name, OFlags::PATH)];
        let mut at = first.within;
        while let Some((above, name)) = at.checked_sub(1).and_then(|index| self.folders.get(index)) {
            steps.push((name, OFlags::PATH | OFlags::DIRECTORY));
            at = *above;
        }
        let mut found = None::<OwnedFd>;
        for (name, flags) in steps.into_iter().rev() {
            match open(found.as_ref().unwrap_or(&self.top), name, flags) {
                Ok(next) => found = Some(next),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        let Some(found) = found else { return Ok(None) };
        let is_still_it = identity(&fs::fstat(&found)?) == first.copy;
        Ok(is_still_it.then_some(found))
    }
}
