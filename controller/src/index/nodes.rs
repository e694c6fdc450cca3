//! Nodes, what they report of their pools, and StoragePools: what is remembered of each, and whom its changes concern.

use super::topics::{Affects, News, Topic, Wakes};
use super::tracked::Change;
use super::{State, Table, Tracked};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tierce_crds::{NodeStorage, StoragePool};

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
}

#[derive(Clone, Debug, Deserialize)]
struct Taint {
    key: String,
}

/// What Kubernetes puts on a node that it does not hear of, or that cannot run pods.
const NOT_WORKING: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Labels, for `StoragePool.spec.nodeSelector`.
    pub labels: BTreeMap<String, String>,
    /// Whether Kubernetes hears of it and finds it ready.
    pub works: bool,
}

impl Node {
    /// The facts of this object.
    pub fn of(object: NodeObject) -> Self {
        let works = !object.spec.taints.iter().any(|taint| NOT_WORKING.contains(&taint.key.as_str()));
        Self { labels: object.metadata.labels.unwrap_or_default(), works }
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

    fn connect(_: &mut State, change: &Change<'_, Self>) -> Affects {
        if change.works_as_before() { Affects::Nothing } else { Affects::Room }
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

    fn connect(_: &mut State, _: &Change<'_, Self>) -> Affects {
        Affects::Tiers
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
