//! Which volumes of other nodes no pod uses any more, and could not be unmounted yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::handle::Handle;

/// Since when volumes of other nodes are to be unmounted.
#[derive(Clone, Default)]
pub(super) struct Leaving(Arc<Mutex<HashMap<Handle, Instant>>>);

impl Leaving {
    pub(super) fn since(&self, handle: &Handle) -> Instant {
        *self.table().entry(handle.clone()).or_insert_with(Instant::now)
    }

    pub(super) fn has_left(&self, handle: &Handle) {
        self.table().remove(handle);
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Handle, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
