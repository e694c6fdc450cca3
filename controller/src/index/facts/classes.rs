//! What is remembered of StorageClasses.

use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::collections::BTreeMap;
use tierce_crds::Binding;

/// A `StorageClass`, as it is read.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "storage::StorageClass")]
pub struct ClassObject {
    metadata: ObjectMeta,
    provisioner: String,
    parameters: Option<BTreeMap<String, String>>,
    #[serde(rename = "volumeBindingMode")]
    binding: Option<String>,
    #[serde(rename = "reclaimPolicy")]
    reclaim: Option<String>,
    #[serde(rename = "mountOptions")]
    mount_options: Option<Vec<String>>,
}

/// A `StorageClass` of any driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The driver that makes its volumes.
    pub provisioner: String,
    /// What it says to that driver, to external-provisioner and to the kubelet.
    pub parameters: BTreeMap<String, String>,
    /// When its volumes are made.
    pub binding: Binding,
    /// With what each of its volumes is mounted.
    pub mount_options: Vec<String>,
    /// Whether its volumes stay when their claims go.
    pub retains: bool,
}

impl Class {
    /// The facts of this object.
    pub fn of(object: ClassObject) -> Self {
        let waits = object.binding.as_deref() == Some("WaitForFirstConsumer");
        Self {
            provisioner: object.provisioner,
            parameters: object.parameters.unwrap_or_default(),
            retains: object.reclaim.as_deref() == Some("Retain"),
            mount_options: object.mount_options.unwrap_or_default(),
            binding: if waits { Binding::OnFirstUse } else { Binding::Immediate },
        }
    }
}
