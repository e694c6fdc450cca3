//! When deleted volumes are freed.

use std::sync::Arc;

use super::core::Core;
use crate::pool::Pool;

impl Core {
    /// Starts to free in the background what was deleted in that pool.
    pub(super) fn sweep_if_due(&self, pool: &Arc<dyn Pool>) {
        if pool.has_trash() {
            self.sweeps.start(Arc::clone(pool));
        }
    }

    /// Lets what was deleted in all pools be freed in the background. Each sweep finds out by itself whether
    /// there is anything to do: a disk that hangs lets only it wait.
    pub(super) fn start_sweeps(&self) {
        for pool in self.pools() {
            self.sweeps.start(pool);
        }
    }

    /// Frees what was deleted in all pools, and waits for that.
    pub(super) fn sweep(&self) {
        self.start_sweeps();
        for pool in self.pools() {
            self.sweeps.wait(pool.id(), None);
        }
    }
}
