//! Which work on whole filesystems is under way on the node, and whose turn is next: `overhauling` has the
//! rest.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use crate::{Change, Filesystem, VolumeId, device::Device, pool::Pool};

/// How many are worked on at a time on a node, as each takes memory. Those on a disk that hangs don't count.
const AT_ONCE: usize = 2;
/// How often whoever waits looks whether a disk hangs.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overhaul {
    /// The filesystem says that it has errors.
    Repair,
    /// It is smaller than its device, and does not grow while it is mounted.
    Growth,
}

/// What came of a stage.
pub(super) enum Staged {
    /// The volume is there.
    Done(Change<()>),
    /// This has to be done first.
    Needs(Overhaul, Subject),
}

/// What it is to be done to.
pub(super) struct Subject {
    pub(super) pool: Arc<dyn Pool>,
    pub(super) id: VolumeId,
    pub(super) device: Device,
    pub(super) filesystem: Filesystem,
}

/// Those under way.
#[derive(Default)]
pub(super) struct Overhauls {
    /// The name of the pool of each.
    running: Mutex<Vec<String>>,
    ended: Notify,
}

/// One of them, until it is over.
pub(super) struct Turn {
    overhauls: Arc<Overhauls>,
    pool: String,
}

impl Overhauls {
    /// Waits, without a thread, until one more may begin. `answers`: whether a pool is not known to keep
    /// callers waiting. `None`: that is what its own does.
    pub(super) async fn begin(self: &Arc<Self>, pool: &str, answers: impl Fn(&str) -> bool) -> Option<Turn> {
        loop {
            // Before the look, so that none ends unnoticed in between.
            let ended = self.ended.notified();
            if !answers(pool) {
                return None;
            }
            if let Some(turn) = self.try_begin(pool, &answers) {
                return Some(turn);
            }
            // Or a disk is known to hang now.
            let _ = timeout(LOOK_AGAIN, ended).await;
        }
    }

    fn try_begin(self: &Arc<Self>, pool: &str, answers: impl Fn(&str) -> bool) -> Option<Turn> {
        let mut running = self.running();
        if running.iter().filter(|other| answers(other)).count() >= AT_ONCE {
            return None;
        }
        running.push(pool.to_owned());
        Some(Turn { overhauls: Arc::clone(self), pool: pool.to_owned() })
    }

    fn running(&self) -> MutexGuard<'_, Vec<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.overhauls.running();
        if let Some(at) = running.iter().position(|pool| *pool == self.pool) {
            running.swap_remove(at);
        }
        self.overhauls.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_third_waits_for_one_that_goes_on_and_for_none_that_hangs() {
        let overhauls = Arc::<Overhauls>::default();
        let begin = |pool: &'static str, hangs: &'static str| {
            let overhauls = Arc::clone(&overhauls);
            async move { overhauls.begin(pool, |other| other != hangs).await }
        };
        let (first, second) = (begin("a", "").await.unwrap(), begin("b", "").await.unwrap());
        let third = tokio::spawn(begin("a", ""));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!third.is_finished(), "three at once");
        drop(first);
        let third = timeout(Duration::from_secs(30), third).await.unwrap().unwrap().unwrap();
        let fourth = timeout(Duration::from_secs(30), begin("c", "b")).await.unwrap().unwrap();
        // One more thread that hangs would help nobody.
        assert!(begin("b", "b").await.is_none());
        drop((second, third, fourth));
        assert!(overhauls.running().is_empty());
    }
}
