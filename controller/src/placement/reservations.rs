//! Room kept between the choice of a place and the moment when the watch shows the `NodeVolume`, so that many creates
//! at once do not all take the same room.

use super::Place;
use std::collections::HashMap;

/// Bytes kept, by volume id.
#[derive(Debug, Default)]
pub struct Reservations(HashMap<String, (Place, u64)>);

impl Reservations {
    /// Keeps room for a volume.
    pub fn keep(&mut self, id: &str, place: Place, size: u64) {
        self.0.insert(id.to_owned(), (place, size));
    }

    /// Gives the room of a volume free.
    pub fn release(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Bytes kept per node and pool for volumes that do not exist yet; those that do are in the promises.
    pub fn sums(&self, exists: impl Fn(&str) -> bool) -> HashMap<(String, String), u64> {
        let mut sums = HashMap::new();
        for (_, (place, size)) in self.0.iter().filter(|(id, _)| !exists(id)) {
            *sums.entry((place.node.clone(), place.pool.clone())).or_insert(0) += size;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use crate::index::{Index, NodeObject};
    use crate::placement::{Refusal, Request};
    use kube::core::ObjectMeta;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use tierce_crds::{NodeStorage, NodeVolume, StoragePool};

    const NODES: [&str; 2] = ["n1", "n2"];
    const CAPACITY: i64 = 100;

    /// What may happen, in any order.
    #[derive(Debug, Clone)]
    enum Step {
        /// A call chooses a place for so many bytes.
        Reserve(u64),
        /// The watch shows the NodeVolume of one such call.
        Show(usize),
        /// Its node has made it.
        Make(usize),
        /// It is deleted and gone.
        Delete(usize),
        /// A node reports.
        Report(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..60_u64).prop_map(Step::Reserve),
            3 => (0..50_usize).prop_map(Step::Show),
            3 => (0..50_usize).prop_map(Step::Make),
            1 => (0..50_usize).prop_map(Step::Delete),
            2 => (0..2_usize).prop_map(Step::Report),
        ]
    }

    fn put_report(index: &Index, node: &str, promised: i64) {
        let report: NodeStorage = serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeStorage", "metadata": {"name": node},
            "spec": {"nodeName": node}, "status": {"pools": [{"name": "p", "tier": "t", "state": "Ready",
            "capacityBytes": CAPACITY, "usedBytes": 0, "promisedBytes": promised,
            "maxVolumeBytes": CAPACITY - promised, "volumes": 0}]}
        }))
        .unwrap();
        index.put(report);
    }

    fn put_volume(index: &Index, id: &str, node: &str, size: u64, made: bool) {
        let volume: NodeVolume = serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": {"name": id},
            "spec": {"nodeName": node, "pool": "p", "sizeBytes": size, "filesystem": "ext4"},
            "status": if made { json!({"capacityBytes": size}) } else { json!(null) }
        }))
        .unwrap();
        index.put(volume);
    }

    proptest! {
        #[test]
        fn no_order_of_events_promises_more_than_a_node_has(steps in prop::collection::vec(step(), 1..120)) {
            let index = Arc::new(Index::default());
            let pool: StoragePool = serde_json::from_value(json!({
                "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": "p"},
                "spec": {"tier": "t", "directory": {"path": "/x"}}
            })).unwrap();
            index.put(pool);
            for node in NODES {
                let object: NodeObject = serde_json::from_value(json!({"metadata": {"name": node}})).unwrap();
                index.put(object);
                put_report(&index, node, 0);
            }
            // Id, node, size, reservation until it is shown, whether it is shown, whether it is on the disk.
            let mut all = BTreeMap::new();
            for (n, step) in steps.into_iter().enumerate() {
                let nth = |all: &BTreeMap<String, _>, n: usize| all.keys().nth(n % all.len().max(1)).cloned();
                match step {
                    Step::Reserve(size) => {
                        let id = format!("v{n:03}");
                        let request = Request { tier: "t".into(), size, allowed: None, preferred: vec![], beside: None, closed: false };
                        match index.reserve(&id, &request) {
                            Ok((place, reservation)) => {
                                all.insert(id, (place.node, size, Some(reservation), false, false));
                            }
                            Err(Refusal::OutOfSpace { largest, .. }) => prop_assert!(largest < size),
                            Err(other) => prop_assert!(false, "{other}"),
                        }
                    }
                    Step::Show(n) => if let Some(id) = nth(&all, n) {
                        let (node, size, reservation, shown, made) = all.get_mut(&id).unwrap();
                        put_volume(&index, &id, node, *size, *made);
                        *shown = true;
                        *reservation = None;
                    },
                    Step::Make(n) => if let Some(id) = nth(&all, n) {
                        let (node, size, _, shown, made) = all.get_mut(&id).unwrap();
                        if *shown {
                            *made = true;
                            put_volume(&index, &id, node, *size, true);
                        }
                    },
                    Step::Delete(n) => if let Some(id) = nth(&all, n).filter(|id| all[id].3) {
                        all.remove(&id);
                        index.remove::<NodeVolume>(&ObjectMeta { name: Some(id), ..ObjectMeta::default() });
                    },
                    Step::Report(n) => {
                        let on_disk = all.values().filter(|(node, _, _, _, made)| node == NODES[n] && *made);
                        let promised: u64 = on_disk.map(|(_, size, ..)| size).sum();
                        put_report(&index, NODES[n], i64::try_from(promised).unwrap());
                    }
                }
                for node in NODES {
                    let promised: u64 = all.values().filter(|(on, ..)| on == node).map(|(_, size, ..)| size).sum();
                    prop_assert!(promised <= 100, "{promised} on {node}");
                }
            }
        }
    }
}
