//! Whether the watches still tell something. One that is interrupted for a moment comes back by itself; one that stays broken (a right was
//! taken away, a kind can't be served any more) leaves the index as it was, and somebody has to hear of that.

use http::Request;
use kube::Client;
use kube::client::Body;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A watch that has been broken for so long is told of.
const TOLD_AFTER: Duration = Duration::from_mins(1);
/// A quiet watch counts as heard when its connection has lasted so long.
const LASTS: Duration = Duration::from_secs(10);

/// How one watch does.
#[derive(Debug, Default)]
struct Hearing {
    broken_since: Option<Instant>,
    connected_at: Option<Instant>,
    told: bool,
}

impl Hearing {
    fn settle(&mut self, now: Instant) {
        if self.connected_at.is_some_and(|at| now.saturating_duration_since(at) >= LASTS) {
            *self = Self::default();
        }
    }

    fn broke(&mut self, now: Instant) {
        self.settle(now);
        self.broken_since.get_or_insert(now);
        self.connected_at = None;
    }

    fn connected(&mut self, now: Instant) {
        self.connected_at = self.broken_since.map(|_| now);
    }

    fn behind(&mut self, now: Instant) -> Duration {
        self.settle(now);
        self.broken_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When to tell, unless it is heard before.
    fn tell_at(&mut self, now: Instant) -> Option<Instant> {
        self.settle(now);
        let at = self.broken_since.filter(|_| !self.told)? + TOLD_AFTER;
        Some(self.connected_at.map_or(at, |connected| at.max(connected + LASTS)))
    }
}

/// The watch of one kind. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Ear(Arc<Mutex<Hearing>>);

impl Ear {
    /// The same client; a watch that it gets counts as connected.
    pub(super) fn on(&self, client: &Client) -> Client {
        let (ear, inner) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (ear, inner) = (ear.clone(), inner.clone());
            async move {
                let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                let answer = inner.send(request).await;
                if watches && answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                    ear.lock().connected(Instant::now());
                }
                answer
            }
        });
        Client::new(service, client.default_namespace())
    }

    /// It has told something.
    pub(super) fn heard(&self) {
        *self.lock() = Hearing::default();
    }

    /// It was interrupted.
    pub(super) fn broke(&self) {
        self.lock().broke(Instant::now());
    }

    /// Waits until somebody has to be told that it is broken: for how long. Never, while it is not.
    pub(super) async fn silence(&self) -> Duration {
        loop {
            let now = Instant::now();
            let at = self.lock().tell_at(now);
            let Some(at) = at else { return std::future::pending().await };
            if at > now {
                tokio::time::sleep_until(at).await;
                continue;
            }
            let mut hearing = self.lock();
            hearing.told = true;
            return hearing.behind(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hearing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those of all watches, by kind.
#[derive(Debug, Default)]
pub(super) struct Ears(Mutex<BTreeMap<String, Ear>>);

impl Ears {
    pub(super) fn add(&self, kind: &str, ear: &Ear) {
        let mut ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.insert(kind.to_owned(), ear.clone());
    }

    /// By kind, for how long its watch has been broken.
    pub(super) fn behind(&self) -> Vec<(String, Duration)> {
        let ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        ears.iter().map(|(kind, ear)| (kind.clone(), ear.lock().behind(now))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_behind_until_it_tells_something_or_its_connection_lasts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let behind = |hearing: &mut Hearing, seconds| hearing.behind(at(seconds)).as_secs();
        let mut hearing = Hearing::default();
        hearing.connected(at(0));
        assert_eq!((behind(&mut hearing, 5), hearing.tell_at(at(5))), (0, None));
        hearing.broke(at(10));
        hearing.broke(at(30));
        assert_eq!((behind(&mut hearing, 40), hearing.tell_at(at(40))), (30, Some(at(70))));
        hearing.connected(at(65));
        assert_eq!((behind(&mut hearing, 70), hearing.tell_at(at(70))), (60, Some(at(75))));
        hearing.broke(at(72));
        assert_eq!(behind(&mut hearing, 72), 62, "a connection that breaks at once is none");
        hearing.told = true;
        assert_eq!(hearing.tell_at(at(80)), None, "once");
        hearing.connected(at(80));
        assert_eq!(behind(&mut hearing, 90), 0);
        hearing.broke(at(100));
        assert_eq!((behind(&mut hearing, 101), hearing.tell_at(at(101))), (1, Some(at(160))), "and anew");
    }
}
