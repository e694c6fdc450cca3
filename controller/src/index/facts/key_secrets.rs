//! What is remembered of Secrets with keys. Never what is in them.

use k8s_openapi::api::core::v1::Secret;
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
        Some(Self {
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            owned: meta.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()),
            owner: meta.owner_references.and_then(|owners| owners.into_iter().next()).map(|owner| owner.name),
            guarded: meta.finalizers.iter().flatten().any(|f| f == names::FINALIZER_KEY),
            leaving: meta.deletion_timestamp.is_some(),
            untied_since: meta.annotations.as_mut().and_then(|all| all.remove(names::ANNOTATION_UNTIED_KEY)),
            created: meta.creation_timestamp.map(|t| t.0),
        })
    }
}
