//! What is remembered of pods that hold claims.

use super::trimmed::short;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::collections::HashSet;

/// More claims than any node gives to one pod.
const MOST_CLAIMS: usize = 256;

/// A pod, as it is read.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "core::Pod")]
pub struct PodObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodObjectSpec,
    #[serde(default)]
    status: PodObjectStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct PodObjectStatus {
    phase: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodObjectSpec {
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    volumes: Vec<PodVolume>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodVolume {
    name: String,
    persistent_volume_claim: Option<PodClaim>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodClaim {
    claim_name: String,
}

/// A pod that has a node, has not ended, and uses claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Where it runs.
    pub node: String,
    /// Names of the claims, all in the pod's namespace.
    pub claims: Vec<String>,
    /// Whether its containers have begun to run, so that it has its volumes.
    pub begun: bool,
}

impl Pod {
    /// The facts of this object; `None` for a pod that holds no claim: without one, or not on a node yet (as Kubernetes'
    /// own protection of claims in use has it). Pods that have ended don't get here: the watch leaves them out.
    pub fn of(object: &PodObject) -> Option<Self> {
        let node = object.spec.node_name.clone().filter(|node| !node.is_empty())?;
        let pod_name = object.metadata.name.as_deref().unwrap_or_default();
        let mut seen = HashSet::new();
        let claims = object.spec.volumes.iter().filter_map(|volume| claim_of(pod_name, volume));
        let claims: Vec<_> = claims.filter(|claim| seen.insert(claim.clone())).take(MOST_CLAIMS).collect();
        let begun = object.status.phase.as_deref() != Some("Pending");
        (!claims.is_empty()).then_some(Self { node, claims, begun })
    }
}

fn claim_of(pod_name: &str, volume: &PodVolume) -> Option<String> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(short(claim.claim_name.clone())),
        // A generic ephemeral volume: Kubernetes names its claim so.
        (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pods_that_hold_claims_are_kept() {
        let pod = |spec: serde_json::Value| {
            Pod::of(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
        };
        let volumes = json!([{"name": "x", "emptyDir": {}}, {"name": "y", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "z", "ephemeral": {"volumeClaimTemplate": {}}}]);
        let claims = pod(json!({"nodeName": "n1", "volumes": volumes})).unwrap().claims;
        assert_eq!(claims, ["c", "p-z"]);
        assert_eq!(pod(json!({"volumes": volumes})), None);
        assert_eq!(pod(json!({"nodeName": "n1", "volumes": [{"name": "x", "emptyDir": {}}]})), None);
    }
}
