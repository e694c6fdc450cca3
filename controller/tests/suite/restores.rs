//! Restores in place, against an API server in memory and simulated nodes.

use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::snapshots::{GRACE, cluster, data_of, drop_snapshot, take};
use crate::support::{Replica, bind, provision, request_for, says, until, volume, within};
use serde_json::{Value, json};
use std::time::Duration;
use tierce_crds::names;

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
    restore_as(api, name, &json!({"volume": volume, "source": {"snapshot": snapshot}}));
}

fn restore_as(api: &FakeApi, name: &str, spec: &Value) {
    api.put(
        "volumerestores",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore",
            "metadata": {"name": name, "namespace": "ada", "generation": 1}, "spec": spec}),
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
    assert!(message.contains("used now by ada/web"), "{message}");
    assert!(api.get("nodevolumes", "", &id).unwrap()["spec"]["restore"].is_null(), "nothing is ordered yet");

    api.remove("pods", "ada", "web");
    let message = restore_says(&api, "back", "Restored").await;
    let uid =
        api.get("volumerestores", "ada", "back").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let shown = format!("back-before-{}", &uid[..8]);
    assert!(message.contains(&format!("VolumeSnapshot {shown} keeps what it had before")), "{message}");
    let before = format!("before-{uid}");
    let done =
        || nodes.iter().flat_map(|node| node.disk.lock().unwrap().restores.clone()).collect::<Vec<_>>();
    assert_eq!(done(), [[id.clone(), "snapshot-9".to_owned(), before.clone()]]);
    let kept = api.get("nodesnapshots", "", &before).unwrap();
    assert_eq!(kept["spec"]["snapshot"]["name"], json!(shown));
    let content = api.get("volumesnapshotcontents", "", &format!("snapcontent-{uid}")).unwrap();
    assert_eq!(content["spec"]["source"]["snapshotHandle"], json!(before));
    assert_eq!(content["spec"]["volumeSnapshotRef"]["name"], json!(shown));
    assert!(api.get("volumesnapshots", "ada", &shown).is_some());
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
    restore(&api, "forth", "data", &shown);
    restore_says(&api, "forth", "Restored").await;
    assert_eq!(done().len(), 2);
    assert_eq!(done()[1][1], before);
}

#[tokio::test]
async fn both_forms_of_a_restore_are_carried_out_alike_and_an_earlier_version_could_read_them() {
    let (api, nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    restore_as(&api, "new", &json!({"volume": "data", "source": {"snapshot": "monday"}}));
    let new = restore_says(&api, "new", "Restored").await;
    restore_as(&api, "old", &json!({"volume": "data", "snapshot": "monday"}));
    let old = restore_says(&api, "old", "Restored").await;

    let words = |message: &str| message.split(';').next().unwrap().to_owned();
    assert_eq!(words(&new), words(&old));
    let done: Vec<_> = nodes.iter().flat_map(|node| node.disk.lock().unwrap().restores.clone()).collect();
    assert_eq!(done.iter().map(|done| [&done[0], &done[1]]).collect::<Vec<_>>(), [[&id, "snapshot-9"]; 2]);
    for name in ["new", "old"] {
        let spec = api.get("volumerestores", "ada", name).unwrap()["spec"].clone();
        assert_eq!(spec["snapshot"], json!("monday"), "{name}");
    }
}

#[tokio::test]
async fn a_restore_made_again_under_its_old_name_names_what_was_there_before_itself() {
    let (api, nodes, replica) = cluster().await;
    volume_with_snapshot(&api, &replica).await;
    let mut shown = Vec::new();
    for uid in ["11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"] {
        restore(&api, "back", "data", "monday");
        let mut object = api.get("volumerestores", "ada", "back").unwrap();
        object["metadata"]["uid"] = json!(uid);
        api.remove("volumerestores", "ada", "back");
        api.put("volumerestores", object);
        let message = restore_says(&api, "back", "Restored").await;
        let before = api.get("volumerestores", "ada", "back").unwrap()["status"]["before"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(message.contains(&before), "{message}");
        let content = api.get("volumesnapshots", "ada", &before).unwrap()["spec"]["source"]
            ["volumeSnapshotContentName"]
            .as_str()
            .unwrap()
            .to_owned();
        let content = api.get("volumesnapshotcontents", "", &content).unwrap();
        assert_eq!(content["spec"]["source"]["snapshotHandle"], json!(format!("before-{uid}")));
        shown.push(before);
        api.delete_object("volumerestores", "ada", "back");
        is_gone(&api, "back").await;
    }
    // And the way back is open.
    restore(&api, "forth", "data", &shown[1]);
    restore_says(&api, "forth", "Restored").await;
    let done: Vec<_> = nodes.iter().flat_map(|node| node.disk.lock().unwrap().restores.clone()).collect();
    assert_eq!(done[2][1], "before-22222222-0000-4000-8000-000000000000");
}

#[tokio::test]
async fn a_restore_whose_name_for_what_was_before_is_taken_says_so_and_goes_on() {
    let (api, _nodes, replica) = cluster().await;
    volume_with_snapshot(&api, &replica).await;
    let uid = "33333333-0000-4000-8000-000000000000";
    api.put(
        "volumesnapshots",
        json!({"metadata": {"name": "back-before-33333333", "namespace": "ada"},
            "spec": {"source": {"persistentVolumeClaimName": "data"}}}),
    );
    api.put(
        "volumerestores",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore",
            "metadata": {"name": "back", "namespace": "ada", "generation": 1, "uid": uid},
            "spec": {"volume": "data", "snapshot": "monday"}}),
    );
    let message = restore_says(&api, "back", "NameConflict").await;
    assert!(message.contains("a VolumeSnapshot back-before-33333333 that is not ours"), "{message}");
    api.remove("volumesnapshots", "ada", "back-before-33333333");
    restore_says(&api, "back", "Restored").await;
}

#[tokio::test]
async fn a_restore_whose_snapshot_of_before_is_refused_says_so_and_goes_on() {
    let (api, _nodes, replica) = cluster().await;
    volume_with_snapshot(&api, &replica).await;
    api.forbid(Some((http::Method::POST, "volumesnapshots", 403)));
    restore(&api, "back", "data", "monday");
    let message = restore_says(&api, "back", "Failed").await;
    assert!(message.contains("can't be made: exceeded quota: storage"), "{message}");
    api.forbid(None);
    restore_says(&api, "back", "Restored").await;
}

#[tokio::test]
async fn a_restore_in_a_namespace_that_ends_lets_go_of_it_and_leaves_nothing() {
    let (api, nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    // The node is at it when the namespace is deleted; what Kubernetes' own controllers do with the rest is not of interest.
    mount_everywhere(&nodes, &id);
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "InUse").await;
    let uid = order(&api, &id)["uid"].as_str().unwrap().to_owned();
    for node in &nodes {
        let mut disk = node.disk.lock().unwrap();
        if disk.volumes.contains_key(&id) {
            disk.restores.push([id.clone(), "snapshot-9".into(), format!("before-{uid}")]);
            disk.snapshots.insert(format!("before-{uid}"), (crate::support::GI, id.clone()));
        }
    }
    api.end_namespace("ada");
    unmount_everywhere(&nodes);
    nudge(&api, "nodevolumes", &id);
    let message = restore_says(&api, "back", "Failed").await;
    assert!(message.contains("is being terminated"), "{message}");
    api.delete_object("volumerestores", "ada", "back");
    is_gone(&api, "back").await;
    assert_eq!(order(&api, &id), Value::Null);
    until("what was before is gone", || {
        api.get("nodesnapshots", "", &format!("before-{uid}")).is_none().then_some(())
    })
    .await;
    assert!(api.all("volumesnapshotcontents").is_empty());
}

#[tokio::test]
async fn a_restore_whose_volume_went_before_its_snapshot_was_shown_still_shows_it() {
    let (api, mut nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    api.forbid(Some((http::Method::POST, "volumesnapshots", 403)));
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "Failed").await;
    let uid = order(&api, &id)["uid"].as_str().unwrap().to_owned();
    nodes.iter_mut().for_each(FakeNode::stop_plugin);
    until("it knows of what is kept", || {
        let object = api.get("nodesnapshots", "", &format!("before-{uid}"))?;
        object["status"]["volumeMode"].is_string().then_some(())
    })
    .await;
    api.remove("nodevolumes", "", &id);
    api.delete_object("volumerestores", "ada", "back");
    tokio::time::sleep(GRACE).await;
    assert!(api.get("volumerestores", "ada", "back").is_some(), "nobody was shown what is kept");
    api.forbid(None);
    is_gone(&api, "back").await;
    assert!(api.get("volumesnapshots", "ada", &format!("back-before-{}", &uid[..8])).is_some());
}

fn snapshots_on_disks(nodes: &[FakeNode]) -> Vec<String> {
    nodes
        .iter()
        .flat_map(|node| node.disk.lock().unwrap().snapshots.keys().cloned().collect::<Vec<_>>())
        .collect()
}

#[tokio::test]
async fn a_volume_that_goes_before_its_restore_is_recorded_takes_what_was_kept_with_it() {
    let (api, mut nodes, replica) = cluster().await;
    let id = encrypted_with_snapshot(&api, &replica).await;
    // The node is done, and what it kept can't be recorded.
    api.forbid(Some((http::Method::POST, "nodesnapshots", 403)));
    restore(&api, "back", "data", "monday");
    let message = restore_says(&api, "back", "Failed").await;
    assert!(message.contains("exceeded quota"), "{message}");
    let before = order(&api, &id)["safety"].as_str().unwrap().to_owned();
    assert!(snapshots_on_disks(&nodes).contains(&before));
    // The volume goes, and the controller does not hear of it when it tries again.
    nodes.iter_mut().for_each(FakeNode::stop_plugin);
    api.silence("nodevolumes", true);
    api.delete_object("nodevolumes", "", &id);
    api.writes();
    api.forbid(None);
    until("it is recorded and taken back", || {
        api.get("nodesnapshots", "", &before)?["metadata"]["deletionTimestamp"].is_string().then_some(())
    })
    .await;
    api.silence("nodevolumes", false);
    let message = restore_says(&api, "back", "NoSuchVolume").await;
    assert!(message.contains("is being deleted"), "{message}");
    nodes.iter_mut().for_each(FakeNode::start_plugin);
    until("all goes", || (snapshots_on_disks(&nodes) == ["snapshot-9"]).then_some(())).await;
    until("the object goes", || api.get("nodesnapshots", "", &before).is_none().then_some(())).await;
    assert!(api.get("nodevolumes", "", &id).is_none());
    assert!(api.all("volumesnapshotcontents").is_empty(), "nobody is shown what is not there");
    api.delete_object("volumerestores", "ada", "back");
    is_gone(&api, "back").await;
}

/// An API server that looked for finalizers before ours was there deletes the object, and has taken ours all the same.
#[tokio::test]
async fn one_that_is_gone_in_spite_of_its_finalizer_is_not_ordered() {
    let (api, _nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    api.forbid(Some((http::Method::PATCH, "nodevolumes", 403)));
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "Failed").await;
    // Nobody hears of it.
    api.silence("volumerestores", true);
    api.remove("volumerestores", "ada", "back");
    api.writes();
    api.forbid(None);
    api.read("volumerestores");
    nudge(&api, "nodevolumes", &id);
    let ordered = || order(&api, &id) != Value::Null;
    until("it looks once more", || (ordered() || api.read("volumerestores") > 0).then_some(())).await;
    tokio::time::sleep(GRACE).await;
    assert!(!api.writes().iter().any(|write| write.contains("nodevolumes")), "it is ordered");
    assert_eq!(order(&api, &id), Value::Null);
}

#[tokio::test]
async fn what_was_shown_before_the_volume_went_stays() {
    let (api, mut nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    // The node is done, and says nothing of what it kept; the order can't be taken off.
    api.forbid(Some((http::Method::POST, "nodesnapshots", 403)));
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "Failed").await;
    let before = order(&api, &id)["safety"].as_str().unwrap().to_owned();
    let uid = before.strip_prefix("before-").unwrap().to_owned();
    nodes.iter_mut().for_each(FakeNode::stop_plugin);
    api.forbid(Some((http::Method::PATCH, "nodevolumes", 403)));
    let shown = || api.get("volumesnapshots", "ada", &format!("back-before-{}", &uid[..8]));
    until("it is shown", || shown().map(drop)).await;
    api.delete_object("nodevolumes", "", &id);
    // Time enough to take back what is there.
    tokio::time::sleep(GRACE).await;
    api.forbid(None);
    nodes.iter_mut().for_each(FakeNode::start_plugin);
    until("the volume goes", || api.get("nodevolumes", "", &id).is_none().then_some(())).await;
    let object = api.get("nodesnapshots", "", &before).expect("what is shown has an object");
    assert_eq!(object["metadata"]["deletionTimestamp"], Value::Null);
    assert!(snapshots_on_disks(&nodes).contains(&before), "what is shown is there");
    assert!(shown().is_some());
}

#[tokio::test]
async fn a_volume_deleted_at_any_moment_of_its_restore_leaves_nothing_that_nobody_was_shown() {
    let (api, mut nodes, mut replica) = cluster().await;
    // Without it what was kept goes after a grace, which a busy machine may take to look.
    api.put("namespaces", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ada"}}));
    let (mut shown, mut gone) = (0, 0);
    for round in 0..20_u64 {
        let (name, monday) = (format!("data-{round}"), format!("monday-{round}"));
        volume(&api, &name, &json!({"size": "1Gi", "tier": "ssd"}));
        let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", &name)).await;
        let id = provision(&replica, &claim, "ssd").await.unwrap();
        says(&api, &name, "Provisioned").await;
        take(&replica, &format!("snapshot-{round}"), &id, Some(("ada", &monday))).await.unwrap();
        api.answer_writes_after(Duration::from_millis(round % 5 * 3));
        restore(&api, &name, &name, &monday);
        let uid =
            api.get("volumerestores", "ada", &name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        tokio::time::sleep(Duration::from_millis(round * 2)).await;
        if round % 4 == 1 {
            drop(replica);
            api.delete_object("nodevolumes", "", &id);
            replica = Replica::reconciling(&api, GRACE).await;
        } else if round % 4 == 3 {
            nodes.iter_mut().for_each(FakeNode::stop_plugin);
            api.delete_object("nodevolumes", "", &id);
            tokio::time::sleep(Duration::from_millis(round)).await;
            nodes.iter_mut().for_each(FakeNode::start_plugin);
        } else {
            api.delete_object("nodevolumes", "", &id);
        }
        until("the volume goes", || api.get("nodevolumes", "", &id).is_none().then_some(())).await;
        api.delete_object("volumerestores", "ada", &name);
        is_gone(&api, &name).await;
        api.answer_writes_after(Duration::ZERO);
        let before = format!("before-{uid}");
        let all = || {
            [
                snapshots_on_disks(&nodes).contains(&before),
                api.get("nodesnapshots", "", &before).is_some(),
                api.get("volumesnapshots", "ada", &format!("{name}-before-{}", &uid[..8])).is_some(),
            ]
        };
        let what = format!(
            "round {round}: it is on the disk, has an object and is shown, or nothing of these: {:?}",
            all()
        );
        let kept = until(&what, || match all() {
            [true, true, true] => Some(true),
            [false, false, false] => Some(false),
            _ => None,
        })
        .await;
        *if kept { &mut shown } else { &mut gone } += 1;
    }
    println!("of {shown} what was before is shown, of {gone} it went with the volume");
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

#[tokio::test]
async fn a_snapshot_that_was_made_anew_is_never_mistaken_for_the_one_of_its_name_that_was_kept() {
    let (api, nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    let bind_to = |driver: &str, handle: Option<&str>| {
        api.put(
            "volumesnapshotcontents",
            json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": "anew"},
                "spec": {"driver": driver, "source": {"volumeHandle": id}, "deletionPolicy": "Delete",
                    "volumeSnapshotRef": {"namespace": "ada", "name": "monday", "uid": "2"}},
                "status": {"snapshotHandle": handle, "readyToUse": handle.is_some()}}),
        );
    };
    let show = |status: &Value| {
        api.put(
            "volumesnapshots",
            json!({"metadata": {"name": "monday", "namespace": "ada", "uid": "2"},
                "spec": {"source": {"persistentVolumeClaimName": "data"}}, "status": status}),
        );
    };
    let untouched = || {
        assert!(api.get("nodevolumes", "", &id).unwrap()["spec"]["restore"].is_null(), "it was ordered");
        assert!(nodes.iter().all(|node| node.disk.lock().unwrap().restores.is_empty()));
    };
    // Not bound yet, bound to one of another driver, and to one that is not taken yet.
    show(&json!({}));
    restore(&api, "back", "data", "monday");
    let message = restore_says(&api, "back", "NoSuchSnapshot").await;
    assert!(message.contains("does not speak, or not yet, of snapshot-9"), "{message}");
    untouched();
    bind_to("other.example.org", Some("snapshot-9"));
    show(&json!({"boundVolumeSnapshotContentName": "anew"}));
    tokio::time::sleep(GRACE * 3).await;
    untouched();
    bind_to(names::DRIVER, None);
    tokio::time::sleep(GRACE * 3).await;
    untouched();
    // The new one is there.
    take(&replica, "snapshot-10", &id, Some(("ada", "monday"))).await.unwrap();
    bind_to(names::DRIVER, Some("snapshot-10"));
    restore_says(&api, "back", "Restored").await;
    let done: Vec<_> = nodes.iter().flat_map(|node| node.disk.lock().unwrap().restores.clone()).collect();
    assert!(
        format!("{done:?}").contains("snapshot-10") && !format!("{done:?}").contains("snapshot-9"),
        "{done:?}"
    );
}

/// The same, encrypted.
async fn encrypted_with_snapshot(api: &FakeApi, replica: &Replica) -> String {
    volume(api, "data", &json!({"size": "1Gi", "tier": "ssd", "encryption": {"enabled": true}}));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", "data")).await;
    let mut make = request_for(&claim, "ssd");
    make.parameters.insert(names::PARAMETER_ENCRYPTED.to_owned(), "true".to_owned());
    let id = within(replica.create(make)).await.unwrap().volume.unwrap().volume_id;
    bind(api, &claim, &id);
    says(api, "data", "Provisioned").await;
    take(replica, "snapshot-9", &id, Some(("ada", "monday"))).await.unwrap();
    id
}

fn mount_everywhere(nodes: &[FakeNode], id: &str) {
    for node in nodes {
        node.disk.lock().unwrap().mounted.push(id.to_owned());
    }
}

fn unmount_everywhere(nodes: &[FakeNode]) {
    for node in nodes {
        node.disk.lock().unwrap().mounted.clear();
    }
}

fn order(api: &FakeApi, id: &str) -> Value {
    api.get("nodevolumes", "", id).unwrap()["spec"].get("restore").cloned().unwrap_or(Value::Null)
}

async fn is_gone(api: &FakeApi, name: &str) {
    until(&format!("{name} is gone; it says {:?}", restored(api, name)), || {
        api.get("volumerestores", "ada", name).is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_ordered_restore_that_is_deleted_is_called_off_and_leaves_nothing() {
    let (api, nodes, replica) = cluster().await;
    let id = encrypted_with_snapshot(&api, &replica).await;
    // A pod was faster, so the node can't begin.
    mount_everywhere(&nodes, &id);
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "InUse").await;
    let uid = order(&api, &id)["uid"].as_str().unwrap().to_owned();
    let key = names::key_secret(&format!("before-{uid}"));
    assert!(api.get("secrets", "default", &key).is_some());

    api.delete_object("volumerestores", "ada", "back");
    is_gone(&api, "back").await;
    let volume = api.get("nodevolumes", "", &id).unwrap();
    assert_eq!(volume["status"]["restoreCalledOff"], json!(uid));
    assert_eq!(order(&api, &id), Value::Null);
    assert!(api.get("secrets", "default", &key).is_none());
    let told = |event: &Value| {
        event["reason"] == "CalledOff" && event["note"].as_str().unwrap().contains("is as it was")
    };
    assert!(api.all("events").iter().any(|event| told(event)), "{:?}", api.all("events"));

    // The pod ends, and nothing is restored; another restore of the same Volume is.
    unmount_everywhere(&nodes);
    restore(&api, "again", "data", "monday");
    restore_says(&api, "again", "Restored").await;
    let done: usize = nodes.iter().map(|node| node.disk.lock().unwrap().restores.len()).sum();
    assert_eq!(done, 1);
    assert!(api.get("volumesnapshots", "ada", &format!("back-before-{}", &uid[..8])).is_none());
}

#[tokio::test]
async fn many_restores_leave_the_secret_of_the_volume_as_small_as_one() {
    let (api, _nodes, replica) = cluster().await;
    let id = encrypted_with_snapshot(&api, &replica).await;
    for round in 0..20 {
        let name = format!("r{round}");
        restore(&api, &name, "data", "monday");
        restore_says(&api, &name, "Restored").await;
    }
    let secret = api.get("secrets", "default", &names::key_secret(&id)).unwrap();
    let annotations = secret["metadata"]["annotations"].as_object().unwrap();
    let held = annotations.keys().filter(|name| name.starts_with(names::ANNOTATION_KEY_HELD_BY)).count();
    assert_eq!(held, 1, "{annotations:?}");
}

#[tokio::test]
async fn a_restore_on_a_node_that_is_lost_is_called_off_after_the_grace_and_leaves_the_key() {
    let (api, mut nodes, replica) = cluster().await;
    let id = encrypted_with_snapshot(&api, &replica).await;
    nodes.iter_mut().for_each(FakeNode::stop_plugin);
    restore(&api, "back", "data", "monday");
    let uid = until("it is ordered", || order(&api, &id)["uid"].as_str().map(ToOwned::to_owned)).await;
    api.delete_object("volumerestores", "ada", "back");
    restore_says(&api, "back", "CallingOff").await;
    let device = api.get("nodevolumes", "", &id).unwrap();
    api.remove("nodes", "", device["spec"]["nodeName"].as_str().unwrap());
    is_gone(&api, "back").await;
    assert_eq!(order(&api, &id), Value::Null);
    let told =
        |event: &Value| event["note"].as_str().unwrap().contains("not known whether the restore had begun");
    assert!(api.all("events").iter().any(|event| told(event)), "{:?}", api.all("events"));
    // The node may have kept what was there before, and may come back with it.
    let key = api.get("secrets", "default", &names::key_secret(&format!("before-{uid}"))).unwrap();
    assert_eq!(key["metadata"]["ownerReferences"][0]["uid"], device["metadata"]["uid"]);
}

#[tokio::test]
async fn a_restore_that_is_deleted_too_late_is_carried_to_its_end() {
    let (api, mut nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    nodes.iter_mut().for_each(FakeNode::stop_plugin);
    restore(&api, "back", "data", "monday");
    let uid = until("it is ordered", || order(&api, &id)["uid"].as_str().map(ToOwned::to_owned)).await;
    api.delete_object("volumerestores", "ada", "back");
    restore_says(&api, "back", "CallingOff").await;
    // The plugin was killed after the deed and before it could say so.
    for node in &nodes {
        let mut disk = node.disk.lock().unwrap();
        if disk.volumes.contains_key(&id) {
            disk.restores.push([id.clone(), "snapshot-9".into(), format!("before-{uid}")]);
            disk.snapshots.insert(format!("before-{uid}"), (crate::support::GI, id.clone()));
        }
    }
    nodes.iter_mut().for_each(FakeNode::start_plugin);
    is_gone(&api, "back").await;
    assert_eq!(order(&api, &id), Value::Null);
    assert!(api.get("nodesnapshots", "", &format!("before-{uid}")).is_some(), "what was before is kept");
    let shown = api.get("volumesnapshots", "ada", &format!("back-before-{}", &uid[..8]));
    assert!(shown.is_some(), "and its owner finds it");
}

#[tokio::test]
async fn a_restore_whose_snapshot_was_deleted_meanwhile_says_so_and_can_be_called_off() {
    let (api, nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    mount_everywhere(&nodes, &id);
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "InUse").await;
    // Nothing of it has begun, so the snapshot goes.
    drop_snapshot(&replica, "snapshot-9").await.unwrap();
    for node in &nodes {
        let mut disk = node.disk.lock().unwrap();
        disk.mounted.clear();
        disk.no_source = Some("snapshot-9, which it should start with, is not there");
    }
    nudge(&api, "nodevolumes", &id);
    let message = restore_says(&api, "back", "Failed").await;
    assert!(message.contains("snapshot-9, which it should start with, is not there"), "{message}");
    assert_ne!(order(&api, &id), Value::Null);
    api.delete_object("volumerestores", "ada", "back");
    is_gone(&api, "back").await;
    assert_eq!(order(&api, &id), Value::Null);
}

#[tokio::test]
async fn a_snapshot_is_not_deleted_while_a_restore_of_it_is_under_way() {
    let (api, nodes, replica) = cluster().await;
    let id = volume_with_snapshot(&api, &replica).await;
    // The node has begun and reads from it.
    mount_everywhere(&nodes, &id);
    mount_everywhere(&nodes, "snapshot-9");
    restore(&api, "back", "data", "monday");
    restore_says(&api, "back", "InUse").await;
    let refused = drop_snapshot(&replica, "snapshot-9").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("snapshot snapshot-9 is still in use on node n"), "{refused:?}");
    assert!(api.get("nodesnapshots", "", "snapshot-9").is_some());
    unmount_everywhere(&nodes);
    nudge(&api, "nodevolumes", &id);
    restore_says(&api, "back", "Restored").await;
    nudge(&api, "nodesnapshots", "snapshot-9");
    drop_snapshot(&replica, "snapshot-9").await.unwrap();
}

/// Something changes that brings the node back to an object.
fn nudge(api: &FakeApi, plural: &str, id: &str) {
    let mut nudged = api.get(plural, "", id).unwrap();
    nudged["metadata"]["labels"] = json!({"nudged": "true"});
    api.put(plural, nudged);
}

/// Orders and deletions at every distance, with slow answers, and controllers and plugins that are killed in between: in the end all of
/// it has happened or nothing.
#[tokio::test]
async fn a_restore_deleted_at_any_moment_is_done_or_was_never_there() {
    let (api, mut nodes, mut replica) = cluster().await;
    let id = encrypted_with_snapshot(&api, &replica).await;
    let (mut done, mut off) = (0, 0);
    for round in 0..20_u64 {
        let name = format!("r{round}");
        api.answer_writes_after(Duration::from_millis(round % 5 * 3));
        if round % 3 == 2 {
            nodes.iter_mut().for_each(FakeNode::stop_plugin);
        }
        restore(&api, &name, "data", "monday");
        let uid =
            api.get("volumerestores", "ada", &name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        tokio::time::sleep(Duration::from_millis(round * 2)).await;
        if round % 4 == 1 {
            drop(replica);
            api.delete_object("volumerestores", "ada", &name);
            replica = Replica::reconciling(&api, GRACE).await;
        } else {
            api.delete_object("volumerestores", "ada", &name);
        }
        if round % 3 == 2 {
            tokio::time::sleep(Duration::from_millis(round)).await;
            nodes.iter_mut().for_each(FakeNode::start_plugin);
        }
        is_gone(&api, &name).await;
        api.answer_writes_after(Duration::ZERO);
        assert_eq!(order(&api, &id), Value::Null, "{name}");
        let before = format!("before-{uid}");
        let restored = nodes
            .iter()
            .any(|node| node.disk.lock().unwrap().restores.iter().any(|[.., safety]| *safety == before));
        let shown = api.get("volumesnapshots", "ada", &format!("{name}-before-{}", &uid[..8]));
        let key = api.get("secrets", "default", &names::key_secret(&before));
        assert_eq!(shown.is_some(), restored, "{name}");
        assert_eq!(api.get("nodesnapshots", "", &before).is_some(), restored, "{name}");
        assert_eq!(key.is_some(), restored, "{name}");
        *if restored { &mut done } else { &mut off } += 1;
    }
    println!("{done} were carried out, {off} called off");
}
