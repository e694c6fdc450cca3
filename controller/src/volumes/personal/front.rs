//! What a Volume asks for, and its status. The rest is [`life`](crate::volumes::life).

use crate::index::{Namespaced, State};
use crate::volumes::life::{Access, Asked, Front, Kind, Owner, Status};
use kube::{Api, Client};
use std::sync::Arc;
use tierce_crds::conditions::{Verdict, volume as reason};
use tierce_crds::{Volume, VolumeStatus, names};

/// Said of a Volume that a later version of Tierce has admitted, after a roll-back to this one.
const NO_OWNERS: &str = "spec.owner can't be enforced by this version of Tierce, so the volume is not made: go back to the version that admitted \
     it, or take spec.owner out";

impl Kind for Volume {
    type Status = VolumeStatus;

    const KIND: &'static str = "Volume";
    const FINALIZER: &'static str = names::FINALIZER_VOLUME;
    const MANAGER: &'static str = names::MANAGER_VOLUME;

    fn api(client: &Client, key: &Namespaced) -> Api<Self> {
        Api::namespaced(client.clone(), &key.namespace)
    }

    fn known<'a>(state: &'a State, key: &Namespaced) -> Option<&'a Arc<Self>> {
        state.volumes.get(key)
    }

    fn front(&self) -> Front {
        let (meta, spec) = (&self.metadata, &self.spec);
        let annotations = meta.annotations.as_ref();
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
                access: Access::Single(spec.access_mode),
                volume_mode: spec.volume_mode,
                filesystem: spec.filesystem,
                encrypted: spec.encryption.as_ref().map(|encryption| encryption.enabled),
                source: spec.source.clone(),
                binding: spec.binding,
                deletion_policy: spec.deletion_policy,
                mount_options: spec.mount_options.clone(),
            },
            unfit: spec.owner.as_ref().map(|_| Verdict::no(reason::OWNER_NOT_ENFORCED, NO_OWNERS)),
            told: self.status.as_ref().map_or_else(Status::default, told),
            generation: meta.generation,
            guarded: meta.finalizers.iter().flatten().any(|f| f == Self::FINALIZER),
            leaving: meta.deletion_timestamp.is_some(),
            new_key: annotations.and_then(|all| all.get(names::ANNOTATION_ROTATE_KEY)).cloned(),
        }
    }

    fn status(of_its_life: Status) -> VolumeStatus {
        let Status {
            phase,
            capacity,
            used,
            node,
            claim_name,
            volume_name,
            observed_generation,
            conditions,
            ..
        } = of_its_life;
        VolumeStatus { phase, capacity, used, node, claim_name, volume_name, observed_generation, conditions }
    }
}

fn told(status: &VolumeStatus) -> Status {
    let VolumeStatus {
        phase,
        capacity,
        used,
        node,
        claim_name,
        volume_name,
        observed_generation,
        conditions,
    } = status.clone();
    Status {
        phase,
        capacity,
        used,
        node,
        claim_name,
        volume_name,
        shared: None,
        observed_generation,
        conditions,
    }
}
