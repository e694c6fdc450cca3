//! One volume group as a pool: whose turn it is to change it, and how LVM is asked and told.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use uuid::Uuid;

use super::{
    call::{self, Lvm},
    names::{self, group_of},
    report::Report,
    thin_pool,
    view::{Entry, View},
    watch::Watch,
};
use crate::{
    CommandError, Error, PoolError, VolumeId,
    device::DeviceNumber,
    error::Context,
    kernel::device_mapper::{self, State},
    pool::PoolConfig,
    pool_error::Trouble,
};

/// An LVM pool.
pub(crate) struct LvmPool {
    pub(super) config: PoolConfig,
    pub(super) id: Uuid,
    pub(super) group: String,
    pub(super) thin_pool: Option<String>,
    /// Whether the thin pool is extended from the group's free space.
    pub(super) extends: bool,
    pub(super) lvm: Lvm,
    /// The group's devices and their numbers.
    pub(super) devices: Vec<(PathBuf, DeviceNumber)>,
    pub(super) sector_bytes: u32,
    pub(super) notes: Arc<Notes>,
    pub(super) watch: OnceLock<Watch>,
}

/// What is known of a group, and whose turn it is to change it. A pool that is opened again with another configuration has the same as
/// the one before, in which calls may still run: else each would act on what the other has changed since.
#[derive(Default)]
pub(super) struct Notes {
    /// Held while LVM works on the group and its result is noted. LVM's own lock would order the commands, but not our notes.
    turn: Mutex<()>,
    view: Mutex<View>,
    /// Unfinished LVs for whose space there is a reservation as long as they are made.
    reserved: Mutex<BTreeSet<String>>,
    /// Those that could not be removed when they were of no use any more.
    left: Mutex<BTreeSet<String>>,
}

/// One of them, until it is made or given up.
pub(super) struct Reserved<'a> {
    notes: &'a Notes,
    name: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.notes.reserved().remove(&self.name);
    }
}

/// The notes of the pools that a host has open, by the pools' own ids.
#[derive(Default)]
pub(crate) struct AllNotes(Mutex<Vec<(Uuid, Weak<Notes>)>>);

impl AllNotes {
    /// Those of that pool, new ones where it is not open.
    pub(super) fn of(&self, id: Uuid) -> Arc<Notes> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, notes)| notes.strong_count() > 0);
        if let Some(known) = all.iter().find(|(of, _)| *of == id).and_then(|(_, notes)| notes.upgrade()) {
            return known;
        }
        let notes = Arc::<Notes>::default();
        all.push((id, Arc::downgrade(&notes)));
        notes
    }
}

impl Notes {
    fn reserved(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what LVM reports now: asked in our turn, so that nobody who has the group open changes it meanwhile.
    pub(super) fn begin(&self, report: impl FnOnce() -> Result<View, Trouble>) -> Result<(), Trouble> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let view = report()?;
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
        Ok(())
    }
}

/// What a report says, beside what the kernel says of the thin pool after it.
pub(super) fn view_of(report: &Report, id: Uuid, thin_pool: Option<&str>) -> View {
    let kernel = thin_pool.and_then(|pool| thin_pool::transaction(&report.group().name, pool));
    View::of(report, id, thin_pool, kernel)
}

impl LvmPool {
    /// Why the pool can't be used.
    pub(super) fn error(&self, trouble: Trouble) -> PoolError {
        trouble.of(&self.config)
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.notes.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        // Each change of it is one assignment; a panic elsewhere leaves it usable.
        self.notes.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the caller has reserved the space of an unfinished LV: what it takes must not count twice.
    pub(super) fn reserved(&self, name: &str) -> Reserved<'_> {
        self.notes.reserved().insert(name.to_owned());
        Reserved { notes: &self.notes, name: name.to_owned() }
    }

    /// Bytes of the group that are taken and reserved as well.
    pub(super) fn reserved_bytes(&self) -> u64 {
        let reserved = self.notes.reserved();
        let view = self.view();
        reserved.iter().filter_map(|name| view.unfinished.get(name)).map(|unfinished| unfinished.size).sum()
    }

    /// The unfinished LVs that a sweep is to remove.
    pub(super) fn left(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.notes.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The argument by which LVM knows a logical volume.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.group)
    }

    /// Asks LVM anew. Only in our turn.
    pub(super) fn renew(&self, _turn: &MutexGuard<'_, ()>) -> Result<(), CommandError> {
        let report = self.lvm.report(&self.group)?;
        *self.view() = view_of(&report, self.id, self.thin_pool.as_deref());
        Ok(())
    }

    /// Looks what a failed command changed. A volume that it wrote down and never made goes at once: the next command would make it, and
    /// whoever asks again would take it for made.
    fn look_after(&self, turn: &MutexGuard<'_, ()>) -> Result<(), CommandError> {
        self.wake_thin_pool(turn)?;
        self.renew(turn)?;
        let never_made = self.view().never_made.clone();
        if let Some(name) = never_made {
            tracing::info!(volume = self.full(&name), "removing what was never made");
            self.lvm.change("lvremove", &["-qq", "-f", &self.full(&name)])?;
            self.renew(turn)?;
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

    /// Makes a logical volume. LVM refuses that in a thin pool that is due to grow, so it grows first.
    pub(super) fn make(
        &self,
        turn: &MutexGuard<'_, ()>,
        arguments: &[&str],
        requested: u64,
    ) -> Result<(), Error> {
        self.make_by(turn, requested, || Ok(self.lvm.change("lvcreate", arguments).map(drop)))
    }

    /// The same by a command that is run in some way.
    pub(super) fn make_by(
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
