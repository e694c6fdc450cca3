//! What is remembered of PersistentVolumeClaims and PersistentVolumes. They are read through types that have the fields which decisions
//! need only; serde skips the rest.

use super::trimmed::short;

use crate::index::{Awaited, Namespaced};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Deserialize;
use std::collections::BTreeMap;
use tierce_crds::{Access, names, parse_bytes};

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
    storage_class_name: Option<String>,
    data_source: Option<DataSource>,
    #[serde(default)]
    resources: ClaimObjectResources,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataSource {
    #[serde(default)]
    api_group: Option<String>,
    kind: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ClaimObjectResources {
    #[serde(default)]
    requests: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ClaimObjectStatus {
    phase: Option<String>,
    #[serde(default)]
    capacity: BTreeMap<String, Quantity>,
}

/// A `PersistentVolumeClaim`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
    /// The object of ours that controls it.
    pub owner: Option<ClaimOwner>,
    /// UID of the SharedVolume of another namespace that it was made for.
    pub pair_of: Option<String>,
    /// That SharedVolume.
    pub shared_of: Option<Namespaced>,
    /// Where it stands.
    pub phase: ClaimPhase,
    /// The class that is to make its volume; `None` once it has one, when no decision rests on it any more.
    pub class: Option<String>,
    /// What its volume is to start with, until it has one.
    pub(crate) source: Option<Awaited>,
    /// The node where its volume is to be made, until it has one.
    pub selected_node: Option<String>,
    /// The bound `PersistentVolume`.
    pub volume_name: Option<String>,
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes that we made it ask for last; somebody else may have changed them since.
    pub raised_to: Option<u64>,
    /// Bytes that it has; 0 until it has any.
    pub capacity: u64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether Kubernetes keeps it as long as a pod of its namespace uses it. What is being deleted does not come to that any more.
    pub protected: bool,
    /// Whether it goes only when we let it, since it has the data of a SharedVolume.
    pub guarded: bool,
}

/// With this finalizer Kubernetes keeps a claim that pods of its namespace use.
const PROTECTED: &str = "kubernetes.io/pvc-protection";

/// The kinds whose objects may control a claim. Each has a folder in `volumes`.
pub const OWNERS: [&str; 2] = ["Volume", "SharedVolume"];

/// An object that controls a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimOwner {
    /// One of [`OWNERS`].
    pub kind: &'static str,
    /// UID.
    pub uid: String,
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
        let bytes = |quantity: Option<&Quantity>| quantity.and_then(|q| parse_bytes(&q.0).ok()).unwrap_or(0);
        let raised_to =
            object.metadata.annotations.as_ref().and_then(|all| all.get(names::ANNOTATION_RAISED_TO));
        let phase = match object.status.phase.as_deref() {
            Some("Bound") => ClaimPhase::Bound,
            Some("Lost") => ClaimPhase::Lost,
            _ => ClaimPhase::Pending,
        };
        let shared_of =
            object.metadata.annotations.as_ref().and_then(|all| all.get(names::ANNOTATION_SHARED_OF));
        let class = object.spec.storage_class_name.clone();
        let waits = phase == ClaimPhase::Pending && object.spec.volume_name.is_none();
        let named = object.spec.data_source.as_ref().filter(|_| waits);
        let annotations = object.metadata.annotations.as_ref().filter(|_| waits);
        Self {
            source: named.and_then(|source| source.awaited(object.metadata.namespace.as_deref()?)),
            selected_node: annotations
                .and_then(|all| all.get(names::ANNOTATION_SELECTED_NODE))
                .cloned()
                .map(short),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            resource_version: object.metadata.resource_version.clone(),
            owner: Self::controller(&object.metadata),
            pair_of: object
                .metadata
                .labels
                .as_ref()
                .and_then(|all| all.get(names::LABEL_SHARED_UID))
                .cloned(),
            shared_of: shared_of.and_then(|of| of.split_once('/')).map(|(namespace, name)| {
                Namespaced::new(short(namespace.to_owned()), short(name.to_owned()))
            }),
            phase,
            class: class.filter(|_| phase == ClaimPhase::Pending).map(short),
            volume_name: object.spec.volume_name.clone().map(short),
            requested: bytes(object.spec.resources.requests.get("storage")),
            raised_to: raised_to.and_then(|text| parse_bytes(text).ok()),
            capacity: bytes(object.status.capacity.get("storage")),
            deleting: object.metadata.deletion_timestamp.is_some(),
            protected: has_finalizer(&object.metadata, PROTECTED),
            guarded: has_finalizer(&object.metadata, names::FINALIZER_SHARED_DATA),
        }
    }

    /// What controls the object of this metadata, if that is of ours.
    pub fn controller(meta: &ObjectMeta) -> Option<ClaimOwner> {
        controller_among(&OWNERS, meta)
    }

    /// Whether no pod can begin to use it, and none uses it as far as Kubernetes knows.
    pub fn is_over(&self) -> bool {
        self.deleting && !self.protected
    }

    /// Whether the object of this kind and UID controls it.
    pub fn is_controlled_by(&self, kind: &str, uid: Option<&str>) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.kind == kind && Some(owner.uid.as_str()) == uid)
    }

    /// The class that is to make its volume, if it has none and is to get one.
    pub(crate) fn waits_for(&self) -> Option<&String> {
        self.class.as_ref().filter(|_| self.volume_name.is_none() && !self.deleting)
    }

    /// Name of the `PersistentVolume`, and of the `NodeVolume`, that external-provisioner makes for it.
    pub fn device_id(&self) -> String {
        format!("pvc-{}", self.uid)
    }
}

impl DataSource {
    /// A claim or VolumeSnapshot of the namespace; `None` for what other drivers and populators fill.
    fn awaited(&self, namespace: &str) -> Option<Awaited> {
        let key = Namespaced::new(namespace, short(self.name.clone()));
        match (self.api_group.as_deref().unwrap_or_default(), self.kind.as_str()) {
            ("", "PersistentVolumeClaim") => Some(Awaited::Volume(key)),
            (names::SNAPSHOT_GROUP, "VolumeSnapshot") => Some(Awaited::Snapshot(key)),
            _ => None,
        }
    }
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|finalizer| finalizer == name)
}

fn controller_among(kinds: &[&'static str], meta: &ObjectMeta) -> Option<ClaimOwner> {
    let is_ours =
        |owner: &&OwnerReference| owner.controller == Some(true) && names::is_ours(&owner.api_version);
    let owner = meta.owner_references.iter().flatten().find(is_ours)?;
    let kind = kinds.iter().find(|kind| **kind == owner.kind)?;
    Some(ClaimOwner { kind, uid: short(owner.uid.clone()) })
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
    #[serde(default)]
    volume_attributes: BTreeMap<String, String>,
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
    /// The SharedVolume of another namespace that it was made for.
    pub pair: Option<Pair>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What a SharedVolume says on a `PersistentVolume` that it has in another namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The SharedVolume.
    pub of: Namespaced,
    /// Its UID.
    pub uid: String,
    /// What pods may do.
    pub access: Access,
}

impl Pair {
    fn of(meta: &ObjectMeta, attributes: &BTreeMap<String, String>) -> Option<Self> {
        let (namespace, name) =
            meta.annotations.as_ref()?.get(names::ANNOTATION_SHARED_OF)?.split_once('/')?;
        let uid = meta.labels.as_ref()?.get(names::LABEL_SHARED_UID)?;
        let reads = attributes.get(names::ATTRIBUTE_READ_ONLY).is_some_and(|value| value == "true");
        let access = if reads { Access::Read } else { Access::Write };
        Some(Self { of: Namespaced::new(namespace, name), uid: uid.clone(), access })
    }
}

impl PersistentVolume {
    /// The facts of this object; `None` if another driver made it.
    pub fn of(object: PersistentVolumeObject) -> Option<Self> {
        let csi = object.spec.csi.filter(|csi| csi.driver == names::DRIVER)?;
        let pair = Pair::of(&object.metadata, &csi.volume_attributes);
        let deleting = object.metadata.deletion_timestamp.is_some();
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        let claim_uid = object.spec.claim_ref.as_ref().and_then(|claim| claim.uid.clone());
        Some(Self {
            claim_uid,
            uid: object.metadata.uid.unwrap_or_default(),
            handle: csi.volume_handle,
            claim: object.spec.claim_ref.map(|claim| Namespaced::new(claim.namespace, claim.name)),
            retain: object.spec.persistent_volume_reclaim_policy.as_deref() == Some("Retain"),
            retained_from: annotations.remove(names::ANNOTATION_RETAINED_FROM),
            pair,
            deleting,
        })
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
        let mut of_a_later_version = ours.clone();
        of_a_later_version["apiVersion"] = json!("storage.tierce.dev/v1");
        assert_eq!(claim(of_a_later_version).owner, Some(ClaimOwner { kind: "Volume", uid: "v".into() }));
        let facts = claim(ours.clone());
        assert_eq!(
            (facts.owner, facts.requested, facts.phase),
            (Some(ClaimOwner { kind: "Volume", uid: "v".into() }), 2 << 30, ClaimPhase::Bound)
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
    fn any_kind_of_the_list_may_control_a_claim() {
        let meta = |kind: &str| -> ObjectMeta {
            let owner = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": kind, "name": "a", "uid": "v", "controller": true});
            serde_json::from_value(json!({"ownerReferences": [owner]})).unwrap()
        };
        let kind = |kind: &str| controller_among(&["Volume", "Lent"], &meta(kind)).map(|owner| owner.kind);
        assert_eq!([kind("Volume"), kind("Lent"), kind("Pod")], [Some("Volume"), Some("Lent"), None]);
    }

    #[test]
    fn only_our_persistent_volumes_are_kept() {
        let pv = |driver: &str| {
            let object = json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": driver, "volumeHandle": "h"},
                "claimRef": {"namespace": "n", "name": "a", "uid": "1"}, "persistentVolumeReclaimPolicy": "Retain"}});
            PersistentVolume::of(serde_json::from_value(object).unwrap())
        };
        assert_eq!(pv("other"), None);
        assert!(pv(names::DRIVER).is_some_and(|pv| pv.retain && pv.claim == Some(Namespaced::new("n", "a"))));
    }
}
