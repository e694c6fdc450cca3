//! `Volume`: a person's volume.

use crate::{Owner, quantity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tierce_filesystem::Filesystem;

/// A growth can be taken back until it has happened. What was asked for first is taken again as well: sizes are rounded up, to a mebibyte or to an
/// extent of LVM, which has 4 MiB unless the group says otherwise.
pub(crate) const NEVER_BELOW_WHAT_IT_HAS: &str = "!has(oldSelf.status) || !has(oldSelf.status.capacity) \
    || !isQuantity(string(self.spec.size)) || !isQuantity(string(oldSelf.spec.size)) || !isQuantity(oldSelf.status.capacity) \
    || quantity(string(self.spec.size)).compareTo(quantity(string(oldSelf.spec.size))) >= 0 \
    || quantity(string(self.spec.size)).add(quantity('4Mi')).compareTo(quantity(oldSelf.status.capacity)) >= 0";

/// The volume as its user wants it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "storage.tierce.dev",
    version = "v1alpha1",
    kind = "Volume",
    plural = "volumes",
    shortname = "tvol",
    category = "tierce",
    namespaced,
    status = "VolumeStatus",
    derive = "PartialEq",
    doc = "A personal volume: a PersistentVolumeClaim of the same name in the same namespace, made and kept by Tierce. Pods use it with `claimName: <name of the Volume>`.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Size", type_ = "string", json_path = ".spec.size"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a Volume has at most 63 characters"),
    validation = Rule::new(NEVER_BELOW_WHAT_IT_HAS)
        .message("a volume can't shrink below what it has, status.capacity: make a new, smaller Volume and copy the data")
        .field_path(".spec.size")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.filesystem) == has(oldSelf.filesystem) && (!has(self.filesystem) || self.filesystem == oldSelf.filesystem)")
        .message("filesystem is immutable: make a new Volume with the other filesystem and copy the data"),
    validation = Rule::new("has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source)")
        .message("source is immutable: make a new Volume; to bring an old state back into this one, make a VolumeRestore"),
    validation = Rule::new("has(self.encryption) == has(oldSelf.encryption) && (!has(self.encryption) || self.encryption == oldSelf.encryption)")
        .message("encryption is immutable: make a new Volume with the other setting and copy the data"),
    validation = Rule::new("!has(self.owner)")
        .message("owner can't be set yet: nothing enforces it, so it would protect nobody; leave it out, and let the rights in the namespace decide who uses the volume"),
    validation = Rule::new("!has(self.filesystem) || self.volumeMode != 'Block'")
        .message("filesystem has no meaning with volumeMode Block: leave it out"),
    validation = Rule::new("!has(self.mountOptions) || self.mountOptions.size() == 0 || self.volumeMode != 'Block'")
        .message("mountOptions have no meaning with volumeMode Block: leave them out"),
    validation = Rule::new("!has(self.filesystem) || !has(self.mountOptions) || self.mountOptions.all(o, (!o.startsWith('commit=') || self.filesystem != 'xfs') && (o != 'inode64' || self.filesystem == 'xfs') && (!(o.startsWith('compress=') || o == 'autodefrag') || self.filesystem == 'btrfs'))")
        .message("mountOptions go with a filesystem: commit=N with ext4 and btrfs, inode64 with xfs, compress=… and autodefrag with btrfs; leave out what does not go with spec.filesystem"),
    validation = Rule::new("!has(self.filesystem) || self.filesystem != 'xfs' || !isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('300Mi')) >= 0")
        .message("an xfs volume has at least 300Mi: ask for more, or use ext4"),
    validation = Rule::new("!has(self.filesystem) || self.filesystem != 'btrfs' || !isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('256Mi')) >= 0")
        .message("a btrfs volume has at least 256Mi: ask for more, or use ext4")
)]
pub struct VolumeSpec {
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
    #[x_kube(validation = Rule::new("self == oldSelf").message("tier is immutable: make a new Volume in the other tier and copy the data"))]
    pub tier: String,

    /// The person to whom the volume belongs. It can't be set yet, since nothing enforces it: leave it out (the default). Until then
    /// anyone who may create pods in the namespace can use the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,

    /// Who may mount the volume at a time: `ReadWriteOnce` (all pods of one node; the default) or `ReadWriteOncePod` (one pod). Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("accessMode is immutable: make a new Volume with the other mode and copy the data"))]
    pub access_mode: AccessMode,

    /// What a pod gets: a mounted filesystem (`Filesystem`, the default), or a raw device (`Block`), as databases and virtual machines use it.
    /// Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("volumeMode is immutable: make a new Volume with the other mode and copy the data"))]
    pub volume_mode: VolumeMode,

    /// Filesystem of the volume: `ext4`, `xfs` or `btrfs`. Default: that of the tier's StorageClass, or of `source`, else `ext4`. Immutable. Not
    /// allowed with `volumeMode: Block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Filesystem", extend("nullable" = true))]
    pub filesystem: Option<Filesystem>,

    /// Encryption of the data on the disk (LUKS2, with a key for each volume). Default: what the StoragePools of the tier say, else none. The
    /// annotation `storage.tierce.dev/rotate-key` with any new value gives the volume a new key at its next mount. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// Content that the volume starts with. Default: none, the volume is empty. The new volume lies on the node of its source, has its
    /// filesystem and at least its size, and is made at once whatever `binding` says, since its node is known. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,

    /// When the volume is made: `OnFirstUse` (with the first pod, on its node; the default) or `Immediate` (at once, on the node with the most
    /// room). Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("binding is immutable: delete the Volume and make it anew"))]
    pub binding: Binding,

    /// What becomes of the data when the Volume is deleted: `Delete` (the default) or `Retain`, which keeps the
    /// PersistentVolume and the data on the node; an Event and the PersistentVolume's annotation say where.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Mount options, at most 16; a change takes effect at the next mount. Default: none. Allowed: noatime, nodiratime, relatime, lazytime,
    /// sync, dirsync, discard, nodiscard; for ext4 and btrfs also commit=N (seconds, 1 to 300); for xfs inode64; for btrfs compress=zstd,
    /// compress=lzo, compress=zlib, autodefrag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    #[x_kube(
        validation = Rule::new("self.all(o, o in ['noatime','nodiratime','relatime','lazytime','sync','dirsync','discard','nodiscard','inode64','compress=zstd','compress=lzo','compress=zlib','autodefrag'] || o.matches('^commit=([1-9][0-9]?|[12][0-9][0-9]|300)$'))")
            .message("mountOptions allows only noatime, nodiratime, relatime, lazytime, sync, dirsync, discard, nodiscard, commit=N (ext4 and btrfs, 1 to 300), inode64 (xfs), compress=zstd|lzo|zlib and autodefrag (btrfs)")
    )]
    pub mount_options: Vec<String>,
}

/// Encryption of the data on the disk.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// `true`: the volume is encrypted, whatever the default of its tier. `false`: it is not.
    pub enabled: bool,
}

/// Content that a volume starts with: exactly one of the two, in the namespace of the Volume.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, x_kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.snapshot) != has(self.volume)").message("source names either a snapshot or a volume, not both"))]
pub struct Source {
    /// Name of a VolumeSnapshot. At most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub snapshot: Option<String>,
    /// Name of another Volume, whose content at the moment when the new one is made is copied. At most 63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub volume: Option<String>,
}

/// The volume as it is now.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
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
    /// Node that holds the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Name of the PersistentVolumeClaim that pods use, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// Name of the PersistentVolume, and of the NodeVolume, that holds the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the volume can be used. `Reconciling` (work is under way) and `Stalled` (somebody has to act) are present only while they
    /// hold, `KeyRotation` only after a new key was asked for. Each has a reason and a message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Who may mount a volume at a time.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum AccessMode {
    /// All pods of one node.
    #[default]
    ReadWriteOnce,
    /// One pod at a time.
    ReadWriteOncePod,
}

/// What a pod gets.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum VolumeMode {
    /// A mounted filesystem.
    #[default]
    Filesystem,
    /// A raw block device.
    Block,
}

/// When a volume is made.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Binding {
    /// The volume is made with the first pod, on its node.
    #[default]
    OnFirstUse,
    /// The volume is made at once, on the node with the most room.
    Immediate,
}

/// What becomes of the data when the Volume is deleted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum DeletionPolicy {
    /// The data is deleted with the Volume.
    #[default]
    Delete,
    /// The data stays, with its PersistentVolume.
    Retain,
}

/// The state of a volume in one word, for people.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// The volume does not exist yet, and nothing is wrong.
    Pending,
    /// The volume can be used.
    Ready,
    /// The volume is being grown, and can be used with its old size.
    Growing,
    /// Something is wrong; the `Ready` condition says what and what to do.
    Failed,
    /// The node or the PersistentVolume is gone.
    Lost,
    /// The volume is being deleted.
    Deleting,
}

impl VolumeSpec {
    /// Whether a pod or its source decides the node, rather than the controller.
    pub const fn goes_where_it_is_told(&self) -> bool {
        matches!(self.binding, Binding::OnFirstUse) || self.source.is_some()
    }
}

impl AccessMode {
    /// As in a PersistentVolumeClaim.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

impl VolumeMode {
    /// As in a PersistentVolumeClaim.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "Filesystem",
            Self::Block => "Block",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::object;
    use serde_json::{Value, json};

    fn volume(spec: &Value) -> Volume {
        object("my-data", spec)
    }

    fn refused(spec: &Value) -> String {
        volume(spec).validate_cel().expect_err("must be refused").to_string()
    }

    fn update_refused(old: &Value, new: &Value) -> String {
        volume(new).validate_cel_update(&volume(old)).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_plain_volume_is_accepted_with_its_defaults() {
        let plain = volume(&json!({"size": "10Gi", "tier": "standard-ssd"}));
        assert!(plain.validate_cel().is_ok());
        assert_eq!(plain.spec.access_mode, AccessMode::ReadWriteOnce);
        assert_eq!(plain.spec.binding, Binding::OnFirstUse);
        assert_eq!(plain.spec.deletion_policy, DeletionPolicy::Delete);
    }

    #[test]
    fn a_size_outside_its_bounds_names_unit_and_bounds() {
        for size in ["0", "-1Gi", "10Gb", "2Pi", "lots"] {
            let message = refused(&json!({"size": size, "tier": "hdd"}));
            assert!(
                message.contains("from 16Mi to 1Pi") && message.contains("for example 10Gi"),
                "{size}: {message}"
            );
        }
    }

    #[test]
    fn a_growth_is_taken_back_until_it_has_happened_and_nothing_shrinks_below_what_it_has() {
        let with = |size: &Value, has: Option<&str>| {
            let status =
                has.map(|has| VolumeStatus { capacity: Some(has.to_owned()), ..VolumeStatus::default() });
            Volume { status, ..volume(&json!({"size": size, "tier": "hdd"})) }
        };
        for (from, has, to, taken) in [
            ("10Gi", Some("10Gi"), json!("11Gi"), true),
            ("10Gi", Some("10Gi"), json!("9Gi"), false),
            ("900Ti", Some("64Mi"), json!("128Mi"), true),
            ("900Ti", Some("64Mi"), json!("64Mi"), true),
            ("900Ti", Some("64Mi"), json!(64 << 20), true),
            ("900Ti", Some("64Mi"), json!("32Mi"), false),
            ("900Ti", Some("64Mi"), json!(32 << 20), false),
            // 96 MiB, and an extent of LVM.
            ("1G", Some("96Mi"), json!("100M"), true),
            ("1G", Some("72Mi"), json!("70Mi"), true),
            // Nothing was made.
            ("900Ti", None, json!("16Mi"), true),
            // Somebody made the claim larger than the Volume says.
            ("64Mi", Some("128Mi"), json!("64Mi"), true),
            ("64Mi", Some("128Mi"), json!("96Mi"), true),
        ] {
            let verdict = with(&to, has).validate_cel_update(&with(&json!(from), has));
            assert_eq!(verdict.is_ok(), taken, "{from} to {to} of {has:?}: {verdict:?}");
            if let Err(error) = verdict {
                assert!(error.to_string().contains("a volume can't shrink below what it has"), "{error}");
            }
        }
    }

    #[test]
    fn a_bare_number_is_a_size_in_bytes() {
        let asked = volume(&json!({"size": 8_589_934_592_u64, "tier": "hdd"}));
        assert_eq!(asked.spec.size, "8589934592");
        let rules = |size: Value| {
            let object = json!({"size": size, "tier": "hdd"});
            kube::core::cel::validate_cel_schema::<VolumeSpec>(&object, None)
        };
        assert!(rules(json!(8_589_934_592_u64)).is_ok());
        let refused = rules(json!(5)).unwrap_err();
        assert!(format!("{refused:?}").contains("for example 10Gi"), "{refused:?}");
    }

    #[test]
    fn what_is_immutable_says_what_to_do_instead() {
        let old = json!({"size": "1Gi", "tier": "hdd", "filesystem": "xfs"});
        for (field, value) in [
            ("tier", "ssd"),
            ("accessMode", "ReadWriteOncePod"),
            ("filesystem", "ext4"),
            ("binding", "Immediate"),
        ] {
            let mut new = old.clone();
            new[field] = json!(value);
            let message = update_refused(&old, &new);
            assert!(message.contains(&format!("{field} is immutable: ")), "{field}: {message}");
        }
        let raw = json!({"size": "1Gi", "tier": "hdd", "volumeMode": "Block"});
        let message = update_refused(&json!({"size": "1Gi", "tier": "hdd"}), &raw);
        assert!(message.contains("volumeMode is immutable: "), "{message}");
        let unset = json!({"size": "1Gi", "tier": "hdd"});
        assert!(update_refused(&old, &unset).contains("filesystem is immutable: "));
    }

    #[test]
    fn encryption_is_chosen_once() {
        let with = |enabled: bool| json!({"size": "1Gi", "tier": "hdd", "encryption": {"enabled": enabled}});
        for (old, new) in [
            (with(true), with(false)),
            (with(true), json!({"size": "1Gi", "tier": "hdd"})),
            (json!({"size": "1Gi", "tier": "hdd"}), with(true)),
        ] {
            assert!(update_refused(&old, &new).contains("encryption is immutable"), "{old} {new}");
        }
    }

    #[test]
    fn an_owner_is_refused_until_it_protects_somebody() {
        let owned =
            json!({"size": "1Gi", "tier": "hdd", "owner": {"kind": "User", "name": "ada@example.com"}});
        assert!(refused(&owned).contains("owner can't be set yet"));
        let old = json!({"size": "1Gi", "tier": "hdd"});
        assert!(update_refused(&old, &owned).contains("leave it out"));
    }

    #[test]
    fn a_source_is_one_thing_and_stays() {
        let with = |source: &Value| json!({"size": "1Gi", "tier": "hdd", "source": source});
        for both in [json!({}), json!({"snapshot": "a", "volume": "b"})] {
            assert!(refused(&with(&both)).contains("either a snapshot or a volume"), "{both}");
        }
        let (one, other) = (with(&json!({"snapshot": "a"})), with(&json!({"volume": "a"})));
        assert!(volume(&one).validate_cel().is_ok());
        for new in [other, json!({"size": "1Gi", "tier": "hdd"})] {
            assert!(update_refused(&one, &new).contains("make a VolumeRestore"), "{new}");
        }
    }

    #[test]
    fn bug_22_mount_options_come_from_the_list() {
        for option in
            ["suid", "dev", "context=x", "noatime\n", "noatime,suid", "--bind", "commit=0", "commit=1;x"]
        {
            let message = refused(&json!({"size": "1Gi", "tier": "hdd", "mountOptions": [option]}));
            assert!(message.contains("mountOptions allows only noatime"), "{option}: {message}");
        }
        let fine = volume(&json!({"size": "1Gi", "tier": "hdd", "mountOptions": ["noatime", "commit=30"]}));
        assert!(fine.validate_cel().is_ok());
    }

    #[test]
    fn what_is_admitted_for_a_filesystem_is_what_a_node_mounts_it_with() {
        let options = [
            "noatime",
            "nodiratime",
            "relatime",
            "lazytime",
            "sync",
            "dirsync",
            "discard",
            "nodiscard",
            "inode64",
            "compress=zstd",
            "compress=lzo",
            "compress=zlib",
            "autodefrag",
            "commit=1",
            "commit=99",
            "commit=300",
            "commit=301",
            "commit=999",
        ];
        for filesystem in Filesystem::ALL {
            for option in options {
                let spec =
                    json!({"size": "1Gi", "tier": "hdd", "filesystem": filesystem, "mountOptions": [option]});
                let mounts =
                    tierce_filesystem::mount_options::check(filesystem, &[option.to_owned()]).is_ok();
                let verdict = volume(&spec).validate_cel();
                assert_eq!(verdict.is_ok(), mounts, "{filesystem} {option}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_filesystem_has_its_minimum_and_no_place_on_a_block_volume() {
        assert!(
            refused(&json!({"size": "200Mi", "tier": "hdd", "filesystem": "xfs"})).contains("at least 300Mi")
        );
        assert!(
            refused(&json!({"size": "64Mi", "tier": "hdd", "filesystem": "btrfs"}))
                .contains("at least 256Mi")
        );
        let raw = json!({"size": "1Gi", "tier": "hdd", "volumeMode": "Block", "filesystem": "xfs"});
        assert!(refused(&raw).contains("no meaning with volumeMode Block"));
    }
}
