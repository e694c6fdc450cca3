//! Nodes, what they report of their pools, and StoragePools: what is remembered of each, and whom its changes concern.

use crate::index::topics::{Affects, News, Topic, Wakes};
use crate::index::tracked::{Change, beginning};
use crate::index::{State, Table, Tracked};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tierce_crds::{MOST_LEFTOVERS, NodeStorage, StoragePool};

/// A node, as it is read.
#[derive(Resource, Clone, Debug, Deserialize)]
#[resource(inherit = "core::Node")]
pub struct NodeObject {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeObjectSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct NodeObjectSpec {
    #[serde(default)]
    taints: Vec<Taint>,
    #[serde(default)]
    unschedulable: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Taint {
    key: String,
    #[serde(default)]
    effect: String,
}

/// More pools than anybody gives to one node.
const MOST_POOLS: usize = 256;

/// What Kubernetes puts on a node that it does not hear of, or that cannot run pods.
const NOT_WORKING: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

/// Effects of a taint that no pod gets past without a toleration.
const REPELLING: [&str; 2] = ["NoSchedule", "NoExecute"];

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Labels, for `StoragePool.spec.nodeSelector`.
    pub labels: BTreeMap<String, String>,
    /// Whether Kubernetes hears of it and finds it ready.
    pub works: bool,
    /// Why pods stay away from it unless they say otherwise: it is cordoned, or has a taint.
    pub closed: Option<String>,
}

impl Node {
    /// The facts of this object.
    pub fn of(object: NodeObject) -> Self {
        let NodeObjectSpec { taints, unschedulable } = object.spec;
        let works = !taints.iter().any(|taint| NOT_WORKING.contains(&taint.key.as_str()));
        let repels = taints.iter().find(|taint| REPELLING.contains(&taint.effect.as_str()));
        // A cordon is a taint as well, a moment later.
        let cordoned = unschedulable.then(|| "cordon".to_owned());
        let closed = cordoned.or_else(|| repels.map(|taint| format!("taint {}:{}", taint.key, taint.effect)));
        Self { labels: object.metadata.labels.unwrap_or_default(), works, closed }
    }
}

impl Tracked for NodeObject {
    type Key = String;
    type Facts = Node;

    fn facts(self) -> Option<Node> {
        Some(Node::of(self))
    }

    fn table(state: &mut State) -> &mut Table<String, Node> {
        &mut state.nodes
    }

    fn connect(_: &mut State, _: &Change<'_, Self>) -> Affects {
        // Its labels, its taints and whether it works decide what it offers.
        Affects::Room
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Node(change)
    }
}

impl Change<'_, NodeObject> {
    pub(super) fn works_as_before(&self) -> bool {
        self.old.map(|node| node.works) == self.new.map(|node| node.works)
    }
}

impl Tracked for NodeStorage {
    type Key = String;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata = ObjectMeta { name: self.metadata.name, ..ObjectMeta::default() };
        // A node's own word, and nobody bounds that.
        if let Some(status) = &mut self.status {
            status.pools.truncate(MOST_POOLS);
            for pool in &mut status.pools {
                pool.message = pool.message.take().map(beginning);
            }
            for list in [&mut status.broken_records, &mut status.unclaimed] {
                list.truncate(MOST_LEFTOVERS);
                for text in list {
                    *text = beginning(std::mem::take(text));
                }
            }
        }
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Self> {
        &mut state.reports
    }

    fn connect(_: &mut State, _: &Change<'_, Self>) -> Affects {
        Affects::Room
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Report(change)
    }
}

impl Tracked for StoragePool {
    type Key = String;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        self.metadata.annotations = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Self> {
        &mut state.pools
    }

    fn connect(_: &mut State, change: &Change<'_, Self>) -> Affects {
        let spec = |pool: Option<&Arc<Self>>| pool.map(|pool| pool.spec.clone());
        // Its status adds up what volumes do all the time, and no tier comes or goes with it.
        if spec(change.old) == spec(change.new) { Affects::Nothing } else { Affects::Tiers }
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Pool(change)
    }
}

/// Nodes that may be lost, by name.
#[derive(Debug)]
pub struct Nodes;

impl Topic for Nodes {
    type Key = String;

    fn all(state: &State) -> Vec<String> {
        let with_volumes = state.devices_of_node.words().chain(state.snapshots_of_node.words());
        let all: HashSet<_> = with_volumes.chain(state.reports.iter().map(|(node, _)| node)).collect();
        all.into_iter().cloned().collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<String>) {
        let node = match *news {
            News::Node(change) if change.old.is_some() != change.new.is_some() => {
                wakes.now(change.key.clone());
                return;
            }
            News::Device(Change { new: Some(new), .. }) => &new.node,
            News::Snapshot(Change { new: Some(new), .. }) => &new.node,
            News::Report(Change { key, new: Some(_), .. }) => key,
            _ => return,
        };
        if !state.has_node(node) {
            wakes.now(node.clone());
        }
    }
}

/// StoragePools, by name. Their status adds up what many volumes change.
#[derive(Debug)]
pub struct Pools;

impl Topic for Pools {
    type Key = String;
    const SETTLES: Duration = Duration::from_secs(2);
    const FIRST_LOOK: Duration = Self::SETTLES;

    fn all(state: &State) -> Vec<String> {
        state.pools.iter().map(|(name, _)| name.clone()).collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<String>) {
        match *news {
            News::Pool(change) => wakes.soon([change.key.clone()]),
            News::Node(_) => wakes.soon(Self::all(state)),
            // A node that comes or goes counts for every pool that selects it.
            News::Report(change) if change.old.is_none() || change.new.is_none() => {
                wakes.soon(Self::all(state));
            }
            News::Report(change) => {
                let reported = change.both().filter_map(|report| report.status.as_ref());
                wakes.soon(reported.flat_map(|status| &status.pools).map(|pool| pool.name.clone()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use serde_json::{Value, json};

    fn node(labels: &Value, spec: &Value) -> NodeObject {
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": labels}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_node_that_pods_stay_away_from_says_why() {
        let taint = |key: &str, effect: &str| json!({"taints": [{"key": key, "effect": effect}]});
        for (spec, works, closed) in [
            (json!({}), true, None),
            (json!({"unschedulable": true}), true, Some("cordon")),
            (taint("a", "NoSchedule"), true, Some("taint a:NoSchedule")),
            (taint("a", "NoExecute"), true, Some("taint a:NoExecute")),
            (taint("a", "PreferNoSchedule"), true, None),
            (
                taint("node.kubernetes.io/disk-pressure", "NoSchedule"),
                true,
                Some("taint node.kubernetes.io/disk-pressure:NoSchedule"),
            ),
            (
                taint("node.kubernetes.io/not-ready", "NoExecute"),
                false,
                Some("taint node.kubernetes.io/not-ready:NoExecute"),
            ),
        ] {
            let facts = Node::of(node(&json!({}), &spec));
            assert_eq!((facts.works, facts.closed.as_deref()), (works, closed), "{spec}");
        }
    }

    #[test]
    fn what_a_node_writes_into_its_report_takes_little_room_here() {
        let pool = |n: usize| {
            json!({"name": format!("p{n}"), "tier": "hdd", "state": "Unavailable", "capacityBytes": 0, "usedBytes": 0,
                "promisedBytes": 0, "maxVolumeBytes": 0, "volumes": 0, "message": "x".repeat(5_000)})
        };
        let report: NodeStorage = serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeStorage", "metadata": {"name": "n1"},
            "spec": {"nodeName": "n1"},
            "status": {"pools": (0..1_000).map(pool).collect::<Vec<_>>(), "unclaimed": vec!["x".repeat(5_000); 1_000]}
        }))
        .unwrap();
        let takes = serde_json::to_string(&report.facts().unwrap()).unwrap().len();
        assert!(takes < 500_000, "{takes} bytes");
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
        index.put(node(&json!({}), &json!({})));
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
        index.put(node(&json!({"zone": "trusted"}), &json!({})));
        assert_eq!(offered(), ["here hdd", "trusted secret"], "its labels say so now");
    }
}
