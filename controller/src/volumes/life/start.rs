//! What a volume is to start with, as it is known now.

use crate::index::{Namespaced, Start, State};
use tierce_crds::Source;
use tierce_policy::tenancy::{Deed, Refusal, Subject, Tenant};

/// What the source names in this namespace, or why that can't be used.
pub(super) fn look(state: &State, namespace: &str, source: &Source) -> Result<Start, String> {
    match &source.snapshot {
        Some(name) => of_snapshot(state, namespace, name),
        None => of_volume(state, namespace, source.volume.as_deref().unwrap_or_default()),
    }
}

/// What the VolumeSnapshot of this name holds.
pub(crate) fn of_snapshot(state: &State, namespace: &str, name: &str) -> Result<Start, String> {
    let snapshot = state.snapshot_of(&Namespaced::new(namespace, name)).ok_or_else(|| {
        format!("VolumeSnapshot {name:?} is not there, not taken yet, or not of a volume of Tierce")
    })?;
    permitted(&snapshot.tenant(), namespace).map_err(|why| format!("VolumeSnapshot {name:?}: {why}"))?;
    Start::of_snapshot(snapshot).ok_or_else(|| format!("VolumeSnapshot {name:?} is not ready"))
}

fn of_volume(state: &State, namespace: &str, name: &str) -> Result<Start, String> {
    let key = Namespaced::new(namespace, name);
    if !state.volumes.exists(&key) {
        return Err(format!("Volume {name:?} is not there"));
    }
    of_claim(state, &key).map_err(|why| format!("Volume {name:?}{why}"))
}

/// What the claim of this name holds, whoever made it.
pub(crate) fn of_claim(state: &State, key: &Namespaced) -> Result<Start, String> {
    let device = state.device_of(key).ok_or(" holds nothing yet")?;
    permitted(&state.tenant_of(device), &key.namespace).map_err(|why| format!(": {why}"))?;
    Start::of_volume(device).ok_or_else(|| " is still being made".to_owned())
}

/// CreateVolume refuses it as well, and its words reach nobody who looks at the object that asks.
fn permitted(tenant: &Tenant, namespace: &str) -> Result<(), Refusal> {
    tenant.permits(Subject::Namespace(namespace), Deed::Clone)
}
