//! Members that could not be given their claim, and when each is tried again. Nobody tells of a namespace that comes, or of a quota that lets a claim
//! through; and what is refused is not asked for at every event, of which there are as many as pods.

use crate::index::Namespaced;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long the first refusal is left alone; each one in a row takes twice as long as the one before it.
const FIRST: Duration = Duration::from_secs(30);
/// The longest that one is left alone.
const LONGEST: Duration = Duration::from_mins(10);

/// One refusal.
struct Refusal {
    words: String,
    /// Generation of the SharedVolume for which it was tried: another spec is another try.
    generation: Option<i64>,
    again: Instant,
    pause: Duration,
}

type Of = BTreeMap<String, Refusal>;

/// Refusals by SharedVolume and namespace.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Namespaced, Of>>);

impl Refusals {
    /// How long the member is left alone; `None` if it may be tried now.
    pub(super) fn rest(
        &self,
        key: &Namespaced,
        namespace: &str,
        generation: Option<i64>,
    ) -> Option<Duration> {
        let all = self.lock();
        let refusal = all.get(key)?.get(namespace).filter(|refusal| refusal.generation == generation)?;
        Some(refusal.again.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    /// It was refused with these words. Returns when to try again.
    pub(super) fn note(
        &self,
        key: &Namespaced,
        namespace: &str,
        generation: Option<i64>,
        words: String,
    ) -> Duration {
        let mut all = self.lock();
        let of = all.entry(key.clone()).or_default();
        let before = of.get(namespace).filter(|refusal| refusal.generation == generation);
        let pause = before.map_or(FIRST, |before| (before.pause * 2).min(LONGEST));
        of.insert(namespace.to_owned(), Refusal { words, generation, again: Instant::now() + pause, pause });
        pause
    }

    /// It has its claim.
    pub(super) fn forget(&self, key: &Namespaced, namespace: &str) {
        if let Some(of) = self.lock().get_mut(key) {
            of.remove(namespace);
        }
    }

    /// All others than these were not refused, or are no members. Returns the words of those that were.
    pub(super) fn only(&self, key: &Namespaced, namespaces: &BTreeSet<String>) -> BTreeMap<String, String> {
        let mut all = self.lock();
        let Some(of) = all.get_mut(key) else { return BTreeMap::new() };
        of.retain(|namespace, _| namespaces.contains(namespace));
        let words =
            of.iter().map(|(namespace, refusal)| (namespace.clone(), refusal.words.clone())).collect();
        if of.is_empty() {
            all.remove(key);
        }
        words
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Namespaced, Of>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_tried_ever_more_rarely_until_somebody_changes_it() {
        let (refusals, key) = (Refusals::default(), Namespaced::new("ada", "team"));
        let minutes = Duration::from_mins;
        assert_eq!(refusals.rest(&key, "ci", Some(1)), None);
        for pause in [FIRST, minutes(1), minutes(2), minutes(4), minutes(8), LONGEST, LONGEST] {
            assert_eq!(refusals.note(&key, "ci", Some(1), "quota".into()), pause);
            assert_eq!(refusals.rest(&key, "ci", Some(1)), Some(pause));
            tokio::time::advance(pause).await;
            assert_eq!(refusals.rest(&key, "ci", Some(1)), None);
        }
        refusals.note(&key, "ci", Some(1), "quota".into());
        assert_eq!(refusals.rest(&key, "ci", Some(2)), None, "another spec");
        assert_eq!(refusals.rest(&key, "vision", Some(1)), None);
        assert_eq!(
            refusals.only(&key, &["ci".to_owned()].into()),
            [("ci".to_owned(), "quota".to_owned())].into()
        );
        assert!(refusals.only(&key, &BTreeSet::new()).is_empty() && refusals.0.lock().unwrap().is_empty());
    }
}
