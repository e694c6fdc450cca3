//! Whether the disks of the pools answer: each is asked now and then, in a thread of its own, and nobody
//! waits for that. A disk that is busy takes its time; only one that says nothing for long counts as one that
//! hangs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::pool::Pool;

/// How often a disk is asked at most, beside all other work. Each time costs it a small write, or a read.
const PERIOD: Duration = Duration::from_secs(50);

/// What is known of the disks, by the pools' names. Cheap to clone.
#[derive(Clone)]
pub(super) struct Disks {
    /// After so long a disk that was asked counts as one that hangs.
    patience: Duration,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

struct Known {
    /// When it last answered.
    answered: Option<Instant>,
    /// Since when an answer is waited for.
    asked: Option<Instant>,
}

impl Disks {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, known: Arc::default() }
    }

    /// Asks a pool's disk, if that is due. `news` is called when it becomes known that it hangs, and when it
    /// answers after that.
    pub(super) fn ask_if_due(&self, pool: &Arc<dyn Pool>, news: impl Fn() + Send + 'static) {
        let name = pool.config().name.clone();
        {
            let mut known = self.known();
            // Its first opening is an answer: a command that opens a pool for one deed writes nothing beside it.
            let first = || Known { answered: Some(Instant::now()), asked: None };
            let disk = known.entry(name.clone()).or_insert_with(first);
            if disk.asked.is_some() || disk.answered.is_some_and(|last| last.elapsed() < PERIOD) {
                return;
            }
            disk.asked = Some(Instant::now());
        }
        let (disks, pool) = (self.clone(), Arc::clone(pool));
        thread::spawn(move || {
            let (tell, answer) = mpsc::channel();
            thread::spawn(move || {
                // One that answers with an error answers.
                if let Err(error) = pool.reach_disk() {
                    tracing::warn!(pool = pool.config().name, %error, "the pool's disk answers with an error");
                }
                drop(tell);
            });
            let late = answer.recv_timeout(disks.patience) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                news();
                let _: Result<(), _> = answer.recv();
            }
            disks.known().insert(name, Known { answered: Some(Instant::now()), asked: None });
            if late {
                news();
            }
        });
    }

    /// Whether a pool's disk was asked and has not answered for so long that it hangs.
    pub(super) fn hangs(&self, pool: &str) -> bool {
        let asked = self.known().get(pool).and_then(|disk| disk.asked);
        asked.is_some_and(|since| since.elapsed() >= self.patience)
    }

    /// Somebody waited for a pool's disk in vain, so it is due to be asked. Whether it was not before.
    pub(super) fn suspect(&self, pool: &str) -> bool {
        self.known().get_mut(pool).is_some_and(|disk| disk.answered.take().is_some())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
