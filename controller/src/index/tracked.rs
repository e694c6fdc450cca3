//! Which kinds are watched, what is kept of each, and whom its changes concern.

use super::facts::{ClaimObject, NodeObject, PersistentVolumeObject, PodObject};
use super::room::Wish;
use super::{Claim, Device, Index, Namespaced, Node, PersistentVolume, Pod, State, Table, Wakes};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use std::hash::Hash;
use std::sync::Arc;
use tierce_crds::{NodeStorage, NodeVolume, StoragePool, Volume, conditions, names, parse_bytes};

/// A kind that is watched.
pub trait Tracked: Sized {
    /// What identifies an object.
    type Key: Clone + Eq + Hash;
    /// What is kept of it.
    type Facts: PartialEq;

    /// The key in an object's metadata.
    fn key(meta: &ObjectMeta) -> Self::Key;
    /// What is kept; `None` if the object is of no interest.
    fn facts(self) -> Option<Self::Facts>;
    /// Where it is kept.
    fn table(state: &mut State) -> &mut Table<Self::Key, Self::Facts>;
    /// Keeps the connections, and says whom the change concerns.
    fn connect(
        state: &mut State,
        key: &Self::Key,
        old: Option<&Arc<Self::Facts>>,
        new: Option<&Arc<Self::Facts>>,
        wakes: &mut Wakes,
    );
}

fn name(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

impl Index {
    /// The watch of a kind starts anew.
    pub fn begin<T: Tracked>(&self) {
        self.change(|state, _| T::table(state).begin());
    }

    /// The watch of a kind has listed everything.
    pub fn end<T: Tracked>(&self) {
        self.change(|state, wakes| {
            for key in T::table(state).end() {
                remove::<T>(state, &key, wakes);
            }
        });
    }

    /// An object exists.
    pub fn put<T: Tracked + Resource>(&self, object: T) {
        let key = T::key(object.meta());
        let facts = object.facts();
        self.change(|state, wakes| match facts {
            None => {
                remove::<T>(state, &key, wakes);
            }
            Some(facts) => {
                let Ok(old) = T::table(state).put(key.clone(), facts) else { return };
                let new = T::table(state).get(&key).cloned();
                T::connect(state, &key, old.as_ref(), new.as_ref(), wakes);
            }
        });
    }

    /// An object exists and can't be read. Whether that is news.
    pub fn put_unreadable<T: Tracked>(&self, meta: &ObjectMeta) -> bool {
        let mut news = false;
        self.change(|state, wakes| {
            news = T::table(state).put_unreadable(T::key(meta));
            // A reservation for it counts no more.
            wakes.space |= news;
        });
        news
    }

    /// An object is gone.
    pub fn remove<T: Tracked>(&self, meta: &ObjectMeta) {
        self.change(|state, wakes| remove::<T>(state, &T::key(meta), wakes));
    }
}

fn remove<T: Tracked>(state: &mut State, key: &T::Key, wakes: &mut Wakes) {
    let old = T::table(state).remove(key);
    T::connect(state, key, old.as_ref(), None, wakes);
}

impl Tracked for Volume {
    type Key = Namespaced;
    type Facts = Self;

    fn key(meta: &ObjectMeta) -> Namespaced {
        Namespaced::of(meta)
    }

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        let rotate = |key: &String| key == names::ANNOTATION_ROTATE_KEY;
        self.metadata.annotations.iter_mut().for_each(|all| all.retain(|key, _| rotate(key)));
        self.metadata.labels = None;
        self.metadata.owner_references = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.volumes
    }

    fn connect(
        state: &mut State,
        key: &Namespaced,
        _: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        wakes: &mut Wakes,
    ) {
        state.room.wants(key, new.map_or(Wish::Nothing, |volume| wish(volume)));
        if new.is_some_and(|volume| volume.spec.source.is_some() && matches!(wish(volume), Wish::Place(..))) {
            state.copies.insert(key.clone());
        } else {
            state.copies.remove(key);
        }
        state.wake_restores(key, wakes);
        if new.is_some_and(|volume| rotates(volume)) {
            wakes.rotations.insert(key.clone());
        }
        wakes.volumes.insert(key.clone());
    }
}

/// Whether somebody asked for a new key.
fn rotates(volume: &Volume) -> bool {
    volume.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::ANNOTATION_ROTATE_KEY))
}

fn wish(volume: &Volume) -> Wish {
    let status = volume.status.clone().unwrap_or_default();
    let settled = status.observed_generation == volume.metadata.generation
        && conditions::find(&status.conditions, conditions::READY)
            .is_some_and(|c| c.status == "True" && c.reason == conditions::volume::PROVISIONED);
    if settled || volume.metadata.deletion_timestamp.is_some() {
        Wish::Nothing
    } else if status.volume_name.is_some() {
        Wish::Mend
    } else {
        let size = parse_bytes(&volume.spec.size).unwrap_or(u64::MAX);
        Wish::Place(volume.spec.tier.clone(), size)
    }
}

impl Tracked for ClaimObject {
    type Key = Namespaced;
    type Facts = Claim;

    fn key(meta: &ObjectMeta) -> Namespaced {
        Namespaced::of(meta)
    }

    fn facts(self) -> Option<Claim> {
        Some(Claim::of(&self))
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Claim> {
        &mut state.claims
    }

    fn connect(
        state: &mut State,
        key: &Namespaced,
        old: Option<&Arc<Claim>>,
        new: Option<&Arc<Claim>>,
        wakes: &mut Wakes,
    ) {
        if state.volumes.exists(key) {
            wakes.volumes.insert(key.clone());
        }
        // A claim that is gone, or was made anew under its name, may leave an orphan.
        if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid != old.uid)) {
            wakes.devices.insert(old.device_id());
        }
    }
}

impl Tracked for PersistentVolumeObject {
    type Key = String;
    type Facts = PersistentVolume;

    fn key(meta: &ObjectMeta) -> String {
        name(meta)
    }

    fn facts(self) -> Option<PersistentVolume> {
        PersistentVolume::of(self)
    }

    fn table(state: &mut State) -> &mut Table<String, PersistentVolume> {
        &mut state.persistent_volumes
    }

    fn connect(
        state: &mut State,
        key: &String,
        old: Option<&Arc<PersistentVolume>>,
        new: Option<&Arc<PersistentVolume>>,
        wakes: &mut Wakes,
    ) {
        let claims = old.into_iter().chain(new).filter_map(|pv| pv.claim.as_ref());
        wakes.volumes.extend(claims.filter(|claim| state.volumes.exists(*claim)).cloned());
        if old.map(|old| &old.handle) == new.map(|new| &new.handle) {
            return;
        }
        if let Some(old) = old {
            if let Some(names) = state.volumes_of_handle.get_mut(&old.handle) {
                names.remove(key);
                if names.is_empty() {
                    state.volumes_of_handle.remove(&old.handle);
                }
            }
            wakes.devices.insert(old.handle.clone());
        }
        if let Some(new) = new {
            state.volumes_of_handle.entry(new.handle.clone()).or_default().insert(key.clone());
            wakes.devices.insert(new.handle.clone());
        }
    }
}

impl Tracked for NodeVolume {
    type Key = String;
    type Facts = Device;

    fn key(meta: &ObjectMeta) -> String {
        name(meta)
    }

    fn facts(self) -> Option<Device> {
        Some(Device::of(self))
    }

    fn table(state: &mut State) -> &mut Table<String, Device> {
        &mut state.devices
    }

    fn connect(
        state: &mut State,
        key: &String,
        old: Option<&Arc<Device>>,
        new: Option<&Arc<Device>>,
        wakes: &mut Wakes,
    ) {
        wakes.devices.insert(key.clone());
        let share = |device: &Arc<Device>| (device.promise(), device.pending());
        wakes.space |= old.map(share) != new.map(share);
        if let Some(old) = old {
            state.promises.take_back(old);
            if let Some(on_node) = state.devices_of_node.get_mut(&old.node) {
                on_node.remove(key);
                if on_node.is_empty() {
                    state.devices_of_node.remove(&old.node);
                }
            }
        }
        if let Some(new) = new {
            state.promises.give(new);
            state.devices_of_node.entry(new.node.clone()).or_default().insert(key.clone());
        }
        if let Some(new) = new.filter(|new| !state.has_node(&new.node)) {
            wakes.nodes.insert(new.node.clone());
        }
        for device in old.into_iter().chain(new) {
            if let Some(claim) = &device.claim {
                let claim = Namespaced::new(&claim.namespace, &claim.name);
                state.wake_restores(&claim, wakes);
                state.wake_copies(&claim.namespace, wakes);
                if state.volumes.get(&claim).is_some_and(|volume| rotates(volume)) {
                    wakes.rotations.insert(claim.clone());
                }
                if state.volumes.exists(&claim) {
                    wakes.volumes.insert(claim);
                }
            }
        }
    }
}

impl Tracked for NodeStorage {
    type Key = String;
    type Facts = Self;

    fn key(meta: &ObjectMeta) -> String {
        name(meta)
    }

    fn facts(mut self) -> Option<Self> {
        self.metadata = ObjectMeta { name: self.metadata.name, ..ObjectMeta::default() };
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Self> {
        &mut state.reports
    }

    fn connect(
        state: &mut State,
        key: &String,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        wakes: &mut Wakes,
    ) {
        wakes.space = true;
        if new.is_some() && !state.has_node(key) {
            wakes.nodes.insert(key.clone());
        }
        let reported = old.into_iter().chain(new).filter_map(|report| report.status.as_ref());
        wakes.pools.extend(reported.flat_map(|status| &status.pools).map(|pool| pool.name.clone()));
        // A node that comes or goes counts for every pool that selects it.
        if old.is_none() || new.is_none() {
            wakes.pools.extend(state.pools.iter().map(|(name, _)| name.clone()));
        }
    }
}

impl Tracked for StoragePool {
    type Key = String;
    type Facts = Self;

    fn key(meta: &ObjectMeta) -> String {
        name(meta)
    }

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        self.metadata.annotations = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Self> {
        &mut state.pools
    }

    fn connect(_: &mut State, key: &String, _: Option<&Arc<Self>>, _: Option<&Arc<Self>>, wakes: &mut Wakes) {
        wakes.pools.insert(key.clone());
        wakes.tiers = true;
    }
}

impl Tracked for NodeObject {
    type Key = String;
    type Facts = Node;

    fn key(meta: &ObjectMeta) -> String {
        name(meta)
    }

    fn facts(self) -> Option<Node> {
        Some(Node::of(self))
    }

    fn table(state: &mut State) -> &mut Table<String, Node> {
        &mut state.nodes
    }

    fn connect(
        state: &mut State,
        key: &String,
        old: Option<&Arc<Node>>,
        new: Option<&Arc<Node>>,
        wakes: &mut Wakes,
    ) {
        wakes.pools.extend(state.pools.iter().map(|(name, _)| name.clone()));
        if old.is_some() != new.is_some() {
            wakes.nodes.insert(key.clone());
        }
        if old.map(|node| node.works) != new.map(|node| node.works) {
            wakes.space = true;
            for device in state.devices_on(key) {
                let claim = device.claim.as_ref().map(|c| Namespaced::new(&c.namespace, &c.name));
                wakes.volumes.extend(claim.filter(|claim| state.volumes.exists(claim)));
            }
        }
    }
}

impl Tracked for PodObject {
    type Key = Namespaced;
    type Facts = Pod;

    fn key(meta: &ObjectMeta) -> Namespaced {
        Namespaced::of(meta)
    }

    fn facts(self) -> Option<Pod> {
        Pod::of(&self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Pod> {
        &mut state.pods
    }

    fn connect(
        state: &mut State,
        key: &Namespaced,
        old: Option<&Arc<Pod>>,
        new: Option<&Arc<Pod>>,
        wakes: &mut Wakes,
    ) {
        for claim in old.into_iter().flat_map(|pod| &pod.claims) {
            let claim = Namespaced::new(&key.namespace, claim);
            if let Some(pods) = state.pods_of_claim.get_mut(&claim) {
                pods.remove(&key.name);
                if pods.is_empty() {
                    state.pods_of_claim.remove(&claim);
                }
            }
            state.wake_restores(&claim, wakes);
            // Only a Volume that is to go waits for its pods, and a restore.
            if state.volumes.get(&claim).is_some_and(|volume| volume.metadata.deletion_timestamp.is_some()) {
                wakes.volumes.insert(claim);
            }
        }
        for claim in new.into_iter().flat_map(|pod| &pod.claims) {
            let claim = Namespaced::new(&key.namespace, claim);
            state.wake_restores(&claim, wakes);
            state.pods_of_claim.entry(claim).or_default().insert(key.name.clone());
        }
    }
}
