//! Adds up what nodes report of a pool. Pure.

use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;
use tierce_crds::conditions::{self, Verdict, node_storage, storage_pool as reason};
use tierce_crds::{PoolState, PoolStatus, StoragePool, StoragePoolStatus, roughly};

/// A condition's message names so many nodes; more are counted.
const NAMED: usize = 5;

/// One node of the cluster.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What its node plugin says of the pool.
    pub report: Report,
}

/// What a node plugin says of a pool.
#[derive(Debug, Clone)]
pub enum Report {
    /// There is no plugin, or it has not reported yet.
    None,
    /// It reports, but not about this pool.
    Silent,
    /// This.
    Of(PoolStatus),
}

/// What the status should be now.
pub fn status(pool: &StoragePool, nodes: &[NodeView], now: Timestamp) -> StoragePoolStatus {
    let wanted = &pool.spec.node_selector;
    let selected: Vec<_> = nodes
        .iter()
        .filter(|node| pool.spec.selects(&node.labels))
        // Without a selector: every node that runs the node plugin.
        .filter(|node| !wanted.is_empty() || !matches!(node.report, Report::None))
        .collect();
    let reports = || {
        selected.iter().filter_map(|node| match &node.report {
            Report::Of(report) => Some(report),
            Report::None | Report::Silent => None,
        })
    };
    let working = reports().filter(|report| report.state == PoolState::Ready).count();
    let well = working == selected.len() && reports().all(|report| report.reason.is_none());
    let sum = |of: fn(&PoolStatus) -> i64| {
        let bytes = reports().filter_map(|report| u64::try_from(of(report)).ok());
        Some(roughly(bytes.fold(0, u64::saturating_add)))
    };
    let old = pool.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = pool.metadata.generation;
    let condition = |type_, verdict| conditions::next(old, type_, &verdict, generation, now);
    StoragePoolStatus {
        nodes: Some(format!("{working}/{}", selected.len())),
        capacity: sum(|report| report.capacity_bytes),
        promised: sum(|report| report.promised_bytes),
        used: sum(|report| report.used_bytes),
        observed_generation: generation,
        conditions: vec![
            condition(conditions::READY, ready(pool, &selected, working, well)),
            condition(conditions::DEGRADED, degraded(&selected, well)),
        ],
    }
}

/// Whether it can be used. One sick node of a thousand does not take that away: whoever waits for `Ready` would undo an upgrade
/// because of it.
fn ready(pool: &StoragePool, selected: &[&NodeView], working: usize, well: bool) -> Verdict {
    match (selected.len(), working) {
        (0, _) if pool.spec.node_selector.is_empty() => {
            Verdict::no(reason::NO_NODE, "no node runs the node plugin yet: look at the DaemonSet")
        }
        (0, _) => Verdict::yes(reason::NO_NODE, "spec.nodeSelector selects no node, so nothing is offered"),
        (_, 0) => Verdict::no(reason::UNAVAILABLE, troubles(selected)),
        _ if well => Verdict::yes(reason::AVAILABLE, "every selected node offers it"),
        (all, _) => Verdict::yes(reason::AVAILABLE, format!("{working} of {all} selected nodes offer it")),
    }
}

/// Whether somebody has to look after a node.
fn degraded(selected: &[&NodeView], well: bool) -> Verdict {
    if selected.is_empty() {
        Verdict::no(reason::NO_NODE, "no node is selected, or none has reported yet")
    } else if well {
        Verdict::no(reason::AVAILABLE, "every selected node offers it")
    } else {
        Verdict::yes(reason::NOT_EVERYWHERE, troubles(selected))
    }
}

/// What is wrong on the nodes.
fn troubles(selected: &[&NodeView]) -> String {
    let mut troubles: Vec<_> = selected.iter().filter_map(|node| trouble(node)).collect();
    troubles.sort();
    let more = troubles.len().saturating_sub(NAMED);
    troubles.truncate(NAMED);
    let mut message = troubles.join("; ");
    if more > 0 {
        message = format!("{message}; and {more} more");
    }
    message
}

/// What is wrong on a node, if something is.
fn trouble(node: &NodeView) -> Option<String> {
    let name = &node.name;
    match &node.report {
        Report::None => Some(format!("{name}: no report from its node plugin")),
        Report::Silent => Some(format!("{name}: its node plugin does not know the pool yet")),
        // With a reason it can be used, but needs somebody: a full thin pool.
        Report::Of(report) if report.state == PoolState::Ready && report.reason.is_none() => None,
        Report::Of(report) => {
            let reason = report.reason.as_deref().unwrap_or(node_storage::FAILED);
            Some(format!("{name}: {reason}: {}", report.message.as_deref().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(selector: &[(&str, &str)]) -> StoragePool {
        let selector: BTreeMap<_, _> = selector.iter().copied().collect();
        serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": "p", "generation": 3},
            "spec": {"tier": "hdd", "nodeSelector": selector, "directory": {"path": "/x"}}
        }))
        .unwrap()
    }

    fn report(state: PoolState) -> Report {
        Report::Of(PoolStatus {
            name: "p".into(),
            tier: "hdd".into(),
            state,
            reason: (state == PoolState::Unavailable).then(|| node_storage::PATH_MISSING.into()),
            message: (state == PoolState::Unavailable).then(|| "/x: no such directory (os error 2)".into()),
            disk: None,
            free_bytes: None,
            capacity_bytes: 3 << 30,
            used_bytes: 1 << 20,
            promised_bytes: 1 << 30,
            max_volume_bytes: 2 << 30,
            volumes: 1,
            data_percent: None,
            metadata_percent: None,
        })
    }

    fn node(name: &str, label: &str, report: Report) -> NodeView {
        NodeView { name: name.into(), labels: [("disk".to_owned(), label.to_owned())].into(), report }
    }

    fn said(pool: &StoragePool, nodes: &[NodeView], type_: &str) -> (String, String, String) {
        let status = status(pool, nodes, Timestamp::UNIX_EPOCH);
        let said = conditions::find(&status.conditions, type_).unwrap();
        (format!("{} {}", status.nodes.unwrap(), said.status), said.reason.clone(), said.message.clone())
    }

    fn ready_says(pool: &StoragePool, nodes: &[NodeView]) -> (String, String) {
        let (counted, why, _) = said(pool, nodes, conditions::READY);
        (counted, why)
    }

    #[test]
    fn what_the_nodes_report_is_added_up() {
        let all = pool(&[]);
        let ready = || report(PoolState::Ready);
        let nodes =
            [node("a", "x", ready()), node("b", "x", ready()), node("control-plane", "x", Report::None)];
        let sums = status(&all, &nodes, Timestamp::UNIX_EPOCH);
        assert_eq!(sums.nodes.as_deref(), Some("2/2"), "a node without plugin does not count");
        assert_eq!((sums.capacity.as_deref(), sums.promised.as_deref()), (Some("6Gi"), Some("2Gi")));
        assert_eq!((sums.used.as_deref(), sums.observed_generation), (Some("2Mi"), Some(3)));
        assert!(conditions::holds(&sums.conditions, conditions::READY));
        assert!(!conditions::holds(&sums.conditions, conditions::DEGRADED));
    }

    #[test]
    fn a_pool_is_ready_while_one_node_offers_it_and_degraded_while_another_does_not() {
        let sick = || node("sick", "ssd", report(PoolState::Unavailable));
        let well = || node("well", "ssd", report(PoolState::Ready));
        let ssd = pool(&[("disk", "ssd")]);
        let said_of = |nodes: &[NodeView]| {
            let conditions = status(&ssd, nodes, Timestamp::UNIX_EPOCH).conditions;
            [conditions::READY, conditions::DEGRADED].map(|type_| conditions::holds(&conditions, type_))
        };
        for (nodes, expected) in [
            (vec![well(), well(), sick()], [true, true]),
            (vec![well(), node("young", "ssd", Report::None)], [true, true]),
            (vec![sick(), sick()], [false, true]),
            (vec![well()], [true, false]),
            (vec![], [true, false]),
        ] {
            assert_eq!(said_of(&nodes), expected, "{nodes:?}");
        }
        let none = ready_says(&pool(&[]), &[node("control-plane", "x", Report::None)]);
        assert_eq!(
            none,
            ("0/0 False".to_owned(), reason::NO_NODE.to_owned()),
            "its plugins are still to come"
        );
    }

    #[test]
    fn what_is_wrong_is_told_by_node() {
        let nodes = [
            node("a", "ssd", report(PoolState::Ready)),
            node("b", "ssd", report(PoolState::Unavailable)),
            node("c", "ssd", Report::Silent),
            node("d", "ssd", Report::None),
            node("e", "hdd", Report::None),
        ];
        let (counted, why, message) = said(&pool(&[("disk", "ssd")]), &nodes, conditions::DEGRADED);
        assert_eq!((counted.as_str(), why.as_str()), ("1/4 True", reason::NOT_EVERYWHERE));
        assert_eq!(
            message,
            "b: PathMissing: /x: no such directory (os error 2); c: its node plugin does not know the pool yet; \
             d: no report from its node plugin"
        );
        let Report::Of(ready) = report(PoolState::Ready) else { panic!("it is a report") };
        let full = PoolStatus {
            reason: Some(node_storage::OUT_OF_DATA.into()),
            message: Some("full".into()),
            ..ready
        };
        let (counted, why, message) =
            said(&pool(&[]), &[node("a", "ssd", Report::Of(full))], conditions::DEGRADED);
        assert_eq!(
            (counted.as_str(), why.as_str(), message.as_str()),
            ("1/1 True", reason::NOT_EVERYWHERE, "a: OutOfData: full")
        );
        let none = ready_says(&pool(&[("disk", "nvme")]), &nodes);
        assert_eq!((none.0.as_str(), none.1.as_str()), ("0/0 True", reason::NO_NODE));
        let many: Vec<_> = (0..20).map(|n| node(&format!("n{n:02}"), "ssd", Report::None)).collect();
        let (_, why, message) = said(&pool(&[("disk", "ssd")]), &many, conditions::READY);
        assert_eq!(why, reason::UNAVAILABLE);
        assert!(message.starts_with("n00: no report") && message.ends_with("; and 15 more"), "{message}");
    }
}
