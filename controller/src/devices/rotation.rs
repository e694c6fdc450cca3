//! Gives an encrypted volume another key. The steps, and what a crash after each leaves:
//!
//! 1. The annotation has a value that was not carried out: a random key is put beside the old one, as the wanted one, with that value.
//!    Again: it is found there.
//! 2. At the next mount the node puts the wanted key into force and removes the old one; its status shows the new fingerprint.
//!    From the first mount until the last both keys are in the Secret, so that the volume opens whatever the node had done.
//! 3. What was made of the volume meanwhile is seen to have the key that opens it. Again: it has.
//! 4. The other keys go from the Secret. Again: the wanted one is alone, and its value says so.
//! 5. The NodeVolume's annotations say which value was carried out, and the fingerprint that is in force since.
//!
//! Where the fingerprint is another one later (a restore in place brought another LUKS2 header), 3 to 5 are done again.
//! While a restore in place is under way the Secret stays as it is: the snapshot that keeps what was there before needs its keys.

use crate::devices::keys::{Held, Keys, fingerprint, holders, opens, random_key};
use crate::devices::older_keys;
use crate::index::{Device, Index, Namespaced, State, asked_key};
use crate::run::queue::Next;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;
use tierce_crds::{NodeVolume, names};
use tierce_runtime::errors::in_words;
use tracing::{info, warn};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing now.
    Wait,
    /// Put a new key beside the old one.
    Offer,
    /// The wanted key is in force: the others go.
    Settle,
    /// All is done but saying so.
    Say,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The value of the annotation.
    pub asked: &'a str,
    /// The last value that was carried out.
    pub done: Option<&'a str>,
    /// The value that the wanted key is of.
    pub begun: Option<&'a str>,
    /// Whether a restore in place needs the Secret as it is.
    pub held: bool,
    /// Whether there are keys beside the wanted one.
    pub others: bool,
    /// Whether the node shows that the wanted key is in force.
    pub in_force: bool,
}

/// Decides.
pub fn decide(facts: Facts<'_>) -> Step {
    let asked = Some(facts.asked);
    match facts {
        _ if facts.held => Step::Wait,
        // Also of a value before: one after the other.
        Facts { others: true, in_force: true, .. } => Step::Settle,
        Facts { others: true, .. } => Step::Wait,
        _ if facts.done != asked && facts.begun != asked => Step::Offer,
        Facts { in_force: true, .. } => Step::Say,
        _ => Step::Wait,
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
            let wanted = asked_key(volume)?.to_owned();
            let device = state.own_device_of(key).filter(|device| device.encrypted)?;
            let done = device.rotated.as_ref() == Some(&wanted) && device.rotated_to == device.fingerprint;
            (!done).then(|| (wanted, device.id.clone(), device.uid.clone()))
        });
        let Some((wanted, id, uid)) = found else { return Next::Event };
        match self.rotate(&wanted, &id, &uid).await {
            Ok(next) => next,
            Err(kube::Error::Api(status)) if status.is_conflict() => Next::Failed,
            Err(error) => {
                warn!(volume = %key, "cannot rotate the key: {}", in_words(&error));
                Next::Failed
            }
        }
    }

    async fn rotate(&self, asked: &str, id: &str, uid: &str) -> Result<Next, kube::Error> {
        let Some(mut held) = self.keys.read(id).await? else {
            warn!(id, "the Secret with its key is gone, so it can't be rotated");
            return Ok(Next::Event);
        };
        if held.ring.is_empty() {
            warn!(id, "the Secret holds no key that can be read, so it can't be rotated");
            return Ok(Next::Event);
        }
        // After the Secret: what the node has shown since then is newer, and a restore that was ordered since has changed the Secret.
        let devices: Api<NodeVolume> = Api::all(self.client.clone());
        let Some(device) = devices.get_opt(id).await?.map(Device::of).filter(|device| device.uid == uid)
        else {
            return Ok(Next::Event);
        };
        if !self.is_held(&held) && older_keys::convert(&mut held, Some(&device))? {
            self.keys.replace(&held).await?;
            return Ok(Next::Event);
        }
        let annotations = held.metadata.annotations.as_ref();
        let begun = annotations.and_then(|all| all.get(names::ANNOTATION_ROTATE_KEY)).cloned();
        let shown = device.fingerprint.as_deref();
        let is_wanted = |shown: &str| {
            held.ring.wanted().is_some_and(|key| fingerprint(key, shown).as_deref() == Some(shown))
        };
        let facts = Facts {
            asked,
            done: device.rotated.as_deref(),
            begun: begun.as_deref(),
            held: device.restore.is_some() || self.is_held(&held),
            others: held.ring.others().next().is_some(),
            // A node that could not look shows what it saw before.
            in_force: device.ready() && shown.is_some_and(is_wanted),
        };
        match decide(facts) {
            Step::Wait => {}
            Step::Offer => {
                held.ring.want(&random_key()?);
                let annotations = held.metadata.annotations.get_or_insert_default();
                annotations.insert(names::ANNOTATION_ROTATE_KEY.to_owned(), asked.to_owned());
                self.keys.replace(&held).await?;
                info!(id, "a new key is made; it comes into force at the next mount");
            }
            Step::Settle => {
                self.provide_for_copies(&held, id).await?;
                held.ring.keep_the_wanted();
                let annotations = held.metadata.annotations.get_or_insert_default();
                annotations.retain(|name, _| !name.starts_with(names::ANNOTATION_KEY_HELD_BY));
                self.keys.replace(&held).await?;
                info!(id, "its new key is in force, and the old one is gone");
                if let Some(begun) = begun {
                    self.say(&device, &begun).await?;
                }
            }
            Step::Say => self.say(&device, asked).await?,
        }
        Ok(Next::Event)
    }

    /// Whether a restore that is not over holds the Secret.
    fn is_held(&self, held: &Held) -> bool {
        let mut holders = holders(&held.metadata);
        self.index.read(|state| holders.any(|uid| state.has_open_restore(uid)))
    }

    /// What is taken of the volume has the header of that moment, which may be later than the copy of its Secret. As long as the volume's own
    /// Secret has all keys, nothing is lost by that; before one goes, each copy has what opens it.
    async fn provide_for_copies(&self, held: &Held, id: &str) -> Result<(), kube::Error> {
        for (copy, print) in self.index.read(|state| copies(state, id)) {
            let Some(theirs) = self.keys.read(&copy).await? else { continue };
            if print.is_none_or(|print| !opens(&theirs.ring, &print)) {
                self.keys.give(held, &copy).await?;
            }
        }
        Ok(())
    }

    async fn say(&self, device: &Device, done: &str) -> Result<(), kube::Error> {
        let annotations = json!({
            names::ANNOTATION_ROTATED_KEY: done, names::ANNOTATION_ROTATED_TO: device.fingerprint,
        });
        let patch = json!({"metadata": {"uid": device.uid, "annotations": annotations}});
        let devices: Api<NodeVolume> = Api::all(self.client.clone());
        devices.patch_metadata(&device.id, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }
}

/// What starts with the content of this volume, and the fingerprint that it shows.
fn copies(state: &State, id: &str) -> Vec<(String, Option<String>)> {
    let snapshots = state.snapshots_from(id).filter(|snapshot| snapshot.encrypted);
    let snapshots = snapshots.map(|snapshot| (snapshot.id.clone(), snapshot.fingerprint.clone()));
    let clones = state.devices_from(id).filter(|device| device.encrypted);
    snapshots.chain(clones.map(|device| (device.id.clone(), device.fingerprint.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_replaced_only_after_the_node_has_it_in_force() {
        for (what, done, begun, others, in_force, step) in [
            ("asked for", None, None, false, true, Step::Offer),
            ("asked for, never mounted", None, None, false, false, Step::Offer),
            ("asked for again", Some("a"), Some("a"), false, true, Step::Offer),
            ("offered, not mounted since", None, Some("b"), true, false, Step::Wait),
            ("one before is still on its way", None, Some("a"), true, false, Step::Wait),
            ("in force", None, Some("b"), true, true, Step::Settle),
            ("one before is in force", None, Some("a"), true, true, Step::Settle),
            ("killed before it was said", None, Some("b"), false, true, Step::Say),
            ("another header is there, and open", Some("b"), Some("b"), false, true, Step::Say),
            ("another header is there", Some("b"), Some("b"), true, false, Step::Wait),
            ("another header is there, and rotated", Some("b"), Some("b"), true, true, Step::Settle),
            ("no header is there", Some("b"), Some("b"), false, false, Step::Wait),
            ("the Secret is from a backup", Some("b"), None, false, true, Step::Say),
        ] {
            let facts = Facts { asked: "b", done, begun, held: false, others, in_force };
            assert_eq!(decide(facts), step, "{what}");
            assert_eq!(
                decide(Facts { held: true, ..facts }),
                Step::Wait,
                "{what}, while a restore is under way"
            );
        }
    }
}
