//! Carries out plans.

use super::claim;
use super::front::Kind;
use super::observed::Observed;
use super::plan::{Action, Said, plan};
use super::room_words::{Difference, RoomWords, difference};
use super::status;
use super::told::Status;
use crate::index::{Claim, Index, Namespaced};
use crate::run::events::Events;
use crate::run::objects::{
    add_finalizer, apply_status, created_by, gone_is_fine, patched_by, remove_finalizer,
};
use crate::run::queue::Next;
use crate::run::refusal::is_refusal;
use crate::sharing;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, Preconditions};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tierce_crds::conditions::{self, volume as reason};
use tierce_crds::{NodeVolume, format_bytes, names};
use tierce_runtime::errors::in_words;
use tokio::time::Instant;
use tracing::{debug, warn};

/// A state that most likely passes is written only if it lasts so long: a volume that is made in 100 ms costs one
/// status write instead of two.
const LASTS: Duration = Duration::from_secs(2);

/// How long the watch may take to show what we wrote. Later something else has happened to it.
const SHOWN: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
#[error("cannot {what} of {kind} {volume}")]
struct LifeError {
    what: &'static str,
    kind: &'static str,
    volume: Namespaced,
    source: kube::Error,
}

/// Reconciles the objects of one kind that ask for volumes.
pub(crate) struct Lives<K> {
    client: Client,
    index: Arc<Index>,
    events: Events,
    memory: Mutex<HashMap<Namespaced, Memory>>,
    kind: PhantomData<fn() -> K>,
}

/// One object, and what is behind it.
struct Life<K> {
    key: Namespaced,
    object: Arc<K>,
    observed: Observed,
}

/// A growth that the API server refused is not asked for again before that: most often a quota stands against it, which nobody tells us of.
const ASKED_AGAIN: Duration = Duration::from_mins(1);

/// What is remembered of one between two looks.
#[derive(Debug, Default)]
struct Memory {
    /// Since when it is in a state that should pass.
    passing_since: Option<Instant>,
    /// Resource version that our last write made. An older one in the index is not looked at: it would be written again.
    written: Option<u64>,
    /// What was said about room.
    room: RoomWords,
    /// When we made its claim, until the watch of claims shows one: it would be made again.
    claimed: Option<Instant>,
    /// The growth that the API server refused last, when, and its words.
    refused: Option<(u64, Instant, String)>,
}

impl<K: Kind> Lives<K> {
    /// Over this API server, with the facts of this index.
    pub(crate) fn new(client: Client, index: Arc<Index>, events: Events) -> Self {
        Self { client, index, events, memory: Mutex::default(), kind: PhantomData }
    }

    /// Looks at one and does what is to be done.
    pub(crate) async fn reconcile(&self, key: &Namespaced) -> Next {
        let life = self.index.read(|state| {
            let object = Arc::clone(K::known(state, key)?);
            let observed = Observed::look(state, object.front());
            Some(Life { key: key.clone(), object, observed })
        });
        let Some(life) = life else {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Next::Event;
        };
        if self.is_outdated(key, life.object.meta()) {
            // The watch will show our own write, and wake us.
            return Next::After(SHOWN);
        }
        if let Some(left) = self.awaits_claim(key, &life.observed) {
            return Next::After(left);
        }
        match self.carry_out(&life).await {
            Ok(next) => next,
            Err(error) => {
                let conflict = matches!(&error.source, kube::Error::Api(status) if status.code == 409);
                let words = in_words(&error);
                if conflict {
                    debug!("looked at an older version: {words}");
                } else {
                    warn!("tried again later: {words}");
                }
                Next::Failed
            }
        }
    }

    async fn carry_out(&self, life: &Life<K>) -> Result<Next, LifeError> {
        let failed = |what, source| LifeError { what, kind: K::KIND, volume: life.key.clone(), source };
        let plan = plan(&life.observed);
        let mut refused = None;
        for action in &plan.actions {
            if let Some((words, rest)) = self.was_refused(&life.key, action) {
                refused = Some((action, words, Ok(Next::After(rest))));
                break;
            }
            if let Err(source) = self.act(life, action).await {
                let error = failed(what(action), source);
                if !is_refusal(&error.source) {
                    return Err(error);
                }
                let words = in_words(&error);
                if let Action::GrowClaim(size) | Action::LowerClaim(size) = action {
                    let told = (*size, Instant::now(), words.clone());
                    self.remember(&life.key, |memory| memory.refused = Some(told));
                }
                refused = Some((action, words, Err(error)));
                break;
            }
        }
        let Some(mut said) = plan.said else {
            return match refused {
                Some((_, _, next)) => next,
                None => Ok(Next::Event),
            };
        };
        if let Some((action, words, _)) = &refused {
            said = said.refused(action, words.clone());
        }
        let makes_claim = refused.is_none() && plan.actions.contains(&Action::CreateClaim);
        let has_claim = life.observed.own_claim().is_some() || makes_claim;
        let said = self.say(life, &said, has_claim).await;
        match (refused, said) {
            (Some((_, _, Ok(again))), Ok(Next::Event)) => Ok(again),
            (Some((_, _, Err(error))), _) => Err(error),
            (_, said) => said.map_err(|source| failed("write the status", source)),
        }
    }

    async fn act(&self, life: &Life<K>, action: &Action) -> Result<(), kube::Error> {
        let Life { key, object, observed } = life;
        let objects = K::api(&self.client, key);
        let owner = &observed.front.owner;
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &owner.namespace);
        match action {
            Action::AddFinalizer => {
                let written = add_finalizer(&objects, &**object, K::FINALIZER, K::MANAGER).await?;
                self.wrote(key, written.meta());
            }
            Action::RemoveFinalizer => {
                // A watch that started anew may show an older state for a moment; the last word is the API server's. Should
                // the claim be there after all, its own event brings us back.
                if claim_exists(observed, &claims).await? {
                    return Ok(());
                }
                if let Some(written) = remove_finalizer(&objects, &**object, K::FINALIZER, K::MANAGER).await?
                {
                    self.wrote(key, written.meta());
                }
                self.tell_of_the_end(life).await;
            }
            // Not server-side apply: it would take over a claim that somebody else made a moment ago.
            Action::CreateClaim => {
                // "Already exists" is an error as well: ours from a moment ago or somebody else's, the watch will tell.
                let claim = claim::claim(&observed.front, observed.encrypted);
                claims.create(&created_by(K::MANAGER), &claim).await?;
                self.remember(key, |memory| memory.claimed = Some(Instant::now()));
            }
            Action::GrowClaim(bytes) | Action::LowerClaim(bytes) => {
                let uid = observed.claim.as_ref().map(|claim| claim.uid.clone());
                let asked = &observed.front.asked;
                // As its owner wrote it, where that is what is asked for.
                let size = if asked.bytes() == *bytes { asked.size.clone() } else { format_bytes(*bytes) };
                let patch = json!({"metadata": {"uid": uid, "annotations": {names::ANNOTATION_RAISED_TO: size}},
                    "spec": {"resources": {"requests": {"storage": size}}}});
                claims.patch(&owner.name, &patched_by(K::MANAGER), &Patch::Merge(&patch)).await?;
            }
            Action::DeleteClaim(uid) => {
                // The version as well: a claim that was bound meanwhile has data behind it that may have to stay.
                let resource_version =
                    observed.claim.as_ref().and_then(|claim| claim.resource_version.clone());
                let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version });
                let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
                gone_is_fine(claims.delete(&owner.name, &parameters).await)?;
            }
            Action::ReleaseClaim => {
                if let Some(claim) = observed.own_claim() {
                    sharing::release(&self.client, key, claim, K::MANAGER).await?;
                }
            }
            Action::Keep(name, from) => self.set_retention(observed, name, "Retain", json!(from)).await?,
            Action::LetGo(name) => self.set_retention(observed, name, "Delete", Value::Null).await?,
            Action::SetMountOptions(id) => {
                let patch = json!({"spec": {"mountOptions": observed.front.asked.mount_options}});
                let devices: Api<NodeVolume> = Api::all(self.client.clone());
                devices.patch(id, &patched_by(K::MANAGER), &Patch::Merge(&patch)).await?;
            }
        }
        Ok(())
    }

    async fn set_retention(
        &self,
        observed: &Observed,
        name: &str,
        policy: &str,
        from: Value,
    ) -> Result<(), kube::Error> {
        let uid = observed.persistent_volume.as_ref().map(|(_, pv)| pv.uid.clone());
        let patch = json!({
            "metadata": {"uid": uid, "annotations": {names::ANNOTATION_RETAINED_FROM: from}},
            "spec": {"persistentVolumeReclaimPolicy": policy},
        });
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        volumes.patch(name, &patched_by(K::MANAGER), &Patch::Merge(&patch)).await.map(drop)
    }

    /// Writes the status if it differs, and an Event if the reason does.
    async fn say(&self, life: &Life<K>, said: &Said, has_claim: bool) -> Result<Next, kube::Error> {
        let Life { key, object, observed } = life;
        let old = &observed.front.told;
        let new = status::next(observed, said, has_claim, Timestamp::now());
        if new == *old {
            self.remember(key, |memory| memory.passing_since = None);
            return Ok(Next::Event);
        }
        if said.passing && !says_the_same(old, &new) {
            let since = self.remember(key, |memory| *memory.passing_since.get_or_insert_with(Instant::now));
            let left = LASTS.saturating_sub(since.elapsed());
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
        }
        self.remember(key, |memory| memory.passing_since = None);
        let differs = difference(old, &new);
        let rest = self.remember(key, |memory| memory.room.rest(differs, Instant::now()));
        if !rest.is_zero() {
            return Ok(Next::After(rest));
        }
        let api = K::api(&self.client, key);
        let written = apply_status(&api, object.meta(), K::status(new.clone()), K::MANAGER).await?;
        let Some(written) = written else { return Ok(Next::Event) };
        self.wrote(key, written.meta());
        self.remember(key, |memory| memory.room.say(differs, said.ready.reason, Instant::now()));
        // A pool that is nearly full swings; what nobody made yet has nothing to tell of it.
        if differs != Difference::Turn {
            self.tell(life, &new, said).await;
        }
        Ok(Next::Event)
    }

    async fn tell(&self, life: &Life<K>, new: &Status, said: &Said) {
        let old = &life.observed.front.told;
        let before = conditions::find(&old.conditions, conditions::READY).map(|c| c.reason.as_str());
        let about = life.object.object_ref(&());
        if before != Some(said.ready.reason) {
            let bad = said.ready.status != Some(true)
                && !matches!(said.ready.reason, reason::PROVISIONING | reason::GROWING | reason::DELETING);
            self.events.tell(&about, bad, said.ready.reason, &said.ready.message).await;
        } else if let (Some(from), Some(to)) = (&old.capacity, &new.capacity)
            && from != to
        {
            self.events.tell(&about, false, "Grown", &format!("grown from {from} to {to}")).await;
        }
    }

    /// The last Event: what became of the data.
    async fn tell_of_the_end(&self, life: &Life<K>) {
        let observed = &life.observed;
        let about = life.object.object_ref(&());
        let kept = observed.persistent_volume.as_ref().filter(|(_, pv)| pv.retain);
        match (kept, &observed.device) {
            (Some((name, _)), Some(device)) => {
                let size = format_bytes(device.promise());
                let message =
                    format!("PersistentVolume {name} keeps the data ({size}) on node {}", device.node);
                self.events.tell(&about, false, "Retained", &message).await;
            }
            (_, Some(device)) if !observed.node_is_there => {
                let message = format!(
                    "node {} is not in the cluster any more: what is on its disk stays there",
                    device.node
                );
                self.events.tell(&about, true, reason::NODE_LOST, &message).await;
            }
            _ => {}
        }
    }

    fn is_outdated(&self, key: &Namespaced, meta: &ObjectMeta) -> bool {
        let Some(shown) = version(meta) else { return false };
        self.remember(key, |memory| {
            let outdated = memory.written.is_some_and(|written| shown < written);
            if !outdated {
                memory.written = None;
            }
            outdated
        })
    }

    /// How long to wait for the watch of claims; `None` once it has caught up. What is being deleted does not wait: it asks
    /// the API server itself.
    fn awaits_claim(&self, key: &Namespaced, observed: &Observed) -> Option<Duration> {
        let caught_up = observed.claim.is_some() || observed.front.leaving;
        self.remember(key, |memory| {
            let left = memory.claimed.map(|at| SHOWN.saturating_sub(at.elapsed()));
            let left = left.filter(|left| !caught_up && !left.is_zero());
            if left.is_none() {
                memory.claimed = None;
            }
            left
        })
    }

    /// The words with which the same growth was refused a moment ago, and when to ask again.
    fn was_refused(&self, key: &Namespaced, action: &Action) -> Option<(String, Duration)> {
        let (Action::GrowClaim(size) | Action::LowerClaim(size)) = action else { return None };
        self.remember(key, |memory| {
            let (refused, at, words) = memory.refused.as_ref()?;
            let rest = ASKED_AGAIN.saturating_sub(at.elapsed());
            if refused != size || rest.is_zero() {
                memory.refused = None;
                return None;
            }
            Some((words.clone(), rest))
        })
    }

    fn wrote(&self, key: &Namespaced, meta: &ObjectMeta) {
        self.remember(key, |memory| memory.written = version(meta));
    }

    fn remember<T>(&self, key: &Namespaced, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memories = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(key.clone()).or_default();
        let result = change(memory);
        let nothing = memory.passing_since.is_none()
            && memory.written.is_none()
            && memory.claimed.is_none()
            && memory.refused.is_none();
        if nothing && memory.room.is_over(Instant::now()) {
            memories.remove(key);
        }
        result
    }
}

async fn claim_exists(observed: &Observed, claims: &Api<PersistentVolumeClaim>) -> Result<bool, kube::Error> {
    let owner = &observed.front.owner;
    let found = claims.get_metadata_opt(&owner.name).await?;
    let controller = found.and_then(|found| Claim::controller(&found.metadata));
    Ok(controller.is_some_and(|controller| owner.is(&controller)))
}

/// Whether the reason for people stays the same, so that only figures differ.
fn says_the_same(old: &Status, new: &Status) -> bool {
    let reason = |status: &Status| {
        conditions::find(&status.conditions, conditions::READY).map(|c| (c.reason.clone(), c.status.clone()))
    };
    reason(old) == reason(new)
}

/// Resource versions of one kind are numbers that grow (KEP-5504).
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_ref()?.parse().ok()
}

fn what(action: &Action) -> &'static str {
    match action {
        Action::AddFinalizer => "add the finalizer",
        Action::RemoveFinalizer => "remove the finalizer",
        Action::CreateClaim => "make the claim",
        Action::GrowClaim(_) => "grow the claim",
        Action::LowerClaim(_) => "take back the growth of the claim",
        Action::DeleteClaim(_) => "delete the claim",
        Action::ReleaseClaim => "let the claim go",
        Action::Keep(..) | Action::LetGo(_) => "set the retention",
        Action::SetMountOptions(_) => "set the mount options",
    }
}
