//! What is remembered of Nodes.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use std::collections::BTreeMap;

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

#[cfg(test)]
mod tests {
    use super::*;
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
}
