//! The claim of a Volume.

use crate::csi::class;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use tierce_crds::{Volume, names};

/// A claim of the Volume's name that the Volume controls.
pub(super) fn claim(volume: &Volume, encrypted: bool) -> PersistentVolumeClaim {
    let meta = volume.meta();
    let owner = OwnerReference {
        api_version: names::API_VERSION.to_owned(),
        kind: Volume::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let labels = [
        ("app.kubernetes.io/managed-by".to_owned(), "tierce".to_owned()),
        (names::LABEL_VOLUME_UID.to_owned(), meta.uid.clone().unwrap_or_default()),
    ];
    let source = volume.spec.source.as_ref();
    let data_source = source.map(|source| match &source.snapshot {
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
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels: Some(labels.into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![volume.spec.access_mode.as_str().to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(volume.spec.size.clone()))].into()),
                limits: None,
            }),
            storage_class_name: Some(class::name(volume, encrypted)),
            data_source,
            volume_mode: Some(volume.spec.volume_mode.as_str().to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
