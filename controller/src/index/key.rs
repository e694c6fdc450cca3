//! What identifies the objects of a kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespaced {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Namespaced {
    /// Of these two.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What identifies an object of a kind.
pub trait Key: Clone + Eq + Hash {
    /// In an object's metadata; empty where the metadata is.
    fn of(meta: &ObjectMeta) -> Self;
}

impl Key for String {
    fn of(meta: &ObjectMeta) -> Self {
        meta.name.clone().unwrap_or_default()
    }
}

impl Key for Namespaced {
    fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

/// Something that others wait for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Awaited {
    /// What is behind the claim, or the Volume, of this name.
    Volume(Namespaced),
    /// What was taken for the VolumeSnapshot of this name.
    Snapshot(Namespaced),
}

/// Namespaces for which the answer of quotas may be another one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Touched {
    /// These, at most two.
    These(Vec<String>),
    /// Any.
    Each,
}

impl Touched {
    /// Those of the keys that are in these namespaces.
    pub(crate) fn of(&self, keys: &BTreeSet<Namespaced>) -> Vec<Namespaced> {
        let Self::These(namespaces) = self else { return keys.iter().cloned().collect() };
        let each = namespaces.iter().flat_map(|namespace| {
            let from = keys.range(Namespaced::new(namespace.as_str(), "")..);
            from.take_while(move |key| key.namespace == *namespace)
        });
        each.cloned().collect()
    }
}
