//! A queue of keys to reconcile: each key at most once in the queue and at most once at work, now or at a stated
//! moment, again after a failure with a growing delay. Nothing is polled: who has nothing due sleeps.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// First delay after a failure; it doubles up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(250);
/// The longest delay after a failure.
const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// What may be a key.
pub trait Key: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static {}
impl<T: Clone + Debug + Eq + Hash + Ord + Send + Sync + 'static> Key for T {}

/// When a key is looked at again if nobody asks for it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Only when something happens.
    Event,
    /// After this time.
    After(Duration),
    /// It failed; after a delay that grows with each failure in a row.
    Failed,
}

/// The queue. Clones share it.
#[derive(Debug)]
pub struct Queue<K> {
    inner: Arc<Inner<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

#[derive(Debug)]
struct Inner<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    order: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    at_work: HashSet<K>,
    failures: HashMap<K, u32>,
}

impl<K: Key> Default for Queue<K> {
    fn default() -> Self {
        let state = State {
            order: BTreeSet::new(),
            due: HashMap::new(),
            at_work: HashSet::new(),
            failures: HashMap::new(),
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }) }
    }
}

impl<K: Key> Queue<K> {
    /// As soon as possible.
    pub fn add(&self, key: K) {
        self.add_after(key, Duration::ZERO);
    }

    /// After `delay`, or earlier if it already stands there.
    pub fn add_after(&self, key: K, delay: Duration) {
        self.lock().add(key, Instant::now() + delay);
        self.inner.changed.notify_one();
    }

    /// Number of keys that wait.
    pub fn len(&self) -> usize {
        self.lock().due.len()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Works until `shutdown`, on at most `parallel` keys at once; then finishes what is at work.
    pub async fn run<F, W>(&self, parallel: usize, shutdown: CancellationToken, work: W)
    where
        W: Fn(K) -> F,
        F: Future<Output = Next> + Send + 'static,
    {
        let mut workers: JoinSet<()> = JoinSet::new();
        while !shutdown.is_cancelled() {
            while workers.try_join_next().is_some() {}
            let wake_at = if workers.len() < parallel {
                match self.lock().take(Instant::now()) {
                    Ok(key) => {
                        let (queue, job) = (self.clone(), work(key.clone()));
                        workers.spawn(async move {
                            let _at_work = AtWork { queue: &queue, key: &key };
                            let next = job.await;
                            queue.lock().again(&key, next);
                        });
                        continue;
                    }
                    Err(wake_at) => wake_at,
                }
            } else {
                None
            };
            tokio::select! {
                () = self.inner.changed.notified() => {}
                () = shutdown.cancelled() => {}
                _ = workers.join_next(), if !workers.is_empty() => {}
                () = async { sleep_until(wake_at.unwrap_or_else(Instant::now)).await }, if wake_at.is_some() => {}
            }
        }
        while workers.join_next().await.is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the key free again, also when its work panicked.
struct AtWork<'a, K: Key> {
    queue: &'a Queue<K>,
    key: &'a K,
}

impl<K: Key> Drop for AtWork<'_, K> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.at_work.remove(self.key);
        if std::thread::panicking() {
            state.again(self.key, Next::Failed);
        }
        drop(state);
        self.queue.inner.changed.notify_one();
    }
}

impl<K: Key> State<K> {
    fn add(&mut self, key: K, at: Instant) {
        match self.due.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.order.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due.insert(key.clone(), at);
        self.order.insert((at, key));
    }

    /// A key that is due and not at work; else when to look again, `None` for "when something changes".
    fn take(&mut self, now: Instant) -> Result<K, Option<Instant>> {
        let free = self.order.iter().find(|(_, key)| !self.at_work.contains(key));
        match free.cloned() {
            Some((at, key)) if at <= now => {
                self.order.remove(&(at, key.clone()));
                self.due.remove(&key);
                self.at_work.insert(key.clone());
                Ok(key)
            }
            Some((at, _)) => Err(Some(at)),
            None => Err(None),
        }
    }

    fn again(&mut self, key: &K, next: Next) {
        let delay = match next {
            Next::Event => None,
            Next::After(delay) => Some(delay),
            Next::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                let delay = MIN_BACKOFF.saturating_mul(1 << (*failures).min(16)).min(MAX_BACKOFF);
                *failures += 1;
                self.add(key.clone(), Instant::now() + delay);
                return;
            }
        };
        self.failures.remove(key);
        if let Some(delay) = delay {
            self.add(key.clone(), Instant::now() + delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Runs the queue for `seconds` of (paused) time; every key at work is logged with its moment.
    async fn log_of(
        queue: &Queue<&'static str>,
        seconds: u64,
        next: fn(usize) -> Next,
    ) -> Vec<(u128, &'static str)> {
        let (log, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (start, shutdown) = (Instant::now(), CancellationToken::new());
        let until = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            until.cancel();
        });
        queue
            .run(2, shutdown, |key| {
                log.lock().unwrap().push((start.elapsed().as_millis(), key));
                let count = count.fetch_add(1, Ordering::SeqCst);
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    next(count)
                }
            })
            .await;
        log.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_worked_on_once_at_its_earliest_moment() {
        let queue = Queue::default();
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(1));
        queue.add_after("a", Duration::from_secs(3));
        assert_eq!(log_of(&queue, 20, |_| Next::Event).await, [(1000, "a")]);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_never_at_work_twice_and_is_not_lost_when_added_meanwhile() {
        let queue = Queue::default();
        queue.add("a");
        let again = queue.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            again.add("a");
        });
        assert_eq!(log_of(&queue, 5, |_| Next::Event).await, [(0, "a"), (10, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_comes_back_later_each_time_and_a_success_forgets_it() {
        let queue = Queue::default();
        queue.add("a");
        let log = log_of(&queue, 30, |n| match n {
            0..3 => Next::Failed,
            3 => Next::After(Duration::from_secs(2)),
            _ => Next::Event,
        })
        .await;
        let moments: Vec<_> = log.iter().map(|(at, _)| *at).collect();
        assert_eq!(moments, [0, 260, 770, 1780, 3790]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_stated_number_at_once() {
        let queue = Queue::default();
        for key in ["a", "b", "c", "d"] {
            queue.add(key);
        }
        let moments: Vec<_> = log_of(&queue, 5, |_| Next::Event).await.iter().map(|(at, _)| *at).collect();
        assert_eq!(moments, [0, 0, 10, 10]);
    }
}
