//! What a SharedVolume asks for, and its status. The rest is [`life`](crate::volumes::life).

use crate::index::{Namespaced, State};
use crate::volumes::life::{Access, Asked, Front, Kind, Owner, Shared, Status};
use kube::{Api, Client};
use std::sync::Arc;
use tierce_crds::{SharedVolume, SharedVolumeStatus, VolumeMode, names};

impl Kind for SharedVolume {
    type Status = SharedVolumeStatus;

    const KIND: &'static str = "SharedVolume";
    const FINALIZER: &'static str = names::FINALIZER_SHARED_VOLUME;
    const MANAGER: &'static str = names::MANAGER_SHARED_VOLUME;

    fn api(client: &Client, key: &Namespaced) -> Api<Self> {
        Api::namespaced(client.clone(), &key.namespace)
    }

    fn known<'a>(state: &'a State, key: &Namespaced) -> Option<&'a Arc<Self>> {
        state.shared_volumes.get(key)
    }

    fn front(&self) -> Front {
        let (meta, spec) = (&self.metadata, &self.spec);
        Front {
            owner: Owner {
                kind: Self::KIND,
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone().unwrap_or_default(),
            },
            asked: Asked {
                size: spec.size.clone(),
                tier: spec.tier.clone(),
                access: Access::Shared(spec.members.clone()),
                volume_mode: VolumeMode::Filesystem,
                filesystem: spec.filesystem,
                encrypted: spec.encryption.as_ref().map(|encryption| encryption.enabled),
                source: None,
                binding: spec.binding,
                deletion_policy: spec.deletion_policy,
                mount_options: spec.mount_options.clone(),
            },
            unfit: None,
            told: self.status.as_ref().map_or_else(Status::default, told),
            generation: meta.generation,
            guarded: meta.finalizers.iter().flatten().any(|f| f == Self::FINALIZER),
            leaving: meta.deletion_timestamp.is_some(),
            new_key: None,
        }
    }

    fn status(of_its_life: Status) -> SharedVolumeStatus {
        let Status {
            phase,
            capacity,
            used,
            node,
            claim_name,
            volume_name,
            shared,
            observed_generation,
            conditions,
        } = of_its_life;
        let Shared { gid, claims, clients } = shared.unwrap_or_default();
        SharedVolumeStatus {
            phase,
            capacity,
            used,
            node,
            claim_name,
            volume_name,
            gid,
            claims,
            clients,
            observed_generation,
            conditions,
        }
    }
}

fn told(status: &SharedVolumeStatus) -> Status {
    let SharedVolumeStatus {
        phase,
        capacity,
        used,
        node,
        claim_name,
        volume_name,
        gid,
        claims,
        clients,
        observed_generation,
        conditions,
    } = status.clone();
    let shared = Some(Shared { gid, claims, clients });
    Status { phase, capacity, used, node, claim_name, volume_name, shared, observed_generation, conditions }
}
