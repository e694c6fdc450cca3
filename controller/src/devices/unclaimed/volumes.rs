//! What becomes of a `NodeVolume` that nobody claims: its claim vanished while it was being made, or the provisioner
//! forgot it. It is deleted after a grace, if it was never used; and the node refuses even that if its own record says
//! otherwise. So no mistake here can cost data.

use super::{Teller, pages};
use crate::index::{Device, Index, Namespaced, PersistentVolume, PersistentVolumeObject, State};
use crate::metrics::Metrics;
use crate::run::events::Events;
use crate::run::objects::gone_is_fine;
use crate::run::queue::Next;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::{NodeVolume, names};
use tierce_runtime::errors::in_words;
use tracing::{info, warn};

/// What is to be done about one `NodeVolume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Somebody claims it, or it is going already, or nobody can know whether it is claimed.
    Leave,
    /// Nobody claims it, but it may hold data: a person decides.
    Tell,
    /// Nobody claims it; it is reaped after so much more time.
    Wait(Duration),
    /// Its time has come.
    Reap,
}

/// Decides. `claimed`: its claim or a `PersistentVolume` of its id exists. `unclaimed_for`: how long that is not so.
fn decide(device: &Device, claimed: bool, unclaimed_for: Duration, grace: Duration) -> Fate {
    if claimed || device.claim.is_none() || device.deleting_since.is_some() {
        Fate::Leave
    } else if device.used {
        Fate::Tell
    } else {
        match grace.saturating_sub(unclaimed_for) {
            Duration::ZERO => Fate::Reap,
            rest => Fate::Wait(rest),
        }
    }
}

/// Whether the index knows of a claim of it, or of a `PersistentVolume` of any name that speaks of it.
fn is_claimed(state: &State, device: &Device) -> bool {
    let claim = device.claim.as_ref().is_some_and(|claim| {
        let known = state.claims.get(&Namespaced::new(&claim.namespace, &claim.name));
        known.is_some_and(|known| known.uid == claim.uid)
    });
    claim || state.has_persistent_volume(&device.id)
}

/// Looks after orphans.
pub struct Reaper {
    client: Client,
    index: Arc<Index>,
    teller: Teller<Device>,
    grace: Duration,
}

impl Reaper {
    /// Reaps what was unclaimed for `grace`.
    pub fn new(client: Client, index: Arc<Index>, events: Events, metrics: Metrics, grace: Duration) -> Self {
        Self { client, index, teller: Teller::new(events, metrics), grace }
    }

    /// Looks at one `NodeVolume`.
    pub async fn look(&self, id: &str) -> Next {
        let found = self.index.read(|state| {
            let device = Arc::clone(state.devices.get(id)?);
            let claimed = is_claimed(state, &device);
            Some((device, claimed))
        });
        let Some((device, claimed)) = found else {
            self.teller.forget(id);
            return Next::Event;
        };
        let since = if claimed { Duration::ZERO } else { self.teller.unclaimed_for(&device) };
        match decide(&device, claimed, since, self.grace) {
            Fate::Leave => {
                self.teller.forget(id);
                Next::Event
            }
            Fate::Tell => {
                self.tell(&device).await;
                Next::Event
            }
            Fate::Wait(rest) => Next::After(rest),
            Fate::Reap => match self.reap(&device).await {
                Ok(()) => Next::Event,
                // Somebody wrote it meanwhile: looked at again.
                Err(kube::Error::Api(status)) if status.is_conflict() => Next::Failed,
                Err(error) => {
                    warn!(id, "cannot reap the NodeVolume: {}", in_words(&error));
                    Next::Failed
                }
            },
        }
    }

    async fn reap(&self, device: &Device) -> Result<(), kube::Error> {
        if self.is_claimed_after_all(device).await? {
            return Ok(());
        }
        let api: Api<NodeVolume> = Api::all(self.client.clone());
        let patch = json!({"metadata": {
            "annotations": {names::ANNOTATION_ONLY_IF_UNUSED: "true"},
            "uid": device.uid, "resourceVersion": device.resource_version,
        }});
        let marked = api.patch(&device.id, &PatchParams::default(), &Patch::Merge(&patch)).await;
        let uid = Some(device.uid.clone());
        let only_this = Preconditions { uid, resource_version: None };
        let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
        let gone = match marked {
            Ok(_) => {
                info!(
                    id = device.id,
                    node = device.node,
                    "nobody claims it and it was never used: deleting it"
                );
                api.delete(&device.id, &parameters).await.map(drop)
            }
            Err(error) => Err(error),
        };
        gone_is_fine(gone).map(drop)
    }

    /// A watch may be late; the last word is the API server's.
    async fn is_claimed_after_all(&self, device: &Device) -> Result<bool, kube::Error> {
        let Some(claim) = &device.claim else { return Ok(true) };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim.namespace);
        let found = claims.get_metadata_opt(&claim.name).await?;
        if found.is_some_and(|found| found.metadata.uid.as_deref() == Some(claim.uid.as_str())) {
            return Ok(true);
        }
        let volumes: Api<PersistentVolumeObject> = Api::all(self.client.clone());
        let speaks_of_it = |pv: PersistentVolumeObject| {
            PersistentVolume::of(pv).is_some_and(|pv| names::volume_of(&pv.handle) == device.id)
        };
        // The provisioner's has its name. One that an administrator wrote has any, and there is no selector for the handle.
        if volumes.get_opt(&device.id).await?.is_some_and(speaks_of_it) {
            return Ok(true);
        }
        let list = |page| {
            let volumes = volumes.clone();
            async move { volumes.list(&page).await }
        };
        pages::any(list, speaks_of_it).await
    }

    async fn tell(&self, device: &Device) {
        let message = format!(
            "neither its claim nor a PersistentVolume exists any more, but it was in use once, so it is kept. To delete it \
             with its data: kubectl delete nodevolume {}",
            device.id
        );
        self.teller.tell(device, &message).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Device;

    fn device(with_claim: bool, used: bool, deleting: bool) -> Device {
        let mut object = json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": {"name": "pvc-1"},
            "spec": {"nodeName": "n", "pool": "p", "sizeBytes": 1, "filesystem": "ext4"}, "status": {"used": used}
        });
        if with_claim {
            object["spec"]["claim"] = json!({"namespace": "ada", "name": "c", "uid": "1"});
        }
        if deleting {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Device::of(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn only_what_nobody_claims_and_nobody_used_is_reaped_and_only_after_the_grace() {
        let seconds = Duration::from_secs;
        for (what, device, claimed, unclaimed_for, fate) in [
            ("claimed", device(true, false, false), true, 0, Fate::Leave),
            ("claimed and used", device(true, true, false), true, 0, Fate::Leave),
            ("names no claim", device(false, false, false), false, 999, Fate::Leave),
            ("going already", device(true, false, true), false, 999, Fate::Leave),
            ("just orphaned", device(true, false, false), false, 0, Fate::Wait(seconds(60))),
            ("orphaned for a while", device(true, false, false), false, 59, Fate::Wait(seconds(1))),
            ("its time has come", device(true, false, false), false, 60, Fate::Reap),
            ("orphaned, but used", device(true, true, false), false, 999, Fate::Tell),
        ] {
            assert_eq!(decide(&device, claimed, seconds(unclaimed_for), seconds(60)), fate, "{what}");
        }
    }
}
