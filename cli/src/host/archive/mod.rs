//! `volume export` and `volume import`: a volume as a tar archive.
//!
//! An archive is read and written here rather than by a tar program, for the reasons in `docs/decisions/2026-11-30-archives.md`.

mod access_list;
mod compression;
mod field;
mod folders;
mod reader;
mod records;
mod refusal;
mod sparse;
mod stripping;
mod unpack;
mod unsaid;
mod walk;
mod writer;

use std::{
    io::{self, IsTerminal, Read, Write},
    os::fd::OwnedFd,
};

use rustix::fs;

use super::{
    Error,
    access::Access,
    attachments::Holder,
    error::{Context, full_disk},
    fail,
    left_out::LeftOut,
    names::Name,
    volumes::{NewVolume, Volumes},
};
use crate::{failure, terminal};
use stripping::Stripping;

impl Volumes {
    /// Writes a volume to standard output. `no_holes`: they become zeros. `strict`: nothing may be left out.
    pub(super) fn export(&self, full: &str, no_holes: bool, strict: bool) -> Result<(), Error> {
        let out = io::stdout().lock();
        if out.is_terminal() {
            return Err(Error::InvalidArgument(format!(
                "An archive is nothing for a terminal: write it to a file, as tierce --host volume export {full} > {full}.tar.zst"
            )));
        }
        let is_used = self.is_used(full)?;
        let write = |from: &str| {
            let volume = self.get(from)?;
            let folder = self.open_data(&volume)?;
            let left_out = LeftOut::new(strict);
            let doing = || format!("export volume '{full}' from {}", volume.path.display());
            write(doing, &folder, out, (no_holes, &left_out))
        };
        self.held(
            Some(full),
            "export",
            || if is_used { self.at_one_moment(full, write) } else { write(full) },
        )
    }

    /// Makes a volume from an archive. A volume that could not be filled is not left behind. `strip`: so many parts of each name are left
    /// out. `strict`: nothing may be left out.
    ///
    /// Its record says who fills it, until it is whole: after a crash the next import of that name, or `system prune`, removes what is there.
    pub(super) fn import(
        &self,
        name: &Name,
        new: &NewVolume,
        from: impl Read,
        (strip, strict): (usize, bool),
    ) -> Result<(), Error> {
        let full = name.full();
        let exists = || Error::Exists { what: format!("Volume '{full}'") };
        if let Some(existing) = self.find(&full)?
            && !existing.is_half_made()?
        {
            return Err(exists());
        }
        let doing = || format!("import volume '{full}'");
        // What is no archive at all is seen before anything is made.
        let mut from = compression::unpacked(from).doing(doing)?;
        let us = Holder::process(std::process::id())?;
        self.create(name, &NewVolume { filling: Some(us.clone()), ..new.clone() })?;
        // Of two imports at once the other may have made it.
        let folder = self.open_to_fill(&full, &us)?.ok_or_else(exists)?;
        fail::point("import: made");
        let left_out = LeftOut::new(strict);
        let filled = fill(&full, &folder, &mut from, (Stripping(strip), new.access), &left_out);
        if let Err(error) = filled {
            return Err(match self.give_up(&full, &us, folder) {
                Err(replaced @ Error::Replaced { .. }) => replaced,
                Err(kept) => {
                    failure::warn(&kept);
                    error
                }
                Ok(()) => error,
            });
        }
        fail::point("import: filled");
        self.is_whole(&full, &us)
    }
}

/// Writes a folder as an archive.
fn write(
    doing: impl Fn() -> String,
    folder: &OwnedFd,
    out: impl Write,
    (no_holes, left_out): (bool, &LeftOut),
) -> Result<(), Error> {
    // Level 3 is the library's own default.
    let encoder = zstd::Encoder::new(out, 3).doing(&doing)?;
    let (mut writer, mut traces) =
        (writer::Writer::new(encoder, no_holes, left_out), walk::Traces::default());
    walk::walk(folder, &mut |found| {
        traces.note(&found.stat);
        writer.entry(found)
    })
    .doing(&doing)?;
    fail::point("export: written");
    traces.are_still_so(folder).doing(&doing)?;
    // Only now its end is written: what fails before leaves an archive that every reader refuses.
    left_out.told()?;
    writer.finish().and_then(zstd::Encoder::finish).and_then(|mut out| out.flush()).doing(&doing)
}

/// `access`: what the folder gets, whatever the archive says of it.
fn fill(
    full: &str,
    folder: &OwnedFd,
    from: &mut dyn Read,
    (stripping, access): (Stripping, Option<Access>),
    left_out: &LeftOut,
) -> Result<(), Error> {
    let doing = || format!("import volume '{full}'");
    let notes = unpack::unpack(from, folder, stripping, left_out)
        .map_err(|(error, missing)| full_disk(error, missing, doing(), folder))?;
    access.map_or(Ok(()), |access| access.give(folder)).doing(doing)?;
    fs::syncfs(folder).doing(doing)?;
    left_out.told()?;
    for note in notes {
        terminal::note(&format!("Warning: {note}"));
    }
    Ok(())
}
