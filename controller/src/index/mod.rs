//! What the cluster looks like: facts about every object that decisions need, kept by one watch per kind, with the
//! connections between them. Reading it is cheap and never talks to the API server. Whoever waits for a `NodeVolume`
//! is woken by its name; reconcilers are woken by the keys that a change concerns.

mod feed;
mod hearing;
mod kinds;
mod on_node;
mod relation;
mod room;
mod table;
mod topics;
mod tracked;
#[cfg(test)]
mod wakes_tests;

pub use feed::watch_everything;
pub use kinds::claims::{
    Claim, ClaimObject, ClaimOwner, ClaimPhase, OWNERS, PersistentVolume, PersistentVolumeObject,
};
pub use kinds::classes::{Class, ClassObject};
pub use kinds::contents::{Content, ContentObject};
pub use kinds::devices::{Device, Devices};
pub use kinds::key_secrets::{KeySecret, KeySecrets, SecretObject};
pub use kinds::nodes::{Node, NodeObject, Nodes, Pools};
pub use kinds::pods::{Pod, PodObject};
pub use kinds::restores::Restores;
pub use kinds::snapshots::{Snapshot, Snapshots};
pub use kinds::volumes::{MOST_ASKED, Rotations, Volumes, asked_key};
pub use on_node::{Follower, NodeWord, OnNode, Placed, Presence};
pub use table::Table;
pub use topics::{Affects, News, Topic, Wakes};
pub use tracked::{Change, Key, Namespaced, Tracked};

use crate::placement::{self, Offer, Place, Promise, Promises, Refusal, Request, Reservations};
use hearing::Ear;
use relation::Relation;
use room::Room;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tierce_crds::{NodeStorage, PoolStatus, StoragePool, Volume, VolumeRestore};
use tokio::sync::watch;
use topics::{Awaited, Listens, Telling};

/// All facts. Lock it through [`Index::read`] for a moment only; nothing is awaited meanwhile.
#[derive(Debug, Default)]
pub struct State {
    /// Volumes; their metadata is cut down to what is used.
    pub volumes: Table<Namespaced, Volume>,
    /// PersistentVolumeClaims, ours and others.
    pub claims: Table<Namespaced, Claim>,
    /// PersistentVolumes of our driver.
    pub persistent_volumes: Table<String, PersistentVolume>,
    /// NodeVolumes.
    pub devices: Table<String, Device>,
    /// NodeSnapshots.
    pub snapshots: Table<String, Snapshot>,
    /// `VolumeSnapshotContents` of our driver.
    pub contents: Table<String, Content>,
    /// Secrets with keys, by name.
    pub key_secrets: Table<String, KeySecret>,
    /// VolumeRestores.
    pub restores: Table<Namespaced, VolumeRestore>,
    /// What nodes report.
    pub reports: Table<String, NodeStorage>,
    /// StoragePools.
    pub pools: Table<String, StoragePool>,
    /// StorageClasses of any driver.
    pub classes: Table<String, Class>,
    /// Nodes.
    pub nodes: Table<String, Node>,
    /// Pods that hold claims.
    pub pods: Table<Namespaced, Pod>,
    /// Names of the pods that use a claim.
    pods_of_claim: Relation<Namespaced, String>,
    /// Ids of the NodeVolumes on a node.
    devices_of_node: Relation<String, String>,
    /// Ids of the NodeVolumes with an order of this restore, by its UID, or with this safety.
    devices_of_order: Relation<String, String>,
    /// Ids of the NodeVolumes that start with the content of the volume of this id.
    devices_from: Relation<String, String>,
    /// Ids of the NodeSnapshots that are taken of the volume of this id.
    snapshots_from: Relation<String, String>,
    /// Ids of the NodeSnapshots on a node.
    snapshots_of_node: Relation<String, String>,
    /// Ids of the NodeSnapshots that were taken for the VolumeSnapshot of this name.
    snapshots_named: Relation<Namespaced, String>,
    /// Names of the PersistentVolumes of each CSI volume id. One that an administrator wrote has any name.
    volumes_of_handle: Relation<String, String>,
    /// Names of the `VolumeSnapshotContents` that speak of a snapshot: by its id, or by the UID of its VolumeSnapshot.
    contents_of: Relation<String, String>,
    /// Volumes and snapshots whose keys go with no object, or are to go.
    keys_in_doubt: HashSet<String>,
    /// Volumes that a change of room may concern.
    room: Room,
    /// Volumes not made yet, by what they start with.
    copies: Relation<Awaited, Namespaced>,
    /// Restores that are not over, by what they wait for.
    open_restores: Relation<Awaited, Namespaced>,
    /// VolumeRestores by their UID.
    restores_of_uid: Relation<String, Namespaced>,
    promises: Promises,
    reservations: Reservations,
    /// What follows from reports, promises, reservations and nodes; empty once one of them has changed.
    offers: OnceCell<Arc<[Offer]>>,
    /// Tiers that StoragePools name; empty once one of them has changed.
    tiers: OnceCell<Arc<BTreeSet<String>>>,
    listeners: Vec<Arc<dyn Listens>>,
    /// The namespace of the release, where the keys are.
    namespace: String,
}

/// The facts and those who wait for them.
#[derive(Debug, Default)]
pub struct Index {
    state: Mutex<State>,
    waiters: Mutex<HashMap<String, watch::Sender<()>>>,
    /// How the watches do, by kind.
    ears: Mutex<BTreeMap<String, Ear>>,
}

impl Index {
    /// Looks at the facts.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Chooses a place for a new volume and keeps its room, in one step, until the reservation is dropped.
    pub fn reserve(self: &Arc<Self>, id: &str, request: &Request) -> Result<(Place, Reservation), Refusal> {
        let mut state = self.lock();
        let place = placement::choose(request, &state.offers(), &state.tiers())?;
        state.reservations.keep(id, place.clone(), request.size);
        state.offers.take();
        Ok((place, Reservation { index: Arc::clone(self), id: id.to_owned() }))
    }

    /// From now on it knows in which namespace the keys are.
    pub fn keys_are_in(&self, namespace: &str) {
        namespace.clone_into(&mut self.lock().namespace);
    }

    /// Changes facts under the lock, then wakes whom it concerns.
    fn change(&self, change: impl FnOnce(&mut Telling<'_>)) {
        let (deliveries, followed) = {
            let mut state = self.lock();
            let mut telling = Telling::new(&mut state);
            change(&mut telling);
            telling.done()
        };
        for deliver in deliveries {
            deliver();
        }
        let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        for waiter in followed.iter().filter_map(|id| waiters.get(id)) {
            waiter.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tiers that StoragePools name, sorted.
    pub fn tiers(&self) -> Arc<BTreeSet<String>> {
        let all = || self.pools.iter().map(|(_, pool)| pool.spec.tier.clone()).collect();
        Arc::clone(self.tiers.get_or_init(|| Arc::new(all())))
    }

    /// The namespace of the release; empty while nobody has said so.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether a node of this name is in the cluster.
    pub fn has_node(&self, name: &str) -> bool {
        self.nodes.get(name).is_some()
    }

    /// Whether a node of this name is in the cluster, and Kubernetes hears of it and finds it ready.
    pub fn node_works(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|node| node.works)
    }

    /// What is promised of a pool on a node.
    pub fn promise(&self, node: &str, pool: &str) -> Promise {
        self.promises.of(node, pool)
    }

    /// What each pool on each node of the cluster can still take, with what is promised and what is reserved taken off.
    pub fn offers(&self) -> Arc<[Offer]> {
        Arc::clone(self.offers.get_or_init(|| self.all_offers()))
    }

    fn all_offers(&self) -> Arc<[Offer]> {
        let reserved = self.reservations.sums(|id| self.devices.exists(id));
        let mut offers = Vec::new();
        for (node, report) in self.reports.iter() {
            let Some(facts) = self.nodes.get(node) else { continue };
            // What a node says of itself is not enough: a pool is one that an administrator gave to that node, with that tier.
            let given = |pool: &&PoolStatus| {
                let known = self.pools.get(&pool.name);
                known.is_some_and(|known| known.spec.tier == pool.tier && known.spec.selects(&facts.labels))
            };
            for pool in report.status.iter().flat_map(|status| &status.pools).filter(given) {
                let promise = self.promises.of(node, &pool.name);
                let more = reserved.get(&(node.clone(), pool.name.clone())).copied().unwrap_or(0);
                let offer = Offer::of(node, pool, promise, more);
                // The last report of a node that is down says "Ready" for ever.
                let working = offer.working && facts.works;
                offers.push(Offer { working, closed: facts.closed.clone(), ..offer });
            }
        }
        offers.into()
    }
}

/// Keeps the room of one volume until dropped.
#[derive(Debug)]
#[must_use = "the room is free again when this is dropped"]
pub struct Reservation {
    index: Arc<Index>,
    id: String,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.index.lock();
        state.reservations.release(&self.id);
        state.offers.take();
    }
}
