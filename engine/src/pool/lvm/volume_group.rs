//! One volume group as a pool: how LVM is asked and told.

use std::sync::MutexGuard;

use super::{
    LvmPool, call,
    names::{self, group_of},
    notes::view_of,
    thin_pool,
    view::{Entry, View},
};
use crate::{
    CommandError, Error, PoolError, VolumeId,
    error::Context,
    kernel::device_mapper::{self, State},
    pool_error::Trouble,
};

impl LvmPool {
    /// The error of this pool for that trouble.
    pub(super) fn error(&self, trouble: Trouble) -> PoolError {
        trouble.of(&self.config)
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.notes.turn()
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.notes.view()
    }

    /// The argument by which LVM knows a logical volume.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.group)
    }

    /// Asks LVM again. Only in our turn.
    pub(super) fn renew(&self, _turn: &MutexGuard<'_, ()>) -> Result<(), CommandError> {
        let report = self.lvm.report(&self.group)?;
        *self.view() = view_of(&report, self.id, self.thin_pool.as_deref());
        Ok(())
    }

    /// Finds out what a failed command changed. A volume that it wrote down and never made is removed at
    /// once: the next command would make it, and a repeated call would take it for made.
    fn look_after(&self, turn: &MutexGuard<'_, ()>) -> Result<(), CommandError> {
        self.wake_thin_pool(turn)?;
        self.renew(turn)?;
        let never_made = self.view().never_made.clone();
        if let Some(found) = never_made {
            tracing::info!(volume = self.full(&found.name), "removing what was never made");
            self.remove_never_made(turn, &found)?;
        }
        Ok(())
    }

    /// Resumes the thin pool where a command that was killed left it suspended.
    pub(super) fn wake_thin_pool(&self, _turn: &MutexGuard<'_, ()>) -> Result<(), CommandError> {
        match &self.thin_pool {
            Some(pool) if thin_pool::is_suspended(&self.group, pool) => {
                self.lvm.change("lvchange", &["-qq", "--refresh", &self.full(pool)]).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Runs a command; what it changed where it failed is looked up.
    pub(super) fn change(
        &self,
        turn: &MutexGuard<'_, ()>,
        command: &str,
        arguments: &[&str],
    ) -> Result<(), CommandError> {
        self.looked_after(turn, self.lvm.change(command, arguments).map(drop))
    }

    /// What came of a command; what it changed where it failed is looked up.
    fn looked_after(
        &self,
        turn: &MutexGuard<'_, ()>,
        result: Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        if result.is_err()
            && let Err(error) = self.look_after(turn)
        {
            tracing::warn!(pool = self.config.name, %error, "can't look what a failed command changed");
        }
        result
    }

    /// Makes a logical volume. LVM refuses that in a thin pool that is due to grow, so the pool is extended
    /// first.
    pub(super) fn lvcreate(
        &self,
        turn: &MutexGuard<'_, ()>,
        arguments: &[&str],
        requested: u64,
    ) -> Result<(), Error> {
        self.lvcreate_by(turn, requested, || Ok(self.lvm.change("lvcreate", arguments).map(drop)))
    }

    /// The same by a command that is run in some way.
    pub(super) fn lvcreate_by(
        &self,
        turn: &MutexGuard<'_, ()>,
        requested: u64,
        mut run: impl FnMut() -> Result<Result<(), CommandError>, Error>,
    ) -> Result<(), Error> {
        let made = match self.looked_after(turn, run()?) {
            Err(error) if call::over_threshold(&error) && self.extend(turn) => {
                self.looked_after(turn, run()?)
            }
            other => other,
        };
        made.map_err(|error| self.refused(error, requested))
    }

    /// Makes a logical volume as large as that, in whole extents.
    pub(super) fn lvextend(&self, turn: &MutexGuard<'_, ()>, name: &str, bytes: u64) -> Result<(), Error> {
        let size = format!("{bytes}b");
        self.change(turn, "lvextend", &["-qq", "-y", "-L", &size, &self.full(name)])
            .map_err(|error| self.refused(error, bytes))
    }

    /// A command's refusal, which may be for want of space.
    pub(super) fn refused(&self, error: CommandError, requested: u64) -> Error {
        if call::metadata_full(&error) {
            self.group_crowded().into()
        } else if call::over_threshold(&error) {
            self.closed_by_lvm(requested)
        } else if call::no_space(&error) {
            self.out_of_space(requested)
        } else {
            error.into()
        }
    }

    /// The active device of a logical volume.
    pub(super) fn state(&self, name: &str) -> Result<Option<State>, Error> {
        let state = device_mapper::state(&names::device(&self.group, name))
            .doing(|| format!("ask device-mapper for {}", self.full(name)))?;
        let group = self.view().group_id.clone();
        Ok(state.filter(|state| group_of(&state.mapped.uuid) == Some(&group)))
    }

    pub(super) fn entry(&self, id: &VolumeId) -> Result<Entry, Error> {
        let entry = self.view().volumes.get(id).cloned();
        entry.ok_or_else(|| Error::NotFound { id: id.clone() })
    }
}
