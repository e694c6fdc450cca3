//! Carries out what is decided about claims.

use super::plan::{Action, Observed, Word, is_asked_for, plan};
use crate::index::{Index, Namespaced};
use crate::run::events::Events;
use crate::run::objects::{gone_is_fine, patched_by};
use crate::run::queue::Next;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim};
use k8s_openapi::jiff::Timestamp;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tierce_crds::names;
use tierce_runtime::errors::in_words;
use tokio::time::Instant;
use tracing::{debug, warn};

/// Field manager of what is written into claims that others made.
const MANAGER: &str = "tierce-controller-claims";
/// The second choice for one claim, or the second look for room, comes so long after the first, and each further one twice as long after the one before.
const REST: Duration = Duration::from_secs(1);
/// At most that.
const MOST_REST: Duration = Duration::from_mins(1);

/// Reconciles claims that wait for a volume of ours.
pub(crate) struct Claims {
    client: Client,
    index: Arc<Index>,
    events: Events,
    memory: Mutex<HashMap<Namespaced, Memory>>,
}

/// What is remembered of a claim between two looks.
#[derive(Debug, Default)]
struct Memory {
    uid: String,
    /// How often a node was chosen for it, and when last.
    chosen: u32,
    at: Option<Instant>,
    /// How often there was no room for it since.
    crowded: u32,
    /// Whether a quota had no room for it at the last look.
    over_quota: bool,
    /// What was told of it last.
    told: Option<Word>,
}

/// Between two of so many.
fn rest(times: u32) -> Duration {
    REST.saturating_mul(1 << times.saturating_sub(1).min(16)).min(MOST_REST)
}

impl Memory {
    /// external-provisioner takes a choice back when CreateVolume finds no room there. Nothing else is possible, so it is chosen again; but each time
    /// costs a call, a write and an Event.
    fn rest(&self, now: Instant) -> Duration {
        let Some(at) = self.at else { return Duration::ZERO };
        rest(self.chosen).saturating_sub(now.saturating_duration_since(at))
    }
}

impl Claims {
    /// Over this API server, with the facts of this index.
    pub(crate) fn new(client: Client, index: Arc<Index>, events: Events) -> Self {
        Self { client, index, events, memory: Mutex::default() }
    }

    /// Looks at one claim and does what is to be done.
    pub(crate) async fn reconcile(&self, key: &Namespaced) -> Next {
        let Some(observed) = self.index.read(|state| Observed::look(state, key)) else {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Next::Event;
        };
        self.heed_quota(key, &observed).await;
        let mut next = Next::Event;
        for action in plan(&observed) {
            match action {
                Action::Tell(word) => self.tell(key, &observed, word).await,
                Action::Choose(node) => next = self.choose(key, &observed, &node).await,
                Action::AwaitRoom => {
                    let times = self.remember(key, &observed.claim.uid, |memory| {
                        memory.crowded += 1;
                        memory.crowded
                    });
                    next = Next::After(rest(times));
                }
            }
        }
        next
    }

    /// A quota that has room again: external-provisioner, which was refused, would ask again only after a while. It does at once when the claim
    /// changes.
    async fn heed_quota(&self, key: &Namespaced, observed: &Observed) {
        let over = observed.over_quota.unwrap_or(false);
        let known = self.memory.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key);
        if !over && !known {
            return;
        }
        let uid = &observed.claim.uid;
        let was = self.remember(key, uid, |memory| std::mem::replace(&mut memory.over_quota, over));
        if over || !was || !is_asked_for(observed) {
            return;
        }
        let now = Timestamp::now().to_string();
        let patch = json!({"metadata": {"uid": uid, "annotations": {names::ANNOTATION_QUOTA_ROOM: now}}});
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        if let Err(error) = claims.patch(&key.name, &patched_by(MANAGER), &Patch::Merge(&patch)).await {
            // It is asked again all the same, later.
            debug!(claim = %key, "cannot tell that its quota has room: {}", in_words(&error));
        }
    }

    /// Once for each different word.
    async fn tell(&self, key: &Namespaced, observed: &Observed, word: Word) {
        let claim = &observed.claim;
        let known = self.remember(key, &claim.uid, |memory| memory.told.replace(word.clone()));
        if known.as_ref() == Some(&word) {
            return;
        }
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(claim.uid.clone()),
            ..ObjectReference::default()
        };
        self.events.tell(&about, true, word.reason, &word.message).await;
    }

    async fn choose(&self, key: &Namespaced, observed: &Observed, node: &str) -> Next {
        let claim = &observed.claim;
        let rest = self.remember(key, &claim.uid, |memory| {
            let rest = memory.rest(Instant::now());
            if rest.is_zero() {
                memory.chosen += 1;
                memory.crowded = 0;
                memory.at = Some(Instant::now());
            }
            rest
        });
        if !rest.is_zero() {
            return Next::After(rest);
        }
        // The version: what the scheduler or the provisioner wrote meanwhile is looked at first.
        let patch = json!({"metadata": {"uid": claim.uid, "resourceVersion": claim.resource_version,
            "annotations": {names::ANNOTATION_SELECTED_NODE: node}}});
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = claims.patch(&key.name, &patched_by(MANAGER), &Patch::Merge(&patch)).await;
        match gone_is_fine(written) {
            Ok(_) => Next::Event,
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                debug!(claim = %key, "looked at an older version");
                Next::Failed
            }
            Err(error) => {
                warn!(claim = %key, "cannot choose node {node}, where what it starts with lies: {}", in_words(&error));
                Next::Failed
            }
        }
    }

    fn remember<T>(&self, key: &Namespaced, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memories = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(key.clone()).or_default();
        if memory.uid != uid {
            *memory = Memory { uid: uid.to_owned(), ..Memory::default() };
        }
        change(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_that_is_taken_back_again_and_again_is_made_ever_more_slowly() {
        let start = Instant::now();
        let rest = |chosen, seconds| {
            let memory = Memory { chosen, at: Some(start), ..Memory::default() };
            memory.rest(start + Duration::from_secs(seconds)).as_secs()
        };
        assert_eq!(Memory::default().rest(start), Duration::ZERO);
        for (chosen, seconds, expected) in [(1, 0, 1), (1, 1, 0), (3, 1, 3), (7, 0, 60), (100, 10, 50)] {
            assert_eq!(rest(chosen, seconds), expected, "{chosen} {seconds}");
        }
    }
}
