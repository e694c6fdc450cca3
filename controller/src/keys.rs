//! The keys of encrypted volumes and snapshots: one Secret for each, in the release's own namespace, where users can't read it.
//!
//! A Secret is made *before* its NodeVolume or NodeSnapshot, so that nothing encrypted is ever without its key, and is then given
//! that object as its owner: Kubernetes deletes it once the object is gone, which is after the node has destroyed the key slots.
//! A crash between the two leaves a Secret without an owner, which the next call for the same name takes over, and touches, so that
//! nobody deletes it as one that nobody wants (`unclaimed/keys.rs`).

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use tierce_crds::names;
use uuid::Uuid;

/// The key in force.
pub const KEY: &str = "key";
/// The key that gets in force at the next mount.
pub const NEXT_KEY: &str = "next-key";

/// The Secrets with keys.
#[derive(Clone)]
pub struct Keys {
    secrets: Api<Secret>,
}

/// What a Secret holds: hexadecimal digits, since CSI passes secrets as text. Never shown.
pub type Entries = BTreeMap<String, ByteString>;

impl Keys {
    /// In the namespace of the release.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client, namespace) }
    }

    /// The Secret of this volume or snapshot.
    pub async fn read(&self, id: &str) -> Result<Option<Secret>, kube::Error> {
        self.secrets.get_opt(&names::key_secret(id)).await
    }

    /// Makes a key for a volume that does not exist. One that a call before left is kept.
    pub async fn make(&self, id: &str) -> Result<(), kube::Error> {
        let fresh = [(KEY.to_owned(), random_key()?)].into();
        self.put(id, fresh, false).await
    }

    /// Gives a volume or snapshot that does not exist the keys of the one that it is made from. Whether that has any.
    pub async fn copy(&self, from: &str, to: &str) -> Result<bool, kube::Error> {
        let Some(source) = self.read(from).await? else { return Ok(false) };
        self.put(to, keys_of(&source), true).await?;
        Ok(true)
    }

    /// Whether the Secret of this volume has a key of this fingerprint; any will do for what was never encrypted with one.
    pub async fn opens(&self, id: &str, print: Option<&str>) -> Result<bool, kube::Error> {
        let Some(secret) = self.read(id).await? else { return Ok(false) };
        let fits = |print: &str| {
            keys_of(&secret).values().any(|key| fingerprint(key, print).as_deref() == Some(print))
        };
        Ok(print.is_none_or(fits))
    }

    /// From now on it goes with the object of this kind, id and UID.
    pub async fn belongs_to(&self, id: &str, kind: &str, uid: &str) -> Result<(), kube::Error> {
        let owner = json!({
            "apiVersion": format!("{}/v1alpha1", names::GROUP), "kind": kind, "name": id, "uid": uid,
        });
        let annotations = json!({names::ANNOTATION_UNTIED_KEY: null, names::ANNOTATION_TAKEN_OVER_KEY: null});
        self.patch(id, &json!({"metadata": {"ownerReferences": [owner], "annotations": annotations}})).await
    }

    /// Whoever looked at it before can't delete it any more.
    async fn take_over(&self, id: &str, uid: Option<&str>) -> Result<(), kube::Error> {
        let annotations = json!({names::ANNOTATION_TAKEN_OVER_KEY: Timestamp::now().to_string()});
        self.patch(id, &json!({"metadata": {"uid": uid, "annotations": annotations}})).await
    }

    async fn patch(&self, id: &str, patch: &serde_json::Value) -> Result<(), kube::Error> {
        let name = names::key_secret(id);
        self.secrets.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Writes a Secret for something that does not exist yet.
    async fn put(&self, id: &str, entries: Entries, over: bool) -> Result<(), kube::Error> {
        let name = names::key_secret(id);
        let (label, us) = names::LABEL_MANAGED_BY;
        let untied = (names::ANNOTATION_UNTIED_KEY.to_owned(), Timestamp::now().to_string());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(label.to_owned(), us.to_owned())].into()),
                annotations: Some([untied].into()),
                ..ObjectMeta::default()
            },
            data: Some(entries.clone()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        for _ in 0..2 {
            match self.secrets.create(&PostParams::default(), &secret).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                other => return other.map(drop),
            }
            let Some(known) = self.secrets.get_opt(&name).await? else { continue };
            if owners(&known) == 0 {
                let taken_over = if over && keys_of(&known) != entries {
                    self.replace(&known, entries.clone()).await
                } else {
                    self.take_over(id, known.metadata.uid.as_deref()).await
                };
                match taken_over {
                    Err(kube::Error::Api(status)) if status.is_not_found() => continue,
                    other => return other,
                }
            }
            // Of an object of that name that is gone: Kubernetes is about to delete it, and must not take the new one's.
            self.delete(id, known.metadata.uid.as_deref().unwrap_or_default(), None).await?;
        }
        self.secrets.create(&PostParams::default(), &secret).await.map(drop)
    }

    /// Removes the key of something that was never made. One that is tied to an object stays.
    pub async fn drop_unowned(&self, id: &str) -> Result<(), kube::Error> {
        match self.read(id).await? {
            Some(secret) if owners(&secret) == 0 => {
                let meta = secret.metadata;
                self.delete(id, meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref())
                    .await
            }
            _ => Ok(()),
        }
    }

    /// Deletes the Secret of this UID, if it still is in this version.
    pub async fn delete(&self, id: &str, uid: &str, version: Option<&str>) -> Result<(), kube::Error> {
        let only_this =
            Preconditions { uid: Some(uid.to_owned()), resource_version: version.map(ToOwned::to_owned) };
        let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
        match self.secrets.delete(&names::key_secret(id), &parameters).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// Replaces what a Secret holds, in the version that was looked at.
    pub async fn replace(&self, secret: &Secret, entries: Entries) -> Result<(), kube::Error> {
        let mut next = secret.clone();
        next.data = Some(entries);
        let name = secret.metadata.name.clone().unwrap_or_default();
        self.secrets.replace(&name, &PostParams::default(), &next).await.map(drop)
    }

    /// Makes the key of a snapshot open its volume too, before the volume goes back to that snapshot: it gets in force at the next
    /// mount, as in a rotation.
    pub async fn accept_keys_of(&self, snapshot: &str, volume: &str) -> Result<(), kube::Error> {
        let (Some(theirs), Some(ours)) = (self.read(snapshot).await?, self.read(volume).await?) else {
            return Ok(());
        };
        let (theirs, mut entries) = (keys_of(&theirs), keys_of(&ours));
        let Some(old) = theirs.get(KEY) else { return Ok(()) };
        if entries.get(KEY) == Some(old) || entries.get(NEXT_KEY) == Some(old) {
            return Ok(());
        }
        entries.insert(NEXT_KEY.to_owned(), old.clone());
        self.replace(&ours, entries).await
    }
}

/// How many objects it goes with.
fn owners(secret: &Secret) -> usize {
    secret.metadata.owner_references.as_ref().map_or(0, Vec::len)
}

/// The keys in a Secret, and nothing else that somebody put there.
pub fn keys_of(secret: &Secret) -> Entries {
    let known = |(name, _): &(&String, &ByteString)| name.as_str() == KEY || name.as_str() == NEXT_KEY;
    secret.data.iter().flatten().filter(known).map(|(name, key)| (name.clone(), key.clone())).collect()
}

/// 256 bits of the operating system's random numbers.
pub fn random_key() -> Result<ByteString, kube::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| kube::Error::Service(Box::new(error)))?;
    Ok(ByteString(hex(&bytes).into_bytes()))
}

/// Which key it is, for a volume whose header is told by another fingerprint of it: as the node writes it.
pub fn fingerprint(key: &ByteString, like: &str) -> Option<String> {
    let header: Uuid = like.split(':').next()?.parse().ok()?;
    let digits = std::str::from_utf8(&key.0).ok()?.trim();
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    let digest = Sha256::new().chain_update(header.as_bytes()).chain_update(bytes).finalize();
    Some(format!("{header}:{}", hex(&digest[..16])))
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
        assert_eq!(key.0.len(), 64);
        assert_ne!(key, random_key().unwrap());
        // The same key and header as in the engine's own test.
        let known = ByteString("00ff".repeat(16).into_bytes());
        let like = "00000000-0000-0000-0000-000000000000:whatever";
        let print = fingerprint(&known, like).unwrap();
        let (header, digits) = print.split_once(':').unwrap();
        assert_eq!((header, digits.len()), ("00000000-0000-0000-0000-000000000000", 32));
        assert_eq!(fingerprint(&known, &print), Some(print.clone()));
        assert_ne!(fingerprint(&key, &print), Some(print));
        assert_eq!(fingerprint(&known, "none"), None);
        assert_eq!(fingerprint(&ByteString(b"no key".to_vec()), like), None);
    }
}
