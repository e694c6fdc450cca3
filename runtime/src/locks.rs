//! One operation at a time per volume.
//!
//! CSI wants `ABORTED` when a call meets another one about the same volume: [`VolumeLocks::try_lock`]. Work that is
//! not a call, such as carrying out a `NodeVolume`, waits its turn: [`VolumeLocks::lock`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Table = Mutex<HashMap<String, Arc<AsyncMutex<()>>>>;

/// Locks by key. Clones share the same locks; a key takes memory only while somebody holds or awaits it.
#[derive(Debug, Clone, Default)]
pub struct VolumeLocks {
    table: Arc<Table>,
}

/// Holds the lock of one key until dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct VolumeGuard {
    // Dropped in this order: released first, then forgotten if nobody waits.
    _held: OwnedMutexGuard<()>,
    ticket: Ticket,
}

impl VolumeGuard {
    /// The key that is locked.
    pub fn key(&self) -> &str {
        &self.ticket.key
    }
}

/// Interest in a key, of its holder or of one that waits. The last one to go removes the key.
#[derive(Debug)]
struct Ticket {
    table: Arc<Table>,
    key: String,
    lock: Option<Arc<AsyncMutex<()>>>,
}

impl VolumeLocks {
    /// No key locked.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lock of `key`, or `None` when somebody else has it.
    pub fn try_lock(&self, key: &str) -> Option<VolumeGuard> {
        let (ticket, lock) = self.ticket(key);
        let held = lock.try_lock_owned().ok()?;
        Some(VolumeGuard { _held: held, ticket })
    }

    /// Waits for the lock of `key`. First come, first served; dropping the future gives the place up.
    pub async fn lock(&self, key: &str) -> VolumeGuard {
        let (ticket, lock) = self.ticket(key);
        let held = lock.lock_owned().await;
        VolumeGuard { _held: held, ticket }
    }

    fn ticket(&self, key: &str) -> (Ticket, Arc<AsyncMutex<()>>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Arc::clone(table.entry(key.to_owned()).or_default());
        let ticket =
            Ticket { table: Arc::clone(&self.table), key: key.to_owned(), lock: Some(Arc::clone(&lock)) };
        (ticket, lock)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // Our own count goes down under the table's lock, so that exactly one of two leavers sees that it is last.
        self.lock = None;
        if table.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn keys(locks: &VolumeLocks) -> usize {
        locks.table.lock().unwrap().len()
    }

    #[test]
    fn a_held_key_is_refused_and_another_one_is_not() {
        let locks = VolumeLocks::new();
        let a = locks.try_lock("a").unwrap();
        assert_eq!(a.key(), "a");
        assert!(locks.try_lock("a").is_none());
        assert!(locks.clone().try_lock("a").is_none(), "clones share the locks");
        assert!(locks.try_lock("b").is_some());
        drop(a);
        assert!(locks.try_lock("a").is_some());
    }

    #[test]
    fn keys_are_forgotten_after_use_and_after_refusal() {
        let locks = VolumeLocks::new();
        let a = locks.try_lock("a").unwrap();
        assert!(locks.try_lock("a").is_none());
        assert_eq!(keys(&locks), 1);
        drop(a);
        assert_eq!(keys(&locks), 0);
    }

    #[tokio::test]
    async fn one_that_waits_gets_the_lock_when_it_is_released() {
        let locks = VolumeLocks::new();
        let first = locks.lock("a").await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock("a").await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        assert!(locks.try_lock("a").is_none(), "the one that waited holds it now");
        drop(second);
        assert_eq!(keys(&locks), 0);
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_leaves_nothing_behind() {
        let locks = VolumeLocks::new();
        let held = locks.lock("a").await;
        assert!(timeout(Duration::from_millis(10), locks.lock("a")).await.is_err());
        drop(held);
        assert_eq!(keys(&locks), 0);

        let held = locks.lock("a").await;
        let mut waiting = Box::pin(locks.lock("a"));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(held);
        drop(waiting);
        assert_eq!(keys(&locks), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn never_two_at_once_and_nothing_left_under_contention() {
        let locks = VolumeLocks::new();
        let inside = Arc::new(Mutex::new(0u32));
        let tasks = (0..64).map(|i| {
            let (locks, inside) = (locks.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                for _ in 0..50 {
                    let guard = if i % 2 == 0 { Some(locks.lock("a").await) } else { locks.try_lock("a") };
                    let Some(_guard) = guard else { continue };
                    *inside.lock().unwrap() += 1;
                    assert_eq!(*inside.lock().unwrap(), 1);
                    tokio::task::yield_now().await;
                    *inside.lock().unwrap() -= 1;
                }
            })
        });
        for task in futures::future::join_all(tasks).await {
            task.unwrap();
        }
        assert_eq!(keys(&locks), 0);
    }
}
