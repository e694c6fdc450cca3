//! Nodes, what they report of their pools, and StoragePools: what is remembered of each, and whom its changes concern.

use super::tracked::Change;
use super::{Namespaced, State, Table, Tracked, Wakes};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::collections::BTreeMap;
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

    fn connect(state: &mut State, change: &Change<'_, Self>, wakes: &mut Wakes) {
        let Change { key, old, new } = *change;
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

    fn connect(state: &mut State, change: &Change<'_, Self>, wakes: &mut Wakes) {
        let Change { key, old, new } = *change;
        wakes.space = true;
        state.wake_untied_keys(wakes);
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

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        self.metadata.annotations = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Self> {
        &mut state.pools
    }

    fn connect(_: &mut State, change: &Change<'_, Self>, wakes: &mut Wakes) {
        wakes.pools.insert(change.key.clone());
        wakes.tiers = true;
    }
}
