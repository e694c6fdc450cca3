//! How many filesystems are repaired at a time. Each repair reads all of one and takes memory for it, and
//! after a power cut many are due at once.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// On a node. Those on a disk that hangs don't count.
const AT_ONCE: usize = 2;
/// How often whoever waits looks whether a disk hangs.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The repairs under way.
#[derive(Default)]
pub(super) struct Repairs {
    /// The name of the pool of each.
    running: Mutex<Vec<String>>,
    ended: Condvar,
}

/// One of them, until it is over.
pub(super) struct Repair<'a> {
    repairs: &'a Repairs,
    pool: String,
}

impl Repairs {
    /// Waits until one more may begin. `answers`: whether a pool is not known to keep callers waiting.
    pub(super) fn begin(&self, pool: &str, answers: impl Fn(&str) -> bool) -> Repair<'_> {
        let mut running = self.running();
        while running.iter().filter(|other| answers(other)).count() >= AT_ONCE {
            running = self.ended.wait_timeout(running, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
        running.push(pool.to_owned());
        Repair { repairs: self, pool: pool.to_owned() }
    }

    fn running(&self) -> MutexGuard<'_, Vec<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Repair<'_> {
    fn drop(&mut self) {
        let mut running = self.repairs.running();
        if let Some(at) = running.iter().position(|pool| *pool == self.pool) {
            running.swap_remove(at);
        }
        self.repairs.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn the_third_repair_waits_for_one_that_goes_on_and_for_none_that_hangs() {
        let repairs = Repairs::default();
        thread::scope(|scope| {
            let (first, _second) = (repairs.begin("a", |_| true), repairs.begin("b", |_| true));
            let (tell, told) = mpsc::channel();
            let repairs = &repairs;
            scope.spawn(move || {
                let _third = repairs.begin("a", |_| true);
                tell.send(()).unwrap();
            });
            assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "three at once");
            drop(first);
            told.recv_timeout(Duration::from_secs(30)).unwrap();
            let _hanging = repairs.begin("b", |_| true);
            let _fourth = repairs.begin("c", |pool| pool != "b");
        });
        assert!(repairs.running().is_empty());
    }
}
