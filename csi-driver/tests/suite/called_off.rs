//! Restores in place that are called off, or whose volume goes, at any moment: the node says what became of them, once and for good, and keeps
//! nothing that nobody was told of.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::*;

/// A volume `pvc-1` with a snapshot `snapshot-1`.
async fn with_snapshot(machine: &Machine) -> (FakeApi, Plugin) {
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    let plugin = machine.start(api.client()).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    api.put(SNAPSHOTS, node_snapshot("snapshot-1", "pvc-1"));
    api.until(SNAPSHOTS, "snapshot-1", |snapshot| reason(snapshot) == Some("Taken")).await;
    (api, plugin)
}

fn order(uid: &str, cancel: bool) -> Value {
    json!({ "uid": uid, "snapshot": "snapshot-1", "safety": format!("before-{uid}"), "cancel": cancel })
}

fn answered(volume: Option<&Value>, field: &str, uid: &str) -> bool {
    volume.is_some_and(|volume| volume["status"][field] == json!(uid))
}

/// A pod uses the volume, and its restore is ordered, which waits for the pod. Returns where it is staged.
async fn ordered_while_in_use(machine: &Machine, api: &FakeApi, plugin: &mut Plugin) -> String {
    let staging = machine.kubelet_path("staging");
    plugin.node.node_stage_volume(stage("pvc-1", &staging)).await.unwrap();
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order("r1", false));
    api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("InUse")).await;
    staging
}

/// The volume, once its restore was called off and it is well.
async fn called_off(api: &FakeApi) -> Value {
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order("r1", true));
    let off = |volume: Option<&Value>| answered(volume, "restoreCalledOff", "r1") && ready(volume);
    api.until(VOLUMES, "pvc-1", off).await.unwrap()
}

/// Ids on the disk that no object speaks of, as soon as the report says that these are all.
async fn on_disk_without_object(api: &FakeApi, expected: &[String]) {
    let expected = json!(expected);
    let unclaimed = |storage: Option<&Value>| {
        storage.is_some_and(|storage| {
            let all = &storage["status"]["unclaimed"];
            *all == expected || (all.is_null() && expected == json!([]))
        })
    };
    api.until(STORAGES, "n1", unclaimed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_waits_for_a_pod_is_called_off_and_never_done() {
    let machine = Machine::new();
    let (api, mut plugin) = with_snapshot(&machine).await;
    let staging = ordered_while_in_use(&machine, &api, &mut plugin).await;
    let volume = called_off(&api).await;
    assert_eq!(volume["status"].get("restored"), None);

    // Neither the end of the pod nor a new plugin brings it back.
    plugin.node.node_unstage_volume(unstage("pvc-1", &staging)).await.unwrap();
    plugin.stop().await;
    let plugin = machine.start(api.client()).await;
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["sizeBytes"] = json!(2 * GIB));
    let grown = |volume: Option<&Value>| volume.unwrap()["status"]["capacityBytes"] == json!(2 * GIB);
    let volume = api.until(VOLUMES, "pvc-1", grown).await.unwrap();
    assert_eq!(volume["status"].get("restored"), None);
    assert!(answered(Some(&volume), "restoreCalledOff", "r1"), "{volume}");
    on_disk_without_object(&api, &[]).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_goes_before_its_restore_begins_is_named_and_the_restore_called_off() {
    let machine = Machine::new();
    let (api, mut plugin) = with_snapshot(&machine).await;
    let staging = ordered_while_in_use(&machine, &api, &mut plugin).await;
    api.delete(SNAPSHOTS, "snapshot-1");
    api.until(SNAPSHOTS, "snapshot-1", |snapshot| snapshot.is_none()).await;
    plugin.node.node_unstage_volume(unstage("pvc-1", &staging)).await.unwrap();
    let said = api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("NoSource")).await.unwrap();
    assert!(message(&said).contains("snapshot-1"), "{}", message(&said));
    called_off(&api).await;
    on_disk_without_object(&api, &[]).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_done_before_it_was_called_off_says_so() {
    let machine = Machine::new();
    let (api, plugin) = with_snapshot(&machine).await;
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order("r1", false));
    api.until(VOLUMES, "pvc-1", |volume| answered(volume, "restored", "r1")).await;
    plugin.stop().await;
    // As after a plugin that was killed before it could say so.
    api.edit(VOLUMES, "pvc-1", |volume| {
        volume["status"].as_object_mut().unwrap().remove("restored");
        volume["spec"]["restore"] = order("r1", true);
    });
    let plugin = machine.start(api.client()).await;
    let volume = api.until(VOLUMES, "pvc-1", |volume| answered(volume, "restored", "r1")).await.unwrap();
    assert_eq!(volume["status"].get("restoreCalledOff"), None);
    on_disk_without_object(&api, &["before-r1".to_owned()]).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_only_a_late_watch_tells_of_is_not_carried_out() {
    let machine = Machine::new();
    let (api, plugin) = with_snapshot(&machine).await;
    let mut told = api.get(VOLUMES, "pvc-1").unwrap();
    told["spec"]["restore"] = order("r1", false);
    // Of an order that is over, and of one that was called off.
    api.tell(VOLUMES, told.clone());
    api.until_read(1).await;
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order("r1", true));
    api.until(VOLUMES, "pvc-1", |volume| answered(volume, "restoreCalledOff", "r1")).await;
    api.tell(VOLUMES, told);
    api.until_read(2).await;
    // What is under way ends first.
    plugin.stop().await;
    assert_eq!(api.get(VOLUMES, "pvc-1").unwrap()["status"].get("restored"), None);
    let plugin = machine.start(api.client()).await;
    on_disk_without_object(&api, &[]).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_and_its_end_at_once_have_one_answer_that_is_true() {
    let machine = Machine::new();
    let (api, mut plugin) = with_snapshot(&machine).await;
    let (mut done, mut off) = (Vec::new(), 0);
    for round in 0..24_u64 {
        let uid = format!("r{round}");
        api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order(&uid, false));
        // From "before the node has heard of it" to "while it is at it" and after.
        tokio::time::sleep(Duration::from_micros(round * 400)).await;
        let cancel = || api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order(&uid, true));
        if round % 4 == 3 {
            plugin.stop().await;
            cancel();
            plugin = machine.start(api.client()).await;
        } else {
            cancel();
        }
        let either = |volume: Option<&Value>| {
            answered(volume, "restored", &uid) || answered(volume, "restoreCalledOff", &uid)
        };
        let volume = api.until(VOLUMES, "pvc-1", either).await;
        let restored = answered(volume.as_ref(), "restored", &uid);
        assert_ne!(restored, answered(volume.as_ref(), "restoreCalledOff", &uid), "{volume:?}");
        if restored {
            done.push(format!("before-{uid}"));
        } else {
            off += 1;
        }
        api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = Value::Null);
    }
    println!("{} were carried out, {off} called off", done.len());
    done.sort();
    on_disk_without_object(&api, &done).await;
    plugin.stop().await;
}

/// The volume goes while its order stands.
async fn deleted_with_its_order(api: &FakeApi) {
    api.delete(VOLUMES, "pvc-1");
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_kept_goes_with_a_volume_that_goes_before_it_is_recorded() {
    let machine = Machine::new();
    let (api, plugin) = with_snapshot(&machine).await;
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order("r1", false));
    api.until(VOLUMES, "pvc-1", |volume| answered(volume, "restored", "r1")).await;
    on_disk_without_object(&api, &["before-r1".to_owned()]).await;
    deleted_with_its_order(&api).await;
    on_disk_without_object(&api, &[]).await;
    let other = api.get(SNAPSHOTS, "snapshot-1");
    assert_eq!(reason(other.as_ref()), Some("Taken"), "another snapshot of the volume stays");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_kept_stays_once_it_is_recorded() {
    let machine = Machine::new();
    let (api, plugin) = with_snapshot(&machine).await;
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["restore"] = order("r1", false));
    api.until(VOLUMES, "pvc-1", |volume| answered(volume, "restored", "r1")).await;
    plugin.stop().await;
    // The controller records it while nobody is there to take it over, and the volume goes at once.
    api.put(SNAPSHOTS, node_snapshot("before-r1", "pvc-1"));
    api.delete(VOLUMES, "pvc-1");
    let plugin = machine.start(api.client()).await;
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    api.until(SNAPSHOTS, "before-r1", |snapshot| reason(snapshot) == Some("Taken")).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_deleted_at_any_moment_of_its_restore_leaves_nothing() {
    let machine = Machine::new();
    let (api, mut plugin) = with_snapshot(&machine).await;
    for round in 0..16_u64 {
        let (id, snapshot) = (format!("pvc-r{round}"), format!("snapshot-r{round}"));
        api.put(VOLUMES, node_volume(&id, GIB / 16));
        api.until(VOLUMES, &id, ready).await;
        api.put(SNAPSHOTS, node_snapshot(&snapshot, &id));
        api.until(SNAPSHOTS, &snapshot, |snapshot| reason(snapshot) == Some("Taken")).await;
        let uid = format!("r{round}");
        api.edit(VOLUMES, &id, |volume| {
            volume["spec"]["restore"] =
                json!({ "uid": uid, "snapshot": snapshot, "safety": format!("before-{uid}") });
        });
        tokio::time::sleep(Duration::from_micros(round * 600)).await;
        if round % 4 == 3 {
            plugin.stop().await;
            api.delete(VOLUMES, &id);
            plugin = machine.start(api.client()).await;
        } else {
            api.delete(VOLUMES, &id);
        }
        api.until(VOLUMES, &id, |volume| volume.is_none()).await;
        api.delete(SNAPSHOTS, &snapshot);
        api.until(SNAPSHOTS, &snapshot, |snapshot| snapshot.is_none()).await;
    }
    // What the report names is all that there is, once it names this one.
    api.remove(SNAPSHOTS, "snapshot-1");
    on_disk_without_object(&api, &["snapshot-1".to_owned()]).await;
    plugin.stop().await;
}
