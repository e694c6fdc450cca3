//! What is remembered between two looks.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Since when nobody speaks of what, and what was told about. A restart of the controller begins anew.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    since: HashMap<String, (String, Instant)>,
    told: HashSet<String>,
}

impl Memory {
    /// How long nobody has spoken of it, in this version.
    pub fn unclaimed_for(&self, id: &str, version: &str) -> Duration {
        let mut known = self.lock();
        let (seen, since) =
            known.since.entry(id.to_owned()).or_insert_with(|| (version.to_owned(), Instant::now()));
        if seen != version {
            (*seen, *since) = (version.to_owned(), Instant::now());
        }
        since.elapsed()
    }

    /// Somebody speaks of it, or it is gone. Whether it had been told about.
    pub fn forget(&self, id: &str) -> bool {
        let mut known = self.lock();
        known.since.remove(id);
        known.told.remove(id)
    }

    /// Whether it was not told about yet; from now on it was.
    pub fn tell(&self, id: &str) -> bool {
        self.lock().told.insert(id.to_owned())
    }

    /// Whether it was told about.
    pub fn was_told(&self, id: &str) -> bool {
        self.lock().told.contains(id)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_version_begins_anew() {
        let memory = Memory::default();
        assert_eq!(memory.unclaimed_for("a", "1"), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(memory.unclaimed_for("a", "1"), Duration::from_secs(5));
        assert_eq!(memory.unclaimed_for("a", "2"), Duration::ZERO);
        assert!(!memory.was_told("a") && memory.tell("a") && !memory.tell("a") && memory.was_told("a"));
        assert!(memory.forget("a") && !memory.forget("a") && memory.tell("a"));
    }
}
