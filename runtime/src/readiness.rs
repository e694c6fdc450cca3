//! Which parts of a program are ready, and why one is not. Read by `/readyz` and by the CSI Probe.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// The state of all parts; `None` means ready, else the reason why not.
type Parts = BTreeMap<&'static str, Option<String>>;

/// Ready when every part is. Clones share the same state.
#[derive(Debug, Clone)]
pub struct Readiness {
    parts: Arc<watch::Sender<Parts>>,
}

/// One part, such as a watch that must have synced. Not ready until it says so.
#[derive(Debug, Clone)]
pub struct Part {
    name: &'static str,
    parts: Arc<watch::Sender<Parts>>,
}

/// Why a program is not ready: one line per part, `name: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady(Vec<(&'static str, String)>);

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, reason)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{name}: {reason}")?;
        }
        Ok(())
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self { parts: Arc::new(watch::Sender::new(Parts::new())) }
    }
}

impl Readiness {
    /// No parts yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part that is "starting". Make all parts before the first probe can come in, or it answers too early.
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part { name, parts: Arc::clone(&self.parts) };
        part.not_ready("starting");
        part
    }

    /// `Ok` when every part is ready.
    pub fn check(&self) -> Result<(), NotReady> {
        check(&self.parts.borrow())
    }

    /// Returns once every part is ready.
    pub async fn wait(&self) {
        let mut state = self.parts.subscribe();
        state.wait_for(|parts| check(parts).is_ok()).await.expect("self holds a sender");
    }
}

impl Part {
    /// This part is ready now.
    pub fn ready(&self) {
        self.set(None);
    }

    /// This part is not ready (any more). `reason` is for people.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, state: Option<String>) {
        self.parts.send_if_modified(|parts| parts.insert(self.name, state.clone()) != Some(state));
    }
}

fn check(parts: &Parts) -> Result<(), NotReady> {
    let missing: Vec<_> =
        parts.iter().filter_map(|(name, reason)| reason.clone().map(|reason| (*name, reason))).collect();
    if missing.is_empty() { Ok(()) } else { Err(NotReady(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_part_is() {
        let readiness = Readiness::new();
        assert!(readiness.check().is_ok(), "nothing to wait for");
        let (watch, socket) = (readiness.part("watch"), readiness.part("socket"));
        assert_eq!(readiness.check().unwrap_err().to_string(), "socket: starting\nwatch: starting");
        watch.ready();
        assert_eq!(readiness.check().unwrap_err().to_string(), "socket: starting");
        socket.ready();
        assert!(readiness.check().is_ok());
        watch.not_ready("the API server is away");
        assert_eq!(readiness.clone().check().unwrap_err().to_string(), "watch: the API server is away");
    }

    #[tokio::test]
    async fn waiting_ends_when_the_last_part_is_ready() {
        let readiness = Readiness::new();
        let part = readiness.part("watch");
        let mut waiting = Box::pin(readiness.wait());
        assert!(futures::poll!(&mut waiting).is_pending());
        part.ready();
        waiting.await;
    }
}
