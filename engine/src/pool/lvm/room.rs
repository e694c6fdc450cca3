//! How much there is, how much is in use, and the growth of a thin pool that fills up.

use std::sync::MutexGuard;

use super::{
    LvmPool,
    fill::{self, Fill, Growth},
    names,
    open::disk_id,
    thin_pool,
    view::Entry,
};
use crate::{
    Error, PoolError, PoolErrorKind, VolumeId,
    kernel::device_mapper,
    pool::{Promised, Space, ThinUsage, space::Disk},
};

impl Space for LvmPool {
    fn disk_id(&self) -> Result<u64, PoolError> {
        Ok(disk_id(self.id))
    }

    fn disk(&self) -> Result<Disk, PoolError> {
        self.check_metadata();
        self.space()
    }

    fn promised(&self) -> Promised {
        let view = self.view().clone();
        let allocated = match self.level() {
            // What snapshots share counts once, so the pool is asked and not its volumes.
            Ok(Some(fill)) => {
                let others: u64 =
                    view.foreign.iter().chain(view.deleted.keys()).map(|name| self.mapped(name)).sum();
                fill.used().saturating_sub(others)
            }
            _ => view.volumes.values().map(|entry| entry.size).sum(),
        };
        view.promised(allocated)
    }

    fn promised_to(&self, id: &VolumeId) -> u64 {
        self.view().volumes.get(id).map_or(0, Entry::promised)
    }

    fn begun(&self, id: &VolumeId) -> u64 {
        if self.thin_pool.is_some() {
            return 0;
        }
        self.view().unfinished.values().filter(|begun| begun.id == *id).map(|begun| begun.size).sum()
    }

    fn direct_io(&self) -> Option<bool> {
        None
    }

    fn warning(&self) -> Option<PoolError> {
        if self.view().lacks_metadata() {
            return Some(self.group_crowded());
        }
        let (pool, level) = self.thin_pool.as_deref().zip(self.level().ok()?)?;
        let growth = self.growth(&level);
        thin_pool::warning(&self.group, pool, &level, growth).map(|trouble| self.error(trouble))
    }

    fn thin(&self) -> Option<ThinUsage> {
        self.level().ok().flatten().map(|fill| fill.usage())
    }
}

impl LvmPool {
    /// The thin pool's fill level; `None` if the pool is thick. Never call it with the turn: with its first
    /// volume a thin pool gets another device, and is gone for a moment, so a caller that does not find it
    /// looks again when LVM is done.
    pub(super) fn level(&self) -> Result<Option<Fill>, PoolError> {
        self.level_now().or_else(|_| {
            let _turn = self.turn();
            self.level_now()
        })
    }

    /// The thin pool's fill level just now, for callers that have the turn or can do without an answer.
    fn level_now(&self) -> Result<Option<Fill>, PoolError> {
        let Some(pool) = &self.thin_pool else { return Ok(None) };
        thin_pool::level(&self.group, pool).map(Some).map_err(|trouble| self.error(trouble))
    }

    /// Asks LVM how full the group's metadata area is.
    pub(super) fn ask_for_metadata(&self) {
        if let Err(error) = self.renew(&self.turn()) {
            tracing::warn!(pool = self.config.name, %error, "can't look how full the group's metadata area is");
        }
    }

    /// Asks it where the area only seems to be full. Once: until something is made the answer holds.
    fn check_metadata(&self) {
        if self.view().seems_to_lack_metadata() {
            self.ask_for_metadata();
        }
    }

    /// Size and free space below all volumes.
    pub(super) fn space(&self) -> Result<Disk, PoolError> {
        self.space_at(self.level()?)
    }

    fn space_at(&self, level: Option<Fill>) -> Result<Disk, PoolError> {
        let trash = self.trash();
        let id = disk_id(self.id);
        if let Some((pool, level)) = self.thin_pool.as_deref().zip(level) {
            thin_pool::healthy(&self.group, pool, &level).map_err(|trouble| self.error(trouble))?;
            let (capacity, used) = (level.capacity(), level.used());
            let free = capacity.saturating_sub(used);
            let closed = level.is_closed(self.growth(&level)) || self.view().lacks_metadata();
            return Ok(Disk { id, capacity, free, trash, closed });
        }
        let reserved = self.notes.reserved_bytes();
        let view = self.view();
        let closed = view.lacks_metadata();
        let free = view.group_free.saturating_add(reserved);
        Ok(Disk { id, capacity: view.group_size, free, trash, closed })
    }

    /// The growth of the thin pool that is due and possible now.
    fn growth(&self, level: &Fill) -> Growth {
        if !self.extends {
            return Growth::default();
        }
        let view = self.view();
        level.growth(view.group_free, view.extent)
    }

    /// Bytes that a logical volume of a thin pool takes; 0 while it is not active, as the kernel can't tell
    /// then.
    pub(super) fn mapped(&self, name: &str) -> u64 {
        let status = device_mapper::status(&names::device(&self.group, name));
        match status {
            Ok(Some(target)) if target.kind == "thin" => fill::mapped_bytes(&target.text).unwrap_or(0),
            _ => 0,
        }
    }

    pub(super) fn takes(&self, name: &str, size: u64) -> u64 {
        if self.thin_pool.is_some() { self.mapped(name) } else { size }
    }

    fn trash(&self) -> u64 {
        let deleted = self.view().deleted.clone();
        deleted.iter().map(|(name, deleted)| self.takes(name, deleted.size)).sum()
    }

    pub(super) fn out_of_space(&self, requested: u64) -> Error {
        let largest = match self.level_now().and_then(|level| self.space_at(level)) {
            Ok(disk) if !disk.closed => disk.free,
            _ => 0,
        };
        Error::OutOfSpace { pool: self.config.name.clone(), requested, largest }
    }

    /// The error where LVM makes nothing more in the thin pool although it is not full.
    pub(super) fn closed_by_lvm(&self, requested: u64) -> Error {
        let level = self.thin_pool.as_deref().zip(self.level_now().ok().flatten());
        match level {
            Some((pool, level)) if level.lacks_metadata(Growth::default()) => {
                self.error(thin_pool::crowded(&self.group, pool, &level)).into()
            }
            _ => Error::OutOfSpace { pool: self.config.name.clone(), requested, largest: 0 },
        }
    }

    /// The error for a group in which nothing more is made for want of space for its own metadata.
    pub(super) fn group_crowded(&self) -> PoolError {
        let (group, free) = (&self.group, self.view().metadata_free >> 10);
        self.error(PoolErrorKind::MetadataNearlyFull.because(format!(
            "LVM's description of volume group {group} nearly fills its metadata area ({free} KiB are left), so no volume or snapshot is \
             made in it; what there is goes on. Delete volumes or snapshots: the area can't grow. A group for more is made with vgcreate \
             --metadatasize, or by Tierce"
        )))
    }

    /// Extends the thin pool where it is due and the group has the space.
    pub(super) fn extend_if_due(&self) {
        let turn = self.turn();
        self.extend(&turn);
    }

    /// Whether the thin pool is to be extended, where that is possible.
    pub(super) fn is_due(&self) -> bool {
        self.level_now().ok().flatten().is_some_and(|level| is_due(&level))
    }

    /// Extends the thin pool in our turn. Returns whether it was extended.
    pub(super) fn extend(&self, turn: &MutexGuard<'_, ()>) -> bool {
        let Some(pool) = self.thin_pool.as_deref().filter(|_| self.extends) else { return false };
        if !self.is_due() {
            return false;
        }
        if let Err(error) = self.renew(turn) {
            tracing::warn!(pool = self.config.name, %error, "can't look for space to extend the thin pool");
            return false;
        }
        // LVM may have kept us waiting because another process extended it.
        let Some(level) = self.level_now().ok().flatten().filter(is_due) else { return false };
        let (free, extent) = {
            let view = self.view();
            (view.group_free, view.extent)
        };
        let growth = level.growth(free, extent);
        if growth == Growth::default() {
            tracing::warn!(
                pool = self.config.name,
                ?level,
                "the thin pool fills up and its group has no space left"
            );
            return false;
        }
        let full = self.full(pool);
        let mut extended = false;
        for (what, bytes) in [("--poolmetadatasize", growth.metadata), ("-L", growth.data)] {
            if bytes == 0 {
                continue;
            }
            let by = format!("+{bytes}b");
            match self.change(turn, "lvextend", &["-qq", "-y", what, &by, &full]) {
                Ok(()) => {
                    extended = true;
                    tracing::info!(pool = self.config.name, what, bytes, "extended the thin pool");
                }
                Err(error) => {
                    tracing::warn!(pool = self.config.name, what, bytes, %error, "can't extend the thin pool");
                }
            }
        }
        if let Err(error) = self.renew(turn) {
            tracing::warn!(pool = self.config.name, %error, "can't look at the group after extending");
        }
        extended
    }
}

/// Whether a thin pool that is so full would grow, had its group the space.
fn is_due(level: &Fill) -> bool {
    level.growth(u64::MAX >> 1, 1) != Growth::default()
}

#[cfg(test)]
mod tests {
    use crate::pool::{
        Pool, Space,
        lvm::scripted::{EXTENT, Group, Told, record},
    };

    #[test]
    fn a_group_that_is_crowded_is_looked_at_once_and_not_by_each_who_asks() {
        let told = Told { free: 100 * EXTENT, metadata_free: 65 << 10, ..Told::default() };
        let (group, pool) = Group::pool(told, |_, _| Ok(()));
        let made = |id: &str| pool.view().made(record(id, EXTENT), EXTENT, vec!["x".repeat(1000)], EXTENT);
        made("pvc-1");
        assert!(pool.view().lacks_metadata());
        // LVM wrote less than was guessed.
        pool.tend();
        assert!(!pool.disk().unwrap().closed);
        assert_eq!(group.count("fullreport"), 1);
        made("pvc-2");
        group.told().metadata_free = 10 << 10;
        for _ in 0..5 {
            assert!(pool.disk().unwrap().closed);
        }
        assert_eq!(group.count("fullreport"), 2);
    }
}
