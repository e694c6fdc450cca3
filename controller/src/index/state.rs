//! All facts that decisions rest on, and the connections between them. What is looked up by kind is in the files of `kinds`.

use super::by_kind::ByKind;
use super::key::{Awaited, Namespaced};
use super::relation::Relation;
use super::room::Room;
use super::table::Table;
use super::{Claim, Class, Content, Device, KeySecret, Node, PersistentVolume, Pod, Snapshot};
use crate::placement::{Offer, Promise, Promises, Reservations};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tierce_crds::{
    NodeStorage, PoolStatus, SharedVolume, StorageLedger, StoragePool, StorageQuota, Volume, VolumeRestore,
};

/// All facts. Lock it through [`Index::read`] for a moment only; nothing is awaited meanwhile.
#[derive(Debug, Default)]
pub struct State {
    /// Volumes; their metadata is cut down to what is used.
    pub volumes: Table<Namespaced, Volume>,
    /// SharedVolumes, likewise.
    pub shared_volumes: Table<Namespaced, SharedVolume>,
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
    /// StorageQuotas.
    pub quotas: Table<String, StorageQuota>,
    /// What is reserved of quotas.
    pub ledgers: Table<String, StorageLedger>,
    /// StorageClasses of any driver.
    pub classes: Table<String, Class>,
    /// Nodes.
    pub nodes: Table<String, Node>,
    /// Pods that hold claims.
    pub pods: Table<Namespaced, Pod>,
    /// Names of the pods that use a claim.
    pub(super) pods_of_claim: Relation<Namespaced, String>,
    /// Ids of the NodeVolumes on a node.
    pub(super) devices_of_node: Relation<String, String>,
    /// Ids of the NodeVolumes that count for a namespace.
    pub(super) devices_of_namespace: Relation<String, String>,
    /// Ids of the NodeSnapshots that count for a namespace.
    pub(super) snapshots_of_namespace: Relation<String, String>,
    /// Names of the StorageQuotas with a subject of this name.
    pub(super) quotas_of: Relation<String, String>,
    /// The newest resource version of a NodeVolume that the watch has told of.
    pub(crate) devices_heard: u64,
    /// Ids of the NodeVolumes with an order of this restore, by its UID, or with this safety.
    pub(super) devices_of_order: Relation<String, String>,
    /// Ids of the NodeVolumes that start with the content of the volume of this id.
    pub(super) devices_from: Relation<String, String>,
    /// Ids of the NodeSnapshots that are taken of the volume of this id.
    pub(super) snapshots_from: Relation<String, String>,
    /// Ids of the NodeSnapshots on a node.
    pub(super) snapshots_of_node: Relation<String, String>,
    /// Ids of the NodeSnapshots that were taken for the VolumeSnapshot of this name.
    pub(super) snapshots_named: Relation<Namespaced, String>,
    /// Names of the PersistentVolumes of each CSI volume id. One that an administrator wrote has any name.
    pub(super) volumes_of_handle: Relation<String, String>,
    /// Names of the PersistentVolumes that the SharedVolume of this key has in other namespaces.
    pub(super) pairs: Relation<Namespaced, String>,
    /// The same by the `NodeVolume` that has the data.
    pub(super) pairs_of_device: Relation<String, String>,
    /// Ids of the NodeVolumes that were made for the SharedVolume of this key.
    pub(super) shared_devices: Relation<Namespaced, String>,
    /// SharedVolumes that have, or are to have, the claim of this key, in another namespace than theirs.
    pub(super) shared_to: Relation<Namespaced, Namespaced>,
    /// The same, of the PersistentVolumes that are there.
    pub(super) paired_with: Relation<Namespaced, (String, Namespaced)>,
    /// Claims that were made in other namespaces for the SharedVolume of this UID.
    pub(super) claims_of_pair: Relation<String, Namespaced>,
    /// The same by the SharedVolume's key, as they say themselves.
    pub(super) claims_for: Relation<Namespaced, Namespaced>,
    /// Why namespaces have no claim of the SharedVolume of this key, in the API server's words, by namespace.
    pub(super) refused: HashMap<Namespaced, BTreeMap<String, String>>,
    /// Names of the `VolumeSnapshotContents` that speak of a snapshot: by its id, or by the UID of its VolumeSnapshot.
    pub(super) contents_of: Relation<String, String>,
    /// Names of the `VolumeSnapshotContents` of the VolumeSnapshot of this name.
    pub(super) contents_named: Relation<Namespaced, String>,
    /// Claims without a volume, by the class that is to make one.
    pub(super) claims_of_class: Relation<String, Namespaced>,
    /// Claims without a volume, in the order of their namespaces.
    pub(super) claims_waiting: BTreeSet<Namespaced>,
    /// Claims without a volume, by what that is to start with.
    pub(super) claims_from: Relation<Awaited, Namespaced>,
    /// Volumes and snapshots whose keys go with no object, or are to go.
    pub(super) keys_in_doubt: HashSet<String>,
    /// What asks for a volume and may be concerned by a change of room.
    pub(crate) room: ByKind<Room>,
    /// What asks for a volume that is not made yet, by what that starts with.
    pub(crate) copies: ByKind<Relation<Awaited, Namespaced>>,
    /// Restores that are not over, by what they wait for.
    pub(crate) open_restores: Relation<Awaited, Namespaced>,
    /// VolumeRestores by their UID.
    pub(crate) restores_of_uid: Relation<String, Namespaced>,
    pub(super) promises: Promises,
    pub(super) reservations: Reservations,
    /// What follows from reports, promises, reservations and nodes; empty once one of them has changed.
    pub(super) offers: OnceCell<Arc<[Offer]>>,
    /// Tiers that StoragePools name; empty once one of them has changed.
    pub(super) tiers: OnceCell<Arc<BTreeSet<String>>>,
    /// The namespace of the release, where the keys are.
    pub(super) namespace: String,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Index, NodeObject};
    use serde_json::{Value, json};

    fn node(labels: &Value) -> NodeObject {
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}})).unwrap()
    }

    #[test]
    fn a_node_offers_only_pools_that_somebody_gave_to_it() {
        let index = Index::default();
        for (name, tier, selector) in
            [("here", "hdd", json!({})), ("trusted", "secret", json!({"zone": "trusted"}))]
        {
            let pool: StoragePool = serde_json::from_value(json!({
                "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": name},
                "spec": {"tier": tier, "nodeSelector": selector, "directory": {"path": "/p/q"}}
            }))
            .unwrap();
            index.put(pool);
        }
        index.put(node(&json!({})));
        let reports = [("here", "hdd"), ("here", "secret"), ("trusted", "secret"), ("forged", "hdd")];
        let pools: Vec<_> = reports
            .map(|(name, tier)| {
                json!({"name": name, "tier": tier, "state": "Ready", "capacityBytes": 100, "usedBytes": 0,
                    "promisedBytes": 0, "maxVolumeBytes": i64::MAX, "volumes": 0})
            })
            .into();
        let report: NodeStorage = serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeStorage", "metadata": {"name": "n1"},
            "spec": {"nodeName": "n1"}, "status": {"pools": pools}
        }))
        .unwrap();
        index.put(report);
        let offered = || {
            let offers = index.read(State::offers);
            offers.iter().map(|offer| format!("{} {}", offer.pool, offer.tier)).collect::<Vec<_>>()
        };
        assert_eq!(offered(), ["here hdd"]);
        index.put(node(&json!({"zone": "trusted"})));
        assert_eq!(offered(), ["here hdd", "trusted secret"], "its labels say so now");
    }
}
