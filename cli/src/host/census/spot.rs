//! Which folder of which filesystem a path is: a volume has many paths, and one such spot.

use std::path::{Path, PathBuf};

use tierce_engine::{DeviceNumber, mountinfo::Line};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) device: DeviceNumber,
    pub(super) root: PathBuf,
}

impl Spot {
    /// Of a path without symbolic links, by a table of mounts alone: nothing is looked at, so nothing can hang.
    pub(super) fn of(path: &Path, table: &[Line]) -> Option<Self> {
        let line = line_of(path, table)?;
        let rest = path.strip_prefix(&line.point).ok()?;
        let root = if rest.as_os_str().is_empty() { line.root.clone() } else { line.root.join(rest) };
        Some(Self { device: line.device, root })
    }

    /// Whether a mount shows this folder or one below it.
    pub(super) fn holds(&self, line: &Line) -> bool {
        line.device == self.device && line.root.starts_with(&self.root)
    }

    /// Whether the other is this folder or something below it.
    pub(super) fn has(&self, other: &Self) -> bool {
        other.device == self.device && other.root.starts_with(&self.root)
    }
}

/// The mount that a path lies on.
pub(super) fn line_of<'a>(path: &Path, table: &'a [Line]) -> Option<&'a Line> {
    let below = |line: &&Line| path.starts_with(&line.point);
    // Of several mounts at one point the last covers the others.
    let line = table.iter().filter(below).max_by_key(|line| line.point.as_os_str().len())?;
    table.iter().rfind(|other| other.point == line.point)
}
