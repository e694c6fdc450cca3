//! The kubelet's calls as they come in practice: twice, in the wrong order, lost, with restarts in between.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

use tierce_proto::csi::volume_capability::MountVolume;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::volume_usage::Unit;
use tierce_proto::csi::{
    NodeExpandVolumeRequest, NodeGetCapabilitiesRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest,
};
use tonic::Code;

use crate::support::*;

async fn machine_with(volumes: &[serde_json::Value]) -> (Machine, FakeApi, Plugin) {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    for volume in volumes {
        api.put(VOLUMES, volume.clone());
    }
    let plugin = machine.start(api.client()).await;
    for volume in volumes {
        api.until(VOLUMES, volume["metadata"]["name"].as_str().unwrap(), ready).await;
    }
    (machine, api, plugin)
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_08_publishing_again_leaves_the_mount_alone() {
    let (machine, _api, mut plugin) = machine_with(&[node_volume("pvc-1", GIB)]).await;
    let (s, t) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/target"));
    plugin.node.node_stage_volume(stage("pvc-1", &s)).await.unwrap();
    plugin.node.node_publish_volume(publish("pvc-1", &s, &t)).await.unwrap();
    std::fs::write(machine.path("kubelet/pods/target/open"), "a writer is at work").unwrap();
    let before = std::fs::metadata(&t).unwrap();
    for _ in 0..10 {
        plugin.node.node_publish_volume(publish("pvc-1", &s, &t)).await.unwrap();
    }
    let after = std::fs::metadata(&t).unwrap();
    assert_eq!((before.dev(), before.ino()), (after.dev(), after.ino()));
    assert!(machine.path("kubelet/pods/target/open").exists());
    // The other way round is another mount, and refused rather than changed under the writer.
    let readonly = NodePublishVolumeRequest { readonly: true, ..publish("pvc-1", &s, &t) };
    let status = plugin.node.node_publish_volume(readonly).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_10_an_unstaged_volume_is_never_published() {
    let (machine, _api, mut plugin) = machine_with(&[node_volume("pvc-1", GIB)]).await;
    let (s, t) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/target"));
    // The staging folder is there, as the kubelet makes it, but nothing is mounted on it.
    std::fs::create_dir_all(&s).unwrap();
    let status = plugin.node.node_publish_volume(publish("pvc-1", &s, &t)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(!std::path::Path::new(&t).exists());
    plugin.stop().await;
}

/// A small deterministic generator (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What the kernel should show for one volume.
#[derive(Default)]
struct Model {
    staged: bool,
    published: BTreeSet<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_29_calls_may_be_lost_repeated_and_reordered() {
    for seed in 0..12 {
        let names = ["pvc-1", "pvc-2"];
        let (machine, api, mut plugin) = machine_with(&names.map(|name| node_volume(name, GIB))).await;
        let mut models = [Model::default(), Model::default()];
        let mut dice = Dice(seed);
        for step in 0..60 {
            let which = usize::try_from(dice.below(2)).unwrap();
            let (id, model) = (names[which], &mut models[which]);
            let staging = machine.kubelet_path(&format!("{id}-staging"));
            let target = machine.kubelet_path(&format!("pods/{id}-{}", dice.below(2)));
            let context = format!("seed {seed}, step {step}, {id}");
            match dice.below(9) {
                0 | 1 => {
                    plugin.node.node_stage_volume(stage(id, &staging)).await.expect(&context);
                    model.staged = true;
                }
                2..=4 => {
                    let result = plugin.node.node_publish_volume(publish(id, &staging, &target)).await;
                    if model.staged {
                        result.expect(&context);
                        model.published.insert(target);
                    } else {
                        assert_eq!(result.expect_err(&context).code(), Code::FailedPrecondition, "{context}");
                    }
                }
                5 | 6 => {
                    plugin.node.node_unpublish_volume(unpublish(id, &target)).await.expect(&context);
                    model.published.remove(&target);
                    assert!(!std::path::Path::new(&target).exists(), "{context}");
                }
                7 => {
                    plugin.node.node_unstage_volume(unstage(id, &staging)).await.expect(&context);
                    model.staged = false;
                }
                _ => {
                    plugin.stop().await;
                    plugin = machine.start(api.client()).await;
                }
            }
            for (name, model) in names.iter().zip(&models) {
                for target in &model.published {
                    let request = NodeGetVolumeStatsRequest {
                        volume_id: (*name).into(),
                        volume_path: target.clone(),
                        ..Default::default()
                    };
                    plugin.node.node_get_volume_stats(request).await.expect(&context);
                }
            }
        }
        // Whatever happened, an orderly end leaves nothing.
        for (id, model) in names.iter().zip(&models) {
            for target in &model.published {
                plugin.node.node_unpublish_volume(unpublish(id, target)).await.unwrap();
            }
            let staging = machine.kubelet_path(&format!("{id}-staging"));
            plugin.node.node_unstage_volume(unstage(id, &staging)).await.unwrap();
            api.delete(VOLUMES, id);
            api.until(VOLUMES, id, |volume| volume.is_none()).await;
        }
        plugin.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_block_volume_appears_as_a_file() {
    let (machine, _api, mut plugin) = machine_with(&[block_volume("pvc-raw", GIB)]).await;
    let (s, t) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/device"));
    let raw = NodeStageVolumeRequest { volume_capability: Some(block()), ..stage("pvc-raw", &s) };
    plugin.node.node_stage_volume(raw).await.unwrap();
    let raw = NodePublishVolumeRequest { volume_capability: Some(block()), ..publish("pvc-raw", &s, &t) };
    plugin.node.node_publish_volume(raw).await.unwrap();
    assert!(!std::path::Path::new(&t).is_dir() && std::path::Path::new(&t).exists());
    let request = NodeGetVolumeStatsRequest {
        volume_id: "pvc-raw".into(),
        volume_path: t.clone(),
        ..Default::default()
    };
    let usage = plugin.node.node_get_volume_stats(request).await.unwrap().into_inner().usage;
    assert_eq!(usage.iter().map(|u| (u.unit(), u.total)).collect::<Vec<_>>(), [(Unit::Bytes, GIB)]);
    plugin.node.node_unpublish_volume(unpublish("pvc-raw", &t)).await.unwrap();
    plugin.node.node_unstage_volume(unstage("pvc-raw", &s)).await.unwrap();
    assert!(!std::path::Path::new(&t).exists());
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_reaches_the_filesystem() {
    let (machine, api, mut plugin) = machine_with(&[node_volume("pvc-1", GIB)]).await;
    let (s, t) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/target"));
    plugin.node.node_stage_volume(stage("pvc-1", &s)).await.unwrap();
    plugin.node.node_publish_volume(publish("pvc-1", &s, &t)).await.unwrap();
    let to = |bytes| NodeExpandVolumeRequest {
        volume_id: "pvc-1".into(),
        volume_path: t.clone(),
        capacity_range: Some(tierce_proto::csi::CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    };
    // Too early: the device has not grown. The kubelet asks again.
    let status = plugin.node.node_expand_volume(to(2 * GIB)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    api.edit(VOLUMES, "pvc-1", |volume| volume["spec"]["sizeBytes"] = serde_json::json!(2 * GIB));
    api.until(VOLUMES, "pvc-1", |v| v.unwrap()["status"]["capacityBytes"] == serde_json::json!(2 * GIB))
        .await;
    let answer = plugin.node.node_expand_volume(to(2 * GIB)).await.unwrap().into_inner();
    assert_eq!(answer.capacity_bytes, 2 * GIB);
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_single_node_mode_works() {
    let (machine, _api, mut plugin) = machine_with(&[node_volume("pvc-1", GIB)]).await;
    let s = machine.kubelet_path("staging");
    for mode in [
        Mode::SingleNodeWriter,
        Mode::SingleNodeMultiWriter,
        Mode::SingleNodeSingleWriter,
        Mode::SingleNodeReaderOnly,
    ] {
        let t = machine.kubelet_path(&format!("pods/{}", mode.as_str_name()));
        let capability = Some(with_mode(mode));
        let request = NodeStageVolumeRequest { volume_capability: capability.clone(), ..stage("pvc-1", &s) };
        plugin.node.node_stage_volume(request).await.unwrap();
        let request = NodePublishVolumeRequest { volume_capability: capability, ..publish("pvc-1", &s, &t) };
        plugin.node.node_publish_volume(request).await.unwrap();
        plugin.node.node_unpublish_volume(unpublish("pvc-1", &t)).await.unwrap();
    }
    let to = |mode: Mode, target: &str| NodePublishVolumeRequest {
        volume_capability: Some(with_mode(mode)),
        ..publish("pvc-1", &s, &machine.kubelet_path(target))
    };
    for mode in [Mode::SingleNodeWriter, Mode::SingleNodeSingleWriter, Mode::SingleNodeReaderOnly] {
        plugin.node.node_publish_volume(to(mode, "pods/first")).await.unwrap();
        plugin.node.node_publish_volume(to(mode, "pods/first")).await.unwrap();
        let status = plugin.node.node_publish_volume(to(mode, "pods/second")).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{mode:?} {status:?}");
        assert!(status.message().contains("pods/first"), "{}", status.message());
        assert!(!machine.path("kubelet/pods/second").exists());
        let first = machine.kubelet_path("pods/first");
        plugin.node.node_unpublish_volume(unpublish("pvc-1", &first)).await.unwrap();
    }
    // What the kubelet asks for pods that share a claim.
    for target in ["pods/first", "pods/second"] {
        plugin.node.node_publish_volume(to(Mode::SingleNodeMultiWriter, target)).await.unwrap();
    }
    // It is staged there, and not as that.
    let xfs = mounted(MountVolume { fs_type: "xfs".into(), ..Default::default() });
    let other = NodeStageVolumeRequest { volume_capability: Some(xfs), ..stage("pvc-1", &s) };
    let status = plugin.node.node_stage_volume(other.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
    let elsewhere = machine.kubelet_path("elsewhere");
    let other = NodeStageVolumeRequest { staging_target_path: elsewhere, ..other };
    let status = plugin.node.node_stage_volume(other).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");

    let claims = plugin.node.node_get_capabilities(NodeGetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(claims.capabilities.len(), 4);
    plugin.stop().await;
}
