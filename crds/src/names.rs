//! Well-known names: what one part of Tierce writes and another reads.

use sha2::{Digest as _, Sha256};

/// API group of every kind.
pub const GROUP: &str = "storage.tierce.dev";
/// Group and version in which this version of Tierce reads and writes every kind. Whoever only wants to know whether something is ours compares
/// the group and not the version ([`is_ours`]).
pub const API_VERSION: &str = "storage.tierce.dev/v1alpha1";
/// Name of the CSI driver, as in the `CSIDriver` object and in StorageClasses.
pub const DRIVER: &str = "csi.tierce.dev";
/// Topology key of a node; its value is the node's name. It lies in the node affinity of every PersistentVolume, which nobody may edit, and so
/// keeps a prefix of its own.
pub const TOPOLOGY_NODE: &str = "topology.tierce.dev/node";
/// StorageClass parameter that names the tier.
pub const PARAMETER_TIER: &str = "tier";
/// StorageClass parameter that says whether volumes are encrypted: `"true"` or `"false"`.
pub const PARAMETER_ENCRYPTED: &str = "encrypted";
/// Parameters that external-provisioner adds with `--extra-create-metadata`.
pub const PARAMETER_PVC_NAME: &str = "csi.storage.k8s.io/pvc/name";
/// See [`PARAMETER_PVC_NAME`].
pub const PARAMETER_PVC_NAMESPACE: &str = "csi.storage.k8s.io/pvc/namespace";
/// See [`PARAMETER_PVC_NAME`].
pub const PARAMETER_PV_NAME: &str = "csi.storage.k8s.io/pv/name";

/// Parameter that csi-snapshotter adds with `--extra-create-metadata`.
pub const PARAMETER_SNAPSHOT_NAME: &str = "csi.storage.k8s.io/volumesnapshot/name";
/// See [`PARAMETER_SNAPSHOT_NAME`].
pub const PARAMETER_SNAPSHOT_NAMESPACE: &str = "csi.storage.k8s.io/volumesnapshot/namespace";
/// See [`PARAMETER_SNAPSHOT_NAME`].
pub const PARAMETER_SNAPSHOT_CONTENT: &str = "csi.storage.k8s.io/volumesnapshotcontent/name";
/// Annotation on a claim of a class that waits for its first pod: the node where its volume is made. kube-scheduler writes it, and keeps to one that
/// is there.
pub const ANNOTATION_SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// API group of the ecosystem's `VolumeSnapshot`.
pub const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";
/// Annotation on a VolumeSnapshotContent by which an administrator permits to read a raw device as a filesystem, or the
/// other way round (KEP-3141).
pub const ANNOTATION_ALLOW_MODE_CHANGE: &str = "snapshot.storage.kubernetes.io/allow-volume-mode-change";

/// Finalizer on a VolumeRestore: its order is with a node.
pub const FINALIZER_RESTORE: &str = "storage.tierce.dev/restore";
/// Finalizer on a Volume: the controller decides what becomes of the data before the object goes.
pub const FINALIZER_VOLUME: &str = "storage.tierce.dev/volume";
/// Finalizer on a NodeVolume and a NodeSnapshot: the node has something on its disk, or may have.
pub const FINALIZER_ON_NODE: &str = "storage.tierce.dev/on-node";
/// Finalizer on a Secret with keys: something is there that they open.
pub const FINALIZER_KEY: &str = "storage.tierce.dev/key";
/// Annotation on a NodeVolume that is being reaped: the node deletes it only if it was never staged.
pub const ANNOTATION_ONLY_IF_UNUSED: &str = "storage.tierce.dev/only-if-unused";
/// Annotation on a PersistentVolume whose Volume was deleted with `deletionPolicy: Retain`: where the data is.
pub const ANNOTATION_RETAINED_FROM: &str = "storage.tierce.dev/retained-from";
/// Annotation on the claim of a Volume: the size that the Volume's spec made it ask for last. What somebody else made of its request is left.
pub const ANNOTATION_RAISED_TO: &str = "storage.tierce.dev/raised-to";
/// Annotation on a claim without a volume: when a quota had room for it again that had none before. It makes external-provisioner ask at once.
pub const ANNOTATION_QUOTA_ROOM: &str = "storage.tierce.dev/quota-has-room-since";
/// Annotation by which a user asks for a new key: any value that it did not have before.
pub const ANNOTATION_ROTATE_KEY: &str = "storage.tierce.dev/rotate-key";
/// Annotation on a NodeVolume: the last value of [`ANNOTATION_ROTATE_KEY`] that was carried out.
pub const ANNOTATION_ROTATED_KEY: &str = "storage.tierce.dev/rotated-key";
/// Annotation on a NodeVolume: the fingerprint of the key that was in force when [`ANNOTATION_ROTATED_KEY`] was written.
pub const ANNOTATION_ROTATED_TO: &str = "storage.tierce.dev/rotated-to";
/// Begin of an annotation on a Secret with keys, before the UID of the VolumeRestore: no key is taken from it before that one is over.
pub const ANNOTATION_KEY_HELD_BY: &str = "storage.tierce.dev/held-by-";
/// Annotation on a Secret with a key that goes with no object yet: since when. It goes when the Secret is tied to one.
pub const ANNOTATION_UNTIED_KEY: &str = "storage.tierce.dev/untied-since";
/// Annotation on a Secret with a key that a call went on with: when.
pub const ANNOTATION_TAKEN_OVER_KEY: &str = "storage.tierce.dev/taken-over";
/// Annotation on a VolumeSnapshotContent that a VolumeRestore made: when. One that a backup brought back was made at another time.
pub const ANNOTATION_MADE_BY_RESTORE: &str = "storage.tierce.dev/made-by-restore";
/// Label on the PersistentVolumeClaim of a Volume; its value is the Volume's UID.
pub const LABEL_VOLUME_UID: &str = "storage.tierce.dev/volume-uid";

/// Finalizer on a SharedVolume: what it gave to pods goes before it does.
pub const FINALIZER_SHARED_VOLUME: &str = "storage.tierce.dev/shared-volume";
/// Finalizer on the PersistentVolumeClaim of a SharedVolume in its own namespace: Kubernetes lets a claim go that no pod of its own namespace uses, and the
/// data with it.
pub const FINALIZER_SHARED_DATA: &str = "storage.tierce.dev/shared-data";
/// Label on the PersistentVolumes and PersistentVolumeClaims that a SharedVolume has in other namespaces; its value is the SharedVolume's UID.
pub const LABEL_SHARED_UID: &str = "storage.tierce.dev/shared-volume-uid";
/// Annotation on the PersistentVolume and the PersistentVolumeClaim that a SharedVolume has in another namespace: its own namespace and name, with a slash between them.
pub const ANNOTATION_SHARED_OF: &str = "storage.tierce.dev/shared-volume";
/// Annotation on a PersistentVolume: the kubelet puts every container that uses it into the group of this number.
pub const ANNOTATION_GID: &str = "pv.beta.kubernetes.io/gid";

/// Volume attribute of every PersistentVolume of a shared volume: the NodeVolume's name.
pub const ATTRIBUTE_SHARED: &str = "storage.tierce.dev/shared";
/// Volume attribute of a shared volume's PersistentVolume: the namespace that it is for.
pub const ATTRIBUTE_NAMESPACE: &str = "storage.tierce.dev/namespace";
/// Volume attribute of a shared volume's PersistentVolume: `"true"` where its pods only read, whatever they ask for.
pub const ATTRIBUTE_READ_ONLY: &str = "storage.tierce.dev/read-only";
/// What the kubelet adds to the attributes where `CSIDriver.spec.podInfoOnMount` is set.
pub const ATTRIBUTE_POD_NAMESPACE: &str = "csi.storage.k8s.io/pod.namespace";

/// Field manager of the Volume reconciler.
pub const MANAGER_VOLUME: &str = "tierce-controller-volume";
/// Field manager of the SharedVolume reconciler.
pub const MANAGER_SHARED_VOLUME: &str = "tierce-controller-shared-volume";
/// Field manager of what a SharedVolume has in other namespaces, and of the nodes that it is served to.
pub const MANAGER_SHARING: &str = "tierce-controller-sharing";
/// Field manager of the VolumeRestore reconciler.
pub const MANAGER_RESTORE: &str = "tierce-controller-restore";
/// Field manager of the StoragePool reconciler.
pub const MANAGER_POOL: &str = "tierce-controller-pool";
/// Field manager of the node plugin.
pub const MANAGER_NODE: &str = "tierce-csi-node";

/// Whether a reference names something of ours: an object of any version, before or after this one.
pub fn is_ours(api_version: &str) -> bool {
    api_version.split_once('/').is_some_and(|(group, _)| group == GROUP)
}

/// Name of the Secret with the key of a NodeVolume or NodeSnapshot, in the namespace of the release.
pub fn key_secret(name: &str) -> String {
    format!("{KEY_SECRET}{name}")
}

/// The NodeVolume or NodeSnapshot whose key the Secret of this name holds.
pub fn of_key_secret(secret: &str) -> Option<&str> {
    secret.strip_prefix(KEY_SECRET)
}

const KEY_SECRET: &str = "tierce-key-";
/// Label on each Secret with a key.
pub const LABEL_MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "tierce");

/// Name of the StorageClass of a tier: `tierce-<tier>`, with `-encrypted` where its volumes are, and with `-immediate` where
/// binding does not wait for a pod.
pub fn storage_class(tier: &str, encrypted: bool, binding: crate::Binding) -> String {
    let encrypted = if encrypted { "-encrypted" } else { "" };
    match binding {
        crate::Binding::OnFirstUse => format!("tierce-{tier}{encrypted}"),
        crate::Binding::Immediate => format!("tierce-{tier}{encrypted}-immediate"),
    }
}

/// The CSI volume handle of a shared volume in a further namespace: `<volume>.<first 8 hexadecimal digits of the SHA-256 of the namespace's UID>`.
/// No volume's id has a dot, so a handle is told apart from an id for sure.
pub fn shared_handle(volume: &str, namespace_uid: &str) -> String {
    use std::fmt::Write as _;
    let mut handle = format!("{volume}.");
    for byte in &Sha256::digest(namespace_uid)[..4] {
        write!(handle, "{byte:02x}").expect("a String takes everything");
    }
    handle
}

/// The volume of which [`shared_handle`] made this handle.
pub fn of_shared_handle(handle: &str) -> Option<&str> {
    let (volume, namespace) = handle.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (!volume.is_empty() && namespace.len() == 8 && digits(namespace)).then_some(volume)
}

/// The volume that a CSI volume handle speaks of, shared or not.
pub fn volume_of(handle: &str) -> &str {
    of_shared_handle(handle).unwrap_or(handle)
}

/// Number of the group that owns the files of the SharedVolume of this UID: 1,600,000,000 and the first 27 bits of the UID's SHA-256.
pub fn shared_gid(uid: &str) -> i64 {
    let digest = Sha256::digest(uid);
    let first = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    1_600_000_000 + i64::from(first >> 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_served_in_the_version_that_references_name() {
        for crd in crate::all() {
            let versions: Vec<_> = crd.spec.versions.iter().map(|version| version.name.as_str()).collect();
            let (group, version) = API_VERSION.split_once('/').unwrap();
            assert_eq!((crd.spec.group.as_str(), versions.as_slice()), (GROUP, [version].as_slice()));
            assert_eq!(group, GROUP);
        }
    }

    #[test]
    fn a_reference_is_ours_in_every_version() {
        for version in [API_VERSION, "storage.tierce.dev/v1beta1", "storage.tierce.dev/v1"] {
            assert!(is_ours(version), "{version}");
        }
        for version in ["v1", "storage.tierce.developers/v1", "other.dev/v1alpha1", GROUP] {
            assert!(!is_ours(version), "{version}");
        }
    }

    #[test]
    fn a_handle_leads_back_to_its_volume_and_no_id_is_one() {
        let handle = shared_handle("pvc-1", "6f4c");
        assert_eq!(handle.len(), "pvc-1.".len() + 8);
        assert_eq!(of_shared_handle(&handle), Some("pvc-1"));
        assert_ne!(handle, shared_handle("pvc-1", "6f4d"));
        for other in ["pvc-1", "", ".01234567", "pvc-1.0123456", "pvc-1.0123456G", "pvc-1.01234567.0"] {
            assert_eq!(of_shared_handle(other), None, "{other}");
        }
    }

    #[test]
    fn a_group_is_one_that_the_kernel_and_kubernetes_take() {
        for uid in ["", "a", "b", "0c9e66c8"] {
            let gid = shared_gid(uid);
            assert!((1_600_000_000..=1_734_217_727).contains(&gid), "{gid}");
        }
        assert_ne!(shared_gid("a"), shared_gid("b"));
    }

    #[test]
    fn a_class_is_named_after_tier_and_binding() {
        use crate::Binding::{Immediate, OnFirstUse};
        for (encrypted, binding, name) in [
            (false, OnFirstUse, "tierce-hdd"),
            (false, Immediate, "tierce-hdd-immediate"),
            (true, OnFirstUse, "tierce-hdd-encrypted"),
            (true, Immediate, "tierce-hdd-encrypted-immediate"),
        ] {
            assert_eq!(storage_class("hdd", encrypted, binding), name);
        }
    }
}
