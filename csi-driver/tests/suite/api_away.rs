//! The API server is away: pods start all the same.

use std::time::Duration;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_starts_after_a_reboot_without_the_api_server() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    let plugin = machine.start(api.client()).await;
    api.until(VOLUMES, "pvc-1", ready).await;
    plugin.stop().await;
    drop(api);

    // Nobody listens on the discard port.
    let mut plugin = machine.start(client("http://127.0.0.1:9")).await;
    let (staging, target) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/target"));
    let calls = async {
        plugin.node.node_stage_volume(stage("pvc-1", &staging)).await.unwrap();
        plugin.node.node_publish_volume(publish("pvc-1", &staging, &target)).await.unwrap();
        plugin.node.node_unpublish_volume(unpublish("pvc-1", &target)).await.unwrap();
        plugin.node.node_unstage_volume(unstage("pvc-1", &staging)).await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(5), calls).await.expect("no call waits for the API server");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_mounted_at_the_start_is_missed_and_not_replaced() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    let plugin = machine.start(api.client()).await;
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.until(VOLUMES, "pvc-1", ready).await;
    plugin.stop().await;
    // The pool's directory may be made where it is missing; but this one was there.
    std::fs::rename(machine.path("pools/p"), machine.path("pools/away")).unwrap();
    let plugin = machine.start(api.client()).await;
    api.put(VOLUMES, node_volume("pvc-2", GIB));
    api.until(VOLUMES, "pvc-2", |volume| reason(volume) == Some("PoolUnavailable")).await;
    assert!(!machine.path("pools/p").exists(), "an empty pool was made where the disk is missing");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_stops_while_the_api_server_owes_an_answer() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.mute(VOLUMES);
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    let plugin = machine.start(api.client()).await;
    api.until(STORAGES, "n1", |storage| storage.is_some()).await;
    tokio::time::timeout(Duration::from_secs(5), plugin.stop()).await.expect("stops at once");
}
