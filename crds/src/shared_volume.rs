//! `SharedVolume`: a volume that pods of several nodes and namespaces use at once.

use crate::volume::NEVER_BELOW_WHAT_IT_HAS;
use crate::{Binding, DeletionPolicy, Encryption, Phase, quantity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tierce_filesystem::Filesystem;

/// The shared volume as its user wants it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "SharedVolume",
    plural = "sharedvolumes",
    shortname = "tsvol",
    category = "tierce",
    namespaced,
    status = "SharedVolumeStatus",
    derive = "PartialEq",
    doc = "A volume that pods of several nodes use at once, in its own namespace and in those that it names: a PersistentVolumeClaim of its name in each, made and kept by Tierce. Pods use it with `claimName: <name of the SharedVolume>`.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Size", type_ = "string", json_path = ".spec.size"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a SharedVolume has at most 63 characters"),
    validation = Rule::new(NEVER_BELOW_WHAT_IT_HAS)
        .message("a volume can't shrink below what it has, status.capacity: make a new, smaller SharedVolume and copy the data")
        .field_path(".spec.size")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.filesystem) == has(oldSelf.filesystem) && (!has(self.filesystem) || self.filesystem == oldSelf.filesystem)")
        .message("filesystem is immutable: make a new SharedVolume with the other filesystem and copy the data"),
    validation = Rule::new("has(self.encryption) == has(oldSelf.encryption) && (!has(self.encryption) || self.encryption == oldSelf.encryption)")
        .message("encryption is immutable: make a new SharedVolume with the other setting and copy the data"),
    validation = Rule::new("!has(self.encryption) || !self.encryption.enabled")
        .message("a shared volume can't be encrypted yet: leave encryption out, or use a Volume, which one node at a time uses"),
    validation = Rule::new("!has(self.filesystem) || !has(self.mountOptions) || self.mountOptions.all(o, (!o.startsWith('commit=') || self.filesystem != 'xfs') && (o != 'inode64' || self.filesystem == 'xfs') && (!(o.startsWith('compress=') || o == 'autodefrag') || self.filesystem == 'btrfs'))")
        .message("mountOptions go with a filesystem: commit=N with ext4 and btrfs, inode64 with xfs, compress=… and autodefrag with btrfs; leave out what does not go with spec.filesystem"),
    validation = Rule::new("!has(self.filesystem) || self.filesystem != 'xfs' || !isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('300Mi')) >= 0")
        .message("an xfs volume has at least 300Mi: ask for more, or use ext4"),
    validation = Rule::new("!has(self.filesystem) || self.filesystem != 'btrfs' || !isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('256Mi')) >= 0")
        .message("a btrfs volume has at least 256Mi: ask for more, or use ext4")
)]
pub struct SharedVolumeSpec {
    /// Size in bytes as a Kubernetes quantity, for example `10Gi`. At least 16Mi (xfs 300Mi, btrfs 256Mi), at most 1Pi.
    /// It can grow, also while pods use the volume. It never shrinks below `status.capacity`: a growth that did not happen yet can be taken back.
    #[serde(deserialize_with = "quantity::text_or_number")]
    #[schemars(schema_with = "quantity::schema")]
    #[x_kube(
        validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('16Mi')) >= 0 && quantity(string(self)).compareTo(quantity('1Pi')) <= 0")
            .message("size is a quantity of bytes from 16Mi to 1Pi: a number and one of the units Ki, Mi, Gi, Ti, Pi, k, M, G, T, P, for example 10Gi")
    )]
    pub size: String,

    /// Tier of disk, as the platform team named it (`kubectl get storagepools` lists them), for example `standard-ssd`.
    /// Immutable.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("tier is immutable: make a new SharedVolume in the other tier and copy the data"))]
    pub tier: String,

    /// Filesystem of the volume: `ext4`, `xfs` or `btrfs`. Default: that of the tier's StorageClass, else `ext4`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Filesystem", extend("nullable" = true))]
    pub filesystem: Option<Filesystem>,

    /// Encryption of the data on the disk. A shared volume can't be encrypted yet: `enabled: false` is for a tier whose StoragePools encrypt by
    /// default, in which none is made otherwise. Default: what the StoragePools of the tier say, else none. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// When the volume is made: `OnFirstUse` (with the first pod of its own namespace, on its node; the default) or `Immediate` (at once, on the
    /// node with the most room). Other namespaces have it once it is made. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("binding is immutable: delete the SharedVolume and make it anew"))]
    pub binding: Binding,

    /// What becomes of the data when the SharedVolume is deleted: `Delete` (the default) or `Retain`, which keeps the
    /// PersistentVolume of its own namespace and the data on the node; an Event and the PersistentVolume's annotation say where.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Mount options of the node that has the data, at most 16; a change takes effect at the next mount. Default: none. Allowed: noatime,
    /// nodiratime, relatime, lazytime, sync, dirsync, discard, nodiscard; for ext4 and btrfs also commit=N (seconds, 1 to 300); for xfs inode64;
    /// for btrfs compress=zstd, compress=lzo, compress=zlib, autodefrag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    #[x_kube(
        validation = Rule::new("self.all(o, o in ['noatime','nodiratime','relatime','lazytime','sync','dirsync','discard','nodiscard','inode64','compress=zstd','compress=lzo','compress=zlib','autodefrag'] || o.matches('^commit=([1-9][0-9]?|[12][0-9][0-9]|300)$'))")
            .message("mountOptions allows only noatime, nodiratime, relatime, lazytime, sync, dirsync, discard, nodiscard, commit=N (ext4 and btrfs, 1 to 300), inode64 (xfs), compress=zstd|lzo|zlib and autodefrag (btrfs)")
    )]
    pub mount_options: Vec<String>,

    /// Who else uses the volume, at most 100. Default: nobody but the pods of its own namespace, which always write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(
        validation = Rule::new("self.all(m, self.exists_one(n, n.kind == m.kind && n.name == m.name))")
            .message("members names one namespace twice: leave one of them, with the access that it is to have")
    )]
    pub members: Vec<Member>,
}

/// Who else uses a shared volume.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// What the member is: `Namespace`, whose pods get a PersistentVolumeClaim of the SharedVolume's name.
    #[schemars(length(max = 63))]
    #[x_kube(
        validation = Rule::new("self == 'Namespace'")
            .message("members are of kind Namespace only, yet: name the namespace whose pods are to use the volume")
    )]
    pub kind: String,
    /// Name of the namespace, from 1 to 63 characters.
    #[schemars(length(max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
            .message("a member's name is that of a namespace: lower-case letters, digits and '-', and not empty")
    )]
    pub name: String,
    /// What the member's pods may do: `Read` (the default) or `Write`. Another access takes effect when no pod of that namespace uses the volume.
    #[serde(default)]
    pub access: Access,
}

/// What pods may do with a shared volume.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Access {
    /// They read.
    #[default]
    Read,
    /// They read and write.
    Write,
}

/// The shared volume as it is now.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedVolumeStatus {
    /// The state of the volume in one word, for people; programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Phase", extend("nullable" = true))]
    pub phase: Option<Phase>,
    /// Size that the volume has now, as a quantity of bytes. Absent until the volume exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub capacity: Option<String>,
    /// Space that the volume takes on the node's disk, as a quantity of bytes. Small changes are not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Node that holds the data, and serves it to the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Name of the PersistentVolumeClaim that pods use, in each namespace that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// Name of the PersistentVolume of its own namespace, and of the NodeVolume, that holds the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
    /// Number of the group that owns the files. Every container that uses the volume is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<i64>,
    /// Namespaces that have a PersistentVolumeClaim of it, its own among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub claims: Vec<SharedClaim>,
    /// Nodes that it is served to over the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5000))]
    pub clients: Vec<SharedClient>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the volume can be used. `Reconciling` (work is under way), `Stalled` (somebody has to act) and `NameConflict` (a namespace has
    /// another claim of that name) are present only while they hold, `Served` while other nodes are to use it, `Shared` while a member has not what is
    /// said of it. Each has a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A PersistentVolumeClaim of a shared volume.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedClaim {
    /// Namespace of the claim.
    pub namespace: String,
    /// What the pods of the namespace may do.
    pub access: Access,
    /// Whether the namespace loses the claim as soon as no pod uses it (`true` while it waits for that).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// A node that a shared volume is served to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedClient {
    /// Name of the node.
    pub node: String,
    /// What its pods may do.
    pub access: Access,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::object;
    use serde_json::{Value, json};

    fn with(fields: &Value) -> SharedVolume {
        let mut spec = json!({"size": "1Gi", "tier": "hdd"});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        object("team-data", &spec)
    }

    fn refused(fields: &Value) -> String {
        with(fields).validate_cel().expect_err("must be refused").to_string()
    }

    fn member(name: &str) -> Value {
        json!({"kind": "Namespace", "name": name, "access": "Write"})
    }

    #[test]
    fn a_plain_one_is_accepted_and_a_member_reads_unless_it_says_otherwise() {
        assert!(with(&json!({})).validate_cel().is_ok());
        let two = with(&json!({"members": [{"kind": "Namespace", "name": "a"}, member("b")]}));
        assert!(two.validate_cel().is_ok());
        let access: Vec<_> = two.spec.members.iter().map(|member| member.access).collect();
        assert_eq!(access, [Access::Read, Access::Write]);
    }

    #[test]
    fn a_wrong_member_is_told_what_is_wrong_with_it() {
        for (members, message) in [
            (json!([{"kind": "User", "name": "ada"}]), "of kind Namespace only"),
            (json!([{"kind": "", "name": "ada"}]), "of kind Namespace only"),
            (json!([member("")]), "and not empty"),
            (json!([member("Ada")]), "lower-case letters"),
            (json!([member("a"), member("b"), member("a")]), "one namespace twice"),
            (
                json!([member("a"), {"kind": "Namespace", "name": "a", "access": "Read"}]),
                "one namespace twice",
            ),
        ] {
            let words = refused(&json!({"members": members}));
            assert!(words.contains(message), "{members}: {words}");
        }
    }

    #[test]
    fn encryption_is_refused_and_its_absence_may_be_said() {
        assert!(refused(&json!({"encryption": {"enabled": true}})).contains("can't be encrypted yet"));
        assert!(with(&json!({"encryption": {"enabled": false}})).validate_cel().is_ok());
    }

    #[test]
    fn what_is_immutable_says_what_to_do_instead_and_members_are_not() {
        let old = with(&json!({"filesystem": "xfs", "members": [member("a")]}));
        for (field, value) in [("tier", "ssd"), ("filesystem", "ext4"), ("binding", "Immediate")] {
            let mut new = json!({"filesystem": "xfs"});
            new[field] = json!(value);
            let words = with(&new).validate_cel_update(&old).unwrap_err().to_string();
            assert!(words.contains(&format!("{field} is immutable: ")), "{field}: {words}");
        }
        let without = with(&json!({"filesystem": "xfs"}));
        assert!(without.validate_cel_update(&old).is_ok());
    }
}
