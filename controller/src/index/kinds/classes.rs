//! StorageClasses: what is remembered of each, and whom its changes concern.

use crate::index::topics::{Affects, News};
use crate::index::tracked::Change;
use crate::index::{State, Table, Tracked};
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
}

impl Tracked for ClassObject {
    type Key = String;
    type Facts = Class;

    fn facts(self) -> Option<Class> {
        let waits = self.binding.as_deref() == Some("WaitForFirstConsumer");
        Some(Class {
            provisioner: self.provisioner,
            parameters: self.parameters.unwrap_or_default(),
            binding: if waits { Binding::OnFirstUse } else { Binding::Immediate },
        })
    }

    fn table(state: &mut State) -> &mut Table<String, Class> {
        &mut state.classes
    }

    fn connect(_: &mut State, _: &Change<'_, Self>) -> Affects {
        // Whoever waits to be made may be waiting for it. Classes change about as often as tiers do.
        Affects::Tiers
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Class(change)
    }
}
