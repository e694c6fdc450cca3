//! What was thrown away, and what never became a volume: how much it still takes, and its removal.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::{self, AtFlags, RenameFlags};

use super::{
    IMAGE, Store,
    aside::{is_ours, remove_folder},
    beneath::names,
};
use crate::{lasting::lasting, pool::ledger::ImageSize};

impl Store {
    /// Bytes that deleted volumes still take.
    pub(crate) fn trash_bytes(&self) -> u64 {
        let of =
            |name: &String| fs::statat(&self.trash, Path::new(name).join(IMAGE), AtFlags::SYMLINK_NOFOLLOW);
        names(&self.trash)
            .unwrap_or_default()
            .iter()
            .filter(|name| is_ours(name))
            .filter_map(|name| of(name).ok())
            .map(|stat| ImageSize::of(&stat).allocated)
            .sum()
    }

    /// Whether there is anything in the trash. What can't be looked at counts as empty.
    pub(crate) fn has_trash(&self) -> bool {
        names(&self.trash).is_ok_and(|names| names.iter().any(|name| is_ours(name)))
    }

    /// Frees what deleted volumes still take, one after the other as long as `goes_on` holds. Returns how
    /// many are gone, and what could not be removed.
    pub(crate) fn sweep_trash(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>) {
        self.each(&self.trash, "remove trash", goes_on, &|name| remove_folder(&self.trash, name))
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
