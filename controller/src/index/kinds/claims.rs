//! Whom changes of PersistentVolumeClaims and PersistentVolumes concern, and what is looked up of them.

use crate::index::key::{Awaited, Touched};
use crate::index::news::{Affects, Change, News};
use crate::index::topics::{Topic, Wakes};
use crate::index::{
    Claim, ClaimObject, Device, Namespaced, PersistentVolume, PersistentVolumeObject, State, Table, Tracked,
};
use std::sync::Arc;
use tierce_crds::{names, size_made_of};
use tierce_policy::tenancy::{Holder, Tenant};

impl Tracked for ClaimObject {
    type Key = Namespaced;
    type Facts = Claim;

    fn facts(self) -> Option<Claim> {
        Some(Claim::of(&self))
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Claim> {
        &mut state.claims
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        super::wishes::wants(state, key);
        let class = |claim: &Arc<Claim>| claim.waits_for().cloned();
        state.claims_of_class.change(key, old.and_then(class), new.and_then(class));
        if new.is_some_and(|claim| claim.waits_for().is_some()) {
            state.claims_waiting.insert(key.clone());
        } else {
            state.claims_waiting.remove(key);
        }
        let source = |claim: &Arc<Claim>| claim.source.clone();
        state.claims_from.change(key, old.and_then(source), new.and_then(source));
        let pair = |claim: &Arc<Claim>| claim.pair_of.clone();
        state.claims_of_pair.change(key, old.and_then(pair), new.and_then(pair));
        let made_for = |claim: &Arc<Claim>| claim.shared_of.clone();
        state.claims_for.change(key, old.and_then(made_for), new.and_then(made_for));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Claim(change)
    }
}

impl Tracked for PersistentVolumeObject {
    type Key = String;
    type Facts = PersistentVolume;

    fn facts(self) -> Option<PersistentVolume> {
        PersistentVolume::of(self)
    }

    fn table(state: &mut State) -> &mut Table<String, PersistentVolume> {
        &mut state.persistent_volumes
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        let handle = |pv: &Arc<PersistentVolume>| pv.handle.clone();
        state.volumes_of_handle.change(key, old.map(handle), new.map(handle));
        super::shared_volumes::connect_pairs(state, change);
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::PersistentVolume(change)
    }
}

/// Claims that wait for a volume of ours, whoever made them, by namespace and name.
#[derive(Debug)]
pub struct WaitingClaims;

impl Topic for WaitingClaims {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        let ours = state.classes.iter().filter(|(_, class)| class.provisioner == names::DRIVER);
        ours.flat_map(|(name, _)| state.claims_of_class.of(name)).cloned().collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Namespaced>) {
        wakes.soon(state.claims_that_wait(&state.touched_by(news)));
        let awaited: Vec<Awaited> = match *news {
            News::Claim(change) => {
                if change.both().any(|claim| claim.waits_for().is_some()) {
                    wakes.now(change.key.clone());
                }
                vec![Awaited::Volume(change.key.clone())]
            }
            News::PersistentVolume(change) => {
                change.both().filter_map(|pv| pv.claim.clone()).map(Awaited::Volume).collect()
            }
            News::Device(change) => {
                change.both().flat_map(|device| state.claims_of(device)).map(Awaited::Volume).collect()
            }
            News::Snapshot(change) => {
                change.both().flat_map(|snapshot| state.names_of(snapshot)).map(Awaited::Snapshot).collect()
            }
            News::Content(change) => {
                change.both().filter_map(|content| content.of.clone()).map(Awaited::Snapshot).collect()
            }
            // One that comes back may have what they start with.
            News::Node(Change { key, old, new }) if old.is_some() != new.is_some() => {
                let volumes = state.devices_on(key).flat_map(|device| state.claims_of(device));
                let snapshots = state.snapshots_on(key).flat_map(|snapshot| state.names_of(snapshot));
                volumes.map(Awaited::Volume).chain(snapshots.map(Awaited::Snapshot)).collect()
            }
            News::Tiers => {
                wakes.soon(Self::all(state));
                return;
            }
            _ => return,
        };
        for awaited in &awaited {
            wakes.all(state.claims_from.of(awaited).cloned());
        }
    }
}

impl State {
    /// Claims in these namespaces that have no volume.
    fn claims_that_wait(&self, touched: &Touched) -> Vec<Namespaced> {
        touched.of(&self.claims_waiting)
    }

    /// Whether a `PersistentVolume` of any name speaks of the volume of this id, or one of a namespace with which it is shared.
    pub fn has_persistent_volume(&self, id: &str) -> bool {
        self.volumes_of_handle.has(id) || self.pairs_of_device.has(id)
    }

    /// Names of the claims that may have the `NodeVolume` behind them: the one that it was made for, and those of its PersistentVolumes.
    pub(crate) fn claims_of(&self, device: &Device) -> Vec<Namespaced> {
        let made_for = device.claim.as_ref().map(|claim| Namespaced::new(&claim.namespace, &claim.name));
        let names = self.volumes_of_handle.of(&device.id);
        let bound = names.filter_map(|name| self.persistent_volumes.get(name)?.claim.clone());
        let bound: Vec<_> = bound.filter(|claim| Some(claim) != made_for.as_ref()).collect();
        made_for.into_iter().chain(bound).collect()
    }

    /// The `NodeVolume` behind the claim of this name.
    pub fn device_of(&self, claim: &Namespaced) -> Option<&Arc<Device>> {
        let found = self.claims.get(claim)?;
        // A claim may name any PersistentVolume; it counts only if that one names the claim.
        let bound = found.volume_name.as_ref().and_then(|name| self.persistent_volumes.get(name));
        match bound.filter(|pv| pv.claim_uid.as_ref() == Some(&found.uid)) {
            Some(pv) => self.devices.get(&pv.handle),
            None => self.devices.get(&found.device_id()),
        }
    }

    /// Bytes that the claim behind the volume asked for, where the volume is just that, rounded up.
    pub(crate) fn asked_for(&self, device: &Device) -> Option<u64> {
        let has = device.least_copy()?;
        let is_its = |key: &Namespaced| self.device_of(key).is_some_and(|its| its.id == device.id);
        let claims = self.claims_of(device).into_iter().filter(is_its);
        let asked = claims.filter_map(|key| self.claims.get(&key).map(|claim| claim.requested));
        asked.filter(|asked| *asked < has && size_made_of(*asked) == has).min()
    }

    /// The `NodeVolume` behind the Volume of this name. A claim of that name that is not the Volume's may be anybody's.
    pub fn own_device_of(&self, volume: &Namespaced) -> Option<&Arc<Device>> {
        let uid = self.volumes.get(volume)?.metadata.uid.as_deref();
        self.claims.get(volume).filter(|claim| claim.is_controlled_by("Volume", uid))?;
        self.device_of(volume)
    }

    /// Whose the bytes of this volume are.
    pub fn tenant_of(&self, device: &Device) -> Tenant {
        let named =
            self.volumes_of_handle.of(&device.id).filter_map(|name| self.persistent_volumes.get(name));
        let holders: Vec<_> = named.filter_map(|pv| self.holder(pv)).collect();
        Tenant::of_device(device.claim.as_ref(), &holders)
    }

    fn holder<'a>(&self, pv: &'a PersistentVolume) -> Option<Holder<'a>> {
        let claim = pv.claim.as_ref()?;
        let uid = pv.claim_uid.as_deref();
        let exists = self.claims.get(claim).is_some_and(|known| Some(known.uid.as_str()) == uid);
        Some(Holder { namespace: &claim.namespace, uid, exists })
    }
}
