//! Logical volumes that come, change and go: each by one command, so that a crash leaves all of the change or
//! none.

use std::sync::MutexGuard;

use super::{LvmPool, call, names, tags};
use crate::{
    Error, PoolError, PoolErrorKind, VolumeId,
    pool::{Scanned, Volumes, record::Record, store::Broken},
};

impl Volumes for LvmPool {
    fn scan(&self) -> Result<Vec<Scanned>, PoolError> {
        self.renew(&self.turn()).map_err(|error| {
            let reason = format!("can't list the volumes of {}: {}", self.group, call::words(&error));
            self.error(PoolErrorKind::Failed.because(reason))
        })?;
        if let Err(error) = self.finish_swaps() {
            tracing::warn!(pool = self.config.name, %error, "can't end an interrupted restore");
        }
        let view = self.view().clone();
        Ok(view.scanned(|id, entry| self.takes(&names::volume(id), entry.size)))
    }

    fn held(&self, id: &VolumeId) -> bool {
        self.view().volumes.contains_key(id)
    }

    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        // From memory: only we write these tags. Each scan looks again.
        let known = || self.view().volumes.get(id).map(|entry| entry.record.clone());
        // Where an exchange of its content failed between the two names a volume has none, but it is not
        // gone.
        if known().is_none() && !self.swaps_of(id).is_empty() {
            self.finish_swaps()?;
        }
        Ok(known())
    }

    fn load_anew(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        self.renew(&self.turn())?;
        self.load(id)
    }

    fn save(&self, record: &Record) -> Result<(), Error> {
        let before = self.entry(&record.id)?;
        let name = names::volume(&record.id);
        let mut tags = tags::of(self.id, record);
        if before.raw {
            if record.may_hold_data() {
                self.zero_ends(&name)?;
            } else {
                tags.push(tags::RAW.to_owned());
            }
        }
        let later = before.tags.iter().filter(|tag| !tags::is_of_record(tag)).cloned();
        tags.extend(later);
        let mut arguments = vec!["-qq".to_owned()];
        for old in before.tags.iter().filter(|tag| !tags.contains(tag)) {
            arguments.extend(["--deltag".to_owned(), old.clone()]);
        }
        for new in tags.iter().filter(|tag| !before.tags.contains(tag)) {
            arguments.extend(["--addtag".to_owned(), new.clone()]);
        }
        if arguments.len() == 1 {
            return Ok(());
        }
        arguments.push(self.full(&name));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let turn = self.turn();
        self.change(&turn, "lvchange", &arguments)?;
        let raw = tags.iter().any(|tag| tag == tags::RAW);
        if let Some(entry) = self.view().volumes.get_mut(&record.id) {
            (entry.record, entry.tags, entry.raw) = (Ok(record.clone()), tags, raw);
        }
        Ok(())
    }

    fn allocated(&self, id: &VolumeId) -> u64 {
        let size = self.view().volumes.get(id).map(|entry| entry.size);
        size.map_or(0, |size| self.takes(&names::volume(id), size))
    }

    fn create(&self, record: &Record) -> Result<(), Error> {
        let name = names::volume(&record.id);
        let mut tags = tags::of(self.id, record);
        if self.thin_pool.is_none() {
            tags.push(tags::RAW.to_owned());
        }
        let turn = self.turn();
        self.make_empty(&turn, &name, record, &tags)?;
        let size = record.size_bytes.next_multiple_of(self.view().extent.max(1));
        self.view().made(record.clone(), size, tags, if self.thin_pool.is_some() { 0 } else { size });
        drop(turn);
        if self.thin_pool.is_none() { self.zero_ends(&name) } else { Ok(()) }
    }

    fn resize(&self, record: &Record) -> Result<(), Error> {
        let before = self.entry(&record.id)?;
        let name = names::volume(&record.id);
        if before.size >= record.size_bytes {
            return Ok(());
        }
        let turn = self.turn();
        self.lvextend(&turn, &name, record.size_bytes)?;
        let mut view = self.view();
        let bytes = record.size_bytes.next_multiple_of(view.extent.max(1));
        if self.thin_pool.is_none() {
            view.group_free = view.group_free.saturating_sub(bytes.saturating_sub(before.size));
        }
        if let Some(entry) = view.volumes.get_mut(&record.id) {
            entry.size = bytes;
        }
        Ok(())
    }

    fn delete(&self, id: &VolumeId) -> Result<bool, Error> {
        if !self.view().volumes.contains_key(id) {
            return Ok(false);
        }
        // What an exchange of its content that failed left would take its name.
        for left in self.swaps_of(id) {
            self.drop_unfinished(&left)?;
        }
        let (name, new) = (names::volume(id), names::deleted(id));
        let turn = self.turn();
        self.change(&turn, "lvrename", &["-qq", &self.group, &name, &new])?;
        self.view().deleted(id, &new);
        Ok(true)
    }
}

impl LvmPool {
    /// Makes an active logical volume with these tags, by one command.
    pub(super) fn make_empty(
        &self,
        turn: &MutexGuard<'_, ()>,
        name: &str,
        record: &Record,
        tags: &[String],
    ) -> Result<(), Error> {
        self.check_names(&record.id)?;
        let size = format!("{}b", record.size_bytes);
        // -ky: not activated with the rest of the group when the machine starts; it is activated when it is
        // needed.
        let mut arguments = vec!["-qq", "-y", "-ky", "-K", "-ay", "-n", name];
        match &self.thin_pool {
            Some(pool) => arguments.extend(["-V", &size, "--thinpool", pool]),
            None => arguments.extend(["-Wn", "-Zn", "-L", &size]),
        }
        for tag in tags {
            arguments.extend(["--addtag", tag]);
        }
        arguments.push(&self.group);
        for _ in 0..2 {
            self.lvcreate(turn, &arguments, record.size_bytes)?;
            if self.thin_pool.is_none() || self.has_no_chunks(name)? {
                return Ok(());
            }
            // The kernel had a device of the number that LVM thought free, with what a deleted volume held. It goes
            // with the LV.
            tracing::warn!(volume = self.full(name), "removing what a deleted volume left");
            self.change(turn, "lvremove", &["-qq", "-f", &self.full(name)])?;
        }
        Err(Error::Io {
            doing: format!("make {}: the thin pool gives it what a deleted volume held", self.full(name)),
            source: std::io::ErrorKind::InvalidData.into(),
        })
    }

    pub(super) fn check_names(&self, id: &VolumeId) -> Result<(), Error> {
        if names::fit(&self.group, id) {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "the id {id} makes too long a device name in volume group {}: give it fewer characters, '-' counts twice",
            self.group
        )))
    }
}
