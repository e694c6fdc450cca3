//! Claims that wait for a volume of ours: where those are made that start with a copy, and what is said of a class that can't work.

use crate::support::fake_api::FakeApi;
use crate::support::snapshots::{cluster, content, data_of, take};
use crate::support::{GI, class, on, request_for, says, until, volume, within};
use serde_json::{Value, json};
use tierce_crds::names;
use tierce_proto::csi::CreateVolumeRequest;

/// A claim in namespace `ada` of a class that waits for its first pod, which starts with the VolumeSnapshot of this name.
fn copy(api: &FakeApi, name: &str, snapshot: &str) -> Value {
    api.put(
        "persistentvolumeclaims",
        json!({"metadata": {"name": name, "namespace": "ada"},
            "spec": {"storageClassName": "tierce-ssd", "resources": {"requests": {"storage": "1Gi"}},
                "dataSource": {"apiGroup": names::SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": snapshot}},
            "status": {"phase": "Pending"}}),
    );
    api.get("persistentvolumeclaims", "ada", name).unwrap()
}

fn selected(api: &FakeApi, name: &str) -> Option<String> {
    let claim = api.get("persistentvolumeclaims", "ada", name)?;
    claim["metadata"]["annotations"][names::ANNOTATION_SELECTED_NODE].as_str().map(ToOwned::to_owned)
}

/// The scheduler's word, or the provisioner's where it takes a choice back.
fn select(api: &FakeApi, name: &str, node: Option<&str>) {
    let mut claim = api.get("persistentvolumeclaims", "ada", name).unwrap();
    claim["metadata"]["annotations"] = json!(node.map(|node| json!({names::ANNOTATION_SELECTED_NODE: node})));
    api.put("persistentvolumeclaims", claim);
}

/// A content that a backup program made of what it saved: by handle, for a VolumeSnapshot of another name and UID.
fn bring_back(api: &FakeApi, snapshot: &str, handle: &str) {
    api.put(
        "volumesnapshotcontents",
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": format!("of-{snapshot}")},
            "spec": {"driver": names::DRIVER, "source": {"snapshotHandle": handle}, "deletionPolicy": "Retain",
                "volumeSnapshotRef": {"namespace": "ada", "name": snapshot, "uid": "another"}}}),
    );
}

#[tokio::test]
async fn a_claim_that_copies_is_sent_to_the_node_of_its_source_before_the_scheduler_picks_one() {
    let (api, _nodes, replica) = cluster().await;
    // The second node has more room.
    let data = data_of(&api, &replica, "ada", "data").await;
    let source = api.get("nodevolumes", "", &data).unwrap()["spec"]["nodeName"].as_str().unwrap().to_owned();
    let other = if source == "n1" { "n2" } else { "n1" };
    let claim = copy(&api, "copy", "monday");
    tokio::time::sleep(crate::support::snapshots::GRACE).await;
    assert_eq!(selected(&api, "copy"), None, "nobody knows yet where it goes");
    take(&replica, "snapshot-1", &data, Some(("ada", "monday"))).await.unwrap();
    let chosen = || selected(&api, "copy").filter(|node| *node == source);
    until("the node of its source is chosen", chosen).await;

    select(&api, "copy", Some(other));
    until("a scheduler that was faster is put right", chosen).await;
    select(&api, "copy", None);
    until("it is chosen again when the provisioner took it back", chosen).await;

    let asked = |node: &str| CreateVolumeRequest {
        volume_content_source: Some(content(Some("snapshot-1"), None)),
        accessibility_requirements: Some(on(node)),
        ..request_for(&claim, "ssd")
    };
    let refused = within(replica.create(asked(other))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "the provisioner takes the choice back");
    within(replica.create(asked(&source))).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_has_no_room_is_told_once_and_made_when_there_is_some() {
    let (api, nodes, replica) = cluster().await;
    let data = data_of(&api, &replica, "ada", "data").await;
    let source = api.get("nodevolumes", "", &data).unwrap()["spec"]["nodeName"].as_str().unwrap().to_owned();
    take(&replica, "snapshot-1", &data, Some(("ada", "monday"))).await.unwrap();
    let node = nodes.iter().find(|node| node.name == source).unwrap();
    node.resize(GI);
    api.writes();
    copy(&api, "copy", "monday");
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert_eq!(selected(&api, "copy"), None);
    let writes = api.writes();
    assert!(!writes.contains(&"PATCH persistentvolumeclaims".to_owned()), "{writes:?}");
    let events = api.all("events");
    let told: Vec<_> = events.iter().filter(|event| event["regarding"]["name"] == "copy").collect();
    let words = |event: &Value| event["note"].as_str().unwrap().contains("has room for 1Gi");
    assert!(matches!(told[..], [event] if words(event)), "{told:?}");
    node.resize(90 * GI);
    until("it is chosen once there is room", || selected(&api, "copy").filter(|node| *node == source)).await;
}

#[tokio::test]
async fn what_a_backup_program_brought_back_is_a_source_for_claims_and_volumes() {
    let (api, _nodes, replica) = cluster().await;
    let data = data_of(&api, &replica, "ada", "data").await;
    let source = api.get("nodevolumes", "", &data).unwrap()["spec"]["nodeName"].clone();
    take(&replica, "snapshot-1", &data, Some(("ada", "monday"))).await.unwrap();
    let theirs = data_of(&api, &replica, "bob", "data").await;
    take(&replica, "snapshot-2", &theirs, Some(("bob", "monday"))).await.unwrap();
    copy(&api, "copy", "velero-7");
    volume(&api, "again", &json!({"size": "1Gi", "tier": "ssd", "source": {"snapshot": "velero-7"}}));
    volume(&api, "foreign", &json!({"size": "1Gi", "tier": "ssd", "source": {"snapshot": "velero-8"}}));
    says(&api, "again", "NoSource").await;
    bring_back(&api, "velero-7", "snapshot-1");
    bring_back(&api, "velero-8", "snapshot-2");
    until("its claim", || api.get("persistentvolumeclaims", "ada", "again")).await;
    until("its node", || selected(&api, "copy").filter(|node| source == json!(node))).await;
    let crosses = || {
        let (_, _, message) = crate::support::ready(&api, "foreign")?;
        message.contains("data does not cross namespaces").then_some(())
    };
    until("another namespace's is refused", crosses).await;
    assert!(api.get("persistentvolumeclaims", "ada", "foreign").is_none());
}

#[tokio::test]
async fn a_slip_in_a_class_is_told_on_the_claim_before_any_pod_comes() {
    let (api, _nodes, _replica) = cluster().await;
    class(&api, "typo", &json!({"teir": "ssd"}));
    class(&api, "unknown", &json!({"tier": "standart-ssd"}));
    class(&api, "fine", &json!({"tier": "ssd"}));
    for of in ["typo", "unknown", "fine"] {
        api.put(
            "persistentvolumeclaims",
            json!({"metadata": {"name": of, "namespace": "ada"},
                "spec": {"storageClassName": of, "resources": {"requests": {"storage": "1Gi"}}},
                "status": {"phase": "Pending"}}),
        );
    }
    let told = |claim: &str| {
        let all = api.all("events").into_iter().filter(|event| event["regarding"]["name"] == claim);
        all.map(|event| event["note"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("the typo is told", || told("typo").first().filter(|note| note.contains("`teir`")).map(drop)).await;
    let unknown = || told("unknown").first().filter(|note| note.contains("standart-ssd")).map(drop);
    until("the tier is told", unknown).await;
    // Once that tier is there, nothing more is said.
    crate::support::pool(&api, "standart-ssd");
    let mut changed = api.get("persistentvolumeclaims", "ada", "typo").unwrap();
    changed["metadata"]["labels"] = json!({"looked": "at again"});
    api.put("persistentvolumeclaims", changed);
    tokio::time::sleep(crate::support::snapshots::GRACE).await;
    assert_eq!((told("typo").len(), told("unknown").len(), told("fine").len()), (1, 1, 0));
}
