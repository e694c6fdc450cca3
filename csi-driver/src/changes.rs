//! Tells the report of the node's storage that something changed on the disks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Wakes the writer of the report. Telling never waits, and any number of calls make one look. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Changes {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    changed: Notify,
    inventory: AtomicBool,
    rewrite: AtomicBool,
}

impl Changes {
    /// The figures of a pool may have changed.
    pub(crate) fn notify(&self) {
        self.inner.changed.notify_one();
    }

    /// Volumes may have come or gone without us.
    pub(crate) fn notify_inventory(&self) {
        self.inner.inventory.store(true, Ordering::Relaxed);
        self.notify();
    }

    /// The object may be gone: it is to be written even if nothing changed.
    pub(crate) fn notify_rewrite(&self) {
        self.inner.rewrite.store(true, Ordering::Relaxed);
        self.notify_inventory();
    }

    /// Waits until something changed since the last call.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// Whether volumes may have come or gone since the last call.
    pub(crate) fn take_inventory(&self) -> bool {
        self.inner.inventory.swap(false, Ordering::Relaxed)
    }

    /// Whether the object may have gone since the last call.
    pub(crate) fn take_rewrite(&self) -> bool {
        self.inner.rewrite.swap(false, Ordering::Relaxed)
    }
}
