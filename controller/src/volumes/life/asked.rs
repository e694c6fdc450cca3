//! What somebody asks for, and who: what a life needs to know of the object in front of it, whatever its kind.

use super::told::Status;
use crate::index::{Claim, ClaimOwner, Namespaced};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tierce_crds::conditions::Verdict;
use tierce_crds::{
    AccessMode, Binding, DeletionPolicy, Filesystem, Member, Source, VolumeMode, VolumeReference, names,
    parse_bytes, size_made_of,
};

/// The object that controls the claim. (A person or group that owns it is another thing: `spec.owner`.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) kind: &'static str,
    /// Where its claim is.
    pub(crate) namespace: String,
    /// Its claim has the same name.
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The volume that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A quantity of bytes, as it was written.
    pub(crate) size: String,
    pub(crate) tier: String,
    pub(crate) access: Access,
    pub(crate) volume_mode: VolumeMode,
    pub(crate) filesystem: Option<Filesystem>,
    /// Where nothing is said, the pools of the tier decide.
    pub(crate) encrypted: Option<bool>,
    pub(crate) source: Option<Source>,
    pub(crate) binding: Binding,
    pub(crate) deletion_policy: DeletionPolicy,
    pub(crate) mount_options: Vec<String>,
}

/// Who may use a volume at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// One node, or one pod.
    Single(AccessMode),
    /// Pods of all nodes, in its own namespace and in those of these members.
    Shared(Vec<Member>),
}

impl Access {
    /// As in a PersistentVolumeClaim.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Single(mode) => mode.as_str(),
            Self::Shared(_) => "ReadWriteMany",
        }
    }
}

/// An object that asks for a volume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Front {
    pub(crate) owner: Owner,
    pub(crate) asked: Asked,
    /// Why nothing is made for it.
    pub(crate) unfit: Option<Verdict>,
    /// What it said last.
    pub(crate) told: Status,
    pub(crate) generation: Option<i64>,
    /// Whether it goes only when we let it.
    pub(crate) guarded: bool,
    /// Whether somebody has deleted it.
    pub(crate) leaving: bool,
    /// Value of the annotation with which somebody asks for a new key.
    pub(crate) new_key: Option<String>,
}

impl Owner {
    /// The claim of its name, whoever's that is.
    pub(crate) fn claim(&self) -> Namespaced {
        Namespaced::new(&self.namespace, &self.name)
    }

    /// Whether the claim is its own.
    pub(crate) fn controls(&self, claim: &Claim) -> bool {
        claim.is_controlled_by(self.kind, Some(&self.uid))
    }

    /// Whether this is what controls a claim.
    pub(crate) fn is(&self, controller: &ClaimOwner) -> bool {
        self.kind == controller.kind && self.uid == controller.uid
    }

    /// As a `NodeVolume` says for whom it was made.
    pub(crate) fn as_reference(&self) -> VolumeReference {
        VolumeReference {
            kind: self.kind.to_owned(),
            namespace: Some(self.namespace.clone()),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }

    pub(crate) fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: names::API_VERSION.to_owned(),
            kind: self.kind.to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

impl Asked {
    /// Whether pods of several nodes use it at once.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.access, Access::Shared(_))
    }

    /// The size in bytes; `u64::MAX` where it can't be parsed, which the API server does not admit.
    pub(crate) fn bytes(&self) -> u64 {
        parse_bytes(&self.size).unwrap_or(u64::MAX)
    }

    /// Bytes that a volume of it has.
    pub(crate) fn made_bytes(&self) -> u64 {
        size_made_of(self.bytes())
    }

    /// When the claim is bound: at once for a copy, whose node is that of its source, so that no scheduler picks another.
    pub(crate) fn binding(&self) -> Binding {
        if self.source.is_some() { Binding::Immediate } else { self.binding }
    }

    /// Whether a pod or its source decides the node, rather than the controller.
    pub(crate) fn goes_where_it_is_told(&self) -> bool {
        self.source.is_some() || self.binding == Binding::OnFirstUse
    }

    /// Name of the StorageClass through which it is made.
    pub(crate) fn class(&self, encrypted: bool) -> String {
        names::storage_class(&self.tier, encrypted, self.binding())
    }

    /// Whether the class of this name is the one for encrypted volumes of its tier; `None` where it is neither of the two.
    pub(crate) fn encryption_of(&self, class: &str) -> Option<bool> {
        [true, false].into_iter().find(|encrypted| self.class(*encrypted) == class)
    }
}
