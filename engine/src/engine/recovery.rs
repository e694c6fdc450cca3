//! Cleaning up after a crash or a restart. It touches only what carries the pool's own mark, and of that only what nothing can need.

use super::core::Core;
use crate::{Recovery, mount::table};

impl Core {
    pub(super) fn recover(&self) -> Recovery {
        let mut recovery = Recovery::default();
        let mounts = match self.host.mounts() {
            Ok(mounts) => mounts,
            Err(error) => {
                recovery.problems.push(error.to_string());
                return recovery;
            }
        };
        // A process that was killed together with what would have thawed leaves its filesystem frozen.
        for mount in self.host.ours(&mounts) {
            match self.host.thaw(mount) {
                Ok(true) => recovery.thawed.push(mount.point.clone()),
                Ok(false) => {}
                Err(error) => recovery.problems.push(error.to_string()),
            }
        }
        for pool in self.pools() {
            let (freed, problems) = pool.free_stale(&|id, device| {
                if table::user_of(&mounts, device.number).is_some() {
                    return false;
                }
                match pool.load(id) {
                    // A raw block device stays while its record says it is staged, or when the record can't be read.
                    Ok(Some(Ok(record))) => record.staged().is_none(),
                    _ => false,
                }
            });
            recovery.freed_loops.extend(freed);
            recovery.problems.extend(problems);
            let (removed, problems) = pool.sweep_unfinished();
            recovery.removed_unfinished += removed;
            recovery.problems.extend(problems);
            let (emptied, problems) = pool.sweep();
            recovery.emptied_trash += emptied;
            recovery.problems.extend(problems);
        }
        recovery
    }
}
