//! Gives an encrypted volume another key. The steps, and what a crash after each leaves:
//!
//! 1. The annotation has a value that was not carried out: a random key is put beside the old one, with that value. Again: it is
//!    found there.
//! 2. At the next mount the node puts the new key into force and removes the old one; its status shows the new fingerprint.
//!    From the first mount until the last both keys are in the Secret, so that the volume opens whatever the node had done.
//! 3. The new key takes the old one's place in the Secret. Again: it is there, and its value says so.
//! 4. The NodeVolume's annotation says which value was carried out.

use crate::index::{Device, Index, Namespaced};
use crate::keys::{KEY, Keys, NEXT_KEY, fingerprint, keys_of, random_key};
use crate::queue::Next;
use crate::words::in_words;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;
use tierce_crds::{NodeVolume, names};
use tracing::{info, warn};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing now.
    Wait,
    /// Put a new key beside the old one.
    Offer,
    /// The new key is in force: it takes the old one's place.
    Promote,
    /// All is done but saying so.
    Say,
}

/// Decides. `begun`: the value that the Secret's keys are of; `next_is_in_force`: `None` where no second key is there.
pub fn decide(wanted: &str, done: Option<&str>, begun: Option<&str>, next_is_in_force: Option<bool>) -> Step {
    match next_is_in_force {
        _ if done == Some(wanted) => Step::Wait,
        // Also one of a value before: one after the other.
        Some(true) => Step::Promote,
        Some(false) => Step::Wait,
        None if begun == Some(wanted) => Step::Say,
        None => Step::Offer,
    }
}

/// Rotates keys.
pub struct KeyRotation {
    client: Client,
    index: Arc<Index>,
    keys: Keys,
}

impl KeyRotation {
    /// Over this API server, with the facts of this index.
    pub fn new(client: Client, index: Arc<Index>, keys: Keys) -> Self {
        Self { client, index, keys }
    }

    /// Looks at one Volume.
    pub async fn look(&self, key: &Namespaced) -> Next {
        let found = self.index.read(|state| {
            let volume = state.volumes.get(key)?;
            let wanted = volume.metadata.annotations.as_ref()?.get(names::ANNOTATION_ROTATE_KEY)?.clone();
            let own = state.claims.get(key).is_some_and(|claim| claim.owner == volume.metadata.uid);
            let device = state.device_of(key).filter(|device| own && device.encrypted)?;
            (device.rotated.as_ref() != Some(&wanted)).then(|| (wanted, Arc::clone(device)))
        });
        let Some((wanted, device)) = found else { return Next::Event };
        match self.rotate(&wanted, &device).await {
            Ok(next) => next,
            Err(kube::Error::Api(status)) if status.is_conflict() => Next::Failed,
            Err(error) => {
                warn!(volume = %key, "cannot rotate the key: {}", in_words(&error));
                Next::Failed
            }
        }
    }

    async fn rotate(&self, wanted: &str, device: &Device) -> Result<Next, kube::Error> {
        let Some(secret) = self.keys.read(&device.id).await? else {
            warn!(id = device.id, "the Secret with its key is gone, so it can't be rotated");
            return Ok(Next::Event);
        };
        let begun = secret
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(names::ANNOTATION_ROTATE_KEY))
            .cloned();
        let mut entries = keys_of(&secret);
        let in_force = entries.get(NEXT_KEY).map(|next| {
            let shown = device.fingerprint.as_deref();
            shown.is_some_and(|shown| fingerprint(next, shown).as_deref() == Some(shown))
        });
        match decide(wanted, device.rotated.as_deref(), begun.as_deref(), in_force) {
            Step::Wait => Ok(Next::Event),
            Step::Offer => {
                entries.insert(NEXT_KEY.to_owned(), random_key()?);
                let mut marked: Secret = secret.clone();
                let annotations = marked.metadata.annotations.get_or_insert_default();
                annotations.insert(names::ANNOTATION_ROTATE_KEY.to_owned(), wanted.to_owned());
                self.keys.replace(&marked, entries).await?;
                info!(id = device.id, "a new key is made; it gets in force at the next mount");
                Ok(Next::Event)
            }
            Step::Promote => {
                if let Some(next) = entries.remove(NEXT_KEY) {
                    entries.insert(KEY.to_owned(), next);
                }
                self.keys.replace(&secret, entries).await?;
                info!(id = device.id, "its new key is in force, and the old one is gone");
                if let Some(begun) = begun {
                    self.say(device, &begun).await?;
                }
                Ok(Next::Event)
            }
            Step::Say => self.say(device, wanted).await.map(|()| Next::Event),
        }
    }

    async fn say(&self, device: &Device, done: &str) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {
            "uid": device.uid, "annotations": {names::ANNOTATION_ROTATED_KEY: done},
        }});
        let devices: Api<NodeVolume> = Api::all(self.client.clone());
        devices.patch_metadata(&device.id, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_replaced_only_after_the_node_has_it_in_force() {
        for (what, done, begun, in_force, step) in [
            ("asked for", None, None, None, Step::Offer),
            ("asked for again", Some("a"), Some("a"), None, Step::Offer),
            ("offered, not mounted since", None, Some("b"), Some(false), Step::Wait),
            ("one before is still on its way", None, Some("a"), Some(false), Step::Wait),
            ("in force", None, Some("b"), Some(true), Step::Promote),
            ("one before is in force", None, Some("a"), Some(true), Step::Promote),
            ("killed before it was said", None, Some("b"), None, Step::Say),
            ("done", Some("b"), Some("b"), None, Step::Wait),
        ] {
            assert_eq!(decide("b", done, begun, in_force), step, "{what}");
        }
    }
}
