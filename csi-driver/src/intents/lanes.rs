//! How many objects of one kind are carried out at a time: as many in each pool, so that a disk which does not answer keeps nobody waiting
//! who wants another one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// How often whoever waits for a place looks whether the pool answers.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A lane for each pool.
pub(super) struct Lanes {
    parallel: usize,
    lanes: Mutex<HashMap<String, Lane>>,
}

#[derive(Clone)]
struct Lane {
    places: Arc<Semaphore>,
    /// For those who are only to be told that the pool does not answer, one by one.
    refusals: Arc<Semaphore>,
}

/// A place in a pool's lane, until it is dropped.
pub(super) struct Place(#[allow(dead_code)] OwnedSemaphorePermit); // Held, never read.

impl Lanes {
    pub(super) fn new(parallel: u16) -> Self {
        Self { parallel: parallel.into(), lanes: Mutex::default() }
    }

    /// Waits for a place in the pool's lane. Where the pool does not `answer`, so that no place may ever come free, the engine refuses at once,
    /// and its refusal is to be said.
    pub(super) async fn enter(&self, pool: &str, answers: impl Fn() -> bool) -> Place {
        let lane = self.lane(pool);
        let place = Arc::clone(&lane.places).acquire_owned();
        tokio::pin!(place);
        loop {
            let permit = tokio::select! {
                biased;
                permit = &mut place => permit,
                permit = Arc::clone(&lane.refusals).acquire_owned(), if !answers() => permit,
                () = sleep(LOOK_AGAIN) => continue,
            };
            return Place(permit.expect("nobody closes a lane"));
        }
    }

    fn lane(&self, pool: &str) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Lane {
            places: Arc::new(Semaphore::new(self.parallel)),
            refusals: Arc::new(Semaphore::new(1)),
        };
        lanes.entry(pool.to_owned()).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// What must not wait for ever.
    async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
        let limit = LOOK_AGAIN * 100;
        tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("it waits for ever: {what}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_holds_up_nobody_in_another_and_its_waiters_are_told_when_the_pool_is_silent() {
        let lanes = Arc::new(Lanes::new(2));
        let stuck = [lanes.enter("a", || true).await, lanes.enter("a", || true).await];
        drop(soon("a place in another lane", lanes.enter("b", || true)).await);
        let answers = Arc::new(AtomicBool::new(true));
        let waiter = tokio::spawn({
            let (lanes, answers) = (Arc::clone(&lanes), Arc::clone(&answers));
            async move { lanes.enter("a", || answers.load(Ordering::SeqCst)).await }
        });
        sleep(LOOK_AGAIN * 10).await;
        assert!(!waiter.is_finished(), "there is no third place");
        answers.store(false, Ordering::SeqCst);
        drop(soon("who is only to be told", waiter).await.unwrap());
        // The pool answers again, and the places come free.
        answers.store(true, Ordering::SeqCst);
        drop(stuck);
        drop(soon("a place that came free", lanes.enter("a", || true)).await);
    }
}
