//! What the cluster looks like: facts about every object that decisions need, kept by one watch per kind, with the
//! connections between them. Reading it is cheap and never talks to the API server. Whoever waits for a `NodeVolume`
//! is woken by its name; reconcilers are woken by the keys that a change concerns.

mod claims;
mod contents;
mod devices;
mod feed;
mod key_secrets;
mod nodes;
mod on_node;
mod pods;
mod restores;
mod room;
mod snapshots;
mod table;
mod tracked;
mod volumes;

pub use claims::{Claim, ClaimPhase, PersistentVolume, PersistentVolumeObject};
pub use contents::{Content, ContentObject};
pub use devices::Device;
pub use feed::watch_everything;
pub use key_secrets::{KeySecret, SecretObject};
pub use nodes::{Node, NodeObject};
pub use on_node::{Follower, NodeWord, OnNode, Placed, Presence};
pub use pods::Pod;
pub use snapshots::Snapshot;
pub use table::Table;
pub use tracked::{Change, Key, Namespaced, Tracked};

use crate::placement::{self, Offer, Place, Promise, Promises, Refusal, Request, Reservations};
use crate::queue::Queue;
use room::Room;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tierce_crds::{NodeStorage, StoragePool, Volume, VolumeRestore};
use tokio::sync::watch;

/// A change of free space concerns every Volume that waits for some; so many changes are looked at together.
const SPACE_SETTLES: Duration = Duration::from_secs(1);
/// A pool's status adds up what many volumes change; so many changes are written together.
const POOL_SETTLES: Duration = Duration::from_secs(2);

/// The queues of the reconcilers.
#[derive(Debug, Default)]
pub struct Queues {
    /// Volumes, by namespace and name.
    pub volumes: Queue<Namespaced>,
    /// NodeVolumes that may be orphans, by id.
    pub devices: Queue<String>,
    /// NodeSnapshots that may be orphans, by id.
    pub snapshots: Queue<String>,
    /// Keys that may be orphans, by the id of their volume or snapshot.
    pub keys: Queue<String>,
    /// Nodes that may be lost, by name.
    pub nodes: Queue<String>,
    /// StoragePools, by name.
    pub pools: Queue<String>,
    /// VolumeRestores, by namespace and name.
    pub restores: Queue<Namespaced>,
    /// Volumes whose key is to change, by namespace and name.
    pub rotations: Queue<Namespaced>,
}

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
    /// Nodes.
    pub nodes: Table<String, Node>,
    /// Pods that hold claims.
    pub pods: Table<Namespaced, Pod>,
    pods_of_claim: HashMap<Namespaced, BTreeSet<String>>,
    devices_of_node: HashMap<String, HashSet<String>>,
    /// Names of the PersistentVolumes of each CSI volume id. One that an administrator wrote has any name.
    volumes_of_handle: HashMap<String, BTreeSet<String>>,
    /// Names of the `VolumeSnapshotContents` that speak of a snapshot: by its id, or by the UID of its VolumeSnapshot.
    contents_of: HashMap<String, BTreeSet<String>>,
    /// Volumes and snapshots whose keys go with no object.
    untied_keys: HashSet<String>,
    /// Volumes that a change of room may concern.
    room: Room,
    /// Volumes not made yet that start with something that may come.
    copies: HashSet<Namespaced>,
    /// Restores that are not over: few, so that it costs little to look whom a change concerns.
    open_restores: HashSet<Namespaced>,
    promises: Promises,
    reservations: Reservations,
    /// What follows from reports, promises, reservations and nodes; empty once one of them has changed.
    offers: OnceCell<Arc<[Offer]>>,
}

/// The facts and those who wait for them.
#[derive(Debug, Default)]
pub struct Index {
    state: Mutex<State>,
    waiters: Mutex<HashMap<String, watch::Sender<()>>>,
    listeners: OnceLock<Arc<Queues>>,
}

/// Whom a change concerns; collected under the lock, woken after it.
#[derive(Debug, Default)]
pub struct Wakes {
    volumes: HashSet<Namespaced>,
    devices: HashSet<String>,
    snapshots: HashSet<String>,
    restores: HashSet<Namespaced>,
    rotations: HashSet<Namespaced>,
    keys: HashSet<String>,
    nodes: HashSet<String>,
    pools: HashSet<String>,
    /// Room may have come or gone somewhere.
    space: bool,
    /// Tiers may have come or gone.
    tiers: bool,
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

    /// From now on changes wake the reconcilers of these queues; every known object is put in first.
    pub fn listen(&self, queues: &Arc<Queues>) {
        let all = {
            let state = self.lock();
            let _ = self.listeners.set(Arc::clone(queues));
            Wakes {
                volumes: state.volumes.iter().map(|(key, _)| key.clone()).collect(),
                devices: state.devices.iter().map(|(key, _)| key.clone()).collect(),
                snapshots: state.snapshots.iter().map(|(key, _)| key.clone()).collect(),
                keys: state.untied_keys.clone(),
                nodes: state
                    .devices_of_node
                    .keys()
                    .chain(state.reports.iter().map(|(key, _)| key))
                    .chain(state.snapshots.iter().map(|(_, snapshot)| &snapshot.node))
                    .cloned()
                    .collect(),
                pools: state.pools.iter().map(|(key, _)| key.clone()).collect(),
                restores: state.restores.iter().map(|(key, _)| key.clone()).collect(),
                // Which of them have something to do costs a look in memory.
                rotations: state.volumes.iter().map(|(key, _)| key.clone()).collect(),
                ..Wakes::default()
            }
        };
        self.wake(all);
    }

    /// Changes facts under the lock, then wakes whom it concerns.
    fn change(&self, change: impl FnOnce(&mut State, &mut Wakes)) {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        change(&mut state, &mut wakes);
        if wakes.space || wakes.tiers {
            state.offers.take();
        }
        let waiting = match self.listeners.get() {
            Some(_) if wakes.tiers => state.room.all(),
            Some(_) if wakes.space => {
                let offers = state.offers();
                state.room.concerned(&offers)
            }
            _ => Vec::new(),
        };
        drop(state);
        if let Some(queues) = self.listeners.get() {
            for key in waiting {
                queues.volumes.add_after(key, SPACE_SETTLES);
            }
        }
        self.wake(wakes);
    }

    fn wake(&self, wakes: Wakes) {
        {
            let waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            // Volumes and snapshots share their ids.
            for waiter in wakes.devices.iter().chain(&wakes.snapshots).filter_map(|id| waiters.get(id)) {
                waiter.send_replace(());
            }
        }
        let Some(queues) = self.listeners.get() else { return };
        for key in wakes.volumes {
            queues.volumes.add(key);
        }
        for key in wakes.devices {
            queues.devices.add(key);
        }
        for key in wakes.snapshots {
            queues.snapshots.add(key);
        }
        for key in wakes.keys {
            queues.keys.add(key);
        }
        for key in wakes.restores {
            queues.restores.add(key);
        }
        for key in wakes.rotations {
            queues.rotations.add(key);
        }
        for key in wakes.nodes {
            queues.nodes.add(key);
        }
        for key in wakes.pools {
            queues.pools.add_after(key, POOL_SETTLES);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a `PersistentVolume` of any name speaks of the volume of this id.
    pub fn has_persistent_volume(&self, id: &str) -> bool {
        self.volumes_of_handle.contains_key(id)
    }

    /// Pods on nodes that use the claim, by name.
    pub fn pods_of(&self, claim: &Namespaced) -> Vec<String> {
        self.pods_of_claim.get(claim).map(|pods| pods.iter().cloned().collect()).unwrap_or_default()
    }

    /// Tiers that StoragePools name, sorted.
    pub fn tiers(&self) -> BTreeSet<String> {
        self.pools.iter().map(|(_, pool)| pool.spec.tier.clone()).collect()
    }

    /// NodeVolumes of a node.
    pub fn devices_on(&self, node: &str) -> impl Iterator<Item = &Arc<Device>> {
        self.devices_of_node.get(node).into_iter().flatten().filter_map(|id| self.devices.get(id))
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
        for (node, report) in self.reports.iter().filter(|(node, _)| self.has_node(node)) {
            for pool in report.status.iter().flat_map(|status| &status.pools) {
                let promise = self.promises.of(node, &pool.name);
                let more = reserved.get(&(node.clone(), pool.name.clone())).copied().unwrap_or(0);
                let offer = Offer::of(node, pool, promise, more);
                // The last report of a node that is down says "Ready" for ever.
                offers.push(Offer { working: offer.working && self.node_works(node), ..offer });
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
