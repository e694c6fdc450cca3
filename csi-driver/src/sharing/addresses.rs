//! The addresses of other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
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

    /// Asks for those of which too little is known, all at once, and forgets all others. What was known of a node counts until another address
    /// is: while the API server is away, and while its Node says none or is not there.
    pub(super) async fn refresh(&mut self, nodes: &BTreeSet<String>) {
        self.known.retain(|node, _| nodes.contains(node));
        let is_known = |node: &String| {
            self.known.get(node).is_some_and(|known| {
                let fresh = if known.addresses.is_empty() { MISSING } else { FRESH };
                known.asked.elapsed() < fresh
            })
        };
        let asked = nodes.iter().filter(|node| !is_known(node)).map(|node| self.ask(node));
        for (node, found) in join_all(asked).await {
            let addresses = if found.is_empty() { self.of(&node).to_vec() } else { found };
            self.known.insert(node, Known { asked: Instant::now(), addresses });
        }
    }

    /// What its Node says now; nothing where that is unknown.
    async fn ask(&self, node: &str) -> (String, Vec<IpAddr>) {
        let addresses = match tokio::time::timeout(LIMIT, self.api.get_opt(node)).await {
            Ok(Ok(found)) => found.map(|node| internal(&node)).unwrap_or_default(),
            Ok(Err(error)) => {
                warn!("can't look for the addresses of node {node}: {}", in_words(&error));
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        (node.to_owned(), addresses)
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
    use std::sync::{Arc, Mutex};

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

    /// An API server that says this of every node, each after a while.
    async fn server(said: Arc<Mutex<Option<serde_json::Value>>>) -> Client {
        let answer = move || {
            let said = said.lock().unwrap().clone();
            async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let json = (axum::http::header::CONTENT_TYPE, "application/json");
                said.map(|said| ([json], said.to_string())).ok_or(axum::http::StatusCode::SERVICE_UNAVAILABLE)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap()
    }

    fn node(addresses: &serde_json::Value) -> Option<serde_json::Value> {
        Some(json!({"metadata": {"name": "n"}, "status": {"addresses": addresses}}))
    }

    #[tokio::test]
    async fn nodes_are_asked_for_at_once_and_no_known_address_is_replaced_by_none() {
        let ours = |last: u8| json!([{"type": "InternalIP", "address": format!("10.0.0.{last}")}]);
        let said = Arc::new(Mutex::new(node(&ours(2))));
        let mut addresses = Addresses::new(server(Arc::clone(&said)).await);
        let nodes: BTreeSet<String> = (0..20).map(|number| format!("n{number}")).collect();
        let began = Instant::now();
        addresses.refresh(&nodes).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let known: IpAddr = "10.0.0.2".parse().unwrap();
        assert!(nodes.iter().all(|node| addresses.of(node) == [known]));
        // The API server has a bad moment; the Node is made anew; the Node says another address.
        for (now, expected) in [(None, known), (node(&json!([])), known), (node(&ours(3)), "10.0.0.3".parse().unwrap())] {
            *said.lock().unwrap() = now;
            for known in addresses.known.values_mut() {
                known.asked -= FRESH;
            }
            addresses.refresh(&nodes).await;
            assert_eq!(addresses.of("n7"), [expected]);
        }
    }
}
