//! Lists of pools that could not be read: kept beside the file in force, as they may know pools that it does not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Those of this node. Only this process adds to them; people take them away.
pub(super) struct Kept {
    /// The file in force.
    path: PathBuf,
    /// Whether that is itself such a list, which could not be set aside yet.
    in_force: bool,
    aside: Vec<PathBuf>,
}

fn name(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(if number == 1 { format!("{name}.kept") } else { format!("{name}.kept-{number}") })
}

/// Those that were set aside, the oldest first.
fn find(path: &Path) -> Vec<PathBuf> {
    let start = name(path, 1).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let number = |name: &str| match name.strip_prefix(&start)? {
        "" => Some(1),
        further => further.strip_prefix('-')?.parse().ok(),
    };
    // Where the folder can't be listed, the file in force can't be read either.
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| number(&entry.file_name().to_string_lossy())).collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| name(path, number)).collect()
}

impl Kept {
    /// Looks for those that earlier processes set aside.
    pub(super) fn beside(path: &Path) -> Self {
        Self { path: path.to_owned(), in_force: false, aside: find(path) }
    }

    /// Those that were set aside, the oldest first.
    pub(super) fn aside(&self) -> &[PathBuf] {
        &self.aside
    }

    /// Whether writing the file in force would destroy one.
    pub(super) fn in_force(&self) -> bool {
        self.in_force
    }

    /// Sets the file in force aside, as it can't be read.
    pub(super) fn set_aside(&mut self) -> io::Result<PathBuf> {
        self.in_force = true;
        let mut names = (1..).map(|number| name(&self.path, number));
        let kept = names.find(|kept| !kept.exists()).expect("the numbers don't end");
        fs::rename(&self.path, &kept)?;
        self.in_force = false;
        self.aside.push(kept.clone());
        Ok(kept)
    }

    /// Looks which of them are still there, and tries again to set the one in force aside.
    pub(super) fn look(&mut self) {
        let is_there = |path: &PathBuf| path.try_exists().unwrap_or(true);
        self.aside.retain(is_there);
        if self.in_force {
            self.in_force = is_there(&self.path) && self.set_aside().is_err();
        }
    }

    /// Why nothing may become a pool that is none yet; `None`: it may.
    pub(super) fn lost_ids(&self) -> Option<String> {
        let (which, file) = match self.aside.first() {
            Some(kept) => ("kept as ", kept),
            None if self.in_force => ("", &self.path),
            None => return None,
        };
        Some(format!(
            "there is no pool here, and none was made: an earlier list of this node's pools, {which}{}, can't be read and may know one. Is a disk not \
             mounted, or the node plugin older than the one before? If this pool is a new one, remove that file",
            file.display()
        ))
    }
}
