//! Snapshots, copies and restores in place: the plugin carries out what the objects say.

use serde_json::{Value, json};

use crate::support::*;

async fn with_volume(machine: &Machine) -> (FakeApi, Plugin) {
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    let plugin = machine.start(api.client()).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    (api, plugin)
}

fn taken(object: Option<&Value>) -> bool {
    reason(object) == Some("Taken")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_costs_one_write_and_outlives_its_volume() {
    let machine = Machine::new();
    let (api, plugin) = with_volume(&machine).await;
    api.put(SNAPSHOTS, node_snapshot("snapshot-1", "pvc-1"));
    let snapshot = api.until(SNAPSHOTS, "snapshot-1", taken).await.unwrap();
    assert_eq!(snapshot["status"]["sizeBytes"], json!(GIB));
    assert_eq!(snapshot["status"]["filesystem"], json!("ext4"));
    assert!(snapshot["status"]["takenAt"].is_string(), "{snapshot}");
    let writes: Vec<_> = api.writes().into_iter().filter(|write| write.contains("snapshot-1")).collect();
    assert_eq!(writes, ["PATCH nodesnapshots/snapshot-1/status"]);

    api.delete(VOLUMES, "pvc-1");
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    let mut copy = node_volume("pvc-2", 2 * GIB);
    copy["spec"]["source"] = json!({ "snapshot": "snapshot-1" });
    api.put(VOLUMES, copy);
    let made = api.until(VOLUMES, "pvc-2", ready).await.unwrap();
    assert_eq!(made["status"]["capacityBytes"], json!(2 * GIB));
    api.delete(SNAPSHOTS, "snapshot-1");
    api.until(SNAPSHOTS, "snapshot-1", |snapshot| snapshot.is_none()).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_taken_or_copied_says_why() {
    let machine = Machine::new();
    let (api, plugin) = with_volume(&machine).await;
    for (snapshot, why, words) in [
        (node_snapshot("nothing", "pvc-9"), "NoSource", "pvc-9"),
        (node_snapshot("Bad", "pvc-1"), "Invalid", "lower-case"),
        // One id is never both.
        (node_snapshot("pvc-1", "pvc-1"), "Conflict", "pvc-1"),
    ] {
        let name = snapshot["metadata"]["name"].as_str().unwrap().to_owned();
        api.put(SNAPSHOTS, snapshot);
        let said = api.until(SNAPSHOTS, &name, |snapshot| reason(snapshot) == Some(why)).await.unwrap();
        assert!(message(&said).contains(words), "{}", message(&said));
    }
    let mut copy = node_volume("pvc-2", GIB);
    copy["spec"]["source"] = json!({ "snapshot": "never-was" });
    api.put(VOLUMES, copy);
    let said = api.until(VOLUMES, "pvc-2", |volume| reason(volume) == Some("NoSource")).await.unwrap();
    assert!(message(&said).contains("never-was"), "{}", message(&said));
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_waits_for_the_last_pod_and_is_done_once() {
    let machine = Machine::new();
    let (api, mut plugin) = with_volume(&machine).await;
    api.put(SNAPSHOTS, node_snapshot("snapshot-1", "pvc-1"));
    api.until(SNAPSHOTS, "snapshot-1", taken).await;
    let staging = machine.kubelet_path("staging");
    plugin.node.node_stage_volume(stage("pvc-1", &staging)).await.unwrap();
    api.edit(VOLUMES, "pvc-1", |volume| {
        volume["spec"]["restore"] = json!({ "uid": "r1", "snapshot": "snapshot-1", "safety": "before-r1" });
    });
    let waiting = api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("InUse")).await.unwrap();
    assert_eq!(waiting["status"].get("restored"), None);
    plugin.node.node_unstage_volume(unstage("pvc-1", &staging)).await.unwrap();
    let restored = |volume: Option<&Value>| volume.unwrap()["status"]["restored"] == json!("r1");
    api.until(VOLUMES, "pvc-1", restored).await;

    // What was there before is a snapshot like any other.
    api.put(SNAPSHOTS, node_snapshot("before-r1", "pvc-1"));
    let kept = api.until(SNAPSHOTS, "before-r1", taken).await.unwrap();
    let taken_at = kept["status"]["takenAt"].clone();
    // The order stays; a plugin that starts anew does not carry it out again.
    plugin.stop().await;
    let plugin = machine.start(api.client()).await;
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["sizeBytes"] = json!(2 * GIB));
    let grown = |volume: Option<&Value>| volume.unwrap()["status"]["capacityBytes"] == json!(2 * GIB);
    let volume = api.until(VOLUMES, "pvc-1", grown).await.unwrap();
    assert_eq!(volume["status"]["restored"], json!("r1"));
    assert_eq!(api.get(SNAPSHOTS, "before-r1").unwrap()["status"]["takenAt"], taken_at);
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_27_a_snapshot_without_an_object_is_listed_and_left() {
    let machine = Machine::new();
    let (api, plugin) = with_volume(&machine).await;
    api.put(SNAPSHOTS, node_snapshot("snapshot-1", "pvc-1"));
    api.until(SNAPSHOTS, "snapshot-1", taken).await;
    api.remove(SNAPSHOTS, "snapshot-1");
    let unclaimed =
        |storage: Option<&Value>| storage.is_some_and(|s| s["status"]["unclaimed"] == json!(["snapshot-1"]));
    api.until(STORAGES, "n1", unclaimed).await;
    plugin.stop().await;
}
