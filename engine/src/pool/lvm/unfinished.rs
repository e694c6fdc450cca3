//! Logical volumes that are being made in more than one step: they have the name `n-<id>-<n>` until they are
//! whole, and go again where that fails.

use std::{fs::File, io};

use super::{LvmPool, names, tags, wipe};
use crate::{
    Error, VolumeId,
    device::Content,
    error::Context,
    pool::{gave_way, images, record::Record},
};

impl LvmPool {
    /// Makes a volume with that content.
    pub(super) fn fill_new(
        &self,
        record: &Record,
        source: &VolumeId,
        content: &Content,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let name = names::unfinished(&record.id);
        let _reserved = self.notes.reserve(&name);
        self.made_with(&name, record, source, content, &tags::of(self.id, record), goes_on)?;
        self.appear(&name, record)
    }

    /// Makes an unfinished LV with that content and these tags.
    pub(super) fn made_with(
        &self,
        name: &str,
        record: &Record,
        source: &VolumeId,
        content: &Content,
        tags: &[String],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        // Without the tag that says it is whole, and without the record, as long as it is not.
        let made = self.make_empty(&self.turn(), name, record, &[tags::of_pool(self.id)]);
        self.kept_if(made, name)?;
        let filled = self.fill_with(name, record, content, goes_on);
        let filled = filled.and_then(|whole| if whole { Ok(()) } else { Err(gave_way(source)) });
        self.kept_if(filled.and_then(|()| self.add_tags(name, tags)), name)
    }

    /// Fills an LV with that content. Returns `false` if it was given up.
    fn fill_with(
        &self,
        name: &str,
        record: &Record,
        content: &Content,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<bool, Error> {
        let (state, _held) = self.hold(name)?;
        let doing = || format!("copy to {}", self.full(name));
        let Some(from) = &content.file else { return Ok(true) };
        let node = state.mapped.node();
        let target = File::options().write(true).open(&node).doing(doing)?;
        if self.thin_pool.is_none() {
            let bytes = self.bytes(name, state.mapped.number)?;
            if !wipe::range(&node, 0, bytes, goes_on).doing(doing)? {
                return Ok(false);
            }
        }
        let copied = images::copy_data(from, content.bytes, &target, goes_on)
            .and_then(|whole| target.sync_all().map(|()| whole));
        copied.map_err(|error| {
            if is_full(&error) {
                self.out_of_space(record.size_bytes)
            } else {
                Error::Io { doing: doing(), source: error }
            }
        })
    }

    pub(super) fn add_tags(&self, name: &str, tags: &[String]) -> Result<(), Error> {
        let full = self.full(name);
        let mut arguments = vec!["-qq"];
        for tag in tags {
            arguments.extend(["--addtag", tag]);
        }
        arguments.push(&full);
        Ok(self.change(&self.turn(), "lvchange", &arguments)?)
    }

    /// Gives an unfinished LV its volume's name.
    pub(super) fn appear(&self, name: &str, record: &Record) -> Result<(), Error> {
        let new = names::volume(&record.id);
        let renamed = self.change(&self.turn(), "lvrename", &["-qq", &self.group, name, &new]);
        self.kept_if(renamed.map_err(Error::from), name)?;
        Ok(self.renew(&self.turn())?)
    }

    /// Passes a result on. If it is an error, the unfinished LV is removed, since each further try would take
    /// as much room again. Never call it with the turn.
    pub(super) fn kept_if<T>(&self, result: Result<T, Error>, name: &str) -> Result<T, Error> {
        if result.is_err()
            && let Err(problem) = self.remove_if_unfinished(name)
        {
            tracing::warn!(volume = self.full(name), error = %problem, "can't remove a copy that failed yet");
            self.notes.left().insert(name.to_owned());
        }
        result
    }

    /// A command that failed may have done its work all the same, so LVM is asked.
    pub(super) fn remove_if_unfinished(&self, name: &str) -> Result<(), Error> {
        self.renew(&self.turn())?;
        let there = self.view().unfinished.contains_key(name);
        if there { self.drop_unfinished(name) } else { Ok(()) }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull)
}
