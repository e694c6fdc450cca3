//! What is remembered of NodeVolumes.

use super::trimmed::short;
use crate::index::{Namespaced, NodeWord, Placed};
use std::ops::Deref;
use tierce_crds::{
    ClaimReference, Export, Filesystem, NodeSource, NodeVolume, RestoreOrder, Served, VolumeMode, conditions,
    names,
};

/// Kind of what several namespaces share.
const SHARED_VOLUME: &str = "SharedVolume";

/// A `NodeVolume`.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// What every object that a node carries out has.
    pub placed: Placed,
    /// Bytes asked for.
    pub size: u64,
    /// Filesystem or raw.
    pub mode: VolumeMode,
    /// With mode Filesystem.
    pub filesystem: Option<Filesystem>,
    /// In force from the next mount on.
    pub mount_options: Vec<String>,
    /// The claim it was made for.
    pub claim: Option<ClaimReference>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Which key opens it; `None` until it was mounted once.
    pub fingerprint: Option<String>,
    /// The last rotation of its key that was carried out.
    pub rotated: Option<String>,
    /// The fingerprint that was in force then.
    pub rotated_to: Option<String>,
    /// What it started with.
    pub source: Option<NodeSource>,
    /// The restore that it is to undergo.
    pub restore: Option<RestoreOrder>,
    /// To whom it is to be served, where it is shared.
    pub export: Option<Export>,
    /// The SharedVolume that it was made for, and its UID.
    pub sharer: Option<(Namespaced, String)>,
    /// To whom it is.
    pub served: Option<Served>,
    /// What its node says of serving it.
    pub serving: Option<NodeWord>,
    /// UID of the last restore that it underwent.
    pub restored: Option<String>,
    /// UID of the last restore that was called off.
    pub restore_called_off: Option<String>,
    /// Bytes on the disk; `None` until it exists.
    pub capacity: Option<u64>,
    /// Bytes that it takes on the disk.
    pub taken: Option<u64>,
    /// Whether it was ever handed to a pod.
    pub used: bool,
    /// Largest size that the node would accept, where it refused this one.
    pub largest: Option<u64>,
}

impl Deref for Device {
    type Target = Placed;

    fn deref(&self) -> &Placed {
        &self.placed
    }
}

impl Device {
    /// The facts of this object.
    pub fn of(object: NodeVolume) -> Self {
        let claim = object.claim();
        let NodeVolume { metadata: mut meta, spec, status } = object;
        let status = status.unwrap_or_default();
        let mut annotation = |name| meta.annotations.as_mut().and_then(|all| all.remove(name)).map(short);
        let rotated = annotation(names::ANNOTATION_ROTATED_KEY);
        let rotated_to = annotation(names::ANNOTATION_ROTATED_TO);
        let sharer = spec.volume_ref.filter(|of| of.kind == SHARED_VOLUME && spec.export.is_some());
        let sharer = sharer.and_then(|of| Some((Namespaced::new(of.namespace?, of.name), of.uid)));
        let said = (status.conditions.as_slice(), status.observed_generation);
        Self {
            placed: Placed::of(meta, (spec.node_name, spec.pool), said),
            size: bytes(spec.size_bytes),
            mode: spec.volume_mode,
            filesystem: spec.filesystem,
            mount_options: spec.mount_options,
            claim,
            encrypted: spec.encrypted,
            fingerprint: status.key_fingerprint.map(short),
            rotated,
            rotated_to,
            source: spec.source,
            restore: spec.restore,
            export: spec.export,
            sharer,
            serving: NodeWord::under(conditions::SERVED, &status.conditions),
            served: status.export,
            restored: status.restored.map(short),
            restore_called_off: status.restore_called_off.map(short),
            capacity: status.capacity_bytes.map(bytes),
            taken: status.used_bytes.map(bytes),
            used: status.used,
            largest: status.largest_bytes.map(bytes),
        }
    }

    /// Whether it is there with all that was asked for.
    pub fn ready(&self) -> bool {
        self.word.as_ref().is_some_and(|word| word.ready) && self.capacity.is_some_and(|has| has >= self.size)
    }

    /// Bytes that a copy must be asked for at least; `None` until it exists. An LVM pool may have made more of what was asked for; who asks
    /// for as much again gets as much.
    pub fn least_copy(&self) -> Option<u64> {
        self.capacity.map(|has| has.min(self.size))
    }

    /// What it takes from the pool's promise: the larger of what is asked and what is there.
    pub fn promise(&self) -> u64 {
        self.size.max(self.capacity.unwrap_or(0))
    }

    /// The part of the promise that the node has not carried out yet, as far as we know.
    pub fn pending(&self) -> u64 {
        self.size.saturating_sub(self.capacity.unwrap_or(0))
    }
}

/// Bytes from the wire, where negative numbers mean nothing.
pub(super) fn bytes(wire: i64) -> u64 {
    u64::try_from(wire).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_copy_needs_what_was_asked_for_and_not_what_the_pool_made_of_it() {
        let of = |asked: u64, has: Option<u64>| {
            let object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": {"name": "v"},
                "spec": {"nodeName": "n", "pool": "p", "sizeBytes": asked, "filesystem": "ext4"},
                "status": {"capacityBytes": has}});
            Device::of(serde_json::from_value(object).unwrap()).least_copy()
        };
        assert_eq!(of(10, None), None, "it is being made");
        assert_eq!(of(10, Some(13)), Some(10), "whole extents");
        assert_eq!(of(20, Some(13)), Some(13), "it is growing");
    }

    #[test]
    fn a_device_is_a_claims_in_whichever_form_it_says_so() {
        let of = |form: serde_json::Value| {
            let mut object = json!({"apiVersion": names::API_VERSION, "kind": "NodeVolume", "metadata": {"name": "pvc-1"},
                "spec": {"nodeName": "n", "pool": "p", "sizeBytes": 1, "filesystem": "ext4"}});
            object["spec"].as_object_mut().unwrap().extend(form.as_object().unwrap().clone());
            Device::of(serde_json::from_value(object).unwrap()).claim
        };
        let claim = json!({"namespace": "ada", "name": "data", "uid": "1"});
        let volume_ref = json!({"kind": "Volume", "namespace": "ada", "name": "data", "uid": "v"});
        let older = of(json!({"claim": claim}));
        assert_eq!(older.as_ref().map(|claim| claim.uid.as_str()), Some("1"));
        assert_eq!(of(json!({"volumeRef": volume_ref})), older);
    }

    #[test]
    fn what_a_node_said_of_an_older_spec_is_no_word() {
        let device = |generation: i64| {
            let object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
                "metadata": {"name": "v", "generation": generation, "finalizers": [names::FINALIZER_ON_NODE]},
                "spec": {"nodeName": "n", "pool": "p", "sizeBytes": 10, "filesystem": "ext4"},
                "status": {"capacityBytes": 10, "observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True",
                    "reason": "Created", "message": "", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            Device::of(serde_json::from_value(object).unwrap())
        };
        assert!(device(1).ready() && device(1).on_node);
        assert!(!device(2).ready() && device(2).word.is_none());
    }
}
