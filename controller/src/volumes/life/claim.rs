//! The claim through which a volume is made.

use super::asked::Front;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::ObjectMeta;
use tierce_crds::names;

/// A claim of its owner's name that the owner controls.
pub(super) fn claim(front: &Front, encrypted: bool) -> PersistentVolumeClaim {
    let (owner, asked) = (&front.owner, &front.asked);
    let labels = [
        (names::LABEL_MANAGED_BY.0.to_owned(), names::LABEL_MANAGED_BY.1.to_owned()),
        (names::LABEL_VOLUME_UID.to_owned(), owner.uid.clone()),
    ];
    let data_source = asked.source.as_ref().map(|source| match &source.snapshot {
        Some(snapshot) => TypedLocalObjectReference {
            api_group: Some(names::SNAPSHOT_GROUP.to_owned()),
            kind: "VolumeSnapshot".to_owned(),
            name: snapshot.clone(),
        },
        None => TypedLocalObjectReference {
            api_group: None,
            kind: "PersistentVolumeClaim".to_owned(),
            name: source.volume.clone().unwrap_or_default(),
        },
    });
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(owner.name.clone()),
            namespace: Some(owner.namespace.clone()),
            labels: Some(labels.into()),
            annotations: Some([(names::ANNOTATION_RAISED_TO.to_owned(), asked.size.clone())].into()),
            // Pods of other namespaces are none that Kubernetes' own protection of a claim knows.
            finalizers: asked.is_shared().then(|| vec![names::FINALIZER_SHARED_DATA.to_owned()]),
            owner_references: Some(vec![owner.reference()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![asked.access.as_str().to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(asked.size.clone()))].into()),
                limits: None,
            }),
            storage_class_name: Some(asked.class(encrypted)),
            data_source,
            volume_mode: Some(asked.volume_mode.as_str().to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
