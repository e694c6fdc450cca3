//! What is remembered of each object: the few fields that decisions need, so that ten thousand volumes fit in a few
//! megabytes. Objects of other APIs are read through types that have those fields only; serde skips the rest.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use tierce_crds::{
    ClaimReference, Filesystem, NodeSource, NodeVolume, RestoreOrder, VolumeMode, conditions, names,
    parse_bytes,
};

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

    /// Of an object's metadata; empty where the metadata is.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A `NodeVolume`.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Name: the CSI volume id.
    pub id: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Node.
    pub node: String,
    /// `StoragePool`.
    pub pool: String,
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
    /// What it started with.
    pub source: Option<NodeSource>,
    /// The restore that it is to undergo.
    pub restore: Option<RestoreOrder>,
    /// UID of the last restore that it underwent.
    pub restored: Option<String>,
    /// UID of the last restore that was called off.
    pub restore_called_off: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it was told to go.
    pub deleting_since: Option<Timestamp>,
    /// Whether the node may still have something of it.
    pub on_node: bool,
    /// Bytes on the disk; `None` until it exists.
    pub capacity: Option<u64>,
    /// Bytes that it takes on the disk.
    pub taken: Option<u64>,
    /// Whether it was ever handed to a pod.
    pub used: bool,
    /// Largest size that the node would accept, where it refused this one.
    pub largest: Option<u64>,
    /// What the node says of the present spec; `None` while it says nothing yet.
    pub word: Option<NodeWord>,
}

/// The `Ready` condition of a `NodeVolume` or `NodeSnapshot`, of the present generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeWord {
    /// Whether it is as asked.
    pub ready: bool,
    /// Constant of [`conditions::node_volume`] or [`conditions::node_snapshot`].
    pub reason: String,
    /// For people.
    pub message: String,
}

impl NodeWord {
    /// What these conditions say, if they speak of this generation of the spec.
    pub(super) fn of(
        conditions: &[Condition],
        observed: Option<i64>,
        generation: Option<i64>,
    ) -> Option<Self> {
        let ready = conditions::find(conditions, conditions::READY)?;
        (ready.observed_generation.or(observed) == generation).then(|| Self {
            ready: ready.status == "True",
            reason: ready.reason.clone(),
            message: ready.message.clone(),
        })
    }
}

impl Device {
    /// The facts of this object.
    pub fn of(object: NodeVolume) -> Self {
        let NodeVolume { metadata: meta, spec, status } = object;
        let status = status.unwrap_or_default();
        let word = NodeWord::of(&status.conditions, status.observed_generation, meta.generation);
        Self {
            id: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            node: spec.node_name,
            pool: spec.pool,
            size: bytes(spec.size_bytes),
            mode: spec.volume_mode,
            filesystem: spec.filesystem,
            mount_options: spec.mount_options,
            claim: spec.claim,
            encrypted: spec.encrypted,
            fingerprint: status.key_fingerprint,
            rotated: meta.annotations.and_then(|mut all| all.remove(names::ANNOTATION_ROTATED_KEY)),
            source: spec.source,
            restore: spec.restore,
            restored: status.restored,
            restore_called_off: status.restore_called_off,
            created: meta.creation_timestamp.map(|t| t.0),
            deleting_since: meta.deletion_timestamp.map(|t| t.0),
            on_node: meta.finalizers.iter().flatten().any(|f| f == names::FINALIZER_ON_NODE),
            capacity: status.capacity_bytes.map(bytes),
            taken: status.used_bytes.map(bytes),
            used: status.used,
            largest: status.largest_bytes.map(bytes),
            word,
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

/// A `PersistentVolumeClaim`, as it is read.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "core::PersistentVolumeClaim")]
pub struct ClaimObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ClaimObjectSpec,
    #[serde(default)]
    status: ClaimObjectStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimObjectSpec {
    volume_name: Option<String>,
    #[serde(default)]
    resources: ClaimObjectResources,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ClaimObjectResources {
    #[serde(default)]
    requests: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ClaimObjectStatus {
    phase: Option<String>,
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
    /// UID of the Volume that controls it.
    pub owner: Option<String>,
    /// Where it stands.
    pub phase: ClaimPhase,
    /// The bound `PersistentVolume`.
    pub volume_name: Option<String>,
    /// Bytes asked for.
    pub requested: u64,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// `status.phase` of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimPhase {
    /// No volume yet.
    Pending,
    /// Has its volume.
    Bound,
    /// Its volume is gone.
    Lost,
}

impl Claim {
    /// The facts of this object.
    pub fn of(object: &ClaimObject) -> Self {
        let request = object.spec.resources.requests.get("storage");
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            resource_version: object.metadata.resource_version.clone(),
            owner: Self::owner(&object.metadata),
            phase: match object.status.phase.as_deref() {
                Some("Bound") => ClaimPhase::Bound,
                Some("Lost") => ClaimPhase::Lost,
                _ => ClaimPhase::Pending,
            },
            volume_name: object.spec.volume_name.clone(),
            requested: request.and_then(|q| parse_bytes(&q.0).ok()).unwrap_or(0),
            deleting: object.metadata.deletion_timestamp.is_some(),
        }
    }

    /// UID of the Volume that controls the object of this metadata.
    pub fn owner(meta: &ObjectMeta) -> Option<String> {
        let ours = |owner: &&OwnerReference| {
            owner.controller == Some(true)
                && owner.kind == "Volume"
                && owner.api_version.split('/').next() == Some(names::GROUP)
        };
        meta.owner_references.iter().flatten().find(ours).map(|owner| owner.uid.clone())
    }

    /// Name of the `PersistentVolume`, and of the `NodeVolume`, that external-provisioner makes for it.
    pub fn device_id(&self) -> String {
        format!("pvc-{}", self.uid)
    }
}

/// A `PersistentVolume`, as it is read.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "core::PersistentVolume")]
pub struct PersistentVolumeObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PersistentVolumeObjectSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PersistentVolumeObjectSpec {
    csi: Option<CsiSource>,
    claim_ref: Option<ClaimRef>,
    persistent_volume_reclaim_policy: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CsiSource {
    driver: String,
    volume_handle: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ClaimRef {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    uid: Option<String>,
}

/// A `PersistentVolume` of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentVolume {
    /// UID.
    pub uid: String,
    /// CSI volume id.
    pub handle: String,
    /// The claim that it is or was bound to.
    pub claim: Option<Namespaced>,
    /// UID of that claim; `None` while it is only reserved for one of that name.
    pub claim_uid: Option<String>,
    /// Whether it stays when its claim goes.
    pub retain: bool,
    /// Annotation that says where its data is, if we wrote one.
    pub retained_from: Option<String>,
}

impl PersistentVolume {
    /// The facts of this object; `None` if another driver made it.
    pub fn of(object: PersistentVolumeObject) -> Option<Self> {
        let csi = object.spec.csi.filter(|csi| csi.driver == names::DRIVER)?;
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        let claim_uid = object.spec.claim_ref.as_ref().and_then(|claim| claim.uid.clone());
        Some(Self {
            claim_uid,
            uid: object.metadata.uid.unwrap_or_default(),
            handle: csi.volume_handle,
            claim: object.spec.claim_ref.map(|claim| Namespaced::new(claim.namespace, claim.name)),
            retain: object.spec.persistent_volume_reclaim_policy.as_deref() == Some("Retain"),
            retained_from: annotations.remove(names::ANNOTATION_RETAINED_FROM),
        })
    }
}

/// A pod, as it is read.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "core::Pod")]
pub struct PodObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodObjectSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodObjectSpec {
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    volumes: Vec<PodVolume>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodVolume {
    name: String,
    persistent_volume_claim: Option<PodClaim>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodClaim {
    claim_name: String,
}

/// A pod that has a node, has not ended, and uses claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Names of the claims, all in the pod's namespace.
    pub claims: Vec<String>,
}

impl Pod {
    /// The facts of this object; `None` for a pod that holds no claim: without one, or not on a node yet (as Kubernetes'
    /// own protection of claims in use has it). Pods that have ended don't get here: the watch leaves them out.
    pub fn of(object: &PodObject) -> Option<Self> {
        object.spec.node_name.as_ref().filter(|node| !node.is_empty())?;
        let pod_name = object.metadata.name.as_deref().unwrap_or_default();
        let claims: Vec<_> =
            object.spec.volumes.iter().filter_map(|volume| claim_of(pod_name, volume)).collect();
        (!claims.is_empty()).then_some(Self { claims })
    }
}

fn claim_of(pod_name: &str, volume: &PodVolume) -> Option<String> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        // A generic ephemeral volume: Kubernetes names its claim so.
        (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
        (None, None) => None,
    }
}

/// A node, as it is read.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "core::Node")]
pub struct NodeObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeObjectSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct NodeObjectSpec {
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Taint {
    key: String,
}

/// What Kubernetes puts on a node that it does not hear of, or that cannot run pods.
const NOT_WORKING: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Labels, for `StoragePool.spec.nodeSelector`.
    pub labels: BTreeMap<String, String>,
    /// Whether Kubernetes hears of it and finds it ready.
    pub works: bool,
}

impl Node {
    /// The facts of this object.
    pub fn of(object: NodeObject) -> Self {
        let works = !object.spec.taints.iter().any(|taint| NOT_WORKING.contains(&taint.key.as_str()));
        Self { labels: object.metadata.labels.unwrap_or_default(), works }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_is_ours_only_through_its_controlling_owner() {
        let claim = |owner: serde_json::Value| {
            let object: ClaimObject = serde_json::from_value(json!({
                "metadata": {"name": "a", "namespace": "n", "uid": "1", "ownerReferences": [owner]},
                "spec": {"resources": {"requests": {"storage": "2Gi"}}, "storageClassName": "x"},
                "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}
            }))
            .unwrap();
            Claim::of(&object)
        };
        let ours = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "name": "a", "uid": "v", "controller": true});
        let facts = claim(ours.clone());
        assert_eq!(
            (facts.owner.as_deref(), facts.requested, facts.phase),
            (Some("v"), 2 << 30, ClaimPhase::Bound)
        );
        for (field, other) in
            [("controller", json!(false)), ("kind", json!("Pod")), ("apiVersion", json!("v1"))]
        {
            let mut owner = ours.clone();
            owner[field] = other;
            assert_eq!(claim(owner).owner, None, "{field}");
        }
    }

    #[test]
    fn only_our_persistent_volumes_and_only_pods_that_hold_claims_are_kept() {
        let pv = |driver: &str| {
            let object = json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": driver, "volumeHandle": "h"},
                "claimRef": {"namespace": "n", "name": "a", "uid": "1"}, "persistentVolumeReclaimPolicy": "Retain"}});
            PersistentVolume::of(serde_json::from_value(object).unwrap())
        };
        assert_eq!(pv("other"), None);
        assert!(pv(names::DRIVER).is_some_and(|pv| pv.retain && pv.claim == Some(Namespaced::new("n", "a"))));
        let pod = |spec: serde_json::Value| {
            Pod::of(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
        };
        let volumes = json!([{"name": "x", "emptyDir": {}}, {"name": "y", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "z", "ephemeral": {"volumeClaimTemplate": {}}}]);
        let claims = pod(json!({"nodeName": "n1", "volumes": volumes})).unwrap().claims;
        assert_eq!(claims, ["c", "p-z"]);
        assert_eq!(pod(json!({"volumes": volumes})), None);
        assert_eq!(pod(json!({"nodeName": "n1", "volumes": [{"name": "x", "emptyDir": {}}]})), None);
    }

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
