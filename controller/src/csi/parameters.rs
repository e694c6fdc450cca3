//! StorageClass parameters. One that nobody knows is a typing error, so it is refused rather than ignored.

use serde::Deserialize;
use std::collections::BTreeMap;
use tierce_crds::ClaimReference;

/// What a StorageClass says, with what external-provisioner adds under `--extra-create-metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    /// Tier. See [`tierce_crds::names::PARAMETER_TIER`].
    pub(super) tier: Option<String>,
    /// Name of the claim.
    #[serde(rename = "csi.storage.k8s.io/pvc/name")]
    pub(super) claim_name: Option<String>,
    /// Namespace of the claim.
    #[serde(rename = "csi.storage.k8s.io/pvc/namespace")]
    pub(super) claim_namespace: Option<String>,
    /// Name of the PersistentVolume that will be made.
    #[serde(rename = "csi.storage.k8s.io/pv/name")]
    pub(super) persistent_volume: Option<String>,
}

impl Parameters {
    /// Reads them; the error names the parameter.
    pub(super) fn parse(map: &BTreeMap<String, String>) -> Result<Self, serde_json::Error> {
        let object = map.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        serde_json::from_value(serde_json::Value::Object(object))
    }

    /// The claim that a volume of this CSI name is for: external-provisioner makes the name from the claim's UID.
    pub(super) fn claim(&self, csi_name: &str) -> Option<ClaimReference> {
        Some(ClaimReference {
            namespace: self.claim_namespace.clone().filter(|text| !text.is_empty())?,
            name: self.claim_name.clone().filter(|text| !text.is_empty())?,
            uid: csi_name.strip_prefix("pvc-").filter(|uid| !uid.is_empty())?.to_owned(),
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
            (names::PARAMETER_PVC_NAME, "a"),
            (names::PARAMETER_PVC_NAMESPACE, "n"),
            (names::PARAMETER_PV_NAME, "pvc-1"),
        ]))
        .unwrap();
        assert_eq!(parsed.tier.as_deref(), Some("hdd"));
        let claim = ClaimReference { namespace: "n".into(), name: "a".into(), uid: "1".into() };
        assert_eq!(parsed.claim("pvc-1"), Some(claim));
        assert_eq!(parsed.claim("other-1"), None);
        assert_eq!(Parameters::default().claim("pvc-1"), None);
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        let error = Parameters::parse(&map(&[("teir", "hdd")])).unwrap_err().to_string();
        assert!(error.contains("unknown field `teir`") && error.contains("`tier`"), "{error}");
    }
}
