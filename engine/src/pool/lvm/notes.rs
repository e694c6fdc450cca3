//! What is known of a volume group, and whose turn it is to change it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use uuid::Uuid;

use super::{report::Report, thin_pool, view::View};
use crate::pool_error::Trouble;

/// What is known of a group, and whose turn it is to change it. A pool that is opened again with another
/// configuration shares the notes of the pool before, in which calls may still run: otherwise each would act
/// on what the other has changed since.
#[derive(Default)]
pub(super) struct Notes {
    /// Held while LVM works on the group and its result is noted. LVM's own lock would order the commands,
    /// but not our notes.
    turn: Mutex<()>,
    view: Mutex<View>,
    /// Unfinished LVs for whose space there is a reservation as long as they are made.
    reserved: Mutex<BTreeSet<String>>,
    /// Those that could not be removed when they were of no use any more.
    left: Mutex<BTreeSet<String>>,
}

/// One reserved LV, until it is made or given up.
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
    /// The notes of that pool; new ones where it is not open.
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
    /// Notes what LVM reports now. It is asked in our turn, so that no other user of these notes changes the
    /// group meanwhile.
    pub(super) fn begin(&self, report: impl FnOnce() -> Result<View, Trouble>) -> Result<(), Trouble> {
        let _turn = self.turn();
        let view = report()?;
        *self.view() = view;
        Ok(())
    }

    /// Waits until no other call has LVM work on the group.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        // Each change of it is one assignment; a panic elsewhere leaves it usable.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the caller has reserved the space of an unfinished LV: what it takes must not count twice.
    pub(super) fn reserve(&self, name: &str) -> Reserved<'_> {
        self.reserved().insert(name.to_owned());
        Reserved { notes: self, name: name.to_owned() }
    }

    /// Bytes of the group that are taken and reserved as well.
    pub(super) fn reserved_bytes(&self) -> u64 {
        let reserved = self.reserved();
        let view = self.view();
        reserved.iter().filter_map(|name| view.unfinished.get(name)).map(|unfinished| unfinished.size).sum()
    }

    fn reserved(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unfinished LVs that a sweep is to remove.
    pub(super) fn left(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Combines a report with what the kernel says of the thin pool after it.
pub(super) fn view_of(report: &Report, id: Uuid, thin_pool: Option<&str>) -> View {
    let kernel = thin_pool.and_then(|pool| thin_pool::transaction(&report.group().name, pool));
    View::of(report, id, thin_pool, kernel)
}
