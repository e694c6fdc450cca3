//! How long a node stays on the list of a shared volume after its last pod.
//!
//! A pod counts as ended before the kubelet has unmounted what it used, and what it wrote may still be on its way: a node that is taken off then loses
//! that without a word, and with it the locks that its other pods hold at the same server. So it stays for a while, as long as it works. One that is gone,
//! or that Kubernetes does not hear of, is taken off at once: whoever deletes its pods wants it to be kept out. What is known of the moments is lost with
//! this process, and then the time begins anew. In that first time nobody is taken off at all: what the watches tell may be older than what an earlier
//! leader knew.

use super::view::{MOST_NODES, View};
use crate::index::{Device, Namespaced};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tierce_crds::Export;
use tokio::time::Instant;

/// UID of the SharedVolume, a node, and whether it writes.
type Client = (String, String, bool);

/// The nodes without pods that stay.
pub(super) struct Clients {
    grace: Duration,
    started: Instant,
    unused_since: Mutex<HashMap<Namespaced, HashMap<Client, Instant>>>,
}

impl Clients {
    /// A node that works stays for `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, started: Instant::now(), unused_since: Mutex::default() }
    }

    /// Of the SharedVolume of this key only those of these UIDs are there.
    pub(super) fn only(&self, key: &Namespaced, uids: &BTreeSet<&str>) {
        let mut all = self.unused_since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = all.get_mut(key) else { return };
        known.retain(|(uid, ..), _| uids.contains(uid.as_str()));
        if known.is_empty() {
            all.remove(key);
        }
    }

    /// To whom it is to be served now, and when that may be somebody else without any event; `None` where it is not shared, or not there.
    pub(super) fn of(
        &self,
        (key, uid): (&Namespaced, &str),
        view: &View,
    ) -> Option<(Export, Option<Duration>)> {
        let (device, used) = (view.device.as_ref()?, view.export()?);
        let mut all = self.unused_since.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(key.clone()).or_default();
        let mut stay = HashMap::new();
        let mut next: Option<Duration> = None;
        let export = with_those_that_stay(device, used, |node, writes| {
            // Whoever deletes the data has nothing to wait for: nobody writes it any more.
            if device.deleting_since.is_some() {
                return false;
            }
            let client = (uid.to_owned(), node.to_owned(), writes);
            let unused_since = known.get(&client).copied().unwrap_or_else(Instant::now);
            let since = if view.works(node) { unused_since } else { self.started };
            let rest = self.grace.saturating_sub(since.elapsed());
            if rest.is_zero() {
                return false;
            }
            stay.insert(client, unused_since);
            next = Some(next.map_or(rest, |next| next.min(rest)));
            true
        });
        known.retain(|(its, ..), _| its != uid);
        known.extend(stay);
        if known.is_empty() {
            all.remove(key);
        }
        Some((export, next))
    }
}

/// Those that use it, and of those on the list those that stay.
fn with_those_that_stay(device: &Device, used: Export, mut stays: impl FnMut(&str, bool) -> bool) -> Export {
    let mut nodes: BTreeSet<_> = used.nodes.into_iter().collect();
    let mut readers: BTreeSet<_> = used.read_only_nodes.into_iter().collect();
    for node in device.export.iter().flat_map(|has| &has.nodes) {
        if !nodes.contains(node) && nodes.len() < MOST_NODES && stays(node, true) {
            nodes.insert(node.clone());
        }
    }
    readers.retain(|node| !nodes.contains(node));
    for node in device.export.iter().flat_map(|has| &has.read_only_nodes) {
        let is_there = nodes.contains(node) || readers.contains(node);
        if !is_there && readers.len() < MOST_NODES && stays(node, false) {
            readers.insert(node.clone());
        }
    }
    Export {
        nodes: nodes.into_iter().collect(),
        read_only_nodes: readers.into_iter().collect(),
        gid: used.gid,
    }
}

/// Whether somebody on the list may do less than before.
pub(super) fn takes_away(has: &Export, export: &Export) -> bool {
    let writes = |node: &String| export.nodes.contains(node);
    let reads = |node: &String| writes(node) || export.read_only_nodes.contains(node);
    !has.nodes.iter().all(writes) || !has.read_only_nodes.iter().all(reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(nodes: &[&str], readers: &[&str]) -> Export {
        let all = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Export { nodes: all(nodes), read_only_nodes: all(readers), gid: 7 }
    }

    #[test]
    fn somebody_loses_something_by_less_access_than_before() {
        let has = export(&["n2"], &["n3"]);
        for (now, takes) in [
            (export(&["n2"], &["n3"]), false),
            (export(&["n2", "n3", "n4"], &[]), false),
            (export(&["n2"], &[]), true),
            (export(&[], &["n2", "n3"]), true),
        ] {
            assert_eq!(takes_away(&has, &now), takes, "{now:?}");
        }
    }

    #[test]
    fn who_stays_keeps_what_it_could_do() {
        let device = Device::of(
            serde_json::from_value(serde_json::json!({
                "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": {"name": "v"},
                "spec": {"nodeName": "n1", "pool": "p", "sizeBytes": 1, "filesystem": "ext4",
                    "export": {"gid": 7, "nodes": ["n2", "n4"], "readOnlyNodes": ["n3", "n5"]}}}))
            .unwrap(),
        );
        let used = export(&["n3"], &["n2"]);
        let mut asked = Vec::new();
        let all_stay = with_those_that_stay(&device, used.clone(), |node, writes| {
            asked.push((node.to_owned(), writes));
            true
        });
        assert_eq!(all_stay, export(&["n2", "n3", "n4"], &["n5"]));
        assert_eq!(asked, [("n2".to_owned(), true), ("n4".to_owned(), true), ("n5".to_owned(), false)]);
        assert_eq!(with_those_that_stay(&device, used.clone(), |_, _| false), used);
    }
}
