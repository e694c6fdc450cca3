//! Which pods use which volumes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::ListParams};
use tierce_crds::Volume;

use crate::{Cluster, Error};

/// Pods that have not ended, by the claim that they name. A pod that waits for its node counts: it is about to use the volume.
pub struct Users(BTreeMap<(String, String), BTreeSet<String>>);

impl Users {
    /// Asks the cluster, for one namespace or all.
    pub async fn ask(cluster: &Cluster, everywhere: bool) -> Result<Self, Error> {
        let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let pods = cluster.here_or_everywhere::<Pod>(everywhere).list(&running).await;
        let pods = pods.map_err(|error| {
            cluster
                .failed(&format!("find out which pods of {} use volumes", cluster.place(everywhere)), error)
        })?;
        Ok(Self::of(&pods.items))
    }

    fn of(pods: &[Pod]) -> Self {
        let mut found: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for pod in pods {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if matches!(phase, Some("Succeeded" | "Failed")) {
                continue;
            }
            let namespace = pod.namespace().unwrap_or_default();
            for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
                // A generic ephemeral volume is a claim of the pod's own.
                let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                    (Some(claim), _) => claim.claim_name.clone(),
                    (None, Some(_)) => format!("{}-{}", pod.name_any(), volume.name),
                    (None, None) => continue,
                };
                found.entry((namespace.clone(), claim)).or_default().insert(pod.name_any());
            }
        }
        Self(found)
    }

    /// Names of the pods that use a Volume, through the claim of its name.
    pub fn pods(&self, volume: &Volume) -> Vec<String> {
        let key = (volume.namespace().unwrap_or_default(), volume.name_any());
        self.0.get(&key).into_iter().flatten().cloned().collect()
    }
}

/// `pod a, pod b`.
pub fn in_words(pods: &[String]) -> String {
    pods.iter().map(|pod| format!("pod {pod}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_has_not_ended_uses_the_claims_that_it_names() {
        let pod = |name: &str, phase: &str, claim: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "ada"}, "status": {"phase": phase},
                "spec": {"containers": [], "volumes": [
                    {"name": "a", "persistentVolumeClaim": {"claimName": claim}},
                    {"name": "tmp", "emptyDir": {}}]},
            }))
            .unwrap()
        };
        let volume = |namespace: &str, name: &str| -> Volume {
            serde_json::from_value(json!({
                "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
                "metadata": {"name": name, "namespace": namespace}, "spec": {"size": "1Gi", "tier": "hdd"},
            }))
            .unwrap()
        };
        let users = Users::of(&[
            pod("runs", "Running", "data"),
            pod("waits", "Pending", "data"),
            pod("ended", "Succeeded", "data"),
            pod("failed", "Failed", "other"),
        ]);
        assert_eq!(users.pods(&volume("ada", "data")), ["runs", "waits"]);
        assert!(users.pods(&volume("ada", "other")).is_empty());
        assert!(users.pods(&volume("bob", "data")).is_empty());
    }
}
