//! The PersistentVolumes of a shared volume. Each names the group of the files, so that the kubelet puts every container into it, and can be used
//! from every node that has the node plugin.

use crate::index::{Device, Namespaced};
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;
use tierce_crds::{Access, ClaimReference, names};

/// With this finalizer external-provisioner removes the volume before its object goes.
const FINALIZER_PROVISIONER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// Who made a volume, and so who removes it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// What the class of the SharedVolume's own claim says.
pub(crate) struct Home {
    pub(crate) class: String,
    pub(crate) retains: bool,
    pub(crate) mount_options: Vec<String>,
}

/// The one of the SharedVolume's own namespace, as external-provisioner would have made it under this name, with what makes it shared. It takes
/// one that is there for its own: pods could use its own without the group.
pub(crate) fn persistent_volume_at_home(
    name: &str,
    device: &Device,
    claim: &ClaimReference,
    home: Home,
) -> PersistentVolume {
    let mut volume = shared(name, &device.id, device, claim, Access::Write);
    let annotations = volume.metadata.annotations.get_or_insert_default();
    annotations.insert(PROVISIONED_BY.to_owned(), names::DRIVER.to_owned());
    volume.metadata.finalizers = Some(vec![FINALIZER_PROVISIONER.to_owned()]);
    let spec = volume.spec.get_or_insert_default();
    spec.storage_class_name = Some(home.class);
    spec.persistent_volume_reclaim_policy = Some(if home.retains { "Retain" } else { "Delete" }.to_owned());
    spec.mount_options = (!home.mount_options.is_empty()).then_some(home.mount_options);
    volume
}

/// One of another namespace, which has the handle for its name.
pub(super) fn persistent_volume_elsewhere(
    handle: &str,
    device: &Device,
    claim: &ClaimReference,
    access: Access,
    (of, uid): (&Namespaced, &str),
) -> PersistentVolume {
    let mut volume = shared(handle, handle, device, claim, access);
    volume.metadata.labels = Some(labels(uid));
    let annotations = volume.metadata.annotations.get_or_insert_default();
    annotations.insert(names::ANNOTATION_SHARED_OF.to_owned(), of.to_string());
    let spec = volume.spec.get_or_insert_default();
    spec.storage_class_name = Some(String::new());
    spec.persistent_volume_reclaim_policy = Some("Retain".to_owned());
    volume
}

/// On claim and `PersistentVolume` of another namespace.
pub(super) fn labels(uid: &str) -> BTreeMap<String, String> {
    let (name, us) = names::LABEL_MANAGED_BY;
    [(name.to_owned(), us.to_owned()), (names::LABEL_SHARED_UID.to_owned(), uid.to_owned())].into()
}

fn shared(
    name: &str,
    handle: &str,
    device: &Device,
    claim: &ClaimReference,
    access: Access,
) -> PersistentVolume {
    let gid = device.export.as_ref().map(|export| export.gid.to_string());
    let reads = access == Access::Read;
    let mut attributes: BTreeMap<String, String> = [
        (names::ATTRIBUTE_SHARED.to_owned(), device.id.clone()),
        (names::ATTRIBUTE_NAMESPACE.to_owned(), claim.namespace.clone()),
    ]
    .into();
    if reads {
        attributes.insert(names::ATTRIBUTE_READ_ONLY.to_owned(), "true".to_owned());
    }
    let bytes = device.capacity.unwrap_or(device.size);
    let any_of_ours = NodeSelectorRequirement {
        key: names::TOPOLOGY_NODE.to_owned(),
        operator: "Exists".to_owned(),
        values: None,
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![any_of_ours]), match_fields: None };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: gid.map(|gid| [(names::ANNOTATION_GID.to_owned(), gid)].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: Some(vec!["ReadWriteMany".to_owned()]),
            capacity: Some([("storage".to_owned(), Quantity(bytes.to_string()))].into()),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: Some(claim.namespace.clone()),
                name: Some(claim.name.clone()),
                uid: Some(claim.uid.clone()),
                ..ObjectReference::default()
            }),
            csi: Some(CSIPersistentVolumeSource {
                driver: names::DRIVER.to_owned(),
                volume_handle: handle.to_owned(),
                fs_type: device.filesystem.map(|filesystem| filesystem.to_string()),
                read_only: reads.then_some(true),
                volume_attributes: Some(attributes),
                ..CSIPersistentVolumeSource::default()
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}
