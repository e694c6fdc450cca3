//! The keys of encrypted volumes and snapshots: one Secret for each, in the release's own namespace, where users can't read it. What is in
//! it is told by [`KeyRing`].
//!
//! A Secret is made *before* its NodeVolume or NodeSnapshot, so that nothing encrypted is ever without its key, and is then given
//! that object as its owner: Kubernetes deletes it once the object is gone, which is after the node has destroyed the key slots.
//! A crash between the two leaves a Secret without an owner, which the next call for the same name takes over, and touches, so that
//! nobody deletes it as one that nobody wants (`unclaimed/keys.rs`).
//!
//! Every write but one adds keys, to what was read, in the version that was read. A key goes from a Secret only when a rotation has ended
//! (`rotation.rs`), and not while a restore in place holds the Secret: until the restore is over it stays as it was when the order was given.

use super::unclaimed::pages;
use crate::run::objects::gone_is_fine;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use tierce_crds::{KeyRing, NodeSnapshot, NodeVolume, names};
use uuid::Uuid;

/// How often a write is tried again that somebody else's made worthless.
const ATTEMPTS: usize = 3;

/// The Secrets with keys.
#[derive(Clone)]
pub struct Keys {
    client: Client,
    secrets: Api<Secret>,
}

/// A Secret that was read, and the keys in it.
#[derive(Debug, Clone)]
pub struct Held {
    /// Of the Secret.
    pub metadata: ObjectMeta,
    /// What it holds.
    pub ring: KeyRing,
    /// Whether it says by `next-key` alone which key is wanted; see [`older_keys`](super::older_keys).
    pub in_older_form: bool,
}

impl Keys {
    /// In the namespace of the release.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client.clone(), namespace), client }
    }

    /// The Secret of this volume or snapshot.
    pub async fn read(&self, id: &str) -> Result<Option<Held>, kube::Error> {
        let found = self.secrets.get_opt(&names::key_secret(id)).await?;
        Ok(found.map(|secret| {
            let entries = secret.data.iter().flatten();
            let ring = KeyRing::read(entries.map(|(name, value)| (name.as_str(), value.0.as_slice())));
            Held { in_older_form: is_in_older_form(&secret), metadata: secret.metadata, ring }
        }))
    }

    /// Ids of those that an older version wrote, and that hold more than one key.
    pub async fn in_older_form(&self) -> Result<Vec<String>, kube::Error> {
        let (label, us) = names::LABEL_MANAGED_BY;
        let list = |page: ListParams| {
            let secrets = self.secrets.clone();
            async move { secrets.list(&page.labels(&format!("{label}={us}"))).await }
        };
        let mut found = Vec::new();
        pages::any(list, |secret| {
            let id = secret.metadata.name.as_deref().and_then(names::of_key_secret);
            found.extend(id.filter(|_| is_in_older_form(&secret)).map(ToOwned::to_owned));
            false
        })
        .await?;
        Ok(found)
    }

    /// Makes a key for a volume that does not exist. One that a call before left is kept.
    pub async fn make(&self, id: &str) -> Result<(), kube::Error> {
        let fresh = KeyRing::of(&random_key()?).expect("a random key is 64 hexadecimal digits");
        self.put(id, &fresh, |known, fresh| {
            if known.is_empty() {
                known.follow(fresh);
            }
        })
        .await
    }

    /// Gives a volume or snapshot the keys of the one that it is made from, beside those that it has. `false`: that one has none, and nothing
    /// was written.
    pub async fn copy(&self, from: &str, to: &str) -> Result<bool, kube::Error> {
        let Some(source) = self.read(from).await?.filter(|source| !source.ring.is_empty()) else {
            return Ok(false);
        };
        self.put(to, &source.ring, KeyRing::follow).await?;
        Ok(true)
    }

    /// Adds the keys of a Secret that was read.
    pub async fn give(&self, from: &Held, to: &str) -> Result<(), kube::Error> {
        self.put(to, &from.ring, KeyRing::follow).await
    }

    /// Whether the Secret of this volume has a key of this fingerprint; any will do for what was never encrypted with one.
    pub async fn opens(&self, id: &str, print: Option<&str>) -> Result<bool, kube::Error> {
        let Some(held) = self.read(id).await? else { return Ok(false) };
        Ok(print.is_none_or(|print| opens(&held.ring, print)))
    }

    /// Makes the object of this kind, name and UID the owner of the Secret of `id`, so that Kubernetes deletes the Secret with it.
    pub async fn belongs_to(&self, id: &str, kind: &str, name: &str, uid: &str) -> Result<(), kube::Error> {
        let owner = json!({
            "apiVersion": names::API_VERSION, "kind": kind, "name": name, "uid": uid,
        });
        let annotations = json!({names::ANNOTATION_UNTIED_KEY: null, names::ANNOTATION_TAKEN_OVER_KEY: null});
        let patch = json!({"metadata": {"ownerReferences": [owner], "annotations": annotations}});
        let name = names::key_secret(id);
        self.secrets.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }

    /// Marks the Secret of this volume as held by the restore of this UID: no key is taken from it until that restore is over. `lent`: the
    /// snapshot whose keys the volume also needs once it has its content; they never become the wanted key. `is_open`: whether the restore of a
    /// UID is open. Returns the id whose Secret is missing; then nothing was written.
    pub async fn hold(
        &self,
        volume: &str,
        restore: &str,
        lent: Option<&str>,
        is_open: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, kube::Error> {
        let Some(mut held) = self.read(volume).await?.filter(|held| !held.ring.is_empty()) else {
            return Ok(Some(volume.to_owned()));
        };
        if let Some(snapshot) = lent {
            let Some(theirs) = self.read(snapshot).await?.filter(|held| !held.ring.is_empty()) else {
                return Ok(Some(snapshot.to_owned()));
            };
            held.ring.lend(&theirs.ring);
        }
        // Also where it stands there already: a write of somebody who has not seen it fails.
        let annotations = held.metadata.annotations.get_or_insert_default();
        // Those that are over hold nothing, and there is no end to how many there were.
        annotations.retain(|name, _| name.strip_prefix(names::ANNOTATION_KEY_HELD_BY).is_none_or(&is_open));
        annotations
            .insert(format!("{}{restore}", names::ANNOTATION_KEY_HELD_BY), Timestamp::now().to_string());
        self.replace(&held).await?;
        Ok(None)
    }

    /// Writes keys for something, or adds them to those that are there.
    async fn put(
        &self,
        id: &str,
        ring: &KeyRing,
        join: impl Fn(&mut KeyRing, &KeyRing),
    ) -> Result<(), kube::Error> {
        let mut ring = ring.clone();
        for _ in 0..ATTEMPTS {
            match self.secrets.create(&PostParams::default(), &untied(id, &ring)).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                other => return other.map(drop),
            }
            let Some(mut known) = self.read(id).await? else { continue };
            let (owned, is_dying) = (owners(&known) > 0, known.metadata.deletion_timestamp.is_some());
            let done = if owned && !is_guarded(&known.metadata) && self.owner_is_gone(&known).await? {
                // Kubernetes is about to delete it, and must not take the new one's. One that nobody has let go stays: what it belonged to may
                // lie on a disk, and be what is made anew now.
                self.remove(&known).await
            } else if !owned && is_dying {
                // Something may have been made with its keys.
                let mut all = known.ring.clone();
                join(&mut all, &ring);
                ring = all;
                self.remove(&known).await
            } else {
                let before = known.ring.clone();
                join(&mut known.ring, &ring);
                if owned && known.ring == before {
                    return Ok(());
                }
                if !owned {
                    // Whoever looked at it before can't delete it any more.
                    let annotations = known.metadata.annotations.get_or_insert_default();
                    annotations
                        .insert(names::ANNOTATION_TAKEN_OVER_KEY.to_owned(), Timestamp::now().to_string());
                }
                match self.replace(&known).await {
                    Ok(()) => return Ok(()),
                    Err(error) => Err(error),
                }
            };
            match done {
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                other => other?,
            }
        }
        self.secrets.create(&PostParams::default(), &untied(id, &ring)).await.map(drop)
    }

    /// Whether none of the objects that it goes with is there any more; an object of the name with another UID is another one.
    async fn owner_is_gone(&self, held: &Held) -> Result<bool, kube::Error> {
        for owner in held.metadata.owner_references.iter().flatten() {
            if self.uid_of(owner).await?.is_some_and(|uid| uid == owner.uid) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn uid_of(&self, owner: &OwnerReference) -> Result<Option<String>, kube::Error> {
        let metadata = if owner.kind == "NodeSnapshot" {
            let snapshots: Api<NodeSnapshot> = Api::all(self.client.clone());
            snapshots.get_metadata_opt(&owner.name).await?.map(|object| object.metadata)
        } else {
            let volumes: Api<NodeVolume> = Api::all(self.client.clone());
            volumes.get_metadata_opt(&owner.name).await?.map(|object| object.metadata)
        };
        Ok(metadata.and_then(|metadata| metadata.uid))
    }

    /// Removes the key of something that was never made. One that is tied to an object stays.
    pub async fn drop_unowned(&self, id: &str) -> Result<(), kube::Error> {
        match self.read(id).await? {
            Some(held) if owners(&held) == 0 => self.remove(&held).await,
            _ => Ok(()),
        }
    }

    /// Deletes a Secret, in the version that was read. A crash in between leaves one that anybody may delete.
    pub async fn remove(&self, held: &Held) -> Result<(), kube::Error> {
        let name = held.metadata.name.clone().unwrap_or_default();
        let Some(let_go) = gone_is_fine(self.set_guard(&held.metadata, false).await)? else { return Ok(()) };
        let only_this = Preconditions {
            uid: held.metadata.uid.clone(),
            resource_version: let_go.or_else(|| held.metadata.resource_version.clone()),
        };
        let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
        gone_is_fine(self.secrets.delete(&name, &parameters).await).map(drop)
    }

    /// Sets or lifts the finalizer of a Secret, in this version.
    pub async fn guard(&self, id: &str, version: &str, guarded: bool) -> Result<(), kube::Error> {
        let Some(found) = self.secrets.get_metadata_opt(&names::key_secret(id)).await? else { return Ok(()) };
        if found.metadata.resource_version.as_deref() != Some(version) {
            // The watch shows it.
            return Ok(());
        }
        gone_is_fine(self.set_guard(&found.metadata, guarded).await).map(drop)
    }

    /// The version that it is in then; `None`: nothing was to be done.
    async fn set_guard(&self, metadata: &ObjectMeta, guarded: bool) -> Result<Option<String>, kube::Error> {
        if is_guarded(metadata) == guarded {
            return Ok(None);
        }
        let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != names::FINALIZER_KEY);
        finalizers.extend(guarded.then(|| names::FINALIZER_KEY.to_owned()));
        let patch = json!({"metadata": {
            "finalizers": finalizers, "uid": metadata.uid, "resourceVersion": metadata.resource_version,
        }});
        let name = metadata.name.clone().unwrap_or_default();
        let patched =
            self.secrets.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(patched.metadata.resource_version)
    }

    /// Replaces what a Secret holds and its metadata, in the version that was read.
    pub async fn replace(&self, held: &Held) -> Result<(), kube::Error> {
        let name = held.metadata.name.clone().unwrap_or_default();
        let secret = secret(held.metadata.clone(), &held.ring);
        self.secrets.replace(&name, &PostParams::default(), &secret).await.map(drop)
    }
}

/// The Secret of something that does not exist yet.
fn untied(id: &str, ring: &KeyRing) -> Secret {
    let (label, us) = names::LABEL_MANAGED_BY;
    let since = (names::ANNOTATION_UNTIED_KEY.to_owned(), Timestamp::now().to_string());
    let metadata = ObjectMeta {
        name: Some(names::key_secret(id)),
        labels: Some([(label.to_owned(), us.to_owned())].into()),
        annotations: Some([since].into()),
        finalizers: Some(vec![names::FINALIZER_KEY.to_owned()]),
        ..ObjectMeta::default()
    };
    secret(metadata, ring)
}

fn secret(metadata: ObjectMeta, ring: &KeyRing) -> Secret {
    let data = ring.write().into_iter().map(|(name, value)| (name, ByteString(value))).collect();
    Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

fn is_in_older_form(secret: &Secret) -> bool {
    KeyRing::is_in_older_form(secret.data.iter().flatten().map(|(name, _)| name.as_str()))
}

/// Whether nobody has let it go; see `unclaimed/guard.rs`.
fn is_guarded(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::FINALIZER_KEY)
}

/// How many objects it goes with.
fn owners(held: &Held) -> usize {
    held.metadata.owner_references.as_ref().map_or(0, Vec::len)
}

/// UIDs of the restores that hold a Secret with these metadata.
pub fn holders(metadata: &ObjectMeta) -> impl Iterator<Item = &str> {
    let names = metadata.annotations.iter().flatten().map(|(name, _)| name);
    names.filter_map(|name| name.strip_prefix(names::ANNOTATION_KEY_HELD_BY))
}

/// Whether one of the keys has this fingerprint.
pub fn opens(ring: &KeyRing, print: &str) -> bool {
    ring.keys().any(|key| fingerprint(key, print).as_deref() == Some(print))
}

/// 256 bits of the operating system's random numbers.
pub fn random_key() -> Result<String, kube::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| kube::Error::Service(Box::new(error)))?;
    Ok(hex(&bytes))
}

/// Which key it is, for a volume whose header is told by another fingerprint of it: as the node writes it.
pub fn fingerprint(key: &str, like: &str) -> Option<String> {
    let header: Uuid = header_of(like)?.parse().ok()?;
    if !key.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| key.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Vec<u8> = (0..key.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    let digest = Sha256::new().chain_update(header.as_bytes()).chain_update(bytes).finalize();
    Some(format!("{header}:{}", hex(&digest[..16])))
}

/// The LUKS2 header that a fingerprint is of.
pub fn header_of(print: &str) -> Option<&str> {
    print.split(':').next()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String never fails");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_random_and_known_by_the_fingerprint_that_the_node_writes() {
        let key = random_key().unwrap();
        assert_eq!(key.len(), 64);
        assert_ne!(key, random_key().unwrap());
        // The same key and header as in the engine's own test.
        let known = "00ff".repeat(16);
        let like = "00000000-0000-0000-0000-000000000000:whatever";
        let print = fingerprint(&known, like).unwrap();
        let (header, digits) = print.split_once(':').unwrap();
        assert_eq!((header, digits.len()), ("00000000-0000-0000-0000-000000000000", 32));
        assert_eq!(fingerprint(&known, &print), Some(print.clone()));
        assert_ne!(fingerprint(&key, &print), Some(print));
        assert_eq!(fingerprint(&known, "none"), None);
        assert_eq!(fingerprint("no key", like), None);
        assert_eq!(fingerprint(&"+f".repeat(32), like), None);
    }
}
