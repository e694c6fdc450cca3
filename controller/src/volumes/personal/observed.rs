//! Everything that a decision about one Volume rests on, at one moment.

use crate::csi::class;
use crate::index::{Claim, ClaimPhase, Device, Namespaced, PersistentVolume, State};
use crate::placement::{self, Offer, Place, Refusal, Request};
use std::collections::BTreeSet;
use std::sync::Arc;
use tierce_crds::{Filesystem, Source, Volume, VolumeMode, parse_bytes};

/// What there is.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The Volume.
    pub volume: Arc<Volume>,
    /// The claim of its name, whoever's it is.
    pub claim: Option<Arc<Claim>>,
    /// The `PersistentVolume` behind it, by name. What a claim says of it is not believed: anybody may write the name of
    /// another's there. It counts only if it names the claim itself.
    pub persistent_volume: Option<(String, Arc<PersistentVolume>)>,
    /// The `NodeVolume` behind it.
    pub device: Option<Arc<Device>>,
    /// Whether the node of `device` is in the cluster.
    pub node_is_there: bool,
    /// Whether it is there and works.
    pub node_works: bool,
    /// Pods on nodes that use the claim.
    pub pods: Vec<String>,
    /// What each pool on each node can take.
    pub offers: Arc<[Offer]>,
    /// The tiers that there are.
    pub tiers: Arc<BTreeSet<String>>,
    /// Whether a new volume of it is encrypted.
    pub encrypted: bool,
    /// What is wrong with the StorageClass that is to make it.
    pub class_trouble: Option<String>,
    /// What it is to start with, or why that can't be.
    pub start: Option<Result<Start, String>>,
}

/// What a Volume starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Node.
    pub node: String,
    /// `StoragePool`.
    pub pool: String,
    /// Bytes that a copy has at least.
    pub bytes: u64,
    /// What it holds.
    pub mode: VolumeMode,
    /// With mode Filesystem.
    pub filesystem: Option<Filesystem>,
    /// Whether it is encrypted; a copy is as well.
    pub encrypted: bool,
}

/// What the Volume says, else what the pools of its tier say.
fn wants_encryption(state: &State, volume: &Volume) -> bool {
    let by_default = || {
        let mut pools = state.pools.iter().map(|(_, pool)| &pool.spec);
        pools.any(|pool| pool.tier == volume.spec.tier && pool.encrypt_by_default)
    };
    volume.spec.encryption.as_ref().map_or_else(by_default, |encryption| encryption.enabled)
}

impl Start {
    fn look(state: &State, namespace: &str, source: &Source) -> Result<Self, String> {
        if let Some(name) = &source.snapshot {
            let snapshot = state.snapshot_of(&Namespaced::new(namespace, name)).ok_or_else(|| {
                format!("VolumeSnapshot {name:?} is not there, not taken yet, or not of a volume of Tierce")
            })?;
            let (Some(bytes), Some(mode), true) = (snapshot.size, snapshot.mode, snapshot.ready()) else {
                return Err(format!("VolumeSnapshot {name:?} is not ready"));
            };
            let (node, pool) = (snapshot.node.clone(), snapshot.pool.clone());
            return Ok(Self {
                node,
                pool,
                bytes,
                mode,
                filesystem: snapshot.filesystem,
                encrypted: snapshot.encrypted,
            });
        }
        let name = source.volume.as_deref().unwrap_or_default();
        let key = Namespaced::new(namespace, name);
        if !state.volumes.exists(&key) {
            return Err(format!("Volume {name:?} is not there"));
        }
        let device = state.device_of(&key).ok_or_else(|| format!("Volume {name:?} holds nothing yet"))?;
        let bytes = device.least_copy().ok_or_else(|| format!("Volume {name:?} is still being made"))?;
        let (node, pool) = (device.node.clone(), device.pool.clone());
        Ok(Self {
            node,
            pool,
            bytes,
            mode: device.mode,
            filesystem: device.filesystem,
            encrypted: device.encrypted,
        })
    }
}

impl Observed {
    /// Looks; `None` if there is no such Volume.
    pub fn look(state: &State, key: &Namespaced) -> Option<Self> {
        let volume = Arc::clone(state.volumes.get(key)?);
        let claim = state.claims.get(key).cloned();
        let own = claim.as_ref().filter(|claim| claim.owner == volume.metadata.uid);
        let known = volume.status.as_ref().and_then(|status| status.volume_name.clone());
        let name = own.and_then(|claim| claim.volume_name.clone()).or(known);
        let named = name.as_ref().and_then(|name| state.persistent_volumes.get(name));
        let persistent_volume = named
            .filter(|pv| {
                let its_own = own.is_none_or(|claim| pv.claim_uid.as_ref() == Some(&claim.uid));
                its_own && pv.claim.as_ref() == Some(key)
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
                        .is_some_and(|claim| Namespaced::new(&claim.namespace, &claim.name) == *key)
                })
            }
            (None, None) => None,
        };
        let device = device.cloned();
        let source = volume.spec.source.as_ref();
        let start = source.map(|source| Start::look(state, &key.namespace, source));
        let there = start.as_ref().and_then(|start| start.as_ref().ok());
        let encrypted = there.map_or_else(|| wants_encryption(state, &volume), |start| start.encrypted);
        let class_trouble = match own {
            Some(claim) if claim.phase != ClaimPhase::Pending => None,
            // A claim keeps the class that it was made with, also when the tier's default has changed since.
            own => {
                let chosen = own.and_then(|claim| claim.class.clone());
                let chosen = chosen.unwrap_or_else(|| class::name(&volume, encrypted));
                let encrypted = class::encrypts(&volume, &chosen).unwrap_or(encrypted);
                class::trouble(state, &chosen, &volume.spec.tier, encrypted)
            }
        };
        Some(Self {
            class_trouble,
            claim,
            persistent_volume,
            node_works: device.as_ref().is_none_or(|device| state.node_works(&device.node)),
            node_is_there: device.as_ref().is_none_or(|device| state.has_node(&device.node)),
            device,
            pods: state.pods_of(key),
            offers: state.offers(),
            tiers: state.tiers(),
            encrypted,
            start,
            volume,
        })
    }

    /// Where a new volume of its tier and size would go now. It takes a look at every pool, which one that has its place need not pay for.
    pub fn place(&self) -> Result<Place, Refusal> {
        let spec = &self.volume.spec;
        let there = self.start.as_ref().and_then(|start| start.as_ref().ok());
        let request = Request {
            tier: spec.tier.clone(),
            size: parse_bytes(&spec.size).unwrap_or(u64::MAX),
            allowed: there.map(|start| [start.node.clone()].into()),
            preferred: Vec::new(),
            beside: there.map(|start| start.pool.clone()),
            closed: spec.goes_where_it_is_told(),
        };
        placement::choose(&request, &self.offers, &self.tiers)
    }

    /// Bytes that the pool of `device` has left.
    pub fn room(&self, device: &Device) -> u64 {
        let mut offers = self.offers.iter().filter(|offer| offer.working);
        let its_pool = offers.find(|offer| offer.node == device.node && offer.pool == device.pool);
        its_pool.map_or(0, |offer| offer.free)
    }

    /// The claim, if this Volume controls it.
    pub fn own_claim(&self) -> Option<&Arc<Claim>> {
        self.claim.as_ref().filter(|claim| claim.owner.is_some() && claim.owner == self.volume.metadata.uid)
    }
}
