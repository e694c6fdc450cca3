//! Cleaning up after a crash or a restart. It touches only what carries the pool's own mark, and of that only
//! what nothing can need.
//!
//! No call is served before it is over, so it does nothing that takes long: it looks, resumes, detaches and
//! renames. What is to be freed waits for the sweeps, and who does not answer is waited for only so long: all
//! of it is over within 15 s.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use super::{
    asking::at_once,
    core::{Core, PATIENCE},
    finding::Located,
};
use crate::{
    Error, Recovery, VolumeId,
    crypt::mapper::Mapper,
    device::Attached,
    mount::table::{self, Mount},
    pool::Pool,
};

/// How long a start waits for what has to be done in a pool before it is used. One that takes longer is used
/// later.
const CLEANING_PATIENCE: Duration = Duration::from_secs(5);

/// What a caller of a clean-up holds until all of it is over.
pub(super) type Kept = Arc<dyn Any + Send + Sync>;

/// The same work, with that kept to its end.
fn holding<T, W: FnOnce() -> T>(kept: &Kept, work: W) -> impl FnOnce() -> T + use<T, W> {
    let kept = Arc::clone(kept);
    move || {
        let done = work();
        drop(kept);
        done
    }
}

impl Core {
    /// `kept` is let go when the last of it has come to its end, also of what nobody waits for any more.
    pub(super) fn recover(&self, kept: &Kept) -> Recovery {
        let mut recovery = Recovery::default();
        // A look at a pool that comes back from now on cleans it up itself.
        self.recovered().get_or_insert_default();
        let pools = self.pools();
        // Before anything else: what is suspended lets pods wait, and us too, should we look at what lies on
        // it.
        let resume = |pool: &Arc<dyn Pool>| {
            let pool = Arc::clone(pool);
            holding(kept, move || pool.resume())
        };
        for (pool, problems) in pools.iter().zip(at_once(PATIENCE, pools.iter().map(resume))) {
            let silent = || vec![format!("pool {} does not answer", pool.config().name)];
            recovery.problems.extend(problems.unwrap_or_else(silent));
        }
        let mounts = match self.host.mounts() {
            Ok(mounts) => mounts,
            Err(error) => {
                recovery.problems.push(error.to_string());
                return recovery;
            }
        };
        self.thaw_all(&mounts, kept, &mut recovery);
        // What lies upon a device goes before the device.
        self.close_stale_mappers(&mounts, kept, &mut recovery);
        self.clean_up(&pools, &mounts, kept, &mut recovery);
        recovery
    }

    /// A process that was killed together with what would have thawed leaves its filesystem frozen. Where a
    /// disk hangs the thaw does so too, whether anything is frozen or not; one that comes so late that we
    /// have frozen it ourselves by then is noticed by who did.
    fn thaw_all(&self, mounts: &[Mount], kept: &Kept, recovery: &mut Recovery) {
        let ours: Vec<Mount> = self.host.ours(mounts).into_iter().cloned().collect();
        let thaw = |mount: &Mount| {
            let (host, mount) = (Arc::clone(&self.host), mount.clone());
            holding(kept, move || host.thaw(&mount))
        };
        let thawed = at_once(PATIENCE, ours.iter().map(thaw));
        for (mount, thawed) in ours.iter().zip(thawed) {
            match thawed {
                Some(Ok(true)) => recovery.thawed.push(mount.point.clone()),
                Some(Ok(false)) => {}
                Some(Err(error)) => recovery.problems.push(error.to_string()),
                None => recovery.problems.push(format!(
                    "the filesystem at {} does not answer: is its disk there?",
                    mount.point.display()
                )),
            }
        }
    }

    /// Cleans the pools up. One that does not come to its end soon stays closed until a look finds that it
    /// has.
    fn clean_up(&self, pools: &[Arc<dyn Pool>], mounts: &[Mount], kept: &Kept, recovery: &mut Recovery) {
        let Some(core) = self.me.upgrade() else { return };
        let clean = |pool: &Arc<dyn Pool>| {
            let (core, pool, mounts) = (Arc::clone(&core), Arc::clone(pool), mounts.to_vec());
            holding(kept, move || {
                core.recover_once(pool.as_ref(), |recovery| {
                    core.recover_pool(pool.as_ref(), &mounts, recovery);
                })
            })
        };
        let mut silent = Vec::new();
        for (pool, cleaned) in pools.iter().zip(at_once(CLEANING_PATIENCE, pools.iter().map(clean))) {
            if let Some(cleaned) = cleaned {
                let cleaned = cleaned.unwrap_or_default();
                recovery.freed_loops.extend(cleaned.freed_loops);
                recovery.thrown_unfinished += cleaned.thrown_unfinished;
                recovery.problems.extend(cleaned.problems);
            } else {
                let name = &pool.config().name;
                recovery
                    .problems
                    .push(format!("pool {name} does not answer: it is cleaned up before it is used"));
                silent.push(pool.id());
            }
        }
        if !silent.is_empty() {
            self.close(|slot| slot.opened.as_ref().is_ok_and(|pool| silent.contains(&pool.id())));
        }
    }

    /// Cleans a pool up unless somebody has; whoever comes meanwhile waits. `None`: it was clean, or nobody
    /// wants it so.
    fn recover_once(&self, pool: &dyn Pool, clean: impl FnOnce(&mut Recovery)) -> Option<Recovery> {
        let once = Arc::clone(self.recovered().as_mut()?.entry(pool.id()).or_default());
        let mut recovery = None;
        once.get_or_init(|| clean(recovery.get_or_insert_default()));
        recovery
    }

    /// Whether nothing is to be cleaned up in that pool, as far as is known.
    pub(super) fn is_cleaned(&self, pool: Uuid) -> bool {
        let recovered = self.recovered();
        recovered
            .as_ref()
            .is_none_or(|recovered| recovered.get(&pool).is_some_and(|once| once.get().is_some()))
    }

    /// Cleans a pool up that opens for the first time in this process, later than the others, and that nobody
    /// uses yet. Its mappers wait for the next stage or start.
    pub(super) fn recover_late(&self, pool: &Arc<dyn Pool>) {
        let cleaned = self.recover_once(pool.as_ref(), |recovery| {
            recovery.problems.extend(pool.resume());
            match self.host.mounts() {
                Ok(mounts) => self.recover_pool(pool.as_ref(), &mounts, recovery),
                Err(error) => recovery.problems.push(error.to_string()),
            }
        });
        if self.recovered().is_some() {
            self.sweep_if_due(pool);
        }
        let Some(Recovery { freed_loops: freed, thrown_unfinished: unfinished, problems, .. }) = cleaned
        else {
            return;
        };
        let name = &pool.config().name;
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
                // A raw block device stays while its record says it is staged, or when the record can't be
                // read.
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

    /// Closes the mappers that lie on devices of our pools and that nothing can need: those of volumes that
    /// are gone or not staged. Others may be another instance's.
    fn close_stale_mappers(&self, mounts: &[Mount], kept: &Kept, recovery: &mut Recovery) {
        let found = match self.host.crypt().mappers() {
            Ok(found) => found,
            Err(error) => return recovery.problems.push(error.to_string()),
        };
        let Some(core) = self.me.upgrade() else { return };
        let mut unused = found;
        unused
            .retain(|(_, mapper)| mapper.is_made_by_us() && table::user_of(mounts, mapper.number).is_none());
        let late = Arc::new(AtomicBool::new(false));
        let close = |(id, mapper): &(VolumeId, Mapper)| {
            let (core, late, id, mapper) = (Arc::clone(&core), Arc::clone(&late), id.clone(), mapper.clone());
            // Later a pod may be about to use it.
            holding(kept, move || {
                if core.is_needed(&id, &mapper)? || late.load(Ordering::SeqCst) {
                    Ok(None)
                } else {
                    core.host.crypt().close(&mapper).map(Some)
                }
            })
        };
        let closed = at_once(PATIENCE, unused.iter().map(close));
        late.store(true, Ordering::SeqCst);
        for ((_, mapper), closed) in unused.iter().zip(closed) {
            match closed {
                Some(Ok(None)) => {}
                Some(Ok(Some(true))) => recovery.closed_mappers.push(mapper.name.clone()),
                Some(Ok(Some(false))) => {
                    let users = self.host.crypt().users(mapper);
                    recovery.problems.push(format!("{} is still used by {users}", mapper.name));
                }
                Some(Err(error)) => {
                    let error: Error = error;
                    recovery.problems.push(error.to_string());
                }
                None => {
                    recovery.problems.push(format!("{} does not answer: is its disk there?", mapper.name));
                }
            }
        }
    }

    /// Whether a mapper may be of use to a volume, or of another instance's.
    fn is_needed(&self, id: &VolumeId, mapper: &Mapper) -> Result<bool, Error> {
        let on = |device: &Attached| mapper.below == [device.number];
        Ok(match self.find_maybe(id) {
            Ok(Some(Located { pool, record })) => {
                record.staged().is_some() || !pool.attached(id)?.as_ref().is_some_and(on)
            }
            Ok(None) => !self.host.marked(id, Some(&self.known_pools()))?.iter().any(on),
            // Unknown is not "gone".
            Err(_) => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Engine, SimConfig, SimHost, pool::examples};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_a_caller_holds_is_let_go_when_the_last_pool_is_cleaned_up_however_late() {
        let folder = tempfile::tempdir().unwrap();
        let (state, path) = (folder.path().join("sim"), folder.path().join("pool"));
        fs::create_dir(&path).unwrap();
        let host = SimHost::open(SimConfig { state: state.clone(), capacity_bytes: 1 << 30 }).unwrap();
        let engine = Engine::new(Arc::new(host));
        engine.set_pools(vec![examples::directory("p", path.clone())]).await;
        let left = path.join("new/pvc-1.0123456789abcdef0123456789abcdef");
        fs::create_dir_all(&left).unwrap();
        let hangs = state.join("p-hangs");
        fs::write(&hangs, "").unwrap();
        let kept = Arc::new(());
        let seen = Arc::downgrade(&kept);
        let recovery = engine.recover_holding(kept).await;
        assert!(recovery.problems.iter().any(|told| told.contains("does not answer")), "{recovery:?}");
        assert!(left.exists() && seen.upgrade().is_some(), "let go while a clean-up goes on");
        fs::remove_file(&hangs).unwrap();
        while seen.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!left.exists(), "let go before it was cleaned up");
        // Where all answer it is let go at once.
        let kept = Arc::new(());
        let seen = Arc::downgrade(&kept);
        engine.recover_holding(kept).await;
        assert!(seen.upgrade().is_none());
    }
}
