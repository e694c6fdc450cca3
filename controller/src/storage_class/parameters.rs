//! StorageClass parameters. One that nobody knows is a typing error, so it is refused rather than ignored.

use serde::Deserialize;
use std::collections::BTreeMap;
use tierce_crds::ClaimReference;

/// What a StorageClass says, with what external-provisioner adds under `--extra-create-metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Tier. See [`tierce_crds::names::PARAMETER_TIER`].
    pub(crate) tier: Option<String>,
    /// Whether it is encrypted. See [`tierce_crds::names::PARAMETER_ENCRYPTED`].
    pub(crate) encrypted: Option<Choice>,
    /// Name of the claim.
    #[serde(rename = "csi.storage.k8s.io/pvc/name")]
    pub(crate) claim_name: Option<String>,
    /// Namespace of the claim.
    #[serde(rename = "csi.storage.k8s.io/pvc/namespace")]
    pub(crate) claim_namespace: Option<String>,
    /// Name of the PersistentVolume that will be made.
    #[serde(rename = "csi.storage.k8s.io/pv/name")]
    pub(crate) persistent_volume: Option<String>,
}

/// StorageClass parameters are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Choice {
    True,
    False,
}

impl Parameters {
    /// Whether the volume is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted == Some(Choice::True)
    }

    /// Reads them; the error names the parameter.
    pub(crate) fn parse(map: &BTreeMap<String, String>) -> Result<Self, serde_json::Error> {
        let object = map.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        serde_json::from_value(serde_json::Value::Object(object))
    }

    /// Reads them as they stand in a class: with what external-provisioner and the kubelet take for themselves, the filesystem and
    /// where the keys are, which does not reach CreateVolume.
    pub(crate) fn of_class(map: &BTreeMap<String, String>) -> Result<Self, serde_json::Error> {
        let ours = map.iter().filter(|(name, _)| !name.starts_with("csi.storage.k8s.io/"));
        Self::parse(&ours.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The claim that a volume of this CSI name is for: external-provisioner makes the name from the claim's UID.
    pub(crate) fn claim(&self, csi_name: &str) -> Option<ClaimReference> {
        Some(ClaimReference {
            namespace: self.claim_namespace.clone().filter(|text| !text.is_empty())?,
            name: self.claim_name.clone().filter(|text| !text.is_empty())?,
            uid: csi_name.strip_prefix("pvc-").filter(|uid| !uid.is_empty())?.to_owned(),
        })
    }
}

/// What a VolumeSnapshotClass says, with what csi-snapshotter adds under `--extra-create-metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotParameters {
    /// Name of the VolumeSnapshot.
    #[serde(rename = "csi.storage.k8s.io/volumesnapshot/name")]
    name: Option<String>,
    /// Namespace of the VolumeSnapshot.
    #[serde(rename = "csi.storage.k8s.io/volumesnapshot/namespace")]
    namespace: Option<String>,
    /// Name of the VolumeSnapshotContent. It follows from the VolumeSnapshot's UID.
    #[serde(rename = "csi.storage.k8s.io/volumesnapshotcontent/name")]
    _content: Option<String>,
}

impl SnapshotParameters {
    /// Reads them; the error names the parameter.
    pub(crate) fn parse(map: &BTreeMap<String, String>) -> Result<Self, serde_json::Error> {
        let object = map.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        serde_json::from_value(serde_json::Value::Object(object))
    }

    /// The VolumeSnapshot that a snapshot of this CSI name is for: csi-snapshotter makes the name from its UID.
    pub(crate) fn snapshot(&self, csi_name: &str) -> Option<ClaimReference> {
        Some(ClaimReference {
            namespace: self.namespace.clone().filter(|text| !text.is_empty())?,
            name: self.name.clone().filter(|text| !text.is_empty())?,
            uid: csi_name.strip_prefix("snapshot-").filter(|uid| !uid.is_empty())?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierce_crds::names;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_names_are_those_that_the_other_rooms_use() {
        let parsed = Parameters::parse(&map(&[
            (names::PARAMETER_TIER, "hdd"),
            (names::PARAMETER_ENCRYPTED, "true"),
            (names::PARAMETER_PVC_NAME, "a"),
            (names::PARAMETER_PVC_NAMESPACE, "n"),
            (names::PARAMETER_PV_NAME, "pvc-1"),
        ]))
        .unwrap();
        assert_eq!(parsed.tier.as_deref(), Some("hdd"));
        assert!(parsed.is_encrypted() && !Parameters::default().is_encrypted());
        assert!(Parameters::parse(&map(&[(names::PARAMETER_ENCRYPTED, "yes")])).is_err());
        let claim = ClaimReference { namespace: "n".into(), name: "a".into(), uid: "1".into() };
        assert_eq!(parsed.claim("pvc-1"), Some(claim));
        assert_eq!(parsed.claim("other-1"), None);
        assert_eq!(Parameters::default().claim("pvc-1"), None);
    }

    #[test]
    fn a_snapshot_is_known_by_the_names_that_the_snapshotter_adds() {
        let parsed = SnapshotParameters::parse(&map(&[
            (names::PARAMETER_SNAPSHOT_NAME, "monday"),
            (names::PARAMETER_SNAPSHOT_NAMESPACE, "n"),
            (names::PARAMETER_SNAPSHOT_CONTENT, "snapcontent-1"),
        ]))
        .unwrap();
        let snapshot = ClaimReference { namespace: "n".into(), name: "monday".into(), uid: "1".into() };
        assert_eq!(parsed.snapshot("snapshot-1"), Some(snapshot));
        assert_eq!(parsed.snapshot("other"), None);
        let error = SnapshotParameters::parse(&map(&[("tier", "hdd")])).unwrap_err().to_string();
        assert!(error.contains("unknown field `tier`"), "{error}");
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        let error = Parameters::parse(&map(&[("teir", "hdd")])).unwrap_err().to_string();
        assert!(error.contains("unknown field `teir`") && error.contains("`tier`"), "{error}");
    }
}
