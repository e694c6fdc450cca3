//! Shared volumes: on the node that has one, and on one that has it from there.

use std::path::Path;

use serde_json::{Value, json};
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::{
    NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
};
use tonic::Code;

use crate::support::*;

const NODES: &str = "nodes";
const HOME: &str = "pvc-1";
const HANDLE: &str = "pvc-1.01234567";
const SHARING: [&str; 3] = ["--no-registration", "--sharing-port=2049", "--node-addresses=10.0.0.1"];

fn shared_volume() -> Value {
    let mut volume = node_volume(HOME, GIB);
    volume["metadata"]["uid"] = json!("6f4c8a4e-8f0b-4f46-9d1b-2b8f6d9f1f00");
    volume["spec"]["export"] = json!({"gid": 1_600_000_012});
    volume
}

fn node(name: &str, address: Option<&str>) -> Value {
    let addresses: Vec<Value> =
        address.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}})
}

async fn holder() -> (Machine, FakeApi, Plugin) {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    api.put(VOLUMES, shared_volume());
    let plugin = machine.start_with(api.client(), &SHARING).await;
    api.until(VOLUMES, HOME, ready).await;
    (machine, api, plugin)
}

fn stage_share(handle: &str, staging: &str, namespace: &str) -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_capability: Some(with_mode(Mode::MultiNodeMultiWriter)),
        volume_context: [
            ("storage.tierce.dev/shared".into(), HOME.into()),
            ("storage.tierce.dev/namespace".into(), namespace.into()),
        ]
        .into(),
        ..stage(handle, staging)
    }
}

/// A pod of `pods` mounts what is for pods of `namespace`.
fn publish_share(
    handle: &str,
    staging: &str,
    target: &str,
    [namespace, pods]: [&str; 2],
) -> NodePublishVolumeRequest {
    let mut context = stage_share(handle, staging, namespace).volume_context;
    context.insert("csi.storage.k8s.io/pod.namespace".into(), pods.into());
    NodePublishVolumeRequest {
        volume_capability: Some(with_mode(Mode::MultiNodeMultiWriter)),
        volume_context: context,
        ..publish(handle, staging, target)
    }
}

fn served(object: Option<&Value>) -> Option<&Value> {
    object?.pointer("/status/export")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_has_its_own_place_and_the_kubelets_folder_stays_empty() {
    let (machine, _api, mut plugin) = holder().await;
    let (s1, s2) = (machine.kubelet_path("staging-1"), machine.kubelet_path("staging-2"));
    let (t1, t2) = (machine.kubelet_path("pods/one"), machine.kubelet_path("pods/two"));
    for folder in [&s1, &s2] {
        std::fs::create_dir_all(folder).unwrap();
    }
    plugin.node.node_stage_volume(stage_share(HOME, &s1, "team")).await.unwrap();
    plugin.node.node_stage_volume(stage_share(HANDLE, &s2, "ci")).await.unwrap();
    for folder in [&s1, &s2] {
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    }
    let places = machine.path("kubelet/plugins/csi.tierce.dev/shared");
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&places).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [HOME, HANDLE]);

    plugin.node.node_publish_volume(publish_share(HOME, &s1, &t1, ["team", "team"])).await.unwrap();
    // Another pod at the same time, whose namespace only reads.
    let mut reads = publish_share(HANDLE, &s2, &t2, ["ci", "ci"]);
    reads.volume_context.insert("storage.tierce.dev/read-only".into(), "true".into());
    plugin.node.node_publish_volume(reads.clone()).await.unwrap();
    let writes = publish_share(HANDLE, &s2, &t2, ["ci", "ci"]);
    let status = plugin.node.node_publish_volume(writes).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "it is read-only there: {status:?}");
    // A claim that was moved, or a PersistentVolume made by hand.
    let (other, t3) = (["team", "ada"], machine.kubelet_path("pods/three"));
    let status = plugin.node.node_publish_volume(publish_share(HOME, &s1, &t3, other)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(!Path::new(&t3).exists());

    for (handle, path) in [(HOME, &t1), (HANDLE, &t2)] {
        let request = NodeGetVolumeStatsRequest {
            volume_id: handle.into(),
            volume_path: path.clone(),
            ..Default::default()
        };
        plugin.node.node_get_volume_stats(request).await.unwrap();
        let request = NodeExpandVolumeRequest {
            volume_id: handle.into(),
            volume_path: path.clone(),
            ..Default::default()
        };
        plugin.node.node_expand_volume(request).await.unwrap();
    }

    plugin.node.node_unpublish_volume(unpublish(HANDLE, &t2)).await.unwrap();
    plugin.node.node_unstage_volume(unstage(HANDLE, &s2)).await.unwrap();
    assert_eq!(names(), [HOME], "the other namespace keeps it");
    plugin.node.node_unpublish_volume(unpublish(HOME, &t1)).await.unwrap();
    for _ in 0..2 {
        plugin.node.node_unstage_volume(unstage(HOME, &s1)).await.unwrap();
    }
    assert!(names().is_empty());
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_served_to_whom_its_object_lists_and_then_to_nobody() {
    let (machine, api, plugin) = holder().await;
    api.put(NODES, node("n2", Some("10.0.0.2")));
    api.put(NODES, node("n3", None));
    let list = |nodes: &[&str]| {
        api.edit(VOLUMES, HOME, |volume| volume["spec"]["export"]["nodes"] = json!(nodes));
    };
    list(&["n2"]);
    let expected = json!({"addresses": ["10.0.0.1"], "port": 2049, "nodes": ["n2"]});
    api.until(VOLUMES, HOME, |volume| served(volume) == Some(&expected)).await;
    let condition = |volume: Option<&Value>| {
        let conditions = volume?.pointer("/status/conditions")?.as_array()?.clone();
        let served = conditions.into_iter().find(|condition| condition["type"] == "Served")?;
        Some((served["reason"].as_str()?.to_owned(), served["message"].as_str()?.to_owned()))
    };
    let says = |volume: Option<&Value>, reason: &str| condition(volume).is_some_and(|said| said.0 == reason);
    api.until(VOLUMES, HOME, |volume| says(volume, "Serving")).await;
    let place = machine.path("kubelet/plugins/csi.tierce.dev/exports/pvc-1");
    assert!(place.exists());

    // A node that nobody can let in keeps nobody else out, and is named.
    list(&["n2", "n3"]);
    let volume = api.until(VOLUMES, HOME, |volume| says(volume, "ServeFailed")).await;
    assert!(condition(volume.as_ref()).unwrap().1.contains("n3"));
    assert_eq!(served(volume.as_ref()), Some(&expected));
    api.put(NODES, node("n3", Some("10.0.0.3")));
    api.until(VOLUMES, HOME, |volume| says(volume, "Serving")).await;

    list(&[]);
    api.until(VOLUMES, HOME, |volume| served(volume).is_none() && condition(volume).is_none()).await;
    api.delete(VOLUMES, HOME);
    api.until(VOLUMES, HOME, |volume| volume.is_none()).await;
    assert!(!place.exists());
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_to_go_is_served_until_its_object_lists_nobody() {
    let (_machine, api, plugin) = holder().await;
    api.put(NODES, node("n2", Some("10.0.0.2")));
    api.edit(VOLUMES, HOME, |volume| volume["spec"]["export"]["nodes"] = json!(["n2"]));
    api.until(VOLUMES, HOME, |volume| served(volume).is_some()).await;
    api.delete(VOLUMES, HOME);
    let in_use = |volume: Option<&Value>| {
        let conditions = volume.and_then(|volume| volume.pointer("/status/conditions")?.as_array());
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["reason"] == "InUse")
    };
    let volume = api.until(VOLUMES, HOME, in_use).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(served(volume.as_ref()).is_some() && served(api.get(VOLUMES, HOME).as_ref()).is_some());
    api.edit(VOLUMES, HOME, |volume| volume["spec"]["export"]["nodes"] = json!([]));
    api.until(VOLUMES, HOME, |volume| volume.is_none()).await;
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_here_is_asked_for_at_the_api_server() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    let mut plugin = machine.start_with(api.client(), &SHARING).await;
    let s = machine.kubelet_path("staging");
    let status = plugin.node.node_stage_volume(stage_share(HANDLE, &s, "ci")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "nobody has it: {status:?}");
    let mut elsewhere = shared_volume();
    elsewhere["spec"]["nodeName"] = json!("n9");
    elsewhere["status"] = json!({"export": {"addresses": ["10.0.0.9"], "port": 2049, "nodes": ["n1"]}});
    api.put(VOLUMES, elsewhere);
    let status = plugin.node.node_stage_volume(stage_share(HANDLE, &s, "ci")).await.unwrap_err();
    // As far as one gets without a kernel.
    assert!(status.message().contains("can't be had over the network"), "{status:?}");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_share_says_so() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    let mut plugin = machine.start(api.client()).await;
    let s = machine.kubelet_path("staging");
    let status = plugin.node.node_stage_volume(stage_share(HANDLE, &s, "ci")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("sharing.enabled"), "{status:?}");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_the_node_that_somebody_else_has_keeps_no_pod_from_its_volumes() {
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = somebody.local_addr().unwrap().port();
    let (machine, api) = (Machine::new(), FakeApi::start().await);
    let metrics = format!("--metrics-addr=127.0.0.1:{port}");
    let mut plugin = machine.start_with(api.client(), &["--no-registration", &metrics]).await;
    plugin.node.node_get_info(tierce_proto::csi::NodeGetInfoRequest {}).await.unwrap();
    plugin.stop().await;
}
