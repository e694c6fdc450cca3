//! What wakes whom, and that strangers are left alone however many there are.

use super::{
    Devices, Index, KeySecrets, Namespaced, News, Pools, Restores, Snapshots, State, Topic, WaitingClaims,
    Wakes,
};
use crate::run::queue::{Key, Queue};
use crate::volumes::personal::Volumes;
use kube::core::ObjectMeta;
use serde_json::{Value, json};
use tierce_crds::{NodeSnapshot, NodeStorage, NodeVolume, StoragePool, Volume, VolumeRestore, names};

/// More than anybody looks through at each event.
const STRANGERS: usize = 1_000;

fn key(name: &str) -> Namespaced {
    Namespaced::new("ada", name)
}

fn put<T: super::Tracked + kube::Resource + serde::de::DeserializeOwned>(index: &Index, object: Value) {
    index.put(serde_json::from_value::<T>(object).unwrap());
}

fn meta(name: &str, namespaced: bool) -> Value {
    let mut meta = json!({"name": name, "uid": format!("uid-{name}")});
    if namespaced {
        meta["namespace"] = json!("ada");
    }
    meta
}

fn volume(index: &Index, name: &str, source: &Value) {
    put::<Volume>(
        index,
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "metadata": meta(name, true),
            "spec": {"size": "1Gi", "tier": "ssd", "source": source}}),
    );
}

fn restore(index: &Index, name: &str, volume: &str, snapshot: &str) {
    put::<VolumeRestore>(
        index,
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore", "metadata": meta(name, true),
            "spec": {"volume": volume, "snapshot": snapshot}}),
    );
}

fn device(index: &Index, id: &str, claim: &str, order: &Value) {
    put::<NodeVolume>(
        index,
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": meta(id, false),
            "spec": {"nodeName": "n", "pool": "p", "sizeBytes": 1, "filesystem": "ext4", "restore": order,
                "claim": {"namespace": "ada", "name": claim, "uid": "1"}}}),
    );
}

fn snapshot(index: &Index, id: &str, name: &str) {
    put::<NodeSnapshot>(
        index,
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeSnapshot", "metadata": meta(id, false),
            "spec": {"nodeName": "n", "pool": "p", "source": "pvc-1",
                "snapshot": {"namespace": "ada", "name": name, "uid": "1"}}}),
    );
}

fn pod(index: &Index, name: &str, claim: &str) {
    put::<super::PodObject>(
        index,
        json!({"metadata": meta(name, true), "spec": {"nodeName": "n",
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}}),
    );
}

/// A crowd in the same namespace: restores and copies of what never comes.
fn with_strangers() -> Index {
    let index = Index::default();
    for n in 0..STRANGERS {
        restore(&index, &format!("restore-{n}"), &format!("absent-{n}"), &format!("never-{n}"));
        volume(&index, &format!("copy-{n}"), &json!({"volume": format!("absent-{n}")}));
        volume(&index, &format!("clone-{n}"), &json!({"snapshot": format!("never-{n}")}));
    }
    index
}

/// The keys that wait in a queue which hears the change only.
fn woken<T: Topic>(index: &Index, change: impl FnOnce(&Index)) -> usize {
    let queue = Queue::default();
    drop(index.subscribe::<T>(&queue));
    change(index);
    queue.len()
}

#[test]
fn an_event_wakes_no_restore_that_waits_for_something_else() {
    let index = with_strangers();
    restore(&index, "mine", "data", "monday");
    for (what, change) in [
        ("a pod uses it", Box::new(|index: &Index| pod(index, "p", "data")) as Box<dyn FnOnce(&Index)>),
        ("its device", Box::new(|index| device(index, "pvc-1", "data", &Value::Null))),
        ("its Volume", Box::new(|index| volume(index, "data", &Value::Null))),
        ("its snapshot", Box::new(|index| snapshot(index, "snapshot-1", "monday"))),
        (
            "an order that it gave",
            Box::new(|index| {
                device(
                    index,
                    "pvc-2",
                    "other",
                    &json!({"uid": "uid-mine", "snapshot": "s", "safety": "before-uid-mine"}),
                );
            }),
        ),
    ] {
        assert_eq!(woken::<Restores>(&index, change), 1, "{what}");
    }
}

#[test]
fn an_event_wakes_no_copy_that_waits_for_something_else() {
    let index = with_strangers();
    volume(&index, "mine", &json!({"volume": "data"}));
    volume(&index, "other", &json!({"snapshot": "monday"}));
    assert_eq!(woken::<Volumes>(&index, |index| device(index, "pvc-1", "data", &Value::Null)), 1);
    assert_eq!(woken::<Volumes>(&index, |index| snapshot(index, "snapshot-1", "monday")), 1);
    volume(&index, "data", &Value::Null);
    let both = woken::<Volumes>(&index, |index| {
        index.remove::<NodeVolume>(&ObjectMeta { name: Some("pvc-1".into()), ..ObjectMeta::default() });
    });
    assert_eq!(both, 2, "the Volume itself and its copy");
}

#[test]
fn an_event_wakes_no_claim_that_waits_for_something_else() {
    let index = Index::default();
    put::<super::ClassObject>(&index, json!({"metadata": meta("c", false), "provisioner": names::DRIVER}));
    let waits = |index: &Index, name: &str, kind: &str, source: &str| {
        let group = if kind == "VolumeSnapshot" { names::SNAPSHOT_GROUP } else { "" };
        put::<super::ClaimObject>(
            index,
            json!({"metadata": meta(name, true), "spec": {"storageClassName": "c",
                "dataSource": {"apiGroup": group, "kind": kind, "name": source}}}),
        );
    };
    for n in 0..STRANGERS {
        waits(&index, &format!("other-{n}"), "VolumeSnapshot", &format!("never-{n}"));
    }
    waits(&index, "restored", "VolumeSnapshot", "monday");
    waits(&index, "cloned", "PersistentVolumeClaim", "data");
    let content = |index: &Index| {
        put::<super::ContentObject>(
            index,
            json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": meta("x", false),
                "spec": {"driver": names::DRIVER, "source": {"snapshotHandle": "snapshot-1"},
                    "volumeSnapshotRef": {"namespace": "ada", "name": "monday", "uid": "1"}}}),
        );
    };
    for (what, change) in [
        ("its content", Box::new(content) as Box<dyn FnOnce(&Index)>),
        ("its snapshot, of another name", Box::new(|index| snapshot(index, "snapshot-1", "sunday"))),
        ("its source's device", Box::new(|index| device(index, "pvc-1", "data", &Value::Null))),
        ("itself", Box::new(|index| waits(index, "cloned", "PersistentVolumeClaim", "other"))),
    ] {
        assert_eq!(woken::<WaitingClaims>(&index, change), 1, "{what}");
    }
}

#[test]
fn a_restore_that_goes_on_wakes_no_other_of_its_volume_until_it_is_over() {
    let index = Index::default();
    for n in 0..STRANGERS {
        restore(&index, &format!("next-{n}"), "data", "monday");
    }
    restore(&index, "first", "data", "monday");
    let goes_on = woken::<Restores>(&index, |index| restore(index, "first", "data", "tuesday"));
    assert_eq!(goes_on, 1);
    let meta =
        ObjectMeta { name: Some("first".into()), namespace: Some("ada".into()), ..ObjectMeta::default() };
    assert_eq!(woken::<Restores>(&index, |index| index.remove::<VolumeRestore>(&meta)), STRANGERS + 1);
}

#[test]
fn pods_that_come_beside_another_wake_the_oldest_restore_of_their_volume() {
    let index = Index::default();
    for n in 0..STRANGERS {
        restore(&index, &format!("next-{n}"), "data", "monday");
    }
    pod(&index, "first", "data");
    assert_eq!(woken::<Restores>(&index, |index| pod(index, "second", "data")), 1);
    let gone = |name: &str| ObjectMeta {
        name: Some(name.into()),
        namespace: Some("ada".into()),
        ..ObjectMeta::default()
    };
    index.remove::<super::PodObject>(&gone("second"));
    let last = |index: &Index| index.remove::<super::PodObject>(&gone("first"));
    assert_eq!(woken::<Restores>(&index, last), STRANGERS, "each of them may begin now");
}

#[test]
fn room_wakes_those_that_want_to_grow_and_none_that_lack_something_else() {
    let index = Index::default();
    let made = |name: &str, size: &str| {
        let ready = json!({"type": "Ready", "status": "False", "reason": "NodeLost", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        put::<Volume>(
            &index,
            json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "metadata": meta(name, true),
                "spec": {"size": size, "tier": "ssd"},
                "status": {"volumeName": name, "capacity": "1Gi", "conditions": [ready]}}),
        );
    };
    (0..STRANGERS).for_each(|n| made(&format!("lost-{n}"), "1Gi"));
    made("grows", "2Gi");
    // Its claim does not ask for it yet.
    assert_eq!(woken::<Volumes>(&index, |index| device(index, "pvc-0", "other", &Value::Null)), 0);
    put::<super::ClaimObject>(
        &index,
        json!({"metadata": meta("grows", true), "spec": {"resources": {"requests": {"storage": "2Gi"}}}}),
    );
    assert_eq!(woken::<Volumes>(&index, |index| device(index, "pvc-1", "other", &Value::Null)), 1);
}

#[test]
fn the_figures_of_a_pool_wake_no_volume_and_its_tier_does() {
    let index = Index::default();
    let pool = |tier: &str, volumes: i64| {
        put::<StoragePool>(
            &index,
            json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool",
                "metadata": {"name": "p", "resourceVersion": volumes.to_string()},
                "spec": {"tier": tier, "directory": {"path": "/p/q"}}, "status": {"nodes": volumes.to_string()}}),
        );
    };
    pool("ssd", 1);
    for n in 0..STRANGERS {
        volume(&index, &format!("waits-{n}"), &Value::Null);
    }
    assert_eq!(woken::<Volumes>(&index, |_| pool("ssd", 2)), 0);
    assert_eq!(woken::<Pools>(&index, |_| pool("ssd", 3)), 1, "who writes them hears of it");
    assert_eq!(woken::<Volumes>(&index, |_| pool("hdd", 3)), STRANGERS);
}

#[test]
fn a_retained_device_wakes_the_volume_that_has_it_now() {
    let index = Index::default();
    volume(&index, "now", &Value::Null);
    put::<super::PersistentVolumeObject>(
        &index,
        json!({"metadata": {"name": "kept"}, "spec": {"csi": {"driver": names::DRIVER, "volumeHandle": "pvc-1"},
            "claimRef": {"namespace": "ada", "name": "now", "uid": "2"}}}),
    );
    assert_eq!(woken::<Volumes>(&index, |index| device(index, "pvc-1", "before", &Value::Null)), 1);
}

#[test]
fn what_is_looked_up_by_name_is_found_among_many_and_forgotten_with_its_object() {
    let index = Index::default();
    for n in 0..STRANGERS {
        snapshot(&index, &format!("other-{n}"), &format!("never-{n}"));
        let order = json!({"uid": format!("r-{n}"), "snapshot": "s", "safety": format!("before-r-{n}")});
        device(&index, &format!("pvc-{n}"), &format!("c-{n}"), &order);
    }
    snapshot(&index, "one", "monday");
    let found = |look: fn(&State) -> Option<String>| index.read(look);
    let named = |state: &State| state.snapshot_of(&key("monday")).map(|snapshot| snapshot.id.clone());
    assert_eq!(found(named).as_deref(), Some("one"));
    assert_eq!(index.read(|state| state.snapshots_on("n").count()), STRANGERS + 1);
    let by_order = |state: &State| state.device_with_order("r-7").map(|device| device.id.clone());
    assert_eq!(found(by_order).as_deref(), Some("pvc-7"));
    let by_safety = |state: &State| state.device_with_order("before-r-7").map(|device| device.id.clone());
    assert_eq!(found(by_safety).as_deref(), Some("pvc-7"));
    let copy = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": meta("copy", false),
        "spec": {"nodeName": "n", "pool": "p", "sizeBytes": 1, "filesystem": "ext4", "source": {"volume": "pvc-8"}}});
    put::<NodeVolume>(&index, copy);
    let copies = |state: &State| {
        let (snapshots, devices) =
            (state.snapshots_from("pvc-1").count(), state.devices_from("pvc-8").count());
        (snapshots, devices, state.snapshots_from("pvc-2").count(), state.devices_from("pvc-9").count())
    };
    assert_eq!(index.read(copies), (STRANGERS + 1, 1, 0, 0));
    index.remove::<NodeVolume>(&ObjectMeta { name: Some("copy".into()), ..ObjectMeta::default() });
    assert_eq!(index.read(copies), (STRANGERS + 1, 0, 0, 0));
    device(&index, "pvc-7", "c-7", &Value::Null);
    assert_eq!(found(by_order), None);
    index.remove::<NodeSnapshot>(&ObjectMeta { name: Some("one".into()), ..ObjectMeta::default() });
    assert_eq!(found(named), None);
}

#[test]
fn one_that_is_gone_is_looked_at_by_those_who_look_after_orphans() {
    let index = Index::default();
    device(&index, "pvc-1", "data", &json!({"uid": "r", "snapshot": "s", "safety": "before-r"}));
    snapshot(&index, "one", "monday");
    let gone = |index: &Index| {
        index.remove::<NodeVolume>(&ObjectMeta { name: Some("pvc-1".into()), ..ObjectMeta::default() });
        index.remove::<NodeSnapshot>(&ObjectMeta { name: Some("one".into()), ..ObjectMeta::default() });
    };
    let queues = (Queue::default(), Queue::default(), Queue::default());
    drop(index.subscribe::<Devices>(&queues.0));
    drop(index.subscribe::<Snapshots>(&queues.1));
    drop(index.subscribe::<KeySecrets>(&queues.2));
    gone(&index);
    assert_eq!((queues.0.len(), queues.1.len()), (1, 1));
    assert_eq!(queues.2.len(), 3, "both keys, and that of what the restore would have kept");
}

/// A node's report: what no object speaks of, what can't be read, the state of its pool, and a figure.
fn report(index: &Index, (unclaimed, broken): (&[&str], &[&str]), state: &str, used: i64) {
    put::<NodeStorage>(
        index,
        json!({"apiVersion": names::API_VERSION, "kind": "NodeStorage", "metadata": {"name": "n"}, "spec": {"nodeName": "n"},
            "status": {"unclaimed": unclaimed, "brokenRecords": broken, "pools": [{"name": "p", "tier": "t", "state": state,
                "capacityBytes": 100, "usedBytes": used, "promisedBytes": 0, "maxVolumeBytes": 0, "volumes": 0}]}}),
    );
}

#[test]
fn a_report_wakes_the_keys_that_it_may_let_go() {
    const READY: &str = "Ready";
    let index = Index::default();
    for n in 0..STRANGERS {
        put::<super::SecretObject>(
            &index,
            json!({"metadata": {"name": names::key_secret(&format!("pvc-{n}")), "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "finalizers": [names::FINALIZER_KEY], "ownerReferences": [{"apiVersion": names::API_VERSION, "kind": "NodeVolume",
                    "name": format!("pvc-{n}"), "uid": "1"}]}}),
        );
    }
    assert_eq!(index.read(State::keys_that_wait), STRANGERS);
    let full: Vec<_> = (0..tierce_crds::MOST_LEFTOVERS).map(|n| format!("old-{n}")).collect();
    let full: Vec<_> = full.iter().map(String::as_str).collect();
    let unreadable = |index: &Index| {
        let meta = ObjectMeta { name: Some("n".into()), ..ObjectMeta::default() };
        index.put_unreadable::<NodeStorage>(&meta);
    };
    let (none, two) = ((&[][..], &[][..]), (&["pvc-1", "pvc-2"][..], &[][..]));
    for (what, change, woken_now) in [
        (
            "the first",
            Box::new(|index: &Index| report(index, none, READY, 1)) as Box<dyn Fn(&Index)>,
            STRANGERS,
        ),
        ("its figures alone", Box::new(|index| report(index, none, READY, 2)), 0),
        ("more that no object speaks of", Box::new(|index| report(index, two, READY, 2)), 0),
        ("one less", Box::new(|index| report(index, (&["pvc-2", "x"], &[]), READY, 3)), 1),
        ("as many as it may name", Box::new(|index| report(index, (&full, &[]), READY, 3)), 1),
        ("its figures, while it may lack some", Box::new(|index| report(index, (&full, &[]), READY, 4)), 0),
        ("fewer again", Box::new(|index| report(index, none, READY, 4)), STRANGERS),
        ("a record can't be read", Box::new(|index| report(index, (&[], &["x"]), READY, 4)), 0),
        ("it is mended", Box::new(|index| report(index, none, READY, 4)), STRANGERS),
        ("a pool is away", Box::new(|index| report(index, none, "Unavailable", 4)), 0),
        ("it is back", Box::new(|index| report(index, none, READY, 4)), STRANGERS),
        ("the report can't be read", Box::new(unreadable), 0),
        ("it can", Box::new(|index| report(index, none, READY, 5)), STRANGERS),
        (
            "it goes",
            Box::new(|index| {
                index.remove::<NodeStorage>(&ObjectMeta { name: Some("n".into()), ..ObjectMeta::default() });
            }),
            STRANGERS,
        ),
    ] {
        assert_eq!(woken::<KeySecrets>(&index, &*change), woken_now, "{what}");
    }
}

#[test]
fn a_key_is_looked_at_when_nothing_else_speaks_of_its_volume_any_more() {
    let index = Index::default();
    for id in ["pvc-1", "before-r", "pvc-3"] {
        put::<super::SecretObject>(&index, json!({"metadata": {"name": names::key_secret(id), "uid": "u"}}));
    }
    put::<super::PersistentVolumeObject>(
        &index,
        json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": names::DRIVER, "volumeHandle": "pvc-1"}}}),
    );
    device(&index, "pvc-2", "data", &json!({"uid": "r", "snapshot": "s", "safety": "before-r"}));
    let pv = ObjectMeta { name: Some("pv".into()), ..ObjectMeta::default() };
    assert_eq!(
        woken::<KeySecrets>(&index, |index| index.remove::<super::PersistentVolumeObject>(&pv)),
        1,
        "its PersistentVolume is gone"
    );
    assert_eq!(
        woken::<KeySecrets>(&index, |index| device(index, "pvc-2", "data", &Value::Null)),
        1,
        "the order is taken back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_few_are_looked_at_at_once_and_a_crowd_when_it_settles() {
    struct Crowd;
    impl Topic for Crowd {
        type Key = usize;
        fn all(_: &State) -> Vec<usize> {
            Vec::new()
        }
        fn hear(_: &mut State, news: &News<'_>, wakes: &mut Wakes<usize>) {
            match news {
                News::Volume(_) => wakes.all(0..3),
                News::Pod(_) => wakes.all(10..110),
                _ => {}
            }
        }
    }
    let (index, queue) = (Index::default(), Queue::default());
    index.listen::<Crowd>(&queue).await;
    volume(&index, "data", &Value::Null);
    pod(&index, "p", "data");
    let at_once = || due_now(&queue);
    assert_eq!(at_once().await, 3);
    tokio::time::advance(Crowd::SETTLES).await;
    assert_eq!(at_once().await, 100);
}

/// How many keys are due; they are taken.
async fn due_now<K: Key>(queue: &Queue<K>) -> usize {
    let (done, count) = (tokio_util::sync::CancellationToken::new(), std::sync::atomic::AtomicUsize::new(0));
    let stop = done.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        stop.cancel();
    });
    queue
        .run(1_000, done, |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async { crate::run::queue::Next::Event }
        })
        .await;
    count.into_inner()
}
