//! Questions to a pool, for callers that do not depend on it: each in a thread of its own, and no caller
//! waits longer than its patience.

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

/// Does several things at once, each in a thread of its own, and waits for all of them at most so long.
/// `None`: it is not done by then, and goes on by itself.
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

/// The questions of one kind that are asked of pools.
pub(super) struct Questions {
    patience: Duration,
    /// How many questions hang, by the pool's name.
    hanging: Mutex<HashMap<String, Arc<AtomicUsize>>>,
}

enum State<T> {
    Asked,
    Answered(T),
    /// The caller waits no longer.
    GivenUp,
    /// It ended without an answer.
    Failed,
}

/// The end of a question, with its answer or without.
struct Asked<T> {
    shared: Arc<(Mutex<State<T>>, Condvar)>,
    hanging: Arc<AtomicUsize>,
    answer: Option<T>,
}

impl<T> Asked<T> {
    fn end(mut self, answer: T) {
        self.answer = Some(answer);
    }
}

impl<T> Drop for Asked<T> {
    fn drop(&mut self) {
        let (state, told) = &*self.shared;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::GivenUp) {
            self.hanging.fetch_sub(1, Ordering::SeqCst);
        } else {
            *state = self.answer.take().map_or(State::Failed, State::Answered);
            told.notify_all();
        }
    }
}

impl Questions {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, hanging: Mutex::default() }
    }

    /// Asks the pool. Returns `None` if it does not answer in time.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        pool: &Arc<dyn Pool>,
        question: impl FnOnce(&Arc<dyn Pool>) -> T + Send + 'static,
    ) -> Option<T> {
        let hanging = {
            let mut hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(hanging.entry(pool.config().name.clone()).or_default())
        };
        // Until it has answered it is not asked again: each would wait as long, and leave a thread.
        if hanging.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let shared = Arc::new((Mutex::new(State::Asked), Condvar::new()));
        let asked = Asked { shared: Arc::clone(&shared), hanging: Arc::clone(&hanging), answer: None };
        let pool = Arc::clone(pool);
        thread::spawn(move || {
            let answer = question(&pool);
            // Its last user may be this thread: closed before the caller gets the answer.
            drop(pool);
            asked.end(answer);
        });
        let (state, told) = &*shared;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = told.wait_timeout_while(state, self.patience, |state| matches!(state, State::Asked));
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match mem::replace(&mut *state, State::GivenUp) {
            State::Answered(answer) => Some(answer),
            // It panicked: the next one may fare better.
            State::Failed => None,
            State::Asked | State::GivenUp => {
                hanging.fetch_add(1, Ordering::SeqCst);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Host, SimConfig, SimHost, pool::examples};

    fn pool(folder: &std::path::Path) -> Arc<dyn Pool> {
        let path = folder.join("pool");
        std::fs::create_dir(&path).unwrap();
        let host: Arc<dyn Host> = Arc::new(
            SimHost::open(SimConfig { state: folder.join("sim"), capacity_bytes: 1 << 30 }).unwrap(),
        );
        let config = examples::directory("p", path);
        host.open_pool(&config, None).unwrap()
    }

    #[test]
    fn a_question_that_panics_does_not_silence_its_pool() {
        let folder = tempfile::tempdir().unwrap();
        let pool = pool(folder.path());
        let questions = Questions::new(Duration::from_mins(1));
        assert_eq!(questions.ask(&pool, |_| -> u8 { panic!("on purpose") }), None);
        assert_eq!(questions.ask(&pool, |_| 7), Some(7));
        // One that panics when nobody waits for it any more.
        let questions = Questions::new(Duration::from_millis(200));
        let (tell, wait) = mpsc::channel::<()>();
        let late = move |_: &Arc<dyn Pool>| -> u8 {
            let _ = wait.recv();
            panic!("on purpose")
        };
        assert_eq!(questions.ask(&pool, late), None);
        assert_eq!(questions.ask(&pool, |_| 7), None, "the one before hangs");
        drop(tell);
        let start = Instant::now();
        while questions.ask(&pool, |_| 7).is_none() {
            assert!(start.elapsed() < Duration::from_secs(10), "the pool stays silent");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
