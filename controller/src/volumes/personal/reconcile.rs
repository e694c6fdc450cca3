//! Carries out plans.

use super::plan::{Action, Said, plan};
use super::room_words::{Difference, RoomWords, difference};
use super::{Observed, claim, status};
use crate::index::{Claim, Index, Namespaced};
use crate::run::events::Events;
use crate::run::queue::Next;
use crate::run::words::in_words;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tierce_crds::conditions::{self, volume as reason};
use tierce_crds::{NodeVolume, Volume, VolumeStatus, format_bytes, names};
use tokio::time::Instant;
use tracing::{debug, warn};

/// A state that most likely passes is written only if it lasts so long: a volume that is made in 100 ms costs one
/// status write instead of two.
const LASTS: Duration = Duration::from_secs(2);

/// How long the watch may take to show what we wrote. Later something else has happened to it.
const SHOWN: Duration = Duration::from_secs(5);

/// What went wrong.
#[derive(Debug, Error)]
#[error("cannot {what} of Volume {volume}")]
pub struct VolumeError {
    what: &'static str,
    volume: Namespaced,
    source: kube::Error,
}

/// Reconciles Volumes.
pub struct VolumeReconciler {
    client: Client,
    index: Arc<Index>,
    events: Events,
    memory: Mutex<HashMap<Namespaced, Memory>>,
}

/// What is remembered of a Volume between two looks.
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
}

impl VolumeReconciler {
    /// Over this API server, with the facts of this index.
    pub fn new(client: Client, index: Arc<Index>, events: Events) -> Self {
        Self { client, index, events, memory: Mutex::default() }
    }

    /// Looks at one Volume and does what is to be done.
    pub async fn reconcile(&self, key: &Namespaced) -> Next {
        let observed = self.index.read(|state| Observed::look(state, key));
        let Some(observed) = observed else {
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Next::Event;
        };
        if self.is_outdated(key, &observed.volume) {
            // The watch will show our own write, and wake us.
            return Next::After(SHOWN);
        }
        if let Some(left) = self.awaits_claim(key, &observed) {
            return Next::After(left);
        }
        match self.carry_out(key, &observed).await {
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

    async fn carry_out(&self, key: &Namespaced, observed: &Observed) -> Result<Next, VolumeError> {
        let plan = plan(observed);
        let mut refused = None;
        for action in &plan.actions {
            if let Err(source) = self.act(key, observed, action).await {
                let error = VolumeError { what: what(action), volume: key.clone(), source };
                if !is_refusal(&error.source) {
                    return Err(error);
                }
                refused = Some((action, error));
                break;
            }
        }
        let Some(mut said) = plan.said else {
            return match refused {
                Some((_, error)) => Err(error),
                None => Ok(Next::Event),
            };
        };
        if let Some((action, error)) = &refused {
            said = said.refused(action, in_words(error));
        }
        let makes_claim = refused.is_none() && plan.actions.contains(&Action::CreateClaim);
        let has_claim = observed.own_claim().is_some() || makes_claim;
        let said = self.say(key, observed, &said, has_claim).await.map_err(|source| VolumeError {
            what: "write the status",
            volume: key.clone(),
            source,
        });
        match refused {
            Some((_, error)) => Err(error),
            None => said,
        }
    }

    async fn act(&self, key: &Namespaced, observed: &Observed, action: &Action) -> Result<(), kube::Error> {
        let volume = &observed.volume;
        let volumes: Api<Volume> = Api::namespaced(self.client.clone(), &key.namespace);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let merge =
            PatchParams { field_manager: Some(names::MANAGER_VOLUME.to_owned()), ..PatchParams::default() };
        match action {
            // A watch that started anew may show an older state for a moment; the last word is the API server's. Should
            // the claim be there after all, its own event brings us back.
            Action::RemoveFinalizer if self.claim_exists(observed, &claims, &key.name).await? => {}
            Action::AddFinalizer | Action::RemoveFinalizer => {
                let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|f| f != names::FINALIZER_VOLUME);
                if *action == Action::AddFinalizer {
                    finalizers.push(names::FINALIZER_VOLUME.to_owned());
                }
                let patch = json!({"metadata": {
                    "finalizers": finalizers, "resourceVersion": volume.metadata.resource_version,
                }});
                match volumes.patch(&key.name, &merge, &Patch::Merge(&patch)).await {
                    Ok(written) => self.wrote(key, &written),
                    Err(kube::Error::Api(status))
                        if status.is_not_found() && *action == Action::RemoveFinalizer => {}
                    Err(error) => return Err(error),
                }
                if *action == Action::RemoveFinalizer {
                    self.tell_of_the_end(observed).await;
                }
            }
            // Not server-side apply: it would take over a claim that somebody else made a moment ago.
            Action::CreateClaim => {
                let create = PostParams {
                    field_manager: Some(names::MANAGER_VOLUME.to_owned()),
                    ..PostParams::default()
                };
                // "Already exists" is an error as well: ours from a moment ago or somebody else's, the watch will tell.
                claims.create(&create, &claim::claim(volume, observed.encrypted)).await?;
                self.remember(key, |memory| memory.claimed = Some(Instant::now()));
            }
            Action::GrowClaim(_) => {
                let uid = observed.claim.as_ref().map(|claim| claim.uid.clone());
                let patch = json!({"metadata": {"uid": uid}, "spec": {"resources": {"requests": {"storage": volume.spec.size}}}});
                claims.patch(&key.name, &merge, &Patch::Merge(&patch)).await?;
            }
            Action::DeleteClaim(uid) => {
                // The version as well: a claim that was bound meanwhile has data behind it that may have to stay.
                let resource_version =
                    observed.claim.as_ref().and_then(|claim| claim.resource_version.clone());
                let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version });
                let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
                match claims.delete(&key.name, &parameters).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            Action::Keep(name, from) => self.set_retention(observed, name, "Retain", json!(from)).await?,
            Action::LetGo(name) => self.set_retention(observed, name, "Delete", Value::Null).await?,
            Action::SetMountOptions(id) => {
                let patch = json!({"spec": {"mountOptions": volume.spec.mount_options}});
                let devices: Api<NodeVolume> = Api::all(self.client.clone());
                devices.patch(id, &merge, &Patch::Merge(&patch)).await?;
            }
        }
        Ok(())
    }

    async fn claim_exists(
        &self,
        observed: &Observed,
        claims: &Api<PersistentVolumeClaim>,
        name: &str,
    ) -> Result<bool, kube::Error> {
        let found = claims.get_metadata_opt(name).await?;
        let owner = found.and_then(|found| Claim::owner(&found.metadata));
        Ok(owner.is_some() && owner == observed.volume.metadata.uid)
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
        let merge =
            PatchParams { field_manager: Some(names::MANAGER_VOLUME.to_owned()), ..PatchParams::default() };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        volumes.patch(name, &merge, &Patch::Merge(&patch)).await.map(drop)
    }

    /// Writes the status if it differs, and an Event if the reason does.
    async fn say(
        &self,
        key: &Namespaced,
        observed: &Observed,
        said: &Said,
        has_claim: bool,
    ) -> Result<Next, kube::Error> {
        let old = observed.volume.status.clone().unwrap_or_default();
        let new = status::next(observed, said, has_claim, Timestamp::now());
        if new == old {
            self.remember(key, |memory| memory.passing_since = None);
            return Ok(Next::Event);
        }
        if said.passing && !says_the_same(&old, &new) {
            let since = self.remember(key, |memory| *memory.passing_since.get_or_insert_with(Instant::now));
            let left = LASTS.saturating_sub(since.elapsed());
            if !left.is_zero() {
                return Ok(Next::After(left));
            }
        }
        self.remember(key, |memory| memory.passing_since = None);
        let differs = difference(&old, &new);
        let rest = self.remember(key, |memory| memory.room.rest(differs, Instant::now()));
        if !rest.is_zero() {
            return Ok(Next::After(rest));
        }
        let apply = json!({
            "apiVersion": Volume::api_version(&()), "kind": Volume::kind(&()),
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": observed.volume.metadata.uid},
            "status": new,
        });
        let volumes: Api<Volume> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams::apply(names::MANAGER_VOLUME).force();
        match volumes.patch_status(&key.name, &parameters, &Patch::Apply(&apply)).await {
            Ok(written) => {
                self.wrote(key, &written);
                self.remember(key, |memory| memory.room.say(differs, said.ready.reason, Instant::now()));
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Next::Event),
            Err(error) => return Err(error),
        }
        // A pool that is nearly full swings; what nobody made yet has nothing to tell of it.
        if differs != Difference::Turn {
            self.tell(observed, &old, &new, said).await;
        }
        Ok(Next::Event)
    }

    async fn tell(&self, observed: &Observed, old: &VolumeStatus, new: &VolumeStatus, said: &Said) {
        let before = conditions::find(&old.conditions, conditions::READY).map(|c| c.reason.as_str());
        let about = observed.volume.object_ref(&());
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
    async fn tell_of_the_end(&self, observed: &Observed) {
        let about = observed.volume.object_ref(&());
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

    fn is_outdated(&self, key: &Namespaced, volume: &Volume) -> bool {
        let Some(shown) = version(volume) else { return false };
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
        let caught_up = observed.claim.is_some() || observed.volume.metadata.deletion_timestamp.is_some();
        self.remember(key, |memory| {
            let left = memory.claimed.map(|at| SHOWN.saturating_sub(at.elapsed()));
            let left = left.filter(|left| !caught_up && !left.is_zero());
            if left.is_none() {
                memory.claimed = None;
            }
            left
        })
    }

    fn wrote(&self, key: &Namespaced, volume: &Volume) {
        self.remember(key, |memory| memory.written = version(volume));
    }

    fn remember<T>(&self, key: &Namespaced, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memories = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = memories.entry(key.clone()).or_default();
        let result = change(memory);
        let nothing = memory.passing_since.is_none() && memory.written.is_none() && memory.claimed.is_none();
        if nothing && memory.room.is_over(Instant::now()) {
            memories.remove(key);
        }
        result
    }
}

/// Whether the reason for people stays the same, so that only figures differ.
fn says_the_same(old: &VolumeStatus, new: &VolumeStatus) -> bool {
    let reason = |status: &VolumeStatus| {
        conditions::find(&status.conditions, conditions::READY).map(|c| (c.reason.clone(), c.status.clone()))
    };
    reason(old) == reason(new)
}

/// Resource versions of one kind are numbers that grow (KEP-5504).
fn version(volume: &Volume) -> Option<u64> {
    volume.metadata.resource_version.as_ref()?.parse().ok()
}

/// Whether the API server will say the same again until somebody changes something: a quota, an admission rule, a missing
/// right. What is gone, what somebody else wrote and what comes too often passes by itself.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && ![404, 409, 429].contains(&status.code))
}

fn what(action: &Action) -> &'static str {
    match action {
        Action::AddFinalizer => "add the finalizer",
        Action::RemoveFinalizer => "remove the finalizer",
        Action::CreateClaim => "make the claim",
        Action::GrowClaim(_) => "grow the claim",
        Action::DeleteClaim(_) => "delete the claim",
        Action::Keep(..) | Action::LetGo(_) => "set the retention",
        Action::SetMountOptions(_) => "set the mount options",
    }
}
