//! Whom changes of Nodes concern, and what is looked up of them.

use crate::index::news::{Affects, Change, News};
use crate::index::topics::{Topic, Wakes};

use crate::index::facts::trimmed::{beginning, short};
use crate::index::{Node, NodeObject, State, Table, Tracked};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::HashSet;
use std::time::Duration;
use tierce_crds::{MOST_LEFTOVERS, NodeStorage, StoragePool};

/// More pools than anybody gives to one node.
const MOST_POOLS: usize = 256;

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
    pub(crate) fn works_as_before(&self) -> bool {
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
                for word in [&mut pool.name, &mut pool.tier] {
                    *word = short(std::mem::take(word));
                }
                for word in [&mut pool.reason, &mut pool.disk] {
                    *word = word.take().map(short);
                }
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
        // Its status adds up what volumes do all the time, and no tier comes or goes with it.
        let same = change.old.map(|pool| &pool.spec) == change.new.map(|pool| &pool.spec);
        if same { Affects::Nothing } else { Affects::Tiers }
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
    use serde_json::json;

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
}
