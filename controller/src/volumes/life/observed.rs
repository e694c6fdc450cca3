//! Everything that a decision about one volume rests on, at one moment.

use super::asked::{Access, Asked, Front};
use super::start;
use crate::index::{Claim, ClaimPhase, Device, Namespaced, PersistentVolume, Start, State};
use crate::placement::{self, Offer, Place, Refusal, Request};
use crate::quota::{self, Ask, Exceeded};
use crate::sharing::View;
use crate::storage_class;
use std::collections::BTreeSet;
use std::sync::Arc;
use tierce_crds::{Filesystem, VolumeMode};

/// What there is.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// Who asks, and for what.
    pub(crate) front: Front,
    /// The claim of its name, whoever's it is.
    pub(crate) claim: Option<Arc<Claim>>,
    /// The `PersistentVolume` behind it, by name. What a claim says of it is not believed: anybody may write the name of
    /// another's there. It counts only if it names the claim itself.
    pub(crate) persistent_volume: Option<(String, Arc<PersistentVolume>)>,
    /// The `NodeVolume` behind it.
    pub(crate) device: Option<Arc<Device>>,
    /// Whether the node of `device` is in the cluster.
    pub(crate) node_is_there: bool,
    /// Whether it is there and works.
    pub(crate) node_works: bool,
    /// Pods on nodes that use the claim.
    pub(crate) pods: Vec<String>,
    /// Who else has it, where it is shared.
    pub(crate) sharing: Option<View>,
    /// What each pool on each node can take.
    pub(crate) offers: Arc<[Offer]>,
    /// The tiers that there are.
    pub(crate) tiers: Arc<BTreeSet<String>>,
    /// Whether a new volume of it is encrypted.
    pub(crate) encrypted: bool,
    /// What is wrong with the StorageClass that is to make it.
    pub(crate) class_trouble: Option<String>,
    /// What the volume carries, or will; `None` for a raw device.
    pub(crate) filesystem: Option<Filesystem>,
    /// The quota that has no room for it, or for its growth.
    pub(crate) quota: Option<Exceeded>,
    /// What it is to start with, or why that can't be.
    pub(crate) start: Option<Result<Start, String>>,
}

/// What is asked for, else what the pools of the tier say.
fn wants_encryption(state: &State, asked: &Asked) -> bool {
    let by_default = || {
        let mut pools = state.pools.iter().map(|(_, pool)| &pool.spec);
        pools.any(|pool| pool.tier == asked.tier && pool.encrypt_by_default)
    };
    asked.encrypted.unwrap_or_else(by_default)
}

/// What quotas say of a volume that is to be made, or to grow.
fn over_quota(
    state: &State,
    namespace: &str,
    asked: &Asked,
    claim: Option<&Arc<Claim>>,
    device: Option<&Device>,
) -> Option<Exceeded> {
    let bytes = asked.made_bytes();
    if device.is_some_and(|device| device.promise() >= bytes) {
        return None;
    }
    let unmade = || claim.map(|claim| claim.device_id()).unwrap_or_default();
    let volume = device.map_or_else(unmade, |device| device.id.clone());
    quota::refusal(state, namespace, Ask { volume: &volume, tier: &asked.tier, bytes })
}

impl Observed {
    /// Looks at what is behind this front.
    pub(crate) fn look(state: &State, front: Front) -> Self {
        let key = front.owner.claim();
        let claim = state.claims.get(&key).cloned();
        let own = claim.as_ref().filter(|claim| front.owner.controls(claim));
        let known = front.told.volume_name.clone();
        let name = own.and_then(|claim| claim.volume_name.clone()).or(known);
        let named = name.as_ref().and_then(|name| state.persistent_volumes.get(name));
        let persistent_volume = named
            .filter(|pv| {
                let its_own = own.is_none_or(|claim| pv.claim_uid.as_ref() == Some(&claim.uid));
                its_own && pv.claim.as_ref() == Some(&key)
            })
            .and_then(|pv| Some((name.clone()?, Arc::clone(pv))));
        let device = match (&persistent_volume, own) {
            (Some((_, pv)), _) => state.devices.get(&pv.handle),
            (None, Some(claim)) => state.devices.get(&claim.device_id()),
            // Its PersistentVolume is gone; one that is there now is another's, and so is what is behind it.
            (None, None) if named.is_none() => {
                let device = name.and_then(|name| state.devices.get(&name));
                device.filter(|device| {
                    device
                        .claim
                        .as_ref()
                        .is_some_and(|claim| Namespaced::new(&claim.namespace, &claim.name) == key)
                })
            }
            (None, None) => None,
        };
        let device = device.cloned();
        let asked = &front.asked;
        let start = asked.source.as_ref().map(|source| start::look(state, &key.namespace, source));
        let there = start.as_ref().and_then(|start| start.as_ref().ok());
        let encrypted = there.map_or_else(|| wants_encryption(state, asked), |start| start.encrypted);
        let class_trouble = match own {
            Some(claim) if claim.phase != ClaimPhase::Pending => None,
            // A claim keeps the class that it was made with, also when the tier's default has changed since.
            own => {
                let chosen = own.and_then(|claim| claim.class.clone());
                let chosen = chosen.unwrap_or_else(|| asked.class(encrypted));
                let encrypted = asked.encryption_of(&chosen).unwrap_or(encrypted);
                storage_class::trouble(state, &chosen, (&asked.tier, encrypted, asked.binding()))
            }
        };
        let chosen = own.and_then(|claim| claim.class.clone()).unwrap_or_else(|| asked.class(encrypted));
        let of_class = state.classes.get(&chosen).and_then(|class| storage_class::filesystem(class));
        let filesystem = match (asked.volume_mode, &device) {
            (VolumeMode::Block, _) => None,
            (VolumeMode::Filesystem, Some(device)) => device.filesystem,
            (VolumeMode::Filesystem, None) => {
                let of_source = there.and_then(|start| start.filesystem);
                asked.filesystem.or(of_source).or(of_class).or(Some(Filesystem::Ext4))
            }
        };
        let sharing = match &asked.access {
            Access::Single(_) => None,
            Access::Shared(members) => {
                let members = if front.leaving { &[][..] } else { members };
                let owner = &front.owner;
                Some(View::look(state, &key, (owner.kind, &owner.uid), members, device.as_ref()))
            }
        };
        let quota = over_quota(state, &key.namespace, asked, own, device.as_deref());
        Self {
            quota,
            filesystem,
            sharing,
            class_trouble,
            claim,
            persistent_volume,
            node_works: device.as_ref().is_none_or(|device| state.node_works(&device.node)),
            node_is_there: device.as_ref().is_none_or(|device| state.has_node(&device.node)),
            device,
            pods: state.pods_of(&key),
            offers: state.offers(),
            tiers: state.tiers(),
            encrypted,
            start,
            front,
        }
    }

    /// Where a new volume of its tier and size would go now. It takes a look at every pool, which one that has its place need not pay for.
    pub(super) fn place(&self) -> Result<Place, Refusal> {
        let asked = &self.front.asked;
        let there = self.start.as_ref().and_then(|start| start.as_ref().ok());
        let request = Request {
            tier: asked.tier.clone(),
            size: asked.made_bytes(),
            allowed: there.map(|start| [start.node.clone()].into()),
            preferred: Vec::new(),
            beside: there.map(|start| start.pool.clone()),
            closed: asked.goes_where_it_is_told(),
        };
        placement::choose(&request, &self.offers, &self.tiers)
    }

    /// Bytes that the pool of `device` has left.
    pub(super) fn room(&self, device: &Device) -> u64 {
        let mut offers = self.offers.iter().filter(|offer| offer.working);
        let its_pool = offers.find(|offer| offer.node == device.node && offer.pool == device.pool);
        its_pool.map_or(0, |offer| offer.free)
    }

    /// The claim, if its owner is the one that asks.
    pub(super) fn own_claim(&self) -> Option<&Arc<Claim>> {
        self.claim.as_ref().filter(|claim| self.front.owner.controls(claim))
    }
}
