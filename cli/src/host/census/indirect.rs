//! Folders and files that are used without being mounted themselves: layers of an overlay, and what a filesystem was mounted from.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use tierce_engine::mountinfo::Line;

use super::spot::{self, Spot};
use crate::host::relative;

/// Filesystems of other machines: to look at a path there may take for ever.
const REMOTE: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "autofs", "glusterfs", "fuse.sshfs"];

/// One of them, as somebody wrote it. A path is taken for each folder that it may be: whose it was when it was written is not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    paths: Vec<PathBuf>,
    spots: Vec<Spot>,
}

impl Place {
    /// `own`: the table of mounts of this process.
    pub(super) fn written(path: &Path, own: &[Line]) -> Self {
        Self { paths: vec![path.to_owned()], spots: Spot::of(path, own).into_iter().collect() }
    }

    /// Whether it is a folder that has this path and spot, or lies below it.
    pub(super) fn is_in(&self, folder: &Path, spot: &Spot) -> bool {
        let leads_in = |path: &PathBuf| {
            if path.is_absolute() { path.starts_with(folder) } else { relative::may_lead_into(path, folder) }
        };
        self.spots.iter().any(|other| spot.has(other)) || self.paths.iter().any(leads_in)
    }
}

/// Reads those of the mounts of all namespaces, the same ones of many mounts once.
pub(super) struct Reader<'a> {
    own: &'a [Line],
    known: HashMap<PathBuf, Place>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(own: &'a [Line]) -> Self {
        Self { own, known: HashMap::new() }
    }

    /// What a mount of this table uses.
    pub(super) fn of(&mut self, line: &Line, table: &[Line]) -> Vec<Place> {
        let layers = line.layers();
        let mut places: Vec<Place> = layers.iter().map(|layer| self.place(layer, true, table)).collect();
        places.extend(sources(line).iter().map(|source| self.place(source, false, table)));
        places
    }

    fn place(&mut self, path: &Path, resolve: bool, table: &[Line]) -> Place {
        let own = self.own;
        let written = || {
            let mut place = Place::written(path, own);
            let is_near = |line: &Line| !REMOTE.contains(&line.fstype.as_str());
            if resolve
                && path.is_absolute()
                && spot::line_of(path, own).is_some_and(is_near)
                && let Ok(real) = path.canonicalize()
                && real != path
            {
                place.spots.extend(Spot::of(&real, own));
                place.paths.push(real);
            }
            place
        };
        let mut place = self.known.entry(path.to_owned()).or_insert_with(written).clone();
        if !std::ptr::eq(table, own) {
            place.spots.extend(Spot::of(path, table));
        }
        place
    }
}

/// The files that a filesystem was mounted from, where it is no device: EROFS needs none, and FUSE shows what it was given.
fn sources(line: &Line) -> Vec<PathBuf> {
    let parts = line.source.as_os_str().as_bytes().split(|byte| *byte == b':');
    let paths = parts.map(|part| PathBuf::from(OsStr::from_bytes(part)));
    let is_file =
        |path: &PathBuf| path.is_absolute() && path.components().count() > 1 && !path.starts_with("/dev");
    std::iter::once(line.source.clone()).chain(paths).filter(is_file).collect()
}
