//! What wrong requests get, and that they touch nothing.

use tierce_proto::csi::node_client::NodeClient;
use tierce_proto::csi::volume_capability::MountVolume;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::{
    NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::*;

enum Call {
    Stage(NodeStageVolumeRequest),
    Unstage(NodeUnstageVolumeRequest),
    Publish(NodePublishVolumeRequest),
    Unpublish(NodeUnpublishVolumeRequest),
    Stats(NodeGetVolumeStatsRequest),
    Expand(NodeExpandVolumeRequest),
}

impl Call {
    async fn make(self, node: &mut NodeClient<Channel>) -> Result<(), Status> {
        match self {
            Self::Stage(request) => node.node_stage_volume(request).await.map(drop),
            Self::Unstage(request) => node.node_unstage_volume(request).await.map(drop),
            Self::Publish(request) => node.node_publish_volume(request).await.map(drop),
            Self::Unpublish(request) => node.node_unpublish_volume(request).await.map(drop),
            Self::Stats(request) => node.node_get_volume_stats(request).await.map(drop),
            Self::Expand(request) => node.node_expand_volume(request).await.map(drop),
        }
    }
}

fn stats(id: &str, path: &str) -> Call {
    Call::Stats(NodeGetVolumeStatsRequest {
        volume_id: id.into(),
        volume_path: path.into(),
        ..Default::default()
    })
}

fn expand(id: &str, path: &str) -> Call {
    Call::Expand(NodeExpandVolumeRequest {
        volume_id: id.into(),
        volume_path: path.into(),
        ..Default::default()
    })
}

/// Every call with this id; the paths are good.
fn all_calls(id: &str, staging: &str, target: &str) -> Vec<(&'static str, Call)> {
    vec![
        ("stage", Call::Stage(stage(id, staging))),
        ("unstage", Call::Unstage(unstage(id, staging))),
        ("publish", Call::Publish(publish(id, staging, target))),
        ("unpublish", Call::Unpublish(unpublish(id, target))),
        ("stats", stats(id, target)),
        ("expand", expand(id, target)),
    ]
}

#[expect(clippy::too_many_lines, reason = "one table")]
#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_get_the_codes_of_the_specification() {
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    api.put(VOLUMES, block_volume("pvc-raw", GIB));
    let mut plugin = machine.start(api.client()).await;
    api.until(VOLUMES, "pvc-1", ready).await;
    api.until(VOLUMES, "pvc-raw", ready).await;
    let (s, t) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/target"));
    let (s, t) = (s.as_str(), t.as_str());
    let stage_as = |capability| {
        Call::Stage(NodeStageVolumeRequest { volume_capability: capability, ..stage("pvc-1", s) })
    };
    let publish_as = |capability| {
        Call::Publish(NodePublishVolumeRequest { volume_capability: capability, ..publish("pvc-1", s, t) })
    };
    let flags =
        |flag: &str| Some(mounted(MountVolume { mount_flags: vec![flag.into()], ..Default::default() }));
    let fs = |name: &str| Some(mounted(MountVolume { fs_type: name.into(), ..Default::default() }));
    let long_path = format!("/{}", "a/".repeat(3000));

    let mut table: Vec<(String, Call, Code, &str)> = Vec::new();
    let long_id = "a".repeat(300);
    for (id, code, words) in [
        ("", Code::InvalidArgument, "volume_id is missing"),
        ("../../etc", Code::InvalidArgument, "lower-case letters"),
        ("%2e%2e", Code::InvalidArgument, "lower-case letters"),
        ("pvc-1\0", Code::InvalidArgument, "lower-case letters"),
        (long_id.as_str(), Code::InvalidArgument, "lower-case letters"),
    ] {
        for (name, call) in all_calls(id, s, t) {
            table.push((format!("{name} {id:.20?}"), call, code, words));
        }
    }
    let unknown = "does not exist on this node";
    table.extend([
        ("stage unknown".into(), Call::Stage(stage("pvc-9", s)), Code::NotFound, unknown),
        ("publish unknown".into(), Call::Publish(publish("pvc-9", s, t)), Code::NotFound, unknown),
        ("stats unknown".into(), stats("pvc-9", t), Code::NotFound, unknown),
        ("expand unknown".into(), expand("pvc-9", t), Code::NotFound, unknown),
        (
            "stage relative".into(),
            Call::Stage(stage("pvc-1", "staging")),
            Code::InvalidArgument,
            "must be absolute",
        ),
        (
            "stage climbing".into(),
            Call::Stage(stage("pvc-1", "/a/../etc")),
            Code::InvalidArgument,
            "without '..'",
        ),
        (
            "stage endless".into(),
            Call::Stage(stage("pvc-1", &long_path)),
            Code::InvalidArgument,
            "4095 bytes",
        ),
        (
            "unstage relative".into(),
            Call::Unstage(unstage("pvc-1", "staging")),
            Code::InvalidArgument,
            "staging_target_path",
        ),
        (
            "publish relative".into(),
            Call::Publish(publish("pvc-1", s, "target")),
            Code::InvalidArgument,
            "target_path",
        ),
        (
            "publish NUL".into(),
            Call::Publish(publish("pvc-1", s, "/t\0/x")),
            Code::InvalidArgument,
            "target_path",
        ),
        (
            "unpublish relative".into(),
            Call::Unpublish(unpublish("pvc-1", "target")),
            Code::InvalidArgument,
            "target_path",
        ),
        ("stats relative".into(), stats("pvc-1", "some/path"), Code::NotFound, "is not at"),
        ("stats elsewhere".into(), stats("pvc-1", t), Code::NotFound, ""),
        (
            "stage without path".into(),
            Call::Stage(stage("pvc-1", "")),
            Code::InvalidArgument,
            "staging_target_path is missing",
        ),
        (
            "publish without target".into(),
            Call::Publish(publish("pvc-1", s, "")),
            Code::InvalidArgument,
            "target_path is missing",
        ),
        (
            "unpublish without target".into(),
            Call::Unpublish(unpublish("pvc-1", "")),
            Code::InvalidArgument,
            "target_path is missing",
        ),
        ("stats without path".into(), stats("pvc-1", ""), Code::InvalidArgument, "volume_path is missing"),
        ("expand without path".into(), expand("pvc-1", ""), Code::InvalidArgument, "volume_path is missing"),
        (
            "publish without staging path".into(),
            Call::Publish(publish("pvc-1", "", t)),
            Code::FailedPrecondition,
            "STAGE_UNSTAGE_VOLUME",
        ),
        (
            "bug_10: publish without stage".into(),
            Call::Publish(publish("pvc-1", s, t)),
            Code::FailedPrecondition,
            "not staged",
        ),
        (
            "stage without capability".into(),
            stage_as(None),
            Code::InvalidArgument,
            "volume_capability is missing",
        ),
        (
            "publish without capability".into(),
            publish_as(None),
            Code::InvalidArgument,
            "volume_capability is missing",
        ),
        (
            "stage on many nodes".into(),
            stage_as(Some(with_mode(Mode::MultiNodeMultiWriter))),
            Code::InvalidArgument,
            "MULTI_NODE_MULTI_WRITER is not offered",
        ),
        (
            "publish on many nodes".into(),
            publish_as(Some(with_mode(Mode::MultiNodeReaderOnly))),
            Code::InvalidArgument,
            "a volume lives on one node",
        ),
        ("stage as block".into(), stage_as(Some(block())), Code::InvalidArgument, "another mode"),
        ("stage ntfs".into(), stage_as(fs("ntfs")), Code::InvalidArgument, "ext4, xfs, btrfs"),
        (
            "stage the other filesystem".into(),
            stage_as(fs("xfs")),
            Code::InvalidArgument,
            "ext4, asked for xfs",
        ),
        ("bug_22: suid".into(), stage_as(flags("suid")), Code::InvalidArgument, "\"suid\" is not allowed"),
        (
            "bug_22: two in one".into(),
            stage_as(flags("noatime,dev")),
            Code::InvalidArgument,
            "is not allowed",
        ),
        (
            "bug_22: of another filesystem".into(),
            stage_as(flags("compress=zstd")),
            Code::InvalidArgument,
            "is not allowed for ext4",
        ),
        (
            "stage with a group".into(),
            stage_as(Some(mounted(MountVolume { volume_mount_group: "1000".into(), ..Default::default() }))),
            Code::InvalidArgument,
            "volume_mount_group",
        ),
    ]);
    for (what, call, code, words) in table {
        let status = call.make(&mut plugin.node).await.expect_err(&what);
        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert!(status.message().contains(words), "{what}: {}", status.message());
        assert!(status.message().len() < 1000, "{what}: {}", status.message());
    }
    assert!(!machine.path("kubelet/staging").exists(), "nothing was made");
    assert!(!machine.path("kubelet/pods/target").exists(), "nothing was made");
    plugin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_down_what_was_never_there_succeeds() {
    let machine = Machine::new();
    let mut plugin = machine.start(client("http://127.0.0.1:9")).await;
    let (s, t) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/target"));
    plugin.node.node_unpublish_volume(unpublish("pvc-9", &t)).await.unwrap();
    plugin.node.node_unstage_volume(unstage("pvc-9", &s)).await.unwrap();
    plugin.stop().await;
}
