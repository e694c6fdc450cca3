//! Whom changes of PersistentVolumeClaims and PersistentVolumes concern, and what is looked up of them.

use crate::index::news::{Affects, Change, News};
use crate::index::{
    Claim, ClaimObject, Device, Namespaced, PersistentVolume, PersistentVolumeObject, State, Table, Tracked,
};
use std::sync::Arc;
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
        super::volumes::wants(state, change.key);
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
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::PersistentVolume(change)
    }
}

impl State {
    /// Whether a `PersistentVolume` of any name speaks of the volume of this id.
    pub fn has_persistent_volume(&self, id: &str) -> bool {
        self.volumes_of_handle.has(id)
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
