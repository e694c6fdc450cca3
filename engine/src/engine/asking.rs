//! Questions to a pool that somebody asks who does not depend on it: each in a thread of its own, and nobody waits for longer than its patience.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::pool::Pool;

/// Does several things at once, each in a thread of its own, and waits for all of them at most so long. `None`: it is not done by then, and goes
/// on by itself.
pub(super) fn at_once<T, W>(patience: Duration, works: impl IntoIterator<Item = W>) -> Vec<Option<T>>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let start = Instant::now();
    let begun = works.into_iter().map(|work| {
        let (tell, answer) = mpsc::channel();
        thread::spawn(move || {
            // Whoever waited may have gone on.
            let _ = tell.send(work());
        });
        answer
    });
    let begun: Vec<_> = begun.collect();
    begun
        .into_iter()
        .map(|answer| answer.recv_timeout(patience.saturating_sub(start.elapsed())).ok())
        .collect()
}

/// Questions of one kind.
pub(super) struct Questions {
    patience: Duration,
    /// How many hang, by the pool's name.
    hanging: Mutex<HashMap<String, Arc<AtomicUsize>>>,
}

enum State<T> {
    Asked,
    Answered(T),
    /// Nobody waits for it any more.
    GivenUp,
}

impl Questions {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, hanging: Mutex::default() }
    }

    /// Asks the pool. `None`: it does not answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        pool: &Arc<dyn Pool>,
        question: impl FnOnce(&Arc<dyn Pool>) -> T + Send + 'static,
    ) -> Option<T> {
        let hanging = {
            let mut hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(hanging.entry(pool.config().name.clone()).or_default())
        };
        // Until it has answered nobody asks again: each would wait as long, and leave a thread.
        if hanging.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let shared = Arc::new((Mutex::new(State::Asked), Condvar::new()));
        let (asked, late, pool) = (Arc::clone(&shared), Arc::clone(&hanging), Arc::clone(pool));
        thread::spawn(move || {
            let answer = question(&pool);
            // Its last user may be this thread: closed before anybody hears the answer.
            drop(pool);
            let (state, told) = &*asked;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*state, State::GivenUp) {
                late.fetch_sub(1, Ordering::SeqCst);
            } else {
                *state = State::Answered(answer);
                told.notify_all();
            }
        });
        let (state, told) = &*shared;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = told.wait_timeout_while(state, self.patience, |state| matches!(state, State::Asked));
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let State::Answered(answer) = mem::replace(&mut *state, State::GivenUp) {
            return Some(answer);
        }
        hanging.fetch_add(1, Ordering::SeqCst);
        None
    }
}
