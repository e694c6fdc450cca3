//! What a restore kept of before, when its namespace goes.

use crate::support::fake_api::FakeApi;
use crate::support::snapshots::{GRACE, cluster, take};
use crate::support::{Replica, provision, says, until, volume};
use serde_json::{Value, json};
use tierce_crds::names;

fn namespace(api: &FakeApi, name: &str, going: bool) {
    let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    if going {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-30T00:00:00Z");
    }
    api.put("namespaces", object);
}

/// A Volume of namespace `ada` that was restored; names of the snapshot on its node, its content and its VolumeSnapshot.
async fn restored(api: &FakeApi, replica: &Replica) -> [String; 3] {
    volume(api, "data", &json!({"size": "1Gi", "tier": "ssd"}));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", "data")).await;
    let id = provision(replica, &claim, "ssd").await.unwrap();
    says(api, "data", "Provisioned").await;
    take(replica, "snapshot-9", &id, Some(("ada", "monday"))).await.unwrap();
    api.put(
        "volumerestores",
        json!({"apiVersion": names::API_VERSION, "kind": "VolumeRestore",
            "metadata": {"name": "back", "namespace": "ada", "generation": 1},
            "spec": {"volume": "data", "source": {"snapshot": "monday"}}}),
    );
    let shown = until("the restore to end", || {
        api.get("volumerestores", "ada", "back")?["status"]["before"].as_str().map(ToOwned::to_owned)
    })
    .await;
    let restore = api.get("volumerestores", "ada", "back").unwrap();
    let uid = restore["metadata"]["uid"].as_str().unwrap();
    until("it to be let go of", || {
        let restore = api.get("volumerestores", "ada", "back").unwrap();
        restore["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty).then_some(())
    })
    .await;
    [format!("before-{uid}"), format!("snapcontent-{uid}"), shown]
}

fn there(api: &FakeApi, id: &str, content: &str) -> [bool; 2] {
    [api.get("nodesnapshots", "", id).is_some(), api.get("volumesnapshotcontents", "", content).is_some()]
}

#[tokio::test]
async fn what_was_kept_goes_with_a_namespace_that_went_before_anything_held_its_volume_snapshot() {
    let (api, nodes, replica) = cluster().await;
    namespace(&api, "ada", false);
    let [id, content, shown] = restored(&api, &replica).await;
    // The namespace's controller takes away what has no finalizer.
    namespace(&api, "ada", true);
    api.remove("volumerestores", "ada", "back");
    tokio::time::sleep(GRACE * 2).await;
    assert_eq!(there(&api, &id, &content), [true; 2], "its VolumeSnapshot is still there");
    api.remove("volumesnapshots", "ada", &shown);
    until("both go", || (there(&api, &id, &content) == [false; 2]).then_some(())).await;
    let held = || nodes.iter().any(|node| node.disk.lock().unwrap().snapshots.contains_key(&id));
    until("the node frees it", || (!held()).then_some(())).await;
}

#[tokio::test]
async fn what_was_kept_stays_where_its_namespace_is_or_somebody_wants_it() {
    let (api, _nodes, replica) = cluster().await;
    namespace(&api, "ada", false);
    let [id, content, shown] = restored(&api, &replica).await;
    api.remove("volumerestores", "ada", "back");
    api.remove("volumesnapshots", "ada", &shown);
    tokio::time::sleep(GRACE * 3).await;
    assert_eq!(there(&api, &id, &content), [true; 2], "its namespace is there");

    let mut kept: Value = api.get("volumesnapshotcontents", "", &content).unwrap();
    kept["spec"]["deletionPolicy"] = json!("Retain");
    api.remove("namespaces", "", "ada");
    api.put("volumesnapshotcontents", kept);
    tokio::time::sleep(GRACE * 3).await;
    assert_eq!(there(&api, &id, &content), [true; 2], "an administrator keeps it");
}

#[tokio::test]
async fn what_was_kept_stays_where_its_namespace_is_not_back_yet() {
    let (api, _nodes, replica) = cluster().await;
    namespace(&api, "ada", false);
    let [id, content, _] = restored(&api, &replica).await;
    let mut seen = api.get("volumesnapshotcontents", "", &content).unwrap();
    seen["spec"]["volumeSnapshotRef"]["uid"] = json!("1");
    api.put("volumesnapshotcontents", seen);
    api.remove("namespaces", "", "ada");
    api.read("volumesnapshotcontents");
    api.remove("volumerestores", "ada", "back");
    tokio::time::sleep(GRACE * 3).await;
    assert_eq!(there(&api, &id, &content), [true; 2], "the snapshot controller has seen it");
    assert_eq!(api.read("volumesnapshotcontents"), 0, "nobody needs to ask");
}

#[tokio::test]
async fn what_a_backup_brought_back_before_its_namespace_stays() {
    let (api, _nodes, replica) = cluster().await;
    namespace(&api, "ada", false);
    let [id, content, _] = restored(&api, &replica).await;
    let mut back = api.get("volumesnapshotcontents", "", &content).unwrap();
    api.remove("volumesnapshotcontents", "", &content);
    back["metadata"]["creationTimestamp"] = Value::Null;
    api.put("volumesnapshotcontents", back);
    api.remove("namespaces", "", "ada");
    api.remove("volumerestores", "ada", "back");
    tokio::time::sleep(GRACE * 3).await;
    assert_eq!(there(&api, &id, &content), [true; 2], "it was made at another time than it says");
}
