use super::plan::{Action, Observed, plan};
use crate::index::{
    ClaimObject, ClassObject, ContentObject, Index, Namespaced, NodeObject, PersistentVolumeObject, Tracked,
};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tierce_crds::{NodeSnapshot, NodeStorage, NodeVolume, StoragePool, names};

fn put<T: Tracked + Resource + DeserializeOwned>(index: &Index, object: Value) {
    index.put(serde_json::from_value::<T>(object).unwrap());
}

fn class(index: &Index, binding: &str, provisioner: &str) {
    put::<ClassObject>(
        index,
        json!({"metadata": {"name": "c"}, "provisioner": provisioner, "volumeBindingMode": binding,
            "parameters": {"tier": "ssd"}}),
    );
}

/// A claim `copy` that starts with something, with the scheduler's choice.
fn copy(index: &Index, source: &Value, selected: Option<&str>) {
    let annotations = selected.map(|node| json!({names::ANNOTATION_SELECTED_NODE: node}));
    put::<ClaimObject>(
        index,
        json!({"metadata": {"name": "copy", "namespace": "ada", "uid": "2", "annotations": annotations},
            "spec": {"storageClassName": "c", "dataSource": source, "resources": {"requests": {"storage": "2Gi"}}}}),
    );
}

/// Pool `p` of tier `ssd`, and what n1 says of it.
fn pool(index: &Index, state: &str, largest: u64) {
    put::<StoragePool>(
        index,
        json!({"apiVersion": names::API_VERSION, "kind": "StoragePool", "metadata": {"name": "p"},
            "spec": {"tier": "ssd", "directory": {"path": "/pool"}}}),
    );
    put::<NodeStorage>(
        index,
        json!({"apiVersion": names::API_VERSION, "kind": "NodeStorage", "metadata": {"name": "n1"}, "spec": {"nodeName": "n1"},
            "status": {"pools": [{"name": "p", "tier": "ssd", "state": state, "capacityBytes": largest, "usedBytes": 0,
                "promisedBytes": 0, "maxVolumeBytes": largest, "volumes": 0}]}}),
    );
}

fn snapshot(index: &Index, id: &str, namespace: &str, ready: bool) {
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }, "reason": "Taken", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    put::<NodeSnapshot>(
        index,
        json!({"apiVersion": names::API_VERSION, "kind": "NodeSnapshot", "metadata": {"name": id, "uid": id},
            "spec": {"nodeName": "n1", "pool": "p", "source": "pvc-1",
                "snapshot": {"namespace": namespace, "name": "monday", "uid": "s"}},
            "status": {"sizeBytes": 1 << 30, "volumeMode": "Filesystem", "filesystem": "ext4", "conditions": [condition]}}),
    );
}

/// What a backup program brings back: the content by its handle, under another name.
fn content(index: &Index, name: &str, handle: &str, of: &str, made: &str) {
    put::<ContentObject>(
        index,
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {"name": name, "creationTimestamp": made},
            "spec": {"driver": names::DRIVER, "source": {"snapshotHandle": handle},
                "volumeSnapshotRef": {"namespace": "ada", "name": of, "uid": format!("uid-{name}")}}}),
    );
}

/// A volume on n1 that a claim `data` of this namespace has.
fn volume(index: &Index, namespace: &str) {
    put::<NodeVolume>(
        index,
        json!({"apiVersion": names::API_VERSION, "kind": "NodeVolume", "metadata": {"name": "pvc-1", "uid": "d"},
            "spec": {"nodeName": "n1", "pool": "p", "sizeBytes": 1 << 30, "filesystem": "ext4",
                "claim": {"namespace": namespace, "name": "data", "uid": "1"}},
            "status": {"capacityBytes": 1 << 30}}),
    );
    put::<ClaimObject>(
        index,
        json!({"metadata": {"name": "data", "namespace": "ada", "uid": "1"},
            "spec": {"volumeName": "pvc-1"}, "status": {"phase": "Bound"}}),
    );
    put::<PersistentVolumeObject>(
        index,
        json!({"metadata": {"name": "pvc-1"}, "spec": {"csi": {"driver": names::DRIVER, "volumeHandle": "pvc-1"},
            "claimRef": {"namespace": "ada", "name": "data", "uid": "1"}}}),
    );
}

fn node(index: &Index, name: &str) {
    put::<NodeObject>(index, json!({"metadata": {"name": name}}));
}

fn cluster() -> Index {
    let index = Index::default();
    node(&index, "n1");
    node(&index, "n2");
    class(&index, "WaitForFirstConsumer", names::DRIVER);
    index
}

fn chosen(index: &Index) -> Option<Action> {
    let observed = index.read(|state| Observed::look(state, &Namespaced::new("ada", "copy")));
    observed
        .and_then(|observed| plan(&observed).into_iter().find(|action| matches!(action, Action::Choose(_))))
}

fn of_snapshot(name: &str) -> Value {
    json!({"apiGroup": names::SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": name})
}

fn of_claim() -> Value {
    json!({"kind": "PersistentVolumeClaim", "name": "data"})
}

fn n1() -> Action {
    Action::Choose("n1".to_owned())
}

#[test]
fn a_copy_goes_to_the_node_of_its_source_whatever_the_scheduler_picked() {
    for source in [of_snapshot("monday"), of_claim()] {
        let index = cluster();
        volume(&index, "ada");
        snapshot(&index, "snapshot-s", "ada", true);
        for (selected, expected) in [(None, Some(n1())), (Some("n2"), Some(n1())), (Some("n1"), None)] {
            copy(&index, &source, selected);
            assert_eq!(chosen(&index), expected, "{source} {selected:?}");
        }
    }
}

#[test]
fn nothing_is_chosen_for_a_claim_that_needs_no_choice_or_may_not_have_it() {
    for (what, prepare) in [
        ("it is empty", (|index| copy(index, &Value::Null, None)) as fn(&Index)),
        ("its class binds at once", |index| class(index, "Immediate", names::DRIVER)),
        ("its class is another driver's", |index| class(index, "WaitForFirstConsumer", "other")),
        ("the snapshot is being taken", |index| snapshot(index, "snapshot-s", "ada", false)),
        ("the snapshot is another namespace's", |index| snapshot(index, "snapshot-s", "bob", true)),
        ("another kind fills it", |index| {
            copy(index, &json!({"apiGroup": "example.org", "kind": "Filler", "name": "monday"}), None);
        }),
        ("its node is gone", |index| {
            let meta = kube::core::ObjectMeta { name: Some("n1".to_owned()), ..Default::default() };
            index.remove::<NodeObject>(&meta);
        }),
        ("it has its volume", |index| {
            put::<ClaimObject>(
                index,
                json!({"metadata": {"name": "copy", "namespace": "ada", "uid": "2"},
                    "spec": {"storageClassName": "c", "dataSource": of_snapshot("monday"), "volumeName": "v"}}),
            );
        }),
    ] {
        let index = cluster();
        snapshot(&index, "snapshot-s", "ada", true);
        copy(&index, &of_snapshot("monday"), None);
        assert_eq!(chosen(&index), Some(n1()));
        prepare(&index);
        assert_eq!(chosen(&index), None, "{what}");
    }
}

#[test]
fn a_snapshot_that_a_backup_program_brought_back_is_found_by_its_content() {
    let index = cluster();
    snapshot(&index, "snapshot-s", "ada", true);
    copy(&index, &of_snapshot("restored-7"), None);
    assert_eq!(chosen(&index), None, "nothing has that name");
    content(&index, "velero-x", "snapshot-s", "restored-7", "2026-01-02T00:00:00Z");
    assert_eq!(chosen(&index), Some(n1()));
    // Whoever brings it back into another namespace does not get it.
    snapshot(&index, "snapshot-s", "bob", true);
    assert_eq!(chosen(&index), None);
}

#[test]
fn a_snapshot_made_anew_under_a_name_is_not_the_one_that_was_kept() {
    let index = cluster();
    snapshot(&index, "snapshot-s", "ada", true);
    copy(&index, &of_snapshot("monday"), None);
    content(&index, "kept", "snapshot-s", "monday", "2026-01-01T00:00:00Z");
    assert_eq!(chosen(&index), Some(n1()));
    put::<ContentObject>(
        &index,
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {"name": "new", "creationTimestamp": "2026-01-03T00:00:00Z"},
            "spec": {"driver": names::DRIVER, "source": {"volumeHandle": "pvc-1"},
                "volumeSnapshotRef": {"namespace": "ada", "name": "monday", "uid": "new"}}}),
    );
    assert_eq!(chosen(&index), None, "it is not taken yet");
}

#[test]
fn no_node_is_chosen_that_has_no_room() {
    let gib = 1 << 30;
    for (what, state, largest, selected, expected) in [
        ("room", "Ready", 2 * gib, None, Some(n1())),
        ("just too little", "Ready", 2 * gib - 1, None, None),
        ("the scheduler picked another", "Ready", gib, Some("n2"), None),
        ("its disk is away", "Unavailable", 9 * gib, None, None),
    ] {
        let index = cluster();
        snapshot(&index, "snapshot-s", "ada", true);
        pool(&index, state, largest);
        copy(&index, &of_snapshot("monday"), selected);
        assert_eq!(chosen(&index), expected, "{what}");
    }
    // What is being made has its room already.
    let index = cluster();
    snapshot(&index, "snapshot-s", "ada", true);
    pool(&index, "Ready", 0);
    copy(&index, &of_snapshot("monday"), None);
    put::<NodeVolume>(
        &index,
        json!({"apiVersion": names::API_VERSION, "kind": "NodeVolume", "metadata": {"name": "pvc-2", "uid": "e"},
            "spec": {"nodeName": "n1", "pool": "p", "sizeBytes": 2 << 30, "filesystem": "ext4"}}),
    );
    assert_eq!(chosen(&index), Some(n1()));
}
