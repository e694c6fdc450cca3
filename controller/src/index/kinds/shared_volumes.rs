//! SharedVolumes: what is remembered of each, and what they have in other namespaces.

use super::wishes::wants;
use crate::index::facts::trimmed::named;
use crate::index::news::{Affects, Change, News};
use crate::index::{Device, Namespaced, PersistentVolume, PersistentVolumeObject, State, Table, Tracked};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tierce_crds::{SharedVolume, names};

impl Tracked for SharedVolume {
    type Key = Namespaced;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata = named(self.metadata, names::FINALIZER_SHARED_VOLUME);
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.shared_volumes
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        wants(state, key);
        state.shared_to.change(key, members(key, old), members(key, new));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::SharedVolume(change)
    }
}

/// The claims that it is to have in other namespaces.
fn members(key: &Namespaced, shared: Option<&Arc<SharedVolume>>) -> Vec<Namespaced> {
    let members = shared.into_iter().flat_map(|shared| &shared.spec.members);
    members.map(|member| Namespaced::new(&member.name, &key.name)).collect()
}

/// Keeps of which SharedVolume the `PersistentVolume` is.
pub(super) fn connect_pairs(state: &mut State, change: &Change<'_, PersistentVolumeObject>) {
    let Change { key, old, new } = *change;
    let of = |pv: &Arc<PersistentVolume>| pv.pair.as_ref().map(|pair| pair.of.clone());
    state.pairs.change(key, old.and_then(of), new.and_then(of));
    let device = |pv: &Arc<PersistentVolume>| names::of_shared_handle(&pv.handle).map(ToOwned::to_owned);
    state.pairs_of_device.change(key, old.and_then(device), new.and_then(device));
    for (pv, there) in [(old, false), (new, true)] {
        let Some((claim, pair)) = pv.and_then(|pv| Some((pv.claim.clone()?, pv.pair.as_ref()?))) else {
            continue;
        };
        let word = (key.clone(), pair.of.clone());
        let (gone, come) = if there { (None, Some(claim)) } else { (Some(claim), None) };
        state.paired_with.change(&word, gone, come);
    }
}

impl State {
    /// PersistentVolumes that the SharedVolume of this key has in other namespaces, by name.
    pub fn pairs_of(&self, key: &Namespaced) -> Vec<(String, Arc<PersistentVolume>)> {
        let found =
            self.pairs.of(key).filter_map(|name| Some((name.clone(), self.persistent_volumes.get(name)?)));
        let mut found: Vec<_> = found.map(|(name, pv)| (name, Arc::clone(pv))).collect();
        found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        found
    }

    /// Claims that were made in other namespaces for the SharedVolume of this UID.
    pub fn claims_of_pair(&self, uid: &str) -> impl Iterator<Item = &Namespaced> {
        self.claims_of_pair.of(uid)
    }

    /// Why namespaces have no claim of the SharedVolume of this key, by namespace.
    pub(crate) fn refused_to(&self, key: &Namespaced) -> Option<&BTreeMap<String, String>> {
        self.refused.get(key)
    }

    /// PersistentVolumes with which the `NodeVolume` of this id is shared with other namespaces.
    pub fn pairs_of_device(&self, id: &str) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        self.pairs_of_device.of(id).filter_map(|name| self.persistent_volumes.get(name))
    }

    /// NodeVolumes that were made for the SharedVolume of this key, or for one of that name before it.
    pub fn devices_shared_by(&self, key: &Namespaced) -> impl Iterator<Item = &Arc<Device>> {
        self.shared_devices.of(key).filter_map(|id| self.devices.get(id))
    }

    /// UIDs of the SharedVolumes of this key that claims of other namespaces say they were made for.
    pub fn claimed_for<'a>(&'a self, key: &Namespaced) -> impl Iterator<Item = String> + use<'a> {
        self.claims_for.of(key).filter_map(|claim| self.claims.get(claim)?.pair_of.clone())
    }

    /// SharedVolumes of which something is there besides themselves, whether they are or not.
    pub fn with_something_shared(&self) -> BTreeSet<Namespaced> {
        let guarded = self.claims.iter().filter(|(_, claim)| claim.guarded).map(|(key, _)| key);
        let made_for = self.claims_for.words();
        self.pairs
            .words()
            .chain(self.shared_devices.words())
            .chain(guarded)
            .chain(made_for)
            .cloned()
            .collect()
    }

    /// SharedVolumes that have, had or are to have the claim of this key, be it in their own namespace.
    pub fn sharers_of(&self, claim: &Namespaced) -> BTreeSet<Namespaced> {
        let is_own = self.shared_volumes.exists(claim) || self.shared_devices.has(claim);
        let own = is_own.then(|| claim.clone());
        let paired = self.paired_with.of(claim).map(|(_, owner)| owner.clone());
        own.into_iter().chain(self.shared_to.of(claim).cloned()).chain(paired).collect()
    }
}
