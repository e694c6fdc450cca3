//! The pools of a node: set, opened, looked at again.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use tokio::sync::watch;
use uuid::Uuid;

use super::{
    asking::at_once,
    core::{Core, PATIENCE},
    opening::not_answering,
    slot::Slot,
};
use crate::{Backend, Error, LvmKind, PoolConfig, PoolError, PoolErrorKind, pool::Pool};

impl Core {
    pub(super) fn set_pools(&self, configs: Vec<PoolConfig>) {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.slots();
        let slot = |config: PoolConfig| {
            let same = |slot: &&Slot| slot.config.name == config.name && slot.config.same_place(&config);
            // The same place with another reserve is still the same disk.
            let known = before.iter().find(same).and_then(|slot| slot.known).or(config.expected_id);
            let unchanged = |slot: &&Slot| {
                let expected_id = slot.config.expected_id;
                slot.config == PoolConfig { expected_id, ..config.clone() }
            };
            match before.iter().find(unchanged) {
                Some(same) => Slot { known, ..same.clone() },
                None => Slot { opened: Err(not_opened(&config)), config, known },
            }
        };
        // Opened before the lock is taken: a disk that hangs must not stop the calls for others.
        let slots = without_twins(self.looked_at(configs.into_iter().map(slot).collect()));
        *self.slots.write().unwrap_or_else(PoisonError::into_inner) = slots;
    }

    /// Changes when a pool answers that was said not to.
    pub(super) fn late_answers(&self) -> watch::Receiver<u64> {
        self.looks.late()
    }

    fn looked_at(&self, slots: Vec<Slot>) -> Vec<Slot> {
        let me = self.me.clone();
        // An engine that is gone needs no answer.
        let mut slots = self.looks.at(slots, move |slot| match me.upgrade() {
            Some(core) => core.refreshed(slot),
            None => slot,
        });
        // A look that came back before the recovery, and is asked for its answer only now, was cleaned up by
        // neither.
        let left = |slot: &&mut Slot| slot.opened.as_ref().is_ok_and(|pool| !self.is_cleaned(pool.id()));
        let left: Vec<_> = slots.iter_mut().filter(left).collect();
        let clean = |slot: &&mut Slot| {
            let (pool, core) = (slot.opened.as_ref().ok().cloned(), self.me.upgrade());
            move || {
                if let Some((pool, core)) = pool.zip(core) {
                    core.recover_late(&pool);
                }
            }
        };
        let cleaned = at_once(PATIENCE, left.iter().map(clean));
        for (slot, _) in left.into_iter().zip(cleaned).filter(|(_, cleaned)| cleaned.is_none()) {
            slot.opened = Err(not_answering(&slot.config, PATIENCE));
        }
        slots
    }

    /// The pool as it is now: closed if it went away or its disk hangs, opened if it came back. To be open
    /// says nothing of the disk: much of what is asked of a pool the kernel answers from memory.
    fn refreshed(&self, slot: Slot) -> Slot {
        let (name, disks) = (&slot.config.name, &self.disks);
        if disks.hangs(name) {
            let opened = Err(not_answering(&slot.config, self.host.disk_patience()));
            return Slot { opened, ..slot };
        }
        let opened = match &slot.opened {
            Ok(pool) if pool.check().is_ok() => Ok(Arc::clone(pool)),
            _ => self.open_slot(&slot),
        };
        if let Err(error) = &opened
            && slot.opened.as_ref().err() != Some(error)
        {
            tracing::warn!(pool = name, %error, "the pool can't be used");
        }
        let known = opened.as_ref().ok().map(|pool| pool.id()).or(slot.known);
        let Ok(pool) = &opened else { return Slot { opened, config: slot.config, known } };
        let me = self.me.clone();
        disks.ask_if_due(pool, move || {
            if let Some(core) = me.upgrade() {
                core.looks.news();
            }
        });
        if slot.opened.is_ok() {
            pool.tend();
        } else {
            self.recover_late(pool);
        }
        Slot { opened, config: slot.config, known }
    }

    fn open_slot(&self, slot: &Slot) -> Result<Arc<dyn Pool>, PoolError> {
        let unmade = self.unmade.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(because) = unmade.filter(|_| slot.known.is_none()) else {
            return self.host.open_pool(&slot.config, slot.known);
        };
        if self.host.is_pool(&slot.config)? {
            return self.host.open_pool(&slot.config, None);
        }
        Err(PoolErrorKind::OtherDisk.because(because).of(&slot.config))
    }

    pub(super) fn make_no_pools(&self, because: Option<String>) {
        *self.unmade.lock().unwrap_or_else(PoisonError::into_inner) = because;
    }

    /// Notes that a call waited for a pool's disk in vain: the next look, due now, asks the disk.
    pub(super) fn suspect(&self, pool: &str) {
        if self.disks.suspect(pool) {
            self.looks.news();
        }
    }

    /// Looks again at every pool, or at the one of that name.
    pub(super) fn refresh(&self, only: Option<&str>) -> Vec<Slot> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = self.slots();
        let due = |slot: &Slot| only.is_none_or(|name| slot.config.name == name);
        let asked = slots.iter().filter(|slot| due(slot)).cloned().collect();
        let mut answers = self.looked_at(asked).into_iter();
        for slot in slots.iter_mut().filter(|slot| due(slot)) {
            *slot = answers.next().expect("each that was asked is answered for");
        }
        let slots = without_twins(slots);
        self.slots.write().unwrap_or_else(PoisonError::into_inner).clone_from(&slots);
        slots
    }

    /// Closes pools that do not answer, until a look has come back from them.
    pub(super) fn close(&self, is_silent: impl Fn(&Slot) -> bool) {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in self.slots.write().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            if is_silent(slot) {
                slot.opened = Err(not_answering(&slot.config, PATIENCE));
            }
        }
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The ids of all pools that were seen, usable or not.
    pub(super) fn known_pools(&self) -> Vec<Uuid> {
        self.slots().into_iter().filter_map(|slot| slot.known).collect()
    }

    /// The pools that can be used.
    pub(super) fn pools(&self) -> Vec<Arc<dyn Pool>> {
        self.slots().into_iter().filter_map(|slot| slot.opened.ok()).collect()
    }

    /// The pool of that name, which must be usable now.
    pub(super) fn pool(&self, name: &str) -> Result<Arc<dyn Pool>, Error> {
        let named = |slots: Vec<Slot>| {
            let slot = slots.into_iter().find(|slot| slot.config.name == name);
            slot.map(|slot| slot.opened).ok_or_else(|| Error::UnknownPool { pool: name.to_owned() })
        };
        match named(self.slots())? {
            Ok(pool) if pool.check().is_ok() => Ok(pool),
            _ => Ok(named(self.refresh(Some(name)))??),
        }
    }

    pub(super) fn pool_ids(&self) -> Vec<(String, Uuid)> {
        self.slots().into_iter().filter_map(|slot| Some((slot.config.name, slot.known?))).collect()
    }
}

/// Two pools over one place would each count and offer the same volumes: only the first is used.
fn without_twins(mut slots: Vec<Slot>) -> Vec<Slot> {
    let mut seen: HashMap<Uuid, String> = HashMap::new();
    for slot in &mut slots {
        let Ok(pool) = &slot.opened else { continue };
        if let Some(first) = seen.get(&pool.id()) {
            let what = match &slot.config.backend {
                Backend::Directory { .. } => "directory",
                Backend::Lvm { kind: LvmKind::Thin(_), .. } => "thin pool",
                Backend::Lvm { kind: LvmKind::Thick, .. } => "volume group",
            };
            let reason = format!("pool {first} uses this {what} already");
            // Not known by that id any more, so that a directory of its own is taken when it comes.
            slot.known = None;
            slot.opened = Err(PoolErrorKind::UsedByOtherPool.because(reason).of(&slot.config));
        } else {
            seen.insert(pool.id(), slot.config.name.clone());
        }
    }
    slots
}

fn not_opened(config: &PoolConfig) -> PoolError {
    PoolErrorKind::NotOpened.because("not opened yet").of(config)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write,
        path::{Path, PathBuf},
        process::Command,
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        SimConfig, SimHost,
        engine::{disks::Disks, opening::Looks},
        pool::examples,
    };

    /// A core over a simulated pool `p` whose disk has so long to answer, and the file that lets that not
    /// answer what it is asked by a look.
    fn over_disk(folder: &Path, patience: Duration) -> (Arc<Core>, PathBuf) {
        let (state, path) = (folder.join("sim"), folder.join("pool"));
        fs::create_dir(&path).unwrap();
        let host = SimHost::open(SimConfig { state: state.clone(), capacity_bytes: 1 << 30 }).unwrap();
        let looks = Looks::of_patience(Duration::from_millis(300));
        let core = Core::with(Arc::new(host), looks, Disks::new(patience), None);
        core.set_pools(vec![examples::directory("p", path)]);
        (core, state.join("p-syncs-slowly"))
    }

    fn wait_until(what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(30), "{what} never came");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn kind(core: &Core) -> Option<PoolErrorKind> {
        core.reports()[0].result.as_ref().err().map(|error| error.kind)
    }

    #[test]
    fn a_look_reaches_the_disk_when_it_has_not_answered_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let (core, hangs) = over_disk(folder.path(), Duration::from_millis(100));
        wait_until("the first answer", || core.disks.suspect("p"));
        fs::write(&hangs, "").unwrap();
        let news = core.late_answers();
        assert_eq!(kind(&core), None, "the question is asked only now");
        wait_until("the news", || news.has_changed().unwrap());
        for _ in 0..2 {
            assert_eq!(kind(&core), Some(PoolErrorKind::NotAnswering));
        }
        fs::remove_file(hangs).unwrap();
        wait_until("the pool", || kind(&core).is_none());
        // What the kernel answers from memory goes on, until the next question is due.
        fs::write(folder.path().join("sim/p-syncs-slowly"), "").unwrap();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(kind(&core), None);
    }

    #[test]
    fn a_disk_that_takes_long_to_write_is_none_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let (core, slow) = over_disk(folder.path(), Duration::from_mins(1));
        wait_until("the first answer", || core.disks.suspect("p"));
        fs::write(&slow, "").unwrap();
        // Longer than a look that opens a pool is waited for.
        for _ in 0..5 {
            assert_eq!(kind(&core), None);
            thread::sleep(Duration::from_millis(200));
        }
        fs::remove_file(slow).unwrap();
    }

    #[test]
    fn a_pool_that_is_opened_anew_over_a_disk_that_hangs_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (core, hangs) = over_disk(folder.path(), Duration::from_millis(300));
        wait_until("the first answer", || core.disks.suspect("p"));
        fs::write(&hangs, "").unwrap();
        // Where the kernel has all that opening needs in memory.
        core.set_pools(vec![PoolConfig {
            reserve_bytes: 4096,
            ..examples::directory("p", folder.path().join("pool"))
        }]);
        wait_until("the report", || kind(&core) == Some(PoolErrorKind::NotAnswering));
        fs::remove_file(hangs).unwrap();
    }

    #[tokio::test]
    async fn a_pool_whose_look_came_back_too_late_for_the_recovery_is_cleaned_up_before_its_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let (mark, leftover) =
            (path.join("pool.json"), path.join("new/pvc-1.0123456789abcdef0123456789abcdef"));
        fs::create_dir_all(&leftover).unwrap();
        // Whoever opens the pool waits for its id, as for a slow disk.
        assert!(Command::new("mkfifo").arg(&mark).status().unwrap().success());
        let sim = SimConfig { state: folder.path().join("host"), capacity_bytes: 1 << 30 };
        let looks = Looks::of_patience(Duration::from_millis(1));
        let disks = Disks::new(Duration::from_mins(1));
        let core = Core::with(Arc::new(SimHost::open(sim).unwrap()), looks, disks, None);
        let mut late = core.late_answers();
        core.set_pools(vec![examples::directory("slow", path)]);
        let mut answer = File::options().write(true).open(&mark).unwrap();
        let id = format!(r#"{{"version":1,"id":"{}"}}"#, Uuid::from_u128(7));
        let aside = folder.path().join("aside");
        fs::write(&aside, &id).unwrap();
        fs::rename(&aside, &mark).unwrap();
        answer.write_all(id.as_bytes()).unwrap();
        drop(answer);
        late.changed().await.unwrap();

        let kept: super::super::recovery::Kept = Arc::new(());
        core.recover(&kept);
        assert!(leftover.exists(), "the answer was asked for already, so nothing is tested");
        assert!(core.reports()[0].result.is_ok());
        assert!(!leftover.exists());
    }
}
