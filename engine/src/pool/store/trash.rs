//! What was thrown away, and what never became a volume: how much it still takes, and its removal.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::{self, AtFlags, RenameFlags, StatVfs};

use super::{
    IMAGE, Store,
    aside::{is_being_made, is_ours, remove_folder},
    beneath::names,
    removal::{Removing, free},
};
use crate::{VolumeId, lasting::lasting, pool::ledger::ImageSize};

impl Store {
    /// What the filesystem says of its size, and the bytes that deleted volumes still take: nothing counts in both or in neither.
    pub(crate) fn space(&self) -> io::Result<(StatVfs, u64)> {
        // Removals end seldom, but one may just now.
        for _ in 0..8 {
            let before = self.removal.now().clone();
            let found = self.space_while(&before)?;
            if *self.removal.now() == before {
                return Ok(found);
            }
        }
        let now = self.removal.now().clone();
        self.space_while(&now)
    }

    fn space_while(&self, removing: &Removing) -> io::Result<(StatVfs, u64)> {
        let space = fs::fstatvfs(&self.root)?;
        let waiting = names(&self.trash).unwrap_or_default();
        let waiting = waiting.iter().filter(|name| is_ours(name) && !removing.under_way.contains_key(*name));
        // What is free now and was not before is of what is being removed, or of somebody else who freed something.
        let left = removing
            .under_way
            .values()
            .map(|(bytes, before)| bytes.saturating_sub(free(&space).saturating_sub(*before)));
        let trash = waiting.map(|name| bytes_in(&self.trash, name)).chain(left).sum();
        Ok((space, trash))
    }

    /// Bytes that a volume takes which a living process makes.
    pub(crate) fn bytes_begun(&self, id: &VolumeId) -> u64 {
        let of_it =
            |name: &String| is_ours(name) && name.rsplit_once('.').is_some_and(|(of, _)| of == id.as_str());
        let found = names(&self.new).unwrap_or_default();
        let begun = found.iter().filter(|name| of_it(name) && is_being_made(&self.new, name));
        begun.map(|name| bytes_in(&self.new, name)).sum()
    }

    fn remove_from_trash(&self, name: &str) -> io::Result<()> {
        let before = fs::fstatvfs(&self.root).map(|space| free(&space))?;
        let bytes = bytes_in(&self.trash, name);
        self.removal.now().under_way.insert(name.to_owned(), (bytes, before));
        let removed = remove_folder(&self.trash, name);
        let mut now = self.removal.now();
        now.under_way.remove(name);
        now.ended += 1;
        removed
    }

    /// Whether there is anything in the trash. What can't be looked at counts as empty.
    pub(crate) fn has_trash(&self) -> bool {
        names(&self.trash).is_ok_and(|names| names.iter().any(|name| is_ours(name)))
    }

    /// Frees what deleted volumes still take, one after the other as long as `goes_on` holds. Returns how
    /// many are gone, and what could not be removed.
    pub(crate) fn sweep_trash(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>) {
        self.each(&self.trash, "remove trash", goes_on, &|name| self.remove_from_trash(name))
    }

    /// Moves what interrupted creations left into the trash. Only when none is running. Returns how many, and
    /// what could not be moved.
    pub(crate) fn throw_unfinished(&self) -> (usize, Vec<String>) {
        self.each(&self.new, "throw away new", &|| true, &|name| {
            let thrown = lasting("throw an unfinished volume away", || {
                fs::renameat_with(&self.new, name, &self.trash, name, RenameFlags::NOREPLACE)
            });
            Ok(thrown?)
        })
    }

    /// Does something with each name of a folder.
    fn each(
        &self,
        folder: &OwnedFd,
        doing: &str,
        goes_on: &dyn Fn() -> bool,
        act: &dyn Fn(&str) -> io::Result<()>,
    ) -> (usize, Vec<String>) {
        let (mut done, mut problems) = (0, Vec::new());
        let problem =
            |name: &str, error: io::Error| format!("{doing}/{name} in {}: {error}", self.path.display());
        match names(folder) {
            Err(error) => problems.push(problem("", error)),
            Ok(names) => {
                for name in names {
                    if !goes_on() {
                        break;
                    }
                    let outcome = if is_ours(&name) {
                        act(&name)
                    } else {
                        Err(io::Error::other("its name is none that we give, so it was not touched"))
                    };
                    match outcome {
                        Ok(()) => done += 1,
                        Err(error) => problems.push(problem(&name, error)),
                    }
                }
            }
        }
        (done, problems)
    }
}

/// Bytes that the image in a folder takes.
fn bytes_in(within: &OwnedFd, name: &str) -> u64 {
    let stat = fs::statat(within, Path::new(name).join(IMAGE), AtFlags::SYMLINK_NOFOLLOW);
    stat.map_or(0, |stat| ImageSize::of(&stat).allocated)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{FallocateFlags, fallocate};

    use super::*;

    #[test]
    fn what_is_being_removed_counts_until_it_is_free() {
        const BYTES: u64 = 256 << 20;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("p", folder.path(), false, None, false).unwrap();
        let name = "pvc-1.0123456789abcdef0123456789abcdef";
        let image = folder.path().join("trash").join(name).join(IMAGE);
        std::fs::create_dir_all(image.parent().unwrap()).unwrap();
        let file = File::create(&image).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, BYTES).unwrap();
        // Of whatever else writes to this disk meanwhile.
        let about = |bytes: u64| {
            let trash = store.space().unwrap().1;
            assert!(trash.abs_diff(bytes) < BYTES / 4, "{trash}");
        };
        about(BYTES);
        let before = free(&fs::fstatvfs(&store.root).unwrap());
        store.removal.now().under_way.insert(name.to_owned(), (BYTES, before));
        about(BYTES);
        // It has no name any more, and is not free: the file is open.
        std::fs::remove_dir_all(image.parent().unwrap()).unwrap();
        about(BYTES);
        drop(file);
        about(0);
        store.removal.now().under_way.remove(name);
        about(0);
    }
}
