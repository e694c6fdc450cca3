//! Cleaning up after a crash or a restart. It touches only what carries the pool's own mark, and of that only what nothing can need.
//!
//! Nobody is served before it is over, so it does nothing that takes long: it looks, resumes, detaches and renames. What is to be freed waits
//! for the sweeps.

use std::sync::Arc;

use super::{core::Core, finding::Located};
use crate::{
    Error, Recovery,
    crypt::mapper::Mapper,
    device::Attached,
    mount::table::{self, Mount},
    pool::Pool,
};

impl Core {
    pub(super) fn recover(&self) -> Recovery {
        let mut recovery = Recovery::default();
        // A look at a pool that comes back from now on cleans it up itself.
        self.recovered().get_or_insert_default();
        let pools = self.pools();
        // Before anything else: what is suspended lets pods wait, and us too, should we look at what lies on it.
        for pool in &pools {
            recovery.problems.extend(pool.resume());
        }
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
        // What lies upon a device goes before the device.
        match self.stale_mappers(&mounts) {
            Ok((closed, problems)) => {
                recovery.closed_mappers = closed;
                recovery.problems.extend(problems);
            }
            Err(error) => recovery.problems.push(error.to_string()),
        }
        for pool in pools {
            self.recovered().get_or_insert_default().insert(pool.id());
            self.recover_pool(pool.as_ref(), &mounts, &mut recovery);
        }
        recovery
    }

    /// Cleans a pool up that opens for the first time in this process, later than the others, and that nobody uses yet. Its mappers wait for
    /// the next stage or start.
    pub(super) fn recover_late(&self, pool: &Arc<dyn Pool>) {
        if !self.recovered().as_mut().is_some_and(|recovered| recovered.insert(pool.id())) {
            return;
        }
        let mut recovery = Recovery { problems: pool.resume(), ..Recovery::default() };
        match self.host.mounts() {
            Ok(mounts) => self.recover_pool(pool.as_ref(), &mounts, &mut recovery),
            Err(error) => recovery.problems.push(error.to_string()),
        }
        self.sweep_if_due(pool);
        let (name, problems) = (&pool.config().name, recovery.problems);
        let (freed, unfinished) = (recovery.freed_loops, recovery.thrown_unfinished);
        tracing::info!(pool = name, ?freed, unfinished, ?problems, "looked for leftovers");
    }

    fn recover_pool(&self, pool: &dyn Pool, mounts: &[Mount], recovery: &mut Recovery) {
        let (freed, problems) = pool.free_stale(&|id, device| {
            // A mapper that is left lies upon it.
            let carried = |mapper: &Mapper| mapper.below.contains(&device.number);
            if table::user_of(mounts, device.number).is_some()
                || !matches!(self.host.crypt().mapper(id), Ok(mapper) if !mapper.as_ref().is_some_and(carried))
            {
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
        let (thrown, problems) = pool.throw_unfinished();
        recovery.thrown_unfinished += thrown;
        recovery.problems.extend(problems);
    }

    /// Closes the mappers that lie on devices of our pools and that nothing can need: those of volumes that are gone or not staged. Others
    /// may be another instance's.
    fn stale_mappers(&self, mounts: &[Mount]) -> Result<(Vec<String>, Vec<String>), Error> {
        let (mut closed, mut problems) = (Vec::new(), Vec::new());
        let pools = self.known_pools();
        for (id, mapper) in self.host.crypt().mappers()? {
            if !mapper.is_made_by_us() || table::user_of(mounts, mapper.number).is_some() {
                continue;
            }
            let on = |device: &Attached| mapper.below == [device.number];
            let needed = match self.find_maybe(&id) {
                Ok(Some(Located { pool, record })) => {
                    record.staged().is_some() || !pool.attached(&id)?.as_ref().is_some_and(on)
                }
                Ok(None) => !self.host.marked(&id, Some(&pools))?.iter().any(on),
                // Unknown is not "gone".
                Err(_) => true,
            };
            if needed {
                continue;
            }
            if self.host.crypt().close(&mapper)? {
                closed.push(mapper.name);
            } else {
                problems.push(format!(
                    "{} is still used by {}",
                    mapper.name,
                    self.host.crypt().users(&mapper)
                ));
            }
        }
        Ok((closed, problems))
    }
}
