//! `NodeVolume`: one device on one node. The controller writes the spec, the node the status.

use crate::{SharedVolume, Volume, VolumeMode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tierce_filesystem::Filesystem;

/// The device that the node is to keep. This object exists before anything is on the disk, and until nothing is left there.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "NodeVolume",
    plural = "nodevolumes",
    shortname = "tnv",
    category = "tierce",
    status = "NodeVolumeStatus",
    derive = "PartialEq",
    doc = "One device on one node. The name is the CSI volume id. Written by the controller (spec) and the node plugin (status); users do not need to write it.",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Size", type_ = "integer", format = "int64", json_path = ".spec.sizeBytes"),
    printcolumn(name = "Used", type_ = "integer", format = "int64", json_path = ".status.usedBytes"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.claim.namespace"),
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.claim.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a NodeVolume has at most 63 characters"),
    validation = Rule::new("self.spec.sizeBytes >= oldSelf.spec.sizeBytes || (has(oldSelf.status) && has(oldSelf.status.capacityBytes) && self.spec.sizeBytes >= oldSelf.status.capacityBytes)")
        .message("a volume can't shrink below what it has, status.capacityBytes")
        .field_path(".spec.sizeBytes"),
    selectable = ".spec.nodeName"
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.filesystem) == has(oldSelf.filesystem) && (!has(self.filesystem) || self.filesystem == oldSelf.filesystem)").message("filesystem is immutable"),
    validation = Rule::new("has(self.claim) == has(oldSelf.claim) && (!has(self.claim) || self.claim == oldSelf.claim)").message("claim is immutable"),
    validation = Rule::new("!has(oldSelf.volumeRef) || (has(self.volumeRef) && self.volumeRef == oldSelf.volumeRef)").message("volumeRef is immutable"),
    validation = Rule::new("!has(self.volumeRef) || !has(self.claim) || self.volumeRef.name == self.claim.name").message("volumeRef and claim, its older form, name two objects"),
    validation = Rule::new("(self.volumeMode == 'Filesystem') == has(self.filesystem)").message("filesystem goes with volumeMode Filesystem"),
    validation = Rule::new("(has(self.encrypted) && self.encrypted) == (has(oldSelf.encrypted) && oldSelf.encrypted)").message("encrypted is immutable"),
    validation = Rule::new("(has(self.allowModeChange) && self.allowModeChange) == (has(oldSelf.allowModeChange) && oldSelf.allowModeChange)").message("allowModeChange is immutable"),
    validation = Rule::new("has(self.export) == has(oldSelf.export)").message("whether a volume is shared is immutable"),
    validation = Rule::new("has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)").message("source is immutable")
)]
pub struct NodeVolumeSpec {
    /// Name of the node. Immutable.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("nodeName is immutable"))]
    pub node_name: String,
    /// Name of the StoragePool. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("pool is immutable"))]
    pub pool: String,
    /// Size of the device in bytes, at least 1. It can grow, and never shrinks below `status.capacityBytes`.
    #[schemars(range(min = 1))]
    pub size_bytes: i64,
    /// What pods get: a filesystem (`Filesystem`, the default) or a raw device (`Block`). Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("volumeMode is immutable"))]
    pub volume_mode: VolumeMode,
    /// The filesystem. Absent with `volumeMode: Block`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Filesystem", extend("nullable" = true))]
    pub filesystem: Option<Filesystem>,
    /// Mount options, at most 16; a change takes effect at the next mount. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    pub mount_options: Vec<String>,
    /// Label of the filesystem: the claim's name, cut to the length that the filesystem can hold. Default: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub label: String,
    /// The object that it was made for: a Volume, or a PersistentVolumeClaim that no Volume controls. Absent for a volume that another client
    /// of CSI made, and where an earlier version of Tierce made it, which has `claim` alone. Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_ref: Option<VolumeReference>,
    /// The PersistentVolumeClaim that it was made for: the older form of `volumeRef`, which earlier versions of Tierce read. Absent where
    /// there is no claim. Immutable.
    #[serde(rename = "claim", default, skip_serializing_if = "Option::is_none")]
    pub older_claim: Option<ClaimReference>,
    /// Whether the data on the disk is encrypted (default `false`), with the keys in the Secret `tierce-key-<name>`. Immutable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// Content that the device starts with, on the same node. Default: none, the device is empty. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<NodeSource>,
    /// Whether the content of `source`, a snapshot, may be read in another mode (default `false`): a raw device as a filesystem, if it carries
    /// just that, or the other way round. An administrator permits it on the VolumeSnapshotContent. Immutable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_mode_change: bool,
    /// A restore in place that is to be carried out once, while no pod uses the volume. Absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreOrder>,
    /// The volume is shared: which nodes may mount it over the network. Absent for a volume of one node. Immutable in being there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
}

/// To whom a shared volume is served.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Names of the nodes that may write, at most 5,000, sorted. The node that has the volume is not among them. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(min = 1, max = 253)))]
    pub nodes: Vec<String>,
    /// Names of the nodes that may only read, none of which is in `nodes`; at most 5,000, sorted. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(min = 1, max = 253)))]
    pub read_only_nodes: Vec<String>,
    /// Number of the group that owns the volume's files.
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub gid: i64,
}

impl Export {
    /// Whether no node is to be served.
    pub fn is_to_nobody(&self) -> bool {
        self.nodes.is_empty() && self.read_only_nodes.is_empty()
    }
}

/// Where a shared volume is served, and to whom.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Served {
    /// IP addresses of the node that has the volume.
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub addresses: Vec<String>,
    /// The TCP port there.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Names of the nodes that may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub nodes: Vec<String>,
    /// Names of the nodes that may only read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000), inner(length(max = 253)))]
    pub read_only_nodes: Vec<String>,
}

/// Content that a device starts with: exactly one of the two.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.snapshot) != has(self.volume)").message("source names either a snapshot or a volume"))]
pub struct NodeSource {
    /// Name of a NodeSnapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub snapshot: Option<String>,
    /// Name of a NodeVolume, whose content at the moment when the new one is made is copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub volume: Option<String>,
}

impl NodeSource {
    /// The name of the one that is there.
    pub fn name(&self) -> Option<&str> {
        self.snapshot.as_deref().or(self.volume.as_deref())
    }
}

/// A restore in place, as the node is told of it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.uid != oldSelf.uid || !(has(oldSelf.cancel) && oldSelf.cancel) || (has(self.cancel) && self.cancel)").message("an order that was called off is not given again: make another VolumeRestore"))]
pub struct RestoreOrder {
    /// UID of the VolumeRestore. `status.restored` shows it when this order is done.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// Name of the NodeSnapshot whose content the volume gets.
    #[schemars(length(min = 1, max = 63))]
    pub snapshot: String,
    /// Name of the NodeSnapshot that will keep what the volume had before.
    #[schemars(length(min = 1, max = 63))]
    pub safety: String,
    /// Whether the order is called off (default `false`). If the node has begun, it completes the restore all the same:
    /// `status.restoreCalledOff` or `status.restored` has the answer. An order that was called off is not given again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// The object that a device was made for.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeReference {
    /// Kind of the object: `Volume`, `SharedVolume` or `PersistentVolumeClaim`. A later version of Tierce may write other kinds.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Namespace of the object. Absent where the kind has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID of the object. It tells the object from a later one of the same name.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

impl VolumeReference {
    /// A claim that stands for itself.
    pub fn of_claim(claim: &ClaimReference) -> Self {
        Self {
            kind: CLAIM.to_owned(),
            namespace: Some(claim.namespace.clone()),
            name: claim.name.clone(),
            uid: claim.uid.clone(),
        }
    }

    /// The claim through which pods use the device of this id. A Volume's and a SharedVolume's has its name; external-provisioner names the device after the
    /// claim's UID.
    fn claim(&self, device: &str) -> Option<ClaimReference> {
        let uid = if self.kind == CLAIM {
            self.uid.as_str()
        } else if self.kind == Volume::kind(&()) || self.kind == SharedVolume::kind(&()) {
            device.strip_prefix(DEVICE_OF_CLAIM).filter(|uid| !uid.is_empty())?
        } else {
            return None;
        };
        let namespace = self.namespace.clone()?;
        Some(ClaimReference { namespace, name: self.name.clone(), uid: uid.to_owned() })
    }
}

const CLAIM: &str = "PersistentVolumeClaim";
/// What external-provisioner puts before the claim's UID.
const DEVICE_OF_CLAIM: &str = "pvc-";

impl NodeVolume {
    /// The claim that it was made for, in whichever form it was given.
    pub fn claim(&self) -> Option<ClaimReference> {
        let device = self.metadata.name.as_deref().unwrap_or_default();
        let named = self.spec.volume_ref.as_ref().and_then(|named| named.claim(device));
        named.or_else(|| self.spec.older_claim.clone())
    }
}

/// An object in a namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReference {
    /// Namespace of the object.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// UID of the object. It tells the object from a later one of the same name.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The device as it is on the node's disk.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeVolumeStatus {
    /// Size of the device in bytes. Absent until the device exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<i64>,
    /// Bytes that the device takes on the disk. Small changes are not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
    /// Whether the device was ever handed to a pod. Until then it holds nobody's data.
    #[serde(default)]
    pub used: bool,
    /// With reason `OutOfSpace`: the largest size in bytes that the pool has room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_bytes: Option<i64>,
    /// Which key opens the device: the id of its LUKS header and a hash of the key. Absent until the first mount, and without encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub key_fingerprint: Option<String>,
    /// UID of the last restore order that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub restored: Option<String>,
    /// UID of the last restore order that was called off: the node has done nothing for it, and will not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub restore_called_off: Option<String>,
    /// Where the volume is served to other nodes, and to whom. Absent while it is served to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Served>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the device exists with the size asked for. `Served`, only while other nodes are to use it: they can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::object;
    use serde_json::{Value, json};

    fn device(fields: &Value) -> NodeVolume {
        let mut spec = json!({"nodeName": "n", "pool": "p", "sizeBytes": 1, "filesystem": "ext4"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        object("pvc-1", &spec)
    }

    fn named(kind: &str, uid: &str) -> Value {
        json!({"kind": kind, "namespace": "ada", "name": "data", "uid": uid})
    }

    #[test]
    fn every_form_leads_to_the_claim() {
        let claim = json!({"namespace": "ada", "name": "data", "uid": "1"});
        let found = ClaimReference { namespace: "ada".into(), name: "data".into(), uid: "1".into() };
        for form in [
            json!({"claim": claim}),
            json!({"volumeRef": named("Volume", "v")}),
            json!({"volumeRef": named("Volume", "v"), "claim": claim}),
            json!({"volumeRef": named("SharedVolume", "v")}),
            json!({"volumeRef": named("PersistentVolumeClaim", "1")}),
            json!({"volumeRef": named("PersistentVolumeClaim", "1"), "claim": claim}),
        ] {
            let device = device(&form);
            assert!(device.validate_cel().is_ok(), "{form}");
            assert_eq!(device.claim(), Some(found.clone()), "{form}");
        }
        let of_a_later_version =
            json!({"volumeRef": {"kind": "ProjectVolume", "name": "models", "uid": "p"}});
        for form in [json!({}), of_a_later_version] {
            assert_eq!(device(&form).claim(), None, "{form}");
        }
    }

    #[test]
    fn who_asked_for_a_device_is_written_once() {
        let (old, other) =
            (json!({"volumeRef": named("Volume", "v")}), json!({"volumeRef": named("Volume", "w")}));
        assert!(device(&old).validate_cel_update(&device(&json!({}))).is_ok());
        assert!(device(&old).validate_cel_update(&device(&old)).is_ok());
        for new in [json!({}), other] {
            let refused = device(&new).validate_cel_update(&device(&old)).unwrap_err().to_string();
            assert!(refused.contains("volumeRef is immutable"), "{new}: {refused}");
        }
        let two = json!({"volumeRef": named("Volume", "v"),
            "claim": {"namespace": "ada", "name": "other", "uid": "1"}});
        let refused = device(&two).validate_cel().unwrap_err().to_string();
        assert!(refused.contains("name two objects"), "{refused}");
    }
}
