//! What folders of an archive have beside their content. They get it last, the innermost first: it may not let anybody write, and each new
//! file changes the time.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::io::Errno;

use super::{
    super::{left_out::LeftOut, metadata::Metadata, tree_descent},
    refusal::of_entry,
};

type Descent = tree_descent::Descent<Option<Metadata>>;

/// Gives the folders below a top, and the top itself, what is theirs. By path, which is empty for the top.
pub(super) fn finish(
    top: &OwnedFd,
    folders: BTreeMap<Vec<u8>, Metadata>,
    left_out: &LeftOut,
) -> io::Result<()> {
    let mut finish = Finish { descent: Descent::new(top, None)?, path: Vec::new(), left_out };
    for (path, metadata) in in_order(folders) {
        while !lies_in(&path, &finish.path) {
            finish.leave()?;
        }
        finish.enter(&path).map_err(|error| of_entry(&slashed(&path), &error.into()))?;
        *finish.descent.here().1 = Some(metadata);
    }
    while finish.leave()? {}
    let (top, metadata) = finish.descent.here();
    let Some(metadata) = metadata.take() else { return Ok(()) };
    metadata.give(top, left_out, b"").map_err(|error| of_entry(b"", &error))
}

/// Each folder before what is in it, with nothing else between. The steps of their paths end in NUL, which comes before all that a name may
/// have.
fn in_order(folders: BTreeMap<Vec<u8>, Metadata>) -> Vec<(Vec<u8>, Metadata)> {
    let mut folders: Vec<_> = folders
        .into_iter()
        .map(|(path, metadata)| (path.split(|byte| *byte == b'/').collect::<Vec<_>>().join(&0), metadata))
        .collect();
    folders.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    folders
}

fn lies_in(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty()
        || path.strip_prefix(folder).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

fn slashed(path: &[u8]) -> Vec<u8> {
    path.split(|byte| *byte == 0).collect::<Vec<_>>().join(&b'/')
}

struct Finish<'a> {
    descent: Descent,
    /// Of the innermost folder.
    path: Vec<u8>,
    left_out: &'a LeftOut,
}

impl Finish<'_> {
    /// Goes on from the innermost folder to one that lies in it.
    fn enter(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        let rest = path.get(self.path.len()..).unwrap_or_default();
        for step in rest.split(|byte| *byte == 0).filter(|step| !step.is_empty()) {
            let name = CString::new(step).map_err(|_| Errno::INVAL)?;
            let folder = tree_descent::open_folder(self.descent.here().0, &name)?;
            self.descent.enter(folder, None)?;
            if !self.path.is_empty() {
                self.path.push(0);
            }
            self.path.extend(step);
        }
        Ok(())
    }

    /// Goes back, and gives the folder that was left what is its; `false`: that was the top.
    fn leave(&mut self) -> io::Result<bool> {
        let Some((folder, metadata)) = self.descent.leave()? else { return Ok(false) };
        if let Some(metadata) = metadata {
            let path = slashed(&self.path);
            metadata.give(folder.as_fd(), self.left_out, &path).map_err(|error| of_entry(&path, &error))?;
        }
        let above = self.path.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        self.path.truncate(above);
        Ok(true)
    }
}
