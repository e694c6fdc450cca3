//! What of the names in an archive is left out, and what is above all of them.

use std::io;

use super::{super::tree_descent::shown, refusal::bad};

/// Takes the first parts of names away as GNU tar does: a `.` at the beginning is one. Several slashes are like one, where GNU tar 1.34 takes
/// what follows them for an absolute path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stripping(pub(super) usize);

impl Stripping {
    /// The name below the volume's folder; `None`: nothing is left of it. Of a folder with just so many parts the volume's own is left, as of
    /// an archive that was packed in it.
    pub(super) fn of(self, path: &[u8], is_folder: bool) -> io::Result<Option<Vec<u8>>> {
        let whole = relative(path)?;
        if self.0 == 0 {
            return Ok(Some(whole));
        }
        let parts = parts(path);
        Ok(match parts.get(self.0..) {
            None => None,
            Some([]) => is_folder.then(Vec::new),
            Some(rest) => Some(relative(&rest.join(&b'/'))?),
        })
    }

    /// The same of what a hard link leads to.
    pub(super) fn of_target(self, target: &[u8]) -> io::Result<Vec<u8>> {
        let left_out = || {
            let target = shown(target).escape_debug().to_string();
            bad(&format!("is a hard link to '{target}', which --strip-components {} leaves out", self.0))
        };
        self.of(target, false)?.ok_or_else(left_out)
    }
}

/// A path below the volume's folder, without what says nothing; `..` leads who knows where.
fn relative(path: &[u8]) -> io::Result<Vec<u8>> {
    let steps: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|step| !matches!(*step, b"" | b".")).collect();
    if steps.contains(&b"..".as_slice()) {
        return Err(bad("leads out of the volume; pack it anew with tar -C FOLDER ."));
    }
    if path.is_empty() || path.contains(&0) {
        return Err(bad("has no name that a file can have"));
    }
    Ok(steps.join(&b'/'))
}

fn parts(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect()
}

/// The one folder that everything in an archive lies below, if there is one: it was packed from above.
#[derive(Debug, Default)]
pub(super) struct Tops {
    /// Its name, and how many parts of names lead to its content.
    one: Option<(Vec<u8>, usize)>,
    /// Something is not below it.
    has_more: bool,
    is_folder: bool,
}

impl Tops {
    /// `path`: as the archive has it; `placed`: what is left of it.
    pub(super) fn note(&mut self, path: &[u8], placed: &[u8], is_folder: bool, stripping: Stripping) {
        let mut steps = placed.splitn(2, |byte| *byte == b'/');
        let (first, below) = (steps.next().unwrap_or_default(), steps.next());
        if first.is_empty() || self.has_more {
            self.has_more = true;
            return;
        }
        let dots = parts(path).into_iter().skip(stripping.0).take_while(|part| *part == b".").count();
        let depth = stripping.0 + dots + 1;
        match &self.one {
            None => self.one = Some((first.to_owned(), depth)),
            Some((name, own)) => self.has_more = name != first || *own != depth,
        }
        self.is_folder |= is_folder || below.is_some();
    }

    /// What is to be told of it.
    pub(super) fn in_words(&self) -> Option<String> {
        let (name, depth) = self.one.as_ref().filter(|_| self.is_folder && !self.has_more)?;
        let name = shown(name).escape_debug().to_string();
        Some(format!(
            "all of the archive lies below '{name}/', and so it does in the volume: if that folder was to be the volume itself, remove the volume, and import it with --strip-components {depth}"
        ))
    }
}
