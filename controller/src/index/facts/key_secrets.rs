//! What is remembered of Secrets with keys. Never what is in them.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::core::PartialObjectMeta;
use tierce_crds::names;

/// The metadata of a Secret.
pub type SecretObject = PartialObjectMeta<Secret>;

/// A Secret with the key of a volume or snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySecret {
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Whether it goes with an object.
    pub owned: bool,
    /// Name of that object.
    pub owner: Option<String>,
    /// The only node where what it opens was ever made; `None` where that is not sure.
    pub home: Option<String>,
    /// Whether it has our finalizer.
    pub guarded: bool,
    /// Whether it is being deleted.
    pub leaving: bool,
    /// Since when it goes with none, as it says itself.
    pub untied_since: Option<String>,
    /// When the object was made.
    pub created: Option<Timestamp>,
}

impl KeySecret {
    /// The facts of this object; `None` if it holds no key.
    pub fn of(object: SecretObject) -> Option<Self> {
        let mut meta = object.metadata;
        names::of_key_secret(meta.name.as_deref().unwrap_or_default())?;
        let home = home(&meta).map(ToOwned::to_owned);
        Some(Self {
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            owned: meta.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()),
            owner: meta.owner_references.and_then(|owners| owners.into_iter().next()).map(|owner| owner.name),
            home,
            guarded: meta.finalizers.iter().flatten().any(|f| f == names::FINALIZER_KEY),
            leaving: meta.deletion_timestamp.is_some(),
            untied_since: meta.annotations.as_mut().and_then(|all| all.remove(names::ANNOTATION_UNTIED_KEY)),
            created: meta.creation_timestamp.map(|t| t.0),
        })
    }
}

/// An earlier version gives a Secret to another object, maybe on another node, without a word of that; then the word is of the one before.
fn home(meta: &ObjectMeta) -> Option<&str> {
    let [owner] = meta.owner_references.as_deref()? else { return None };
    let (node, uid) = meta.annotations.as_ref()?.get(names::ANNOTATION_KEY_LIES_ON)?.rsplit_once('/')?;
    (uid == owner.uid).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_a_key_belongs_is_the_word_about_its_owner() {
        let home = |word: &str, owners: &[&str]| {
            let owner = |uid| json!({"apiVersion": names::API_VERSION, "kind": "NodeVolume", "name": "pvc-1", "uid": uid});
            let owners: Vec<_> = owners.iter().map(owner).collect();
            let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names::key_secret("pvc-1"),
                "annotations": {names::ANNOTATION_KEY_LIES_ON: word}, "ownerReferences": owners}});
            KeySecret::of(serde_json::from_value(object).unwrap()).unwrap().home
        };
        assert_eq!(home("n1/1", &["1"]).as_deref(), Some("n1"));
        assert_eq!(home("n1/1", &["2"]), None, "an earlier version gave it to another one");
        assert_eq!([home("n1/1", &[]), home("n1/1", &["1", "2"]), home("n1", &["1"])], [None, None, None]);
    }
}
