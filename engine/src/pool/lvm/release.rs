//! Making space unreadable before somebody else gets it, and giving it back to the group.

use super::{LvmPool, call, fill, names, wipe};
use crate::{Error, VolumeId, error::Context, kernel::device_mapper, pool::record::Record};

impl LvmPool {
    /// Zeroes both ends of a thick volume that nobody has used yet.
    pub(super) fn zero_ends(&self, name: &str) -> Result<(), Error> {
        let (state, _held) = self.hold(name)?;
        let bytes = self.bytes(name, state.mapped.number)?;
        wipe::ends(&state.mapped.node(), bytes).doing(|| format!("zero the ends of {}", self.full(name)))
    }

    /// Whether nothing was ever written to a volume.
    pub(super) fn is_unwritten(&self, id: &VolumeId) -> Result<bool, Error> {
        if self.thin_pool.is_none() {
            // There is no map of what was written: the record and the look at the device decide.
            return Ok(true);
        }
        let name = names::volume(id);
        let status = device_mapper::status(&names::device(&self.group, &name))
            .doing(|| format!("ask for the map of {}", self.full(&name)))?;
        let mapped =
            status.filter(|target| target.kind == "thin").and_then(|target| fill::mapped_bytes(&target.text));
        mapped.map(|bytes| bytes == 0).ok_or_else(|| Error::Io {
            doing: format!("understand the map of {}", self.full(&name)),
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }

    /// Makes a volume read as zeros again that was never mounted. `false`: only its ends.
    pub(super) fn wipe_unused(&self, record: &Record) -> Result<bool, Error> {
        let name = names::volume(&record.id);
        let (state, _held) = self.hold(&name)?;
        let (node, bytes) = (state.mapped.node(), self.bytes(&name, state.mapped.number)?);
        if self.thin_pool.is_some() {
            // Pools that ignore discards keep the chunks; these are zeroed instead.
            if wipe::discard(&node, bytes).is_err() || !self.is_unwritten(&record.id)? {
                wipe::all(&node, bytes).doing(|| format!("zero {}", self.full(&name)))?;
            }
            return Ok(true);
        }
        wipe::ends(&node, bytes).doing(|| format!("zero the ends of {}", self.full(&name)))?;
        Ok(false)
    }

    /// Wipes and removes the LVs of deleted volumes.
    pub(super) fn sweep_deleted(&self) -> (usize, Vec<String>) {
        let deleted = self.view().deleted.clone();
        let (mut ready, mut problems) = (Vec::new(), Vec::new());
        for (name, volume) in &deleted {
            // A thin pool zeroes a chunk before it gives it to the next volume.
            match if self.thin_pool.is_none() && volume.used { self.wipe_deleted(name) } else { Ok(()) } {
                Ok(()) => ready.push(self.full(name)),
                Err(error) => problems.push(format!("wipe {}: {error}", self.full(name))),
            }
        }
        if ready.is_empty() {
            return (0, problems);
        }
        let mut arguments = vec!["-qq", "-f"];
        arguments.extend(ready.iter().map(String::as_str));
        let turn = self.turn();
        let result = self.lvm.change("lvremove", &arguments);
        if let Err(error) = self.renew(&turn) {
            problems.push(format!("look at group {}: {error}", self.group));
        }
        let left = self.view().deleted.clone();
        let removed = deleted.keys().filter(|name| !left.contains_key(*name)).count();
        if let Err(error) = result {
            problems.push(call::words(&error));
        }
        (removed, problems)
    }

    pub(super) fn wipe_deleted(&self, name: &str) -> Result<(), Error> {
        let (state, _held) = self.hold(name)?;
        let bytes = self.bytes(name, state.mapped.number)?;
        wipe::all(&state.mapped.node(), bytes).doing(|| format!("zero {}", self.full(name)))
    }

    /// Removes what interrupted copies left. Only while none runs.
    pub(super) fn remove_unfinished(&self) -> (usize, Vec<String>) {
        if let Err(error) = self.renew(&self.turn()) {
            return (0, vec![format!("look at group {}: {}", self.group, call::words(&error))]);
        }
        let (mut removed, mut problems) = (0, Vec::new());
        let unfinished = self.view().unfinished.clone();
        for name in unfinished.keys() {
            match self.remove_one_unfinished(name) {
                Ok(()) => removed += 1,
                Err(error) => problems.push(format!("remove {}: {error}", self.full(name))),
            }
        }
        (removed, problems)
    }

    pub(super) fn remove_one_unfinished(&self, name: &str) -> Result<(), Error> {
        if self.thin_pool.is_some() {
            let turn = self.turn();
            self.change(&turn, "lvremove", &["-qq", "-f", &self.full(name)])?;
            self.view().unfinished.remove(name);
            return Ok(());
        }
        // Which of the two it is, LVM knows; a plain one is no snapshot to split.
        let split =
            self.change(&self.turn(), "lvconvert", &["-qq", "-y", "--splitsnapshot", &self.full(name)]);
        if let Err(error) = split
            && !call::said(&error, &["is not a snapshot", "not a COW", "linear", "LV type"])
        {
            return Err(error.into());
        }
        self.wipe_deleted(name)?;
        let turn = self.turn();
        self.change(&turn, "lvremove", &["-qq", "-f", &self.full(name)])?;
        self.view().unfinished.remove(name);
        Ok(())
    }
}
