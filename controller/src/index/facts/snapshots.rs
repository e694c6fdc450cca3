//! What is remembered of NodeSnapshots.

use super::devices::bytes;
use super::trimmed::short;

use crate::index::{Namespaced, Placed};
use k8s_openapi::jiff::Timestamp;
use std::ops::Deref;
use tierce_crds::{ClaimReference, Filesystem, NodeSnapshot, VolumeMode, size_made_of};
use tierce_policy::tenancy::Tenant;

/// A `NodeSnapshot`.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// What every object that a node carries out has.
    pub placed: Placed,
    /// Id of the volume that it is taken of.
    pub source: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Which key opens it.
    pub fingerprint: Option<String>,
    /// The VolumeSnapshot that it is taken for.
    pub snapshot: Option<ClaimReference>,
    /// Bytes that the claim of the volume asked for.
    pub asked: Option<u64>,
    /// Bytes of the volume at that moment; `None` until it exists.
    pub size: Option<u64>,
    /// The moment whose data it holds.
    pub taken_at: Option<Timestamp>,
    /// What it holds.
    pub mode: Option<VolumeMode>,
    /// With mode Filesystem.
    pub filesystem: Option<Filesystem>,
}

impl Deref for Snapshot {
    type Target = Placed;

    fn deref(&self) -> &Placed {
        &self.placed
    }
}

impl Snapshot {
    /// The facts of this object.
    pub fn of(object: NodeSnapshot) -> Self {
        let NodeSnapshot { metadata: meta, spec, status } = object;
        let status = status.unwrap_or_default();
        let said = (status.conditions.as_slice(), status.observed_generation);
        Self {
            placed: Placed::of(meta, (spec.node_name, spec.pool), said),
            source: spec.source,
            encrypted: spec.encrypted,
            fingerprint: status.key_fingerprint.map(short),
            snapshot: spec.snapshot,
            asked: spec.asked_bytes.map(bytes),
            size: status.size_bytes.map(bytes),
            taken_at: status.taken_at.map(|t| t.0),
            mode: status.volume_mode,
            filesystem: status.filesystem,
        }
    }

    /// Whether it is there and can be restored.
    pub fn ready(&self) -> bool {
        self.size.is_some() && self.word.as_ref().is_some_and(|word| word.ready)
    }

    /// Bytes that a copy must be asked for at least; `None` until it exists. The volume may have grown between its claim's word and this moment.
    pub fn least_copy(&self) -> Option<u64> {
        let size = self.size?;
        Some(self.asked.filter(|asked| size_made_of(*asked) == size).unwrap_or(size))
    }

    /// Name of the VolumeSnapshot.
    pub(crate) fn name(&self) -> Option<Namespaced> {
        self.snapshot.as_ref().map(|snapshot| Namespaced::new(&snapshot.namespace, &snapshot.name))
    }

    /// Whose its bytes are.
    pub fn tenant(&self) -> Tenant {
        Tenant::of(self.snapshot.as_ref())
    }
}
