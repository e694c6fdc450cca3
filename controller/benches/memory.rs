//! What the index of the controller takes: resident memory before and after so many Volumes, each with its claim, PersistentVolume,
//! NodeVolume and a pod, as they stand in a cluster.
//!
//! `cargo bench -p tierce-controller --bench memory --profile dev`, with numbers of Volumes as arguments after `--`.

#![allow(clippy::unwrap_used, reason = "what goes wrong here fails the measurement")]

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tierce_controller::index::{ClaimObject, Index, NodeObject, PersistentVolumeObject, PodObject, Tracked};
use tierce_crds::{NodeStorage, NodeVolume, StoragePool, Volume};

const API: &str = "storage.tierce.dev/v1alpha1";
const NODES: usize = 100;
const GI: u64 = 1 << 30;

fn main() {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let steps = if asked.is_empty() { vec![1_000, 10_000, 50_000] } else { asked };
    let index = Index::default();
    for node in 0..NODES {
        put_node(&index, node);
    }
    put::<StoragePool>(
        &index,
        json!({"apiVersion": API, "kind": "StoragePool", "metadata": meta("standard-ssd", None),
            "spec": {"tier": "standard-ssd", "lvm": {"volumeGroup": "tierce", "thin": {"pool": "thin"}}}}),
    );
    let empty = resident_kibibytes();
    println!("| Volumes | resident, of the index | each |");
    println!("|---:|---:|---:|");
    let mut known = 0;
    for volumes in steps {
        (known..volumes).for_each(|number| put_volume(&index, number));
        known = known.max(volumes);
        let taken = resident_kibibytes().saturating_sub(empty);
        println!("| {known} | {} MiB | {} bytes |", taken / 1024, taken * 1024 / known);
    }
    assert_eq!(index.read(|state| state.volumes.len()), known);
}

fn put<T: Tracked + Resource + DeserializeOwned>(index: &Index, object: Value) {
    index.put(serde_json::from_value::<T>(object).unwrap());
}

fn uid(kind: u16, number: usize) -> String {
    format!("{number:08x}-{kind:04x}-4000-8000-{number:012x}")
}

fn meta(name: &str, namespace: Option<&str>) -> Value {
    json!({"name": name, "namespace": namespace, "uid": uid(0, name.len()), "resourceVersion": "123456789", "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z"})
}

fn condition(reason: &str, message: &str) -> Value {
    json!([{"type": "Ready", "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

fn put_node(index: &Index, number: usize) {
    let name = format!("worker-{number:03}.example.internal");
    let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": "zone-a", "node.kubernetes.io/instance-type": "large"});
    put::<NodeObject>(index, json!({"metadata": {"name": name, "labels": labels}, "spec": {}}));
    put::<NodeStorage>(
        index,
        json!({"apiVersion": API, "kind": "NodeStorage", "metadata": meta(&name, None), "spec": {"nodeName": name},
            "status": {"pools": [{"name": "standard-ssd", "tier": "standard-ssd", "state": "Ready",
                "capacityBytes": 10_000 * GI, "usedBytes": 0, "promisedBytes": 0, "maxVolumeBytes": 10_000 * GI, "volumes": 0}]}}),
    );
}

/// A Volume in use, with all that there is of it.
fn put_volume(index: &Index, number: usize) {
    let (namespace, name) = (format!("team-{:03}", number % 200), format!("workspace-{number:06}"));
    let node = format!("worker-{:03}.example.internal", number % NODES);
    let claim_uid = uid(1, number);
    let id = format!("pvc-{claim_uid}");
    let place = format!("1Gi on node {node}, pool standard-ssd");
    let with_uid = |mut meta: Value, uid: String| {
        meta["uid"] = json!(uid);
        meta
    };
    let mut volume = with_uid(meta(&name, Some(&namespace)), uid(2, number));
    volume["finalizers"] = json!(["storage.tierce.dev/volume"]);
    volume["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]);
    put::<Volume>(
        index,
        json!({"apiVersion": API, "kind": "Volume", "metadata": volume, "spec": {"size": "1Gi", "tier": "standard-ssd"},
            "status": {"phase": "Ready", "capacity": "1Gi", "used": "120Mi", "node": node, "claimName": name, "volumeName": id,
                "observedGeneration": 1, "conditions": condition("Provisioned", &place)}}),
    );
    let mut claim = with_uid(meta(&name, Some(&namespace)), claim_uid.clone());
    claim["ownerReferences"] = json!([{"apiVersion": API, "kind": "Volume", "name": name, "uid": uid(2, number), "controller": true}]);
    put::<ClaimObject>(
        index,
        json!({"metadata": claim, "spec": {"volumeName": id, "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound"}}),
    );
    put::<PersistentVolumeObject>(
        index,
        json!({"metadata": with_uid(meta(&id, None), uid(3, number)), "spec": {"persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "csi.tierce.dev", "volumeHandle": id},
            "claimRef": {"namespace": namespace, "name": name, "uid": claim_uid}}}),
    );
    let mut device = with_uid(meta(&id, None), uid(4, number));
    device["finalizers"] = json!(["storage.tierce.dev/on-node"]);
    put::<NodeVolume>(
        index,
        json!({"apiVersion": API, "kind": "NodeVolume", "metadata": device,
            "spec": {"nodeName": node, "pool": "standard-ssd", "sizeBytes": GI, "filesystem": "ext4",
                "claim": {"namespace": namespace, "name": name, "uid": claim_uid}},
            "status": {"capacityBytes": GI, "usedBytes": 120 << 20, "used": true, "observedGeneration": 1,
                "conditions": condition("Created", "made")}}),
    );
    put::<PodObject>(
        index,
        json!({"metadata": meta(&format!("{name}-0"), Some(&namespace)), "spec": {"nodeName": node,
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]}}),
    );
}

/// `VmRSS` of this process.
fn resident_kibibytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
