//! Freeing what deleted volumes take, in the background: by one thread per pool at most, since zeroing a thick volume takes as long as
//! writing all of it. Who deletes something says so and waits for nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::pool::Pool;

/// As long as nobody gives another limit.
const FOR_EVER: Duration = Duration::from_secs(u64::MAX >> 32);

/// The sweeps under way. When this is dropped, they end with what they do just then.
#[derive(Default)]
pub(super) struct Sweeps(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The pools that are being swept, each with the pool to be swept again after that: something was deleted since, or it was opened anew.
    running: Mutex<HashMap<Uuid, Option<Arc<dyn Pool>>>>,
    ended: Condvar,
    stopped: AtomicBool,
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<Uuid, Option<Arc<dyn Pool>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stopped.load(Ordering::SeqCst)
    }
}

impl Sweeps {
    /// Sees to it that what is deleted in the pool by now gets freed.
    pub(super) fn start(&self, pool: Arc<dyn Pool>) {
        let id = pool.id();
        {
            let mut running = self.0.running();
            if !self.0.goes_on() {
                return;
            }
            if let Some(again) = running.get_mut(&id) {
                *again = Some(pool);
                return;
            }
            running.insert(id, None);
        }
        let sweep = Sweep { shared: Arc::clone(&self.0), id, over: false };
        if let Err(error) = thread::Builder::new().name("sweep".to_owned()).spawn(move || sweep.run(pool)) {
            tracing::warn!(%error, "can't start to free what deleted volumes take");
        }
    }

    /// Waits until nobody sweeps that pool, at most so long.
    pub(super) fn wait(&self, id: Uuid, limit: Option<Duration>) {
        self.wait_while(limit, |running| running.contains_key(&id));
    }

    /// Whether what takes long in the background goes on.
    pub(super) fn goes_on(&self) -> bool {
        self.0.goes_on()
    }

    /// Lets no sweep begin any more, and waits until those under way have ended with what they do just now, at most so long: a disk may hang.
    pub(super) fn stop(&self, limit: Duration) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.wait_while(Some(limit), |running| !running.is_empty());
    }

    fn wait_while(
        &self,
        limit: Option<Duration>,
        holds: impl Fn(&HashMap<Uuid, Option<Arc<dyn Pool>>>) -> bool,
    ) {
        let start = Instant::now();
        let limit = limit.unwrap_or(FOR_EVER);
        let mut running = self.0.running();
        while holds(&running)
            && let Some(left) = limit.checked_sub(start.elapsed())
        {
            running = self.0.ended.wait_timeout(running, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Sweeps {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::SeqCst);
    }
}

/// A thread that sweeps one pool.
struct Sweep {
    shared: Arc<Shared>,
    id: Uuid,
    /// Whether it is on no list any more.
    over: bool,
}

impl Sweep {
    fn run(mut self, mut pool: Arc<dyn Pool>) {
        loop {
            let (removed, problems) = pool.sweep(&|| self.shared.goes_on());
            if removed > 0 {
                tracing::info!(pool = pool.config().name, removed, "freed what deleted volumes took");
            }
            for problem in problems {
                tracing::warn!(pool = pool.config().name, problem, "can't free a deleted volume's space yet");
            }
            match self.next() {
                Some(again) => pool = again,
                None => return,
            }
        }
    }

    /// What is to be swept next; `None`: this one is over.
    fn next(&mut self) -> Option<Arc<dyn Pool>> {
        let mut running = self.shared.running();
        let again = running.get_mut(&self.id).and_then(Option::take).filter(|_| self.shared.goes_on());
        if again.is_none() {
            running.remove(&self.id);
            self.over = true;
            self.shared.ended.notify_all();
        }
        again
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        // It never began, or it panicked.
        if !self.over {
            self.shared.running().remove(&self.id);
            self.shared.ended.notify_all();
        }
    }
}
