//! Snapshots, copies and restores in place, against an API server in memory and simulated nodes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here fails the test")]

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::fake_api::FakeApi;
use support::fake_node::FakeNode;
use support::{
    GI, Replica, in_time, mount, on, provision, request, request_for, says, tier, until, volume, within,
};
use tierce_crds::names;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tierce_proto::csi::{
    CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, GetSnapshotRequest,
    ListSnapshotsRequest, Snapshot, VolumeContentSource,
};
use tonic::{Code, Status};

const GRACE: Duration = Duration::from_millis(300);

/// Two nodes, and a volume `pvc-1` of 2 GiB on the first.
async fn cluster() -> (FakeApi, [FakeNode; 2], Replica) {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let nodes = [FakeNode::start(&api, "n1", "ssd", 20 * GI), FakeNode::start(&api, "n2", "ssd", 90 * GI)];
    let replica = Replica::reconciling(&api, GRACE).await;
    let first =
        CreateVolumeRequest { accessibility_requirements: Some(on("n1")), ..request("pvc-1", "ssd", 2 * GI) };
    within(replica.create(first)).await.unwrap();
    (api, nodes, replica)
}

async fn take(
    replica: &Replica,
    name: &str,
    source: &str,
    of: Option<(&str, &str)>,
) -> Result<Snapshot, Status> {
    let mut request =
        CreateSnapshotRequest { name: name.into(), source_volume_id: source.into(), ..Default::default() };
    if let Some((namespace, name)) = of {
        for (key, value) in [
            (names::PARAMETER_SNAPSHOT_NAMESPACE, namespace),
            (names::PARAMETER_SNAPSHOT_NAME, name),
            (names::PARAMETER_SNAPSHOT_CONTENT, "snapcontent-x"),
        ] {
            request.parameters.insert(key.to_owned(), value.to_owned());
        }
    }
    let answer = within(replica.service.create_snapshot(in_time(request, "5S"))).await?;
    Ok(answer.into_inner().snapshot.unwrap())
}

async fn drop_snapshot(replica: &Replica, id: &str) -> Result<(), Status> {
    let request = DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
    within(replica.service.delete_snapshot(in_time(request, "8S"))).await.map(drop)
}

#[allow(clippy::unnecessary_wraps, reason = "as the request has it")]
fn snapshot(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.into() })) })
}

#[allow(clippy::unnecessary_wraps, reason = "as the request has it")]
fn copy_of(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: id.into() })) })
}

#[tokio::test]
async fn a_snapshot_is_taken_once_outlives_its_volume_and_goes() {
    let (api, nodes, replica) = cluster().await;
    api.writes();
    let taken = take(&replica, "snapshot-1", "pvc-1", None).await.unwrap();
    assert_eq!((taken.snapshot_id.as_str(), taken.source_volume_id.as_str()), ("snapshot-1", "pvc-1"));
    assert_eq!((taken.size_bytes, taken.ready_to_use), (2 * GI, true));
    assert_eq!(taken.creation_time.unwrap().seconds, 1_767_225_600);
    assert_eq!(api.writes(), ["POST nodesnapshots", "PATCH nodesnapshots/status"]);
    assert_eq!(
        take(&replica, "snapshot-1", "pvc-1", None).await.unwrap(),
        taken,
        "the same call, the same answer"
    );
    assert_eq!(api.writes(), [""; 0]);

    within(replica.delete("pvc-1")).await.unwrap();
    assert_eq!(nodes[0].disk.lock().unwrap().snapshots.len(), 1);
    let got = GetSnapshotRequest { snapshot_id: "snapshot-1".into(), ..Default::default() };
    let got = replica.service.get_snapshot(tonic::Request::new(got)).await.unwrap().into_inner();
    assert_eq!(got.snapshot, Some(taken));
    drop_snapshot(&replica, "snapshot-1").await.unwrap();
    drop_snapshot(&replica, "snapshot-1").await.unwrap();
    drop_snapshot(&replica, "never-was").await.unwrap();
    assert!(nodes[0].disk.lock().unwrap().snapshots.is_empty() && api.all("nodesnapshots").is_empty());
}

#[tokio::test]
async fn snapshots_are_listed_by_page_by_volume_and_by_id() {
    let (_api, _nodes, replica) = cluster().await;
    within(replica.create(request("pvc-2", "ssd", GI))).await.unwrap();
    for (name, source) in [("a", "pvc-1"), ("b", "pvc-2"), ("c", "pvc-1")] {
        take(&replica, name, source, None).await.unwrap();
    }
    let list = async |request: ListSnapshotsRequest| {
        let page = replica
            .service
            .list_snapshots(tonic::Request::new(request))
            .await
            .map(tonic::Response::into_inner)?;
        let ids: Vec<_> = page.entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id).collect();
        Ok::<_, Status>((ids, page.next_token))
    };
    let all = ListSnapshotsRequest::default;
    let (first, token) = list(ListSnapshotsRequest { max_entries: 2, ..all() }).await.unwrap();
    assert_eq!(first, ["a", "b"]);
    let (rest, end) = list(ListSnapshotsRequest { starting_token: token, ..all() }).await.unwrap();
    assert_eq!((rest, end.as_str()), (vec!["c".to_owned()], ""));
    let of_one = ListSnapshotsRequest { source_volume_id: "pvc-1".into(), ..all() };
    assert_eq!(list(of_one).await.unwrap().0, ["a", "c"]);
    let one = ListSnapshotsRequest { snapshot_id: "b".into(), ..all() };
    assert_eq!(list(one).await.unwrap().0, ["b"]);
    let unknown = ListSnapshotsRequest { snapshot_id: "x".into(), ..all() };
    assert_eq!(list(unknown).await.unwrap().0, [""; 0]);
    let bad = list(ListSnapshotsRequest { starting_token: "x".into(), ..all() }).await.unwrap_err();
    assert_eq!(bad.code(), Code::Aborted);
}

#[tokio::test]
async fn a_snapshot_that_can_not_be_says_why_and_leaves_nothing() {
    let (api, nodes, replica) = cluster().await;
    take(&replica, "taken", "pvc-1", None).await.unwrap();
    within(replica.create(request("pvc-2", "ssd", GI))).await.unwrap();
    for (name, source, of, code, words) in [
        ("", "pvc-1", None, Code::InvalidArgument, "name is missing"),
        ("s", "", None, Code::InvalidArgument, "source_volume_id is missing"),
        ("s", "pvc-9", None, Code::NotFound, "volume \"pvc-9\" does not exist"),
        ("s", "../x", None, Code::NotFound, "does not exist"),
        ("taken", "pvc-2", None, Code::AlreadyExists, "as a snapshot of volume pvc-1, not of pvc-2"),
        ("pvc-2", "pvc-1", None, Code::AlreadyExists, "as a volume"),
        (
            "snapshot-9",
            "pvc-1",
            Some(("eve", "mine")),
            Code::PermissionDenied,
            "does not belong to namespace \"eve\"",
        ),
    ] {
        let refused = take(&replica, name, source, of).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(words), "{refused:?}");
    }
    assert_eq!(api.all("nodesnapshots").len(), 1);
    nodes[0].disk.lock().unwrap().broken = Some(("OutOfSpace", "the pool is full"));
    let full = take(&replica, "s", "pvc-1", None).await.unwrap_err();
    assert_eq!(
        (full.code(), full.message()),
        (Code::ResourceExhausted, "node n1 has no room for the snapshot: the pool is full")
    );
    assert!(api.get("nodesnapshots", "", "s").is_none(), "nothing is left of it");
    nodes[0].disk.lock().unwrap().broken = None;
    nodes[0].disk.lock().unwrap().mounted.push("taken".into());
    let read = drop_snapshot(&replica, "taken").await.unwrap_err();
    assert_eq!(read.code(), Code::FailedPrecondition);
    assert_eq!(read.message(), "snapshot taken is still in use on node n1: a volume is made from it");
}

#[tokio::test]
async fn a_copy_lies_on_the_node_of_its_source_and_is_at_least_as_large() {
    let (api, _nodes, replica) = cluster().await;
    take(&replica, "snapshot-1", "pvc-1", None).await.unwrap();
    // The other node has more room.
    for (name, source, bytes, expected) in [
        ("restored", snapshot("snapshot-1"), 2 * GI, 2 * GI),
        ("larger", snapshot("snapshot-1"), 3 * GI, 3 * GI),
        ("as-large", snapshot("snapshot-1"), 0, 2 * GI),
        ("cloned", copy_of("pvc-1"), 2 * GI, 2 * GI),
    ] {
        let request =
            CreateVolumeRequest { volume_content_source: source.clone(), ..request(name, "ssd", bytes) };
        let made = within(replica.create(request.clone())).await.unwrap().volume.unwrap();
        assert_eq!(made.accessible_topology, on("n1").requisite, "{name}");
        assert_eq!((made.capacity_bytes, &made.content_source), (expected, &source), "{name}");
        let object = api.get("nodevolumes", "", name).unwrap();
        assert!(object["spec"]["source"].is_object(), "{object}");
        let again = within(replica.create(request)).await.unwrap().volume.unwrap();
        assert_eq!(again, made, "the same call has the same answer");
    }
    // What it was made from may go; a repeated call still finds it.
    drop_snapshot(&replica, "snapshot-1").await.unwrap();
    let request = CreateVolumeRequest {
        volume_content_source: snapshot("snapshot-1"),
        ..request("restored", "ssd", 2 * GI)
    };
    within(replica.create(request.clone())).await.unwrap();
    let other = CreateVolumeRequest { volume_content_source: copy_of("pvc-1"), ..request };
    let refused = within(replica.create(other)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(
        refused.message().contains("another source: it has snapshot-1, pvc-1 is asked for"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_copy_that_can_not_be_says_why() {
    let (api, nodes, replica) = cluster().await;
    take(&replica, "snapshot-1", "pvc-1", None).await.unwrap();
    let block = tierce_proto::csi::VolumeCapability {
        access_type: Some(tierce_proto::csi::volume_capability::AccessType::Block(
            tierce_proto::csi::volume_capability::BlockVolume {},
        )),
        ..mount("")
    };
    let good = || CreateVolumeRequest {
        volume_content_source: snapshot("snapshot-1"),
        ..request("new", "ssd", 2 * GI)
    };
    let from = |source| CreateVolumeRequest { volume_content_source: source, ..good() };
    let elsewhere = CreateVolumeRequest { accessibility_requirements: Some(on("n2")), ..good() };
    let small =
        CreateVolumeRequest { volume_content_source: snapshot("snapshot-1"), ..request("new", "ssd", GI) };
    for (request, code, words) in [
        (
            from(snapshot("no")),
            Code::NotFound,
            "snapshot \"no\", which the new volume should start with, does not exist",
        ),
        (
            from(copy_of("no")),
            Code::NotFound,
            "volume \"no\", which the new volume should start with, does not exist",
        ),
        // A snapshot is no volume, and the other way round.
        (from(copy_of("snapshot-1")), Code::NotFound, "does not exist"),
        (from(snapshot("pvc-1")), Code::NotFound, "does not exist"),
        (from(snapshot("../x")), Code::NotFound, "does not exist"),
        (
            small,
            Code::OutOfRange,
            "snapshot snapshot-1 has 2Gi, more than the new volume: ask for at least that",
        ),
        (
            elsewhere,
            Code::ResourceExhausted,
            "snapshot snapshot-1 lies on node n1, and the new volume was to go to n2",
        ),
        (
            CreateVolumeRequest { volume_capabilities: vec![block], ..good() },
            Code::InvalidArgument,
            "is a Filesystem volume, and a Block volume is asked for",
        ),
        (
            CreateVolumeRequest { volume_capabilities: vec![mount("xfs")], ..good() },
            Code::InvalidArgument,
            "has filesystem ext4, and xfs is asked for",
        ),
    ] {
        let refused = within(replica.create(request)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(words), "{refused:?}");
    }
    assert!(api.get("nodevolumes", "", "new").is_none(), "nothing was written");
    nodes[0].disk.lock().unwrap().broken = Some(("NoSource", "snapshot-1 is not there"));
    let refused = within(replica.create(good())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    until("it is taken back", || api.get("nodevolumes", "", "new").is_none().then_some(())).await;
}

/// A claim of this namespace, with its volume; the id of the volume.
async fn data_of(api: &FakeApi, replica: &Replica, namespace: &str, name: &str) -> String {
    api.put(
        "persistentvolumeclaims",
        json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}}),
    );
    let claim = api.get("persistentvolumeclaims", namespace, name).unwrap();
    provision(replica, &claim, "ssd").await.unwrap()
}

#[tokio::test]
async fn bug_16_data_never_crosses_namespaces() {
    let (api, _nodes, replica) = cluster().await;
    let mut sources = Vec::new();
    for namespace in ["ada", "eve"] {
        let id = data_of(&api, &replica, namespace, "data").await;
        let snapshot_id = format!("snapshot-{namespace}");
        take(&replica, &snapshot_id, &id, Some((namespace, "monday"))).await.unwrap();
        sources.push((namespace, copy_of(&id)));
        sources.push((namespace, snapshot(&snapshot_id)));
    }
    // Made without a claim, as by another client of CSI: nobody's.
    sources.push(("nobody", copy_of("pvc-1")));
    for (owner, source) in sources {
        for asking in ["ada", "eve"] {
            api.put(
                "persistentvolumeclaims",
                json!({"metadata": {"name": "copy", "namespace": asking, "uid": format!("{asking}-{owner}-{}", source.is_some())},
                    "spec": {"resources": {"requests": {"storage": "2Gi"}}}, "status": {"phase": "Pending"}}),
            );
            let claim = api.get("persistentvolumeclaims", asking, "copy").unwrap();
            let request =
                CreateVolumeRequest { volume_content_source: source.clone(), ..request_for(&claim, "ssd") };
            let id = request.name.clone();
            let made = within(replica.create(request)).await;
            if owner == asking {
                made.unwrap();
                within(replica.delete(&id)).await.unwrap();
            } else {
                assert_eq!(made.unwrap_err().code(), Code::PermissionDenied, "{asking} reads {owner}'s");
            }
        }
    }
}

#[tokio::test]
async fn a_volume_with_a_source_waits_for_it_and_is_made_at_once_on_its_node() {
    let (api, _nodes, replica) = cluster().await;
    let id = data_of(&api, &replica, "ada", "data").await;
    volume(&api, "copy", &json!({"size": "1Gi", "tier": "ssd", "source": {"snapshot": "monday"}}));
    let (status, message) = says(&api, "copy", "NoSource").await;
    assert_eq!(status, "False");
    assert!(message.contains("VolumeSnapshot \"monday\" is not there"), "{message}");
    assert!(api.get("persistentvolumeclaims", "ada", "copy").is_none());

    take(&replica, "snapshot-9", &id, Some(("ada", "monday"))).await.unwrap();
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", "copy")).await;
    assert_eq!(claim["spec"]["storageClassName"], json!("tierce-ssd-immediate"));
    assert_eq!(
        claim["spec"]["dataSource"],
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "monday"})
    );
    volume(&api, "small", &json!({"size": "16Mi", "tier": "ssd", "source": {"snapshot": "monday"}}));
    let (_, message) = says(&api, "small", "NoSource").await;
    assert!(message.contains("has 1Gi, more than spec.size: raise spec.size to at least 1Gi"), "{message}");
    volume(&api, "twin", &json!({"size": "1Gi", "tier": "ssd", "source": {"volume": "none"}}));
    let (_, message) = says(&api, "twin", "NoSource").await;
    assert!(message.contains("Volume \"none\" is not there"), "{message}");
}

fn restored(api: &FakeApi, name: &str) -> Option<Value> {
    api.get("volumerestores", "ada", name)?["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == "Ready")
        .cloned()
}

async fn restore_says(api: &FakeApi, name: &str, reason: &str) -> String {
    let what = format!("{name} says {reason}; it says {:?}", restored(api, name));
    let said = until(&what, || restored(api, name).filter(|ready| ready["reason"] == reason)).await;
    said["message"].as_str().unwrap().to_owned()
}

fn restore(api: &FakeApi, name: &str, volume: &str, snapshot: &str) {
    api.put(
        "volumerestores",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore",
            "metadata": {"name": name, "namespace": "ada", "generation": 1},
            "spec": {"volume": volume, "snapshot": snapshot}}),
    );
}

/// A Volume `data` in namespace `ada`, bound, with a snapshot `monday`; the id of its device.
async fn volume_with_snapshot(api: &FakeApi, replica: &Replica) -> String {
    volume(api, "data", &json!({"size": "1Gi", "tier": "ssd"}));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", "data")).await;
    let id = provision(replica, &claim, "ssd").await.unwrap();
    says(api, "data", "Provisioned").await;
    take(replica, "snapshot-9", &id, Some(("ada", "monday"))).await.unwrap();
    id
}

#[tokio::test]
async fn a_restore_waits_for_the_pods_is_done_once_and_keeps_what_was_there() {
    let (api, nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    api.put(
        "pods",
        json!({"metadata": {"name": "web", "namespace": "ada"}, "spec": {"nodeName": "n1",
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}),
    );
    restore(&api, "back", "data", "monday");
    let message = restore_says(&api, "back", "InUse").await;
    assert!(message.contains("now ada/web does"), "{message}");
    assert!(api.get("nodevolumes", "", &id).unwrap()["spec"]["restore"].is_null(), "nothing is ordered yet");

    api.remove("pods", "ada", "web");
    let message = restore_says(&api, "back", "Restored").await;
    assert!(message.contains("VolumeSnapshot back-before keeps what it had before"), "{message}");
    let uid =
        api.get("volumerestores", "ada", "back").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let before = format!("before-{uid}");
    let done =
        || nodes.iter().flat_map(|node| node.disk.lock().unwrap().restores.clone()).collect::<Vec<_>>();
    assert_eq!(done(), [[id.clone(), "snapshot-9".to_owned(), before.clone()]]);
    let kept = api.get("nodesnapshots", "", &before).unwrap();
    assert_eq!(kept["spec"]["snapshot"]["name"], json!("back-before"));
    let content = api.get("volumesnapshotcontents", "", &format!("snapcontent-{uid}")).unwrap();
    assert_eq!(content["spec"]["source"]["snapshotHandle"], json!(before));
    assert_eq!(content["spec"]["volumeSnapshotRef"]["name"], json!("back-before"));
    assert!(api.get("volumesnapshots", "ada", "back-before").is_some());
    until("the order is taken off", || {
        api.get("nodevolumes", "", &id).unwrap()["spec"]
            .get("restore")
            .is_none_or(Value::is_null)
            .then_some(())
    })
    .await;
    until("the finalizer goes", || {
        let finalizers = api.get("volumerestores", "ada", "back").unwrap()["metadata"]["finalizers"].clone();
        finalizers.as_array().is_none_or(Vec::is_empty).then_some(())
    })
    .await;

    // And back again, from what was kept.
    restore(&api, "forth", "data", "back-before");
    restore_says(&api, "forth", "Restored").await;
    assert_eq!(done().len(), 2);
    assert_eq!(done()[1][1], before);
}

#[tokio::test]
async fn a_restore_goes_on_where_a_controller_was_killed() {
    let (api, nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    for node in &nodes {
        node.disk.lock().unwrap().mounted.push(id.clone());
    }
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "InUse").await;
    drop(replica);
    // A pod was faster, then it ended; the node goes on without any controller.
    for node in &nodes {
        let mut disk = node.disk.lock().unwrap();
        disk.mounted.clear();
    }
    let mut nudged = api.get("nodevolumes", "", &id).unwrap();
    nudged["metadata"]["labels"] = json!({"nudged": "true"});
    api.put("nodevolumes", nudged);
    until("the node is done", || {
        api.get("nodevolumes", "", &id).unwrap()["status"]["restored"].is_string().then_some(())
    })
    .await;
    let _replica = Replica::reconciling(&api, GRACE).await;
    restore_says(&api, "back", "Restored").await;
    let done: usize = nodes.iter().map(|node| node.disk.lock().unwrap().restores.len()).sum();
    assert_eq!(done, 1);
}

#[tokio::test]
async fn a_restore_with_bad_input_touches_nothing() {
    let (api, nodes, replica) = cluster().await;
    volume_with_snapshot(&api, &replica).await;
    let foreign = data_of(&api, &replica, "eve", "data").await;
    take(&replica, "snapshot-eve", &foreign, Some(("eve", "hers"))).await.unwrap();
    let other = data_of(&api, &replica, "ada", "plain").await;
    take(&replica, "snapshot-plain", &other, Some(("ada", "other"))).await.unwrap();
    for (name, volume, snapshot, reason, words) in [
        ("no-volume", "none", "monday", "NoSuchVolume", "no Volume \"none\""),
        ("plain-claim", "plain", "monday", "NoSuchVolume", "no Volume \"plain\""),
        ("no-snapshot", "data", "none", "NoSuchSnapshot", "no VolumeSnapshot \"none\""),
        ("of-another-namespace", "data", "hers", "NoSuchSnapshot", "no VolumeSnapshot \"hers\""),
        ("of-another-volume", "data", "other", "OtherVolume", "is not of Volume \"data\""),
    ] {
        restore(&api, name, volume, snapshot);
        let message = restore_says(&api, name, reason).await;
        assert!(message.contains(words), "{message}");
    }
    assert!(nodes.iter().all(|node| node.disk.lock().unwrap().restores.is_empty()));
}
