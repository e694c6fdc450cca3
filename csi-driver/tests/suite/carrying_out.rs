//! `NodeVolume`s become volumes, and go.

use serde_json::{Value, json};

use crate::support::*;

async fn with_pool(machine: &Machine) -> (FakeApi, Plugin) {
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    let plugin = machine.start(api.client()).await;
    (api, plugin)
}

fn writes_for(api: &FakeApi, volume: &str) -> Vec<String> {
    api.writes().into_iter().filter(|write| write.contains(volume)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_costs_one_write_to_make_and_one_to_delete() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    let made = api.until(VOLUMES, "pvc-1", ready).await.unwrap();
    assert_eq!(made["status"]["capacityBytes"], json!(GIB));
    assert_eq!(made["status"]["used"], json!(false));
    assert_eq!(writes_for(&api, "pvc-1"), ["PATCH nodevolumes/pvc-1/status"]);

    api.until(STORAGES, "n1", |storage| pool_figure(storage, "volumes") == Some(1)).await;
    api.delete(VOLUMES, "pvc-1");
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    assert_eq!(writes_for(&api, "pvc-1"), ["PATCH nodevolumes/pvc-1/status", "PATCH nodevolumes/pvc-1"]);
    api.until(STORAGES, "n1", |storage| pool_figure(storage, "volumes") == Some(0)).await;
    plugin.stop().await;
}

fn pool_figure(storage: Option<&Value>, field: &str) -> Option<i64> {
    storage?.pointer("/status/pools/0")?[field].as_i64()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_nodes_volumes_are_not_ours() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    let mut other = node_volume("pvc-2", GIB);
    other["spec"]["nodeName"] = json!("n2");
    api.put(VOLUMES, other);
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    assert_eq!(writes_for(&api, "pvc-2"), [""; 0]);
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_is_there_before_the_disk_is_touched() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    let mut bare = node_volume("pvc-1", GIB);
    bare["metadata"].as_object_mut().unwrap().remove("finalizers");
    api.put(VOLUMES, bare);
    let made = api.until(VOLUMES, "pvc-1", ready).await.unwrap();
    assert_eq!(made["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(writes_for(&api, "pvc-1"), ["PATCH nodevolumes/pvc-1", "PATCH nodevolumes/pvc-1/status"]);
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_finalizer_stays() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    let mut volume = node_volume("pvc-1", GIB);
    volume["metadata"]["finalizers"] = json!(["example.org/a", FINALIZER, "example.org/b"]);
    api.put(VOLUMES, volume);
    api.until(VOLUMES, "pvc-1", ready).await;
    api.delete(VOLUMES, "pvc-1");
    let ours_is_gone = |volume: Option<&Value>| {
        volume.unwrap()["metadata"]["finalizers"] == json!(["example.org/a", "example.org/b"])
    };
    api.until(VOLUMES, "pvc-1", ours_is_gone).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_24_one_bad_object_never_stops_the_others() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    // As a later version, or a hand, might have left them: before the plugin starts, and while it runs.
    let mut bad = node_volume("pvc-0-bad", GIB);
    bad["spec"]["sizeBytes"] = json!("many");
    api.put(VOLUMES, bad.clone());
    api.put(POOLS, json!({ "metadata": { "name": "bad" }, "spec": { "tier": 7 } }));
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    let plugin = machine.start(api.client()).await;
    api.until(VOLUMES, "pvc-1", ready).await;
    bad["metadata"]["name"] = json!("pvc-1-bad");
    bad["spec"]["filesystem"] = json!("ntfs");
    api.put(VOLUMES, bad);
    api.put(VOLUMES, node_volume("pvc-2", GIB));
    api.until(VOLUMES, "pvc-2", ready).await;
    api.delete(VOLUMES, "pvc-1");
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    assert_eq!(writes_for(&api, "bad"), [""; 0]);

    // Mended, it goes on like any other.
    api.edit(VOLUMES, "pvc-0-bad", |volume| volume["spec"]["sizeBytes"] = json!(GIB));
    api.until(VOLUMES, "pvc-0-bad", ready).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_says_what_would_fit_and_room_heals_it() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    api.put(VOLUMES, node_volume("pvc-1", 60 * GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    api.put(VOLUMES, node_volume("pvc-2", 60 * GIB));
    let full = api.until(VOLUMES, "pvc-2", |volume| reason(volume) == Some("OutOfSpace")).await.unwrap();
    let largest = full["status"]["largestBytes"].as_i64().unwrap();
    assert!((1..=40 * GIB).contains(&largest), "{largest}");
    assert_eq!(full["status"].get("capacityBytes"), None);

    api.delete(VOLUMES, "pvc-1");
    let healed = api.until(VOLUMES, "pvc-2", ready).await.unwrap();
    assert_eq!(healed["status"].get("largestBytes"), None);
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_does_not_answer_keeps_no_volume_of_another_waiting_and_is_told_of() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    for name in ["p", "q"] {
        api.put(POOLS, pool(name, &machine.pool_path(name)));
    }
    let plugin = machine.start_with(api.client(), &["--no-registration", "--parallel=2"]).await;
    api.put(VOLUMES, node_volume("pvc-0", GIB));
    api.until(VOLUMES, "pvc-0", ready).await;
    let hangs = machine.path("simulator/p-hangs");
    std::fs::write(&hangs, "").unwrap();
    let stuck = ["pvc-1", "pvc-2", "pvc-3"];
    for name in stuck {
        api.put(VOLUMES, node_volume(name, GIB));
    }
    let mut other = node_volume("pvc-q", GIB);
    other["spec"]["pool"] = json!("q");
    api.put(VOLUMES, other);
    api.until(VOLUMES, "pvc-q", ready).await;
    let told = stuck.iter().find(|name| reason(api.get(VOLUMES, name).as_ref()).is_some());
    assert_eq!(told, None, "it found a place only when another pool's volume was given up");
    // One of the three found no place, and need not wait for the disk to hear why.
    let mut told = 0;
    while told == 0 {
        told = stuck.iter().filter(|name| reason(api.get(VOLUMES, name).as_ref()).is_some()).count();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let silent = |storage: Option<&Value>| {
        storage.is_some_and(|storage| storage["status"]["pools"][0]["reason"] == json!("NotAnswering"))
    };
    api.until(STORAGES, "n1", silent).await;
    std::fs::remove_file(hangs).unwrap();
    for name in stuck {
        api.until(VOLUMES, name, ready).await;
    }
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_it_waited_for_its_turn_is_not_made_any_more() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    let plugin = machine.start_with(api.client(), &["--no-registration", "--parallel=1"]).await;
    api.put(VOLUMES, node_volume("pvc-0", GIB));
    api.until(VOLUMES, "pvc-0", ready).await;
    let moment = || tokio::time::sleep(std::time::Duration::from_millis(300));
    let hangs = machine.path("simulator/p-hangs");
    std::fs::write(&hangs, "").unwrap();
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    moment().await;
    api.put(VOLUMES, node_volume("pvc-2", GIB));
    moment().await;
    api.delete(VOLUMES, "pvc-2");
    moment().await;
    std::fs::remove_file(hangs).unwrap();
    api.until(VOLUMES, "pvc-1", ready).await;
    api.until(VOLUMES, "pvc-2", |volume| volume.is_none()).await;
    assert_eq!(writes_for(&api, "pvc-2"), ["PATCH nodevolumes/pvc-2"], "its finalizer goes, and no more");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_and_mount_options_are_carried_out() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["sizeBytes"] = json!(2 * GIB));
    let grown = |volume: Option<&Value>| volume.unwrap()["status"]["capacityBytes"] == json!(2 * GIB);
    let volume = api.until(VOLUMES, "pvc-1", grown).await.unwrap();
    assert_eq!(volume["status"]["observedGeneration"], json!(2));

    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["mountOptions"] = json!(["suid"]));
    let refused = api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("Invalid")).await.unwrap();
    assert!(
        message(&refused).contains("mount option \"suid\" is not allowed for ext4"),
        "{}",
        message(&refused)
    );
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["mountOptions"] = json!(["noatime"]));
    api.until(VOLUMES, "pvc-1", ready).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_can_not_be_says_why() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    let mut nowhere = node_volume("nowhere", GIB);
    nowhere["spec"]["pool"] = json!("other");
    for (volume, why, words) in [
        (node_volume("tiny", 4096), "Invalid", "at least 16 MiB"),
        (nowhere, "PoolUnavailable", "pool other is not configured on this node"),
        (node_volume("Big", GIB), "Invalid", "lower-case"),
    ] {
        let name = volume["metadata"]["name"].as_str().unwrap().to_owned();
        api.put(VOLUMES, volume);
        let said = api.until(VOLUMES, &name, |volume| reason(volume) == Some(why)).await.unwrap();
        assert!(message(&said).contains(words), "{}", message(&said));
    }
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_27_the_reaper_takes_only_what_was_never_used() {
    let machine = Machine::new();
    let (api, mut plugin) = with_pool(&machine).await;
    for name in ["pvc-used", "pvc-unused"] {
        api.put(VOLUMES, node_volume(name, GIB));
        api.until(VOLUMES, name, ready).await;
    }
    let staging = machine.kubelet_path("staging");
    plugin.node.node_stage_volume(stage("pvc-used", &staging)).await.unwrap();
    plugin.node.node_unstage_volume(unstage("pvc-used", &staging)).await.unwrap();
    api.until(VOLUMES, "pvc-used", |volume| volume.unwrap()["status"]["used"] == json!(true)).await;
    for name in ["pvc-used", "pvc-unused"] {
        api.edit(VOLUMES, name, |volume| {
            volume["metadata"]["annotations"] = json!({ "storage.tierce.dev/only-if-unused": "true" });
        });
        api.delete(VOLUMES, name);
    }
    api.until(VOLUMES, "pvc-unused", |volume| volume.is_none()).await;
    let kept = api.until(VOLUMES, "pvc-used", |volume| reason(volume) == Some("Failed")).await.unwrap();
    assert!(message(&kept).contains("may hold data"), "{}", message(&kept));

    // Somebody decides.
    api.edit(VOLUMES, "pvc-used", |volume| volume["metadata"]["annotations"] = json!({}));
    api.until(VOLUMES, "pvc-used", |volume| volume.is_none()).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_the_last_pod() {
    let machine = Machine::new();
    let (api, mut plugin) = with_pool(&machine).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    let staging = machine.kubelet_path("staging");
    plugin.node.node_stage_volume(stage("pvc-1", &staging)).await.unwrap();
    api.delete(VOLUMES, "pvc-1");
    let waiting = api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("InUse")).await.unwrap();
    assert!(message(&waiting).contains(&staging), "{}", message(&waiting));
    plugin.node.node_unstage_volume(unstage("pvc-1", &staging)).await.unwrap();
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_a_pool_that_is_away_and_then_takes_the_data() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    let path = machine.path("pools/p");
    std::fs::create_dir_all(&path).unwrap();
    let mut mounted = pool("p", &machine.pool_path("p"));
    mounted["spec"]["directory"]["createPath"] = json!(false);
    api.put(POOLS, mounted);
    let plugin = machine.start(api.client()).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    plugin.stop().await;
    std::fs::rename(&path, machine.path("pools/away")).unwrap();
    let plugin = machine.start(api.client()).await;
    api.delete(VOLUMES, "pvc-1");
    api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("PoolUnavailable")).await;
    std::fs::rename(machine.path("pools/away"), &path).unwrap();
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    assert!(!path.join("volumes/pvc-1").exists(), "the object went and its data stayed");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_pool_that_is_deleted_still_serves_its_volumes() {
    let machine = Machine::new();
    let (api, mut plugin) = with_pool(&machine).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    // The object is made a moment before it lists any pool.
    api.until(STORAGES, "n1", |storage| pool_figure(storage, "volumes") == Some(1)).await;
    api.delete(POOLS, "p");
    api.until(STORAGES, "n1", |storage| storage.unwrap()["status"].get("pools").is_none()).await;
    api.put(VOLUMES, node_volume("pvc-2", GIB));
    let refused =
        api.until(VOLUMES, "pvc-2", |volume| reason(volume) == Some("PoolUnavailable")).await.unwrap();
    assert!(message(&refused).contains("takes no new volumes"), "{}", message(&refused));
    let staging = machine.kubelet_path("staging");
    plugin.node.node_stage_volume(stage("pvc-1", &staging)).await.unwrap();
    plugin.node.node_unstage_volume(unstage("pvc-1", &staging)).await.unwrap();
    // Made again, it takes the one that waited.
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    api.until(VOLUMES, "pvc-2", ready).await;
    for name in ["pvc-1", "pvc-2"] {
        api.delete(VOLUMES, name);
        api.until(VOLUMES, name, |volume| volume.is_none()).await;
    }
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pool_is_reported_and_the_others_go_on() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    let mut missing = pool("q", &machine.pool_path("missing"));
    missing["spec"]["directory"]["createPath"] = json!(false);
    api.put(POOLS, missing);
    let storage = api
        .until(STORAGES, "n1", |storage| storage.is_some_and(|s| s.pointer("/status/pools/1").is_some()))
        .await
        .unwrap();
    let [good, bad] = [0, 1].map(|index| storage["status"]["pools"][index].clone());
    assert_eq!((&good["name"], &good["state"]), (&json!("p"), &json!("Ready")));
    assert_eq!((&bad["state"], &bad["reason"]), (&json!("Unavailable"), &json!("PathMissing")));
    assert!(bad["message"].as_str().unwrap().contains(&machine.pool_path("missing")), "{bad}");
    // It neither holds up a creation in the good pool nor a deletion.
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    api.delete(VOLUMES, "pvc-1");
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_never_opened_is_forgotten_with_its_object() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    let mut typo = pool("q", &machine.pool_path("typo"));
    typo["spec"]["directory"]["createPath"] = json!(false);
    api.put(POOLS, typo);
    let pools = |storage: Option<&Value>| storage?.pointer("/status/pools")?.as_array().map(Vec::len);
    api.until(STORAGES, "n1", |storage| pools(storage) == Some(2)).await;
    api.delete(POOLS, "q");
    api.until(STORAGES, "n1", |storage| pools(storage) == Some(1)).await;
    // What is nowhere is gone: that pool could not hold it.
    let mut vanished = node_volume("pvc-1", GIB);
    vanished["status"] = json!({ "capacityBytes": GIB, "used": true });
    api.put(VOLUMES, vanished);
    api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("Failed")).await;
    api.delete(VOLUMES, "pvc-1");
    api.until(VOLUMES, "pvc-1", |volume| volume.is_none()).await;
    // Made again where it was meant to be, it is no other pool than before.
    api.put(POOLS, pool("q", &machine.pool_path("q")));
    let storage = api.until(STORAGES, "n1", |storage| pools(storage) == Some(2)).await.unwrap();
    assert_eq!(storage["status"]["pools"][1]["state"], json!("Ready"), "{storage}");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_and_its_storage_go_together() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    let mut selective = pool("p", &machine.pool_path("p"));
    selective["spec"]["nodeSelector"] = json!({ "disk": "nvme" });
    api.put(POOLS, selective);
    api.put(
        "nodes",
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1", "uid": "node-uid" } }),
    );
    let plugin = machine.start(api.client()).await;
    let storage =
        api.until(STORAGES, "n1", |storage| storage.is_some_and(|s| s["status"].is_object())).await.unwrap();
    assert_eq!(storage["metadata"]["ownerReferences"][0]["uid"], json!("node-uid"));
    assert_eq!(storage["status"].get("pools"), None);
    api.edit("nodes", "n1", |node| node["metadata"]["labels"] = json!({ "disk": "nvme" }));
    api.until(STORAGES, "n1", |storage| pool_figure(storage, "volumes") == Some(0)).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_27_a_volume_without_an_object_is_listed_and_left() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    api.remove(VOLUMES, "pvc-1");
    let unclaimed =
        |storage: Option<&Value>| storage.is_some_and(|s| s["status"]["unclaimed"] == json!(["pvc-1"]));
    api.until(STORAGES, "n1", unclaimed).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_vanished_from_the_disk_is_not_made_anew() {
    let machine = Machine::new();
    let (api, plugin) = with_pool(&machine).await;
    let mut volume = node_volume("pvc-1", GIB);
    volume["status"] = json!({ "capacityBytes": GIB, "used": true });
    api.put(VOLUMES, volume);
    let said = api.until(VOLUMES, "pvc-1", |volume| reason(volume) == Some("Failed")).await.unwrap();
    assert!(message(&said).contains("is not made again"), "{}", message(&said));
    assert_eq!(said["status"]["used"], json!(true));
    plugin.stop().await;
}
