//! What a volume is to start with, as it is known now.

use crate::index::{Namespaced, State};
use tierce_crds::{Filesystem, Source, VolumeMode};
use tierce_policy::tenancy::{Deed, Refusal, Subject, Tenant};

/// What a volume starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) node: String,
    pub(crate) pool: String,
    /// Bytes that a copy has at least.
    pub(crate) bytes: u64,
    pub(crate) mode: VolumeMode,
    /// With mode Filesystem.
    pub(crate) filesystem: Option<Filesystem>,
    /// Whether it is encrypted; a copy is as well.
    pub(crate) encrypted: bool,
}

impl Start {
    /// What the source names in this namespace, or why that can't be used.
    pub(super) fn look(state: &State, namespace: &str, source: &Source) -> Result<Self, String> {
        match &source.snapshot {
            Some(name) => Self::of_snapshot(state, namespace, name),
            None => Self::of_volume(state, namespace, source.volume.as_deref().unwrap_or_default()),
        }
    }

    fn of_snapshot(state: &State, namespace: &str, name: &str) -> Result<Self, String> {
        let snapshot = state.snapshot_of(&Namespaced::new(namespace, name)).ok_or_else(|| {
            format!("VolumeSnapshot {name:?} is not there, not taken yet, or not of a volume of Tierce")
        })?;
        permitted(&snapshot.tenant(), namespace).map_err(|why| format!("VolumeSnapshot {name:?}: {why}"))?;
        let (Some(bytes), Some(mode), true) = (snapshot.size, snapshot.mode, snapshot.ready()) else {
            return Err(format!("VolumeSnapshot {name:?} is not ready"));
        };
        Ok(Self {
            node: snapshot.node.clone(),
            pool: snapshot.pool.clone(),
            bytes,
            mode,
            filesystem: snapshot.filesystem,
            encrypted: snapshot.encrypted,
        })
    }

    fn of_volume(state: &State, namespace: &str, name: &str) -> Result<Self, String> {
        let key = Namespaced::new(namespace, name);
        if !state.volumes.exists(&key) {
            return Err(format!("Volume {name:?} is not there"));
        }
        let device = state.device_of(&key).ok_or_else(|| format!("Volume {name:?} holds nothing yet"))?;
        permitted(&state.tenant_of(device), namespace).map_err(|why| format!("Volume {name:?}: {why}"))?;
        let bytes = device.least_copy().ok_or_else(|| format!("Volume {name:?} is still being made"))?;
        Ok(Self {
            node: device.node.clone(),
            pool: device.pool.clone(),
            bytes,
            mode: device.mode,
            filesystem: device.filesystem,
            encrypted: device.encrypted,
        })
    }
}

/// CreateVolume refuses it as well, and its words reach nobody who looks at the object that asks.
fn permitted(tenant: &Tenant, namespace: &str) -> Result<(), Refusal> {
    tenant.permits(Subject::Namespace(namespace), Deed::Clone)
}
