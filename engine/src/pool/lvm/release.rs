//! Making space unreadable before another volume gets it, and giving it back to the group.

use std::collections::BTreeSet;

use super::{
    LvmPool, call, fill, names,
    view::{Deleted, Zeroing},
    wipe,
};
use crate::{
    Error, VolumeId,
    crypt::HEADER_BYTES,
    error::Context,
    kernel::device_mapper,
    pool::{Release, record::Record},
};

/// What came of zeroing a deleted volume.
enum Zeroed {
    /// All of it reads as zeros.
    Whole,
    /// Its last piece did, and went back to the group.
    Piece,
    /// It was given up.
    No,
}

/// Bounds of the piece of a deleted volume that is given back to the group at once, in bytes: a sixteenth of
/// the volume.
const LEAST_PIECE: u64 = 256 << 20;
const MOST_PIECE: u64 = 8 << 30;

impl Release for LvmPool {
    fn has_trash(&self) -> bool {
        !self.view().deleted.is_empty() || !self.notes.left().is_empty()
    }

    fn sweep(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>) {
        let (mut removed, mut problems, mut tried) = (0, Vec::new(), BTreeSet::new());
        let left = self.notes.left().clone();
        for name in left {
            if !goes_on() {
                break;
            }
            match self.remove_if_unfinished(&name) {
                Ok(()) => drop(self.notes.left().remove(&name)),
                Err(error) => problems.push(format!("throw {} away: {error}", self.full(&name))),
            }
        }
        while goes_on() {
            let left = self.view().deleted.clone();
            let due: Vec<_> = left.iter().filter(|(name, _)| !tried.contains(*name)).collect();
            let mut ready = Vec::new();
            for (name, volume) in self.next_to_remove(&due) {
                match self.zero_deleted(name, *volume, goes_on) {
                    // Before the next piece it is chosen anew: what was deleted meanwhile may take less.
                    Ok(Zeroed::Piece) => continue,
                    Ok(Zeroed::Whole) => ready.push(name),
                    Ok(Zeroed::No) => {}
                    Err(error) => problems.push(format!("zero {}: {error}", self.full(name))),
                }
                tried.insert(name.clone());
            }
            if due.is_empty() {
                break;
            }
            if !ready.is_empty() {
                removed += self.remove_deleted(&ready, &mut problems);
            }
        }
        (removed, problems)
    }

    fn throw_unfinished(&self) -> (usize, Vec<String>) {
        if let Err(error) = self.renew(&self.turn()) {
            return (0, vec![format!("look at group {}: {}", self.group, call::words(&error))]);
        }
        let (mut thrown, mut problems) = (0, Vec::new());
        let (unfinished, never_made) = {
            let view = self.view();
            (view.unfinished.clone(), view.never_made.clone())
        };
        for name in unfinished.keys() {
            // What was never made can't be renamed either.
            let done = match never_made.as_ref().filter(|found| found.name == *name) {
                Some(found) => self.remove_never_made(&self.turn(), found).map_err(Error::from),
                None => self.throw(name),
            };
            match done {
                Ok(()) => thrown += 1,
                Err(error) => problems.push(format!("throw {} away: {error}", self.full(name))),
            }
        }
        (thrown, problems)
    }

    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error> {
        if self.thin_pool.is_none() {
            // There is no map of what was written: the record and the look at the device decide.
            return Ok(true);
        }
        self.has_no_chunks(&names::volume(id))
    }

    fn wipe(&self, record: &Record) -> Result<bool, Error> {
        let name = names::volume(&record.id);
        let (state, _held) = self.hold(&name)?;
        let (node, bytes) = (state.mapped.node(), self.bytes(&name, state.mapped.number)?);
        if self.thin_pool.is_some() {
            // Pools that ignore discards keep the chunks; these are zeroed instead.
            if wipe::discard(&node, bytes).is_err() || !self.is_empty(&record.id)? {
                wipe::all(&node, bytes).doing(|| format!("zero {}", self.full(&name)))?;
            }
            return Ok(true);
        }
        wipe::ends(&node, bytes).doing(|| format!("zero the ends of {}", self.full(&name)))?;
        Ok(false)
    }
}

impl LvmPool {
    /// Whether nothing was ever written to a thin LV, which is active.
    pub(super) fn has_no_chunks(&self, name: &str) -> Result<bool, Error> {
        let status = device_mapper::status(&names::device(&self.group, name))
            .doing(|| format!("ask for the map of {}", self.full(name)))?;
        let mapped =
            status.filter(|target| target.kind == "thin").and_then(|target| fill::mapped_bytes(&target.text));
        mapped.map(|bytes| bytes == 0).ok_or_else(|| Error::Io {
            doing: format!("understand the map of {}", self.full(name)),
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }

    /// Zeroes both ends of a thick volume that was not used yet.
    pub(super) fn zero_ends(&self, name: &str) -> Result<(), Error> {
        let (state, _held) = self.hold(name)?;
        let bytes = self.bytes(name, state.mapped.number)?;
        wipe::ends(&state.mapped.node(), bytes).doing(|| format!("zero the ends of {}", self.full(name)))
    }

    /// The volumes to be removed with the next command: all that need few zeros or none, else the smallest.
    fn next_to_remove<'a>(&self, due: &[(&'a String, &'a Deleted)]) -> Vec<(&'a String, &'a Deleted)> {
        let quick =
            |(_, volume): &&(&String, &Deleted)| self.thin_pool.is_some() || volume.zeroing != Zeroing::All;
        let all: Vec<_> = due.iter().filter(quick).copied().collect();
        if !all.is_empty() {
            return all;
        }
        due.iter().min_by_key(|(_, volume)| volume.size).copied().into_iter().collect()
    }

    fn remove_deleted(&self, names: &[&String], problems: &mut Vec<String>) -> usize {
        let full: Vec<String> = names.iter().map(|name| self.full(name)).collect();
        let mut arguments = vec!["-qq", "-f"];
        arguments.extend(full.iter().map(String::as_str));
        let turn = self.turn();
        let result = self.lvm.change("lvremove", &arguments);
        if let Err(error) = self.renew(&turn) {
            problems.push(format!("look at group {}: {error}", self.group));
        }
        if let Err(error) = result {
            problems.push(call::words(&error));
        }
        let view = self.view();
        names.iter().filter(|name| !view.deleted.contains_key(**name)).count()
    }

    /// Makes the content of a deleted volume's LV unreadable. A large LV is given back to the group piece by
    /// piece from its end, one with each call, when it reads as zeros, so that an interrupted call is continued
    /// where it ended.
    fn zero_deleted(&self, name: &str, volume: Deleted, goes_on: &dyn Fn() -> bool) -> Result<Zeroed, Error> {
        let zeroed = |whole| if whole { Zeroed::Whole } else { Zeroed::No };
        // A thin pool zeroes a chunk before it gives it to the next volume.
        if self.thin_pool.is_some() || volume.zeroing == Zeroing::Nothing {
            return Ok(Zeroed::Whole);
        }
        self.let_go(name)?;
        let doing = || format!("zero {}", self.full(name));
        let (state, _held) = self.hold(name)?;
        let node = state.mapped.node();
        // What LVM took from it already may be another volume's.
        let end = self.bytes(name, state.mapped.number)?.min(volume.size);
        if volume.zeroing == Zeroing::Header {
            return wipe::range(&node, 0, end.min(HEADER_BYTES), goes_on).map(zeroed).doing(doing);
        }
        // LVM may refuse to cut off what looks like a filesystem.
        wipe::ends(&node, end).doing(doing)?;
        let start = self.piece_before(end);
        if start > 0 {
            if !wipe::range(&node, start, end, goes_on).doing(doing)? {
                return Ok(Zeroed::No);
            }
            match self.cut_off(name, start) {
                Ok(()) => return Ok(Zeroed::Piece),
                Err(error) => {
                    tracing::debug!(volume = self.full(name), %error, "can't give a deleted volume back piece by piece");
                    self.activate(name)?;
                }
            }
        }
        // What is left of it, or all that the group did not take back by pieces.
        wipe::range(&node, 0, end, goes_on).map(zeroed).doing(doing)
    }

    /// Ends that copy-on-write snapshots keep what a deleted volume holds: those that a copy left which is
    /// over, as LVM could not split them off then. Before zeros are written over their origin the kernel puts
    /// what was there into each of them, and LVM removes them together with their origin, whatever is in
    /// them.
    fn let_go(&self, name: &str) -> Result<(), Error> {
        self.activate(name)?;
        let Some(kept) = self.kept_below(name, "snapshot-origin")? else { return Ok(()) };
        self.renew(&self.turn())?;
        let unfinished: Vec<String> = self.view().unfinished.keys().cloned().collect();
        for left in unfinished {
            if self.kept_below(&left, "snapshot")?.as_ref() == Some(&kept) {
                tracing::info!(volume = self.full(&left), "splitting off a snapshot that a copy left");
                self.throw(&left)?;
            }
        }
        if self.kept_below(name, "snapshot-origin")?.is_none() {
            return Ok(());
        }
        Err(Error::Io {
            doing: format!(
                "zero {}: a copy-on-write snapshot of it is there that is none of ours, or in use: `lvs -o lv_name,origin {}` names it",
                self.full(name),
                self.group
            ),
            source: std::io::ErrorKind::ResourceBusy.into(),
        })
    }

    /// The device below an LV of that kind, which a copy-on-write snapshot shares with its origin; `None`: it
    /// is of another kind.
    fn kept_below(&self, name: &str, kind: &str) -> Result<Option<String>, Error> {
        let table = device_mapper::table(&names::device(&self.group, name))
            .doing(|| format!("ask for the table of {}", self.full(name)))?;
        let below = table.filter(|target| target.kind == kind);
        Ok(below.and_then(|target| target.text.split(' ').next().map(str::to_owned)))
    }

    /// The start of the last piece of a deleted volume with so many bytes.
    fn piece_before(&self, end: u64) -> u64 {
        let piece = (end / 16).clamp(LEAST_PIECE, MOST_PIECE);
        let extent = self.view().extent.max(1);
        end.saturating_sub(piece) / extent * extent
    }

    /// Gives the end of a deleted volume back to the group.
    fn cut_off(&self, name: &str, bytes: u64) -> Result<(), Error> {
        let size = format!("{bytes}b");
        let turn = self.turn();
        self.change(&turn, "lvreduce", &["-qq", "-f", "-y", "-L", &size, &self.full(name)])?;
        self.view().cut_off(name, bytes);
        Ok(())
    }

    /// Gets rid of an unfinished LV: from a thin pool it is removed at once, a thick one waits to be zeroed.
    pub(super) fn drop_unfinished(&self, name: &str) -> Result<(), Error> {
        if self.thin_pool.is_some() { self.remove_unfinished(name) } else { self.throw(name) }
    }

    /// Removes an unfinished LV that holds no data.
    pub(super) fn remove_unfinished(&self, name: &str) -> Result<(), Error> {
        let turn = self.turn();
        self.change(&turn, "lvremove", &["-qq", "-f", &self.full(name)])?;
        self.view().unfinished.remove(name);
        Ok(())
    }

    /// Puts an unfinished LV among the deleted volumes.
    pub(super) fn throw(&self, name: &str) -> Result<(), Error> {
        if self.thin_pool.is_none() {
            // Whether it is a copy-on-write snapshot, LVM knows; a plain one is none to split.
            let split =
                self.change(&self.turn(), "lvconvert", &["-qq", "-y", "--splitsnapshot", &self.full(name)]);
            if let Err(error) = split
                && !call::said(&error, &["is not a snapshot", "not a COW", "linear", "LV type"])
            {
                return Err(error.into());
            }
        }
        let turn = self.turn();
        self.change(&turn, "lvrename", &["-qq", &self.group, name, &names::thrown(name)])?;
        Ok(self.renew(&turn)?)
    }
}
