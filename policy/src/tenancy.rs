//! Whose the bytes of a volume or snapshot are, and what others may do with them. The tenant is a namespace: within one, everybody who
//! may make claims and snapshots there may do it with all that is there.

use thiserror::Error;
use tierce_crds::ClaimReference;

/// A claim that a PersistentVolume of the device names. The PersistentVolume is believed, since administrators and the provisioner alone
/// write those; a claim may name any PersistentVolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// Of the claim.
    pub namespace: &'a str,
    /// Of the claim; `None` while the PersistentVolume is only reserved for one of a name.
    pub uid: Option<&'a str>,
    /// Whether the claim of that UID exists. That of a retained PersistentVolume is gone.
    pub exists: bool,
}

/// Whose the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// Those of this namespace.
    Namespace(String),
    /// No namespace's: a CSI client other than Kubernetes had them made.
    Nobody,
    /// Several namespaces have claims of them, and none was there first for certain.
    Unclear,
}

/// Who wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Whoever may make claims and snapshots in this namespace.
    Namespace(&'a str),
    /// A client of CSI that names none, as no sidecar of the chart does.
    Unnamed,
    /// Tierce itself, in nobody's name: what moves data for backups and transfers reads what its order names.
    System,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A new volume that starts with the bytes.
    Clone,
    /// A snapshot of them.
    Snapshot,
    /// To put the bytes of a snapshot in their place.
    Restore,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// They are somebody else's.
    #[error("data does not cross namespaces")]
    Foreign,
    /// It is not known whose they are.
    #[error(
        "PersistentVolumes of several namespaces speak of the same data, so it belongs to none of them for certain: an administrator has to \
         delete all but one"
    )]
    Unclear,
}

impl Tenant {
    /// Of a device that was made for this claim, and that PersistentVolumes have given to these since: a retained one may have come to
    /// another namespace.
    ///
    /// Claims that exist count before those that are gone. Where they are of several namespaces, it is the one that the device was made
    /// for, if that claim still has it.
    pub fn of_device(made_for: Option<&ClaimReference>, holders: &[Holder<'_>]) -> Self {
        let living: Vec<_> = holders.iter().copied().filter(|holder| holder.exists).collect();
        let counting = if living.is_empty() { holders } else { &living };
        let Some(first) = counting.first() else { return Self::of(made_for) };
        if counting.iter().all(|holder| holder.namespace == first.namespace) {
            return Self::Namespace(first.namespace.to_owned());
        }
        let is_first = |claim: &&ClaimReference| {
            counting
                .iter()
                .any(|holder| holder.namespace == claim.namespace && holder.uid == Some(claim.uid.as_str()))
        };
        made_for.filter(is_first).map_or(Self::Unclear, |claim| Self::Namespace(claim.namespace.clone()))
    }

    /// Of what was made for this claim or VolumeSnapshot, and can't come to anybody else.
    pub fn of(made_for: Option<&ClaimReference>) -> Self {
        made_for.map_or(Self::Nobody, |claim| Self::Namespace(claim.namespace.clone()))
    }

    /// Whether the subject may do it with what is this tenant's.
    pub fn permits(&self, subject: Subject<'_>, deed: Deed) -> Result<(), Refusal> {
        match (subject, self) {
            (Subject::System, _) => Ok(()),
            // The snapshot is nobody's then, and no namespace gets at it.
            (Subject::Unnamed, _) if deed == Deed::Snapshot => Ok(()),
            (_, Self::Unclear) => Err(Refusal::Unclear),
            (Subject::Unnamed, Self::Nobody) => Ok(()),
            (Subject::Namespace(asking), Self::Namespace(its)) if asking == its => Ok(()),
            _ => Err(Refusal::Foreign),
        }
    }
}

impl<'a> Subject<'a> {
    /// Whoever made this claim or VolumeSnapshot.
    pub fn of(request: Option<&'a ClaimReference>) -> Self {
        request.map_or(Self::Unnamed, |request| Self::Namespace(&request.namespace))
    }
}
