//! Snapshots and copies, against an API server in memory and simulated nodes.

use crate::support::snapshots::{GRACE, cluster, data_of, drop_snapshot, take};
use crate::support::{GI, claim, mount, on, request, request_for, says, until, volume, within};
use serde_json::{Value, json};
use tierce_crds::names;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tierce_proto::csi::{CreateVolumeRequest, GetSnapshotRequest, ListSnapshotsRequest, VolumeContentSource};
use tonic::{Code, Status};

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
            CreateVolumeRequest { volume_capabilities: vec![raw()], ..good() },
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

/// A capability for a raw device.
fn raw() -> tierce_proto::csi::VolumeCapability {
    tierce_proto::csi::VolumeCapability {
        access_type: Some(tierce_proto::csi::volume_capability::AccessType::Block(
            tierce_proto::csi::volume_capability::BlockVolume {},
        )),
        ..mount("")
    }
}

#[tokio::test]
async fn bug_18_a_change_of_mode_that_an_administrator_permitted_is_passed_on_to_the_node() {
    let (api, _nodes, replica) = cluster().await;
    let id = data_of(&api, &replica, "ada", "data").await;
    take(&replica, "snapshot-u1", &id, Some(("ada", "monday"))).await.unwrap();
    api.put(
        "persistentvolumeclaims",
        json!({"metadata": {"name": "copy", "namespace": "ada"},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}}),
    );
    let claim = api.get("persistentvolumeclaims", "ada", "copy").unwrap();
    let asked = CreateVolumeRequest {
        volume_capabilities: vec![raw()],
        volume_content_source: snapshot("snapshot-u1"),
        ..request_for(&claim, "ssd")
    };
    let content = |permission: &str, handle: &str| {
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {"name": "snapcontent-u1", "annotations": {names::ANNOTATION_ALLOW_MODE_CHANGE: permission}},
            "spec": {"driver": names::DRIVER}, "status": {"snapshotHandle": handle}})
    };
    for (permission, handle) in [("false", "snapshot-u1"), ("true", "snapshot-of-another")] {
        api.put("volumesnapshotcontents", content(permission, handle));
        let refused = within(replica.create(asked.clone())).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(names::ANNOTATION_ALLOW_MODE_CHANGE), "{refused:?}");
    }
    api.put("volumesnapshotcontents", content("true", "snapshot-u1"));
    let made = within(replica.create(asked.clone())).await.unwrap().volume.unwrap();
    let object = api.get("nodevolumes", "", &made.volume_id).unwrap();
    assert_eq!(
        (&object["spec"]["volumeMode"], &object["spec"]["allowModeChange"]),
        (&json!("Block"), &json!(true))
    );
    let again = within(replica.create(asked)).await.unwrap().volume.unwrap();
    assert_eq!(again, made, "the same call has the same answer");
    // Where the mode stays there is nothing to permit.
    assert_eq!(api.get("nodevolumes", "", &id).unwrap()["spec"].get("allowModeChange"), None);
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
async fn whose_the_data_is_does_not_hang_on_the_names_of_persistent_volumes() {
    let (api, _nodes, replica) = cluster().await;
    let id = data_of(&api, &replica, "ada", "data").await;
    let persistent_volume = |name: &str, namespace: &str, uid: &Value| {
        api.put(
            "persistentvolumes",
            json!({"metadata": {"name": name}, "spec": {"csi": {"driver": "csi.tierce.dev", "volumeHandle": id},
                "claimRef": {"namespace": namespace, "name": "data", "uid": uid}}}),
        );
    };
    let seen = async |name: &str| {
        let known = || replica.index.read(|state| state.persistent_volumes.get(&name.to_owned()).cloned());
        until("the PersistentVolume", known).await;
    };
    // An administrator prepares to give it to somebody else some day.
    persistent_volume("a-comes-first", "eve", &Value::Null);
    seen("a-comes-first").await;
    let foreign = take(&replica, "snapshot-1", &id, Some(("eve", "monday"))).await.unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied, "{foreign}");
    take(&replica, "snapshot-2", &id, Some(("ada", "monday"))).await.unwrap();
    // Two have it, and neither is the claim that it was made for.
    for namespace in ["bob", "eve"] {
        api.put(
            "persistentvolumeclaims",
            json!({"metadata": {"name": "data", "namespace": namespace, "uid": namespace}, "status": {"phase": "Bound"},
                "spec": {"volumeName": format!("of-{namespace}"), "resources": {"requests": {"storage": "1Gi"}}}}),
        );
        persistent_volume(&format!("of-{namespace}"), namespace, &json!(namespace));
        seen(&format!("of-{namespace}")).await;
    }
    take(&replica, "snapshot-3", &id, Some(("ada", "tuesday"))).await.unwrap();
    api.remove("persistentvolumes", "", &id);
    let gone = || replica.index.read(|state| state.persistent_volumes.get(&id).is_none()).then_some(());
    until("the first PersistentVolume to go", gone).await;
    for namespace in ["ada", "bob", "eve"] {
        let unclear = take(&replica, "snapshot-4", &id, Some((namespace, "wednesday"))).await.unwrap_err();
        assert!(unclear.message().contains("belongs to none of them for certain"), "{namespace}: {unclear}");
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

#[tokio::test]
async fn a_snapshot_that_nobody_speaks_of_any_more_is_told_about_and_kept() {
    let (api, nodes, replica) = cluster().await;
    let id = data_of(&api, &replica, "ada", "data").await;
    let content = |name: &str, driver: &str, handle: &str| {
        api.put(
            "volumesnapshotcontents",
            json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": name},
                "spec": {"driver": driver, "source": {"volumeHandle": id}, "deletionPolicy": "Delete",
                    "volumeSnapshotRef": {"namespace": "ada", "name": "monday"}},
                "status": {"snapshotHandle": handle}}),
        );
    };
    content("kept", names::DRIVER, "snapshot-1");
    content("of-another-driver", "other.example.org", "snapshot-3");
    take(&replica, "snapshot-1", &id, Some(("ada", "monday"))).await.unwrap();
    take(&replica, "snapshot-2", "pvc-1", None).await.unwrap();
    take(&replica, "snapshot-3", &id, Some(("ada", "tuesday"))).await.unwrap();
    let told = || {
        let all = api.all("events").into_iter().filter(|event| event["reason"] == "Unclaimed");
        all.map(|event| event["regarding"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("it is told about", || told().contains(&"snapshot-3".to_owned()).then_some(())).await;
    let note = api.all("events").iter().find_map(|event| event["note"].as_str().map(ToOwned::to_owned));
    assert!(note.unwrap().ends_with("kubectl delete nodesnapshot snapshot-3"));

    // Somebody takes the finalizers off the content, so that no DeleteSnapshot comes.
    api.remove("volumesnapshotcontents", "", "kept");
    until("it is told about", || told().contains(&"snapshot-1".to_owned()).then_some(())).await;
    tokio::time::sleep(GRACE * 3).await;
    let mut all = told();
    all.sort();
    assert_eq!(all, ["snapshot-1", "snapshot-3"], "once each");
    assert_eq!(api.all("nodesnapshots").len(), 3);
    let kept: usize = nodes.iter().map(|node| node.disk.lock().unwrap().snapshots.len()).sum();
    assert_eq!(kept, 3, "nothing is deleted by guess");
}

#[tokio::test]
async fn a_snapshot_of_another_driver_is_no_source() {
    let (api, _nodes, replica) = cluster().await;
    api.put(
        "volumesnapshotcontents",
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": "theirs"},
            "spec": {"driver": "other.example.org", "source": {"snapshotHandle": "snap-1"}, "deletionPolicy": "Retain",
                "volumeSnapshotRef": {"namespace": "ada", "name": "theirs", "uid": "1"}},
            "status": {"snapshotHandle": "snap-1", "readyToUse": true}}),
    );
    api.put(
        "volumesnapshots",
        json!({"metadata": {"name": "theirs", "namespace": "ada", "uid": "1"},
            "spec": {"source": {"volumeSnapshotContentName": "theirs"}}, "status": {"readyToUse": true}}),
    );
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "source": {"snapshot": "theirs"}}));
    let (status, message) = says(&api, "data", "NoSource").await;
    assert_eq!(status, "False");
    assert_eq!(
        message,
        "spec.source: VolumeSnapshot \"theirs\" is not there, not taken yet, or not of a volume of Tierce; it is made as \
         soon as that is there"
    );
    assert!(api.get("persistentvolumeclaims", "ada", "data").is_none());

    // A claim of which external-provisioner would believe it all the same.
    let claim = claim(&api, "claim", "1Gi");
    let asked =
        CreateVolumeRequest { volume_content_source: snapshot("snap-1"), ..request_for(&claim, "ssd") };
    let refused = within(replica.create(asked)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(
        refused.message(),
        "snapshot \"snap-1\", which the new volume should start with, does not exist"
    );
}
