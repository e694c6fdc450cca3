//! The addresses of other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tierce_runtime::errors::in_words;
use tokio::time::Instant;
use tracing::warn;

/// How long an answer counts. A node that gets another address, after a reboot for instance, is known by that after so long.
const FRESH: Duration = Duration::from_mins(1);
/// How long one that has no address yet is not asked for.
const MISSING: Duration = Duration::from_secs(2);
/// How long the API server may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What the Node objects say.
pub(super) struct Addresses {
    api: Api<Node>,
    known: BTreeMap<String, Known>,
}

struct Known {
    asked: Instant,
    addresses: Vec<IpAddr>,
}

impl Addresses {
    pub(super) fn new(client: Client) -> Self {
        Self { api: Api::all(client), known: BTreeMap::new() }
    }

    /// Asks for those of which too little is known, and forgets all others. While the API server is away what it said last counts.
    pub(super) async fn refresh(&mut self, nodes: &BTreeSet<String>) {
        self.known.retain(|node, _| nodes.contains(node));
        for node in nodes {
            let is_known = self.known.get(node).is_some_and(|known| {
                let fresh = if known.addresses.is_empty() { MISSING } else { FRESH };
                known.asked.elapsed() < fresh
            });
            if is_known {
                continue;
            }
            let addresses = match tokio::time::timeout(LIMIT, self.api.get_opt(node)).await {
                Ok(Ok(found)) => found.map(|node| internal(&node)).unwrap_or_default(),
                Ok(Err(error)) => {
                    warn!("can't look for the addresses of node {node}: {}", in_words(&error));
                    self.of(node).to_vec()
                }
                Err(_) => self.of(node).to_vec(),
            };
            self.known.insert(node.clone(), Known { asked: Instant::now(), addresses });
        }
    }

    /// What is known of a node.
    pub(super) fn of(&self, node: &str) -> &[IpAddr] {
        self.known.get(node).map_or(&[], |known| &known.addresses)
    }
}

/// The addresses from which a node's kernel speaks with others of the cluster.
fn internal(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_known_by_its_internal_addresses() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "n2"}, "status": {"addresses": [
            {"type": "Hostname", "address": "n2"}, {"type": "ExternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "10.0.0.2"}, {"type": "InternalIP", "address": "fd00::2"},
        ]}}))
        .unwrap();
        let expected: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(internal(&node), expected);
        assert!(internal(&Node::default()).is_empty());
    }
}
