//! Keys of encrypted volumes: made before the volume, copied with its content, rotated, and gone with it.

use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::{GI, Replica, bind, in_time, request, request_for, says, tier, until, volume, within};
use serde_json::{Value, json};
use std::time::Duration;
use tierce_controller::devices::keys::fingerprint;
use tierce_crds::names;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tierce_proto::csi::{CreateSnapshotRequest, CreateVolumeRequest, VolumeContentSource};
use tonic::Code;

const GRACE: Duration = Duration::from_millis(300);

/// A key as a call before left it.
const OLD: &str = "0a";

fn old_key() -> Value {
    serde_json::to_value(k8s_openapi::ByteString(OLD.repeat(32).into_bytes())).unwrap()
}

async fn cluster() -> (FakeApi, FakeNode, Replica) {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let node = FakeNode::start(&api, "n1", "ssd", 20 * GI);
    let replica = Replica::reconciling(&api, GRACE).await;
    (api, node, replica)
}

fn encrypted(name: &str) -> CreateVolumeRequest {
    let mut request = request(name, "ssd", GI);
    request.parameters.insert(names::PARAMETER_ENCRYPTED.to_owned(), "true".to_owned());
    request
}

fn secret(api: &FakeApi, id: &str) -> Option<Value> {
    api.get("secrets", "default", &names::key_secret(id))
}

/// What is in an entry of the Secret.
fn key(api: &FakeApi, id: &str, entry: &str) -> Option<String> {
    let data: k8s_openapi::ByteString =
        serde_json::from_value(secret(api, id)?["data"].get(entry)?.clone()).unwrap();
    Some(String::from_utf8(data.0).unwrap())
}

fn owner(api: &FakeApi, id: &str) -> Value {
    secret(api, id).unwrap()["metadata"]["ownerReferences"][0]["uid"].clone()
}

#[tokio::test]
async fn the_key_is_there_before_the_volume_and_goes_with_it() {
    let (api, _node, replica) = cluster().await;
    api.writes();
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    let mut writes = api.writes();
    writes.retain(|write| !write.contains("status"));
    assert_eq!(writes, ["POST secrets", "POST nodevolumes", "PATCH secrets"]);
    let first = key(&api, "pvc-1", "key").unwrap();
    assert!(first.len() == 64 && first.bytes().all(|b| b.is_ascii_hexdigit()), "{} bytes", first.len());
    let object = api.get("nodevolumes", "", "pvc-1").unwrap();
    assert_eq!(object["spec"]["encrypted"], json!(true));
    assert_eq!(owner(&api, "pvc-1"), object["metadata"]["uid"], "Kubernetes deletes it with its owner");

    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    assert_eq!(key(&api, "pvc-1", "key").unwrap(), first, "the same call changes no key");
    let plain = within(replica.create(request("pvc-1", "ssd", GI))).await.unwrap_err();
    assert_eq!(plain.code(), Code::AlreadyExists);
    assert!(plain.message().contains("another encryption: it has on, off is asked for"), "{plain:?}");
    within(replica.create(request("plain", "ssd", GI))).await.unwrap();
    assert!(secret(&api, "plain").is_none());
}

#[tokio::test]
async fn a_key_of_a_volume_that_is_gone_is_never_taken_over_and_one_of_a_call_that_was_cut_off_is() {
    let (api, _node, replica) = cluster().await;
    let left = |id: &str, owners: Value| {
        api.put(
            "secrets",
            json!({"metadata": {"name": names::key_secret(id), "namespace": "default", "ownerReferences": owners},
                "data": {"key": old_key()}}),
        );
    };
    // Kubernetes deletes it a moment later, and with it would go the key of the new volume.
    left(
        "pvc-1",
        json!([{"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "name": "pvc-1", "uid": "gone"}]),
    );
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    assert_ne!(key(&api, "pvc-1", "key").unwrap(), OLD.repeat(32));
    assert_eq!(owner(&api, "pvc-1"), api.get("nodevolumes", "", "pvc-1").unwrap()["metadata"]["uid"]);
    left("pvc-2", json!([]));
    within(replica.create(encrypted("pvc-2"))).await.unwrap();
    assert_eq!(
        key(&api, "pvc-2", "key").unwrap(),
        OLD.repeat(32),
        "a volume may have been made with it already"
    );
}

async fn take(replica: &Replica, name: &str, source: &str) -> Result<(), tonic::Status> {
    let request =
        CreateSnapshotRequest { name: name.into(), source_volume_id: source.into(), ..Default::default() };
    within(replica.service.create_snapshot(in_time(request, "5S"))).await.map(drop)
}

#[tokio::test]
async fn a_snapshot_and_a_copy_have_the_keys_of_their_source() {
    let (api, _node, replica) = cluster().await;
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    take(&replica, "snapshot-1", "pvc-1").await.unwrap();
    let first = key(&api, "pvc-1", "key");
    assert_eq!(key(&api, "snapshot-1", "key"), first);
    assert_eq!(
        owner(&api, "snapshot-1"),
        api.get("nodesnapshots", "", "snapshot-1").unwrap()["metadata"]["uid"]
    );
    let from_snapshot = Type::Snapshot(SnapshotSource { snapshot_id: "snapshot-1".into() });
    let from_volume = Type::Volume(VolumeSource { volume_id: "pvc-1".into() });
    for (name, source) in [("restored", from_snapshot.clone()), ("cloned", from_volume)] {
        let content = Some(VolumeContentSource { r#type: Some(source) });
        let plain =
            CreateVolumeRequest { volume_content_source: content.clone(), ..request(name, "ssd", GI) };
        let refused = within(replica.create(plain)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("use a StorageClass with -encrypted in its name"), "{refused:?}");
        let copy = CreateVolumeRequest { volume_content_source: content, ..encrypted(name) };
        within(replica.create(copy)).await.unwrap();
        assert_eq!(key(&api, name, "key"), first, "{name}");
    }
    // Without its key nothing can be made of it that could ever be opened.
    api.remove("secrets", "default", &names::key_secret("snapshot-1"));
    let content = Some(VolumeContentSource { r#type: Some(from_snapshot) });
    let copy = CreateVolumeRequest { volume_content_source: content, ..encrypted("late") };
    let refused = within(replica.create(copy)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("the Secret tierce-key-snapshot-1 is gone"), "{refused:?}");
    assert!(api.get("nodevolumes", "", "late").is_none());
    api.remove("secrets", "default", &names::key_secret("pvc-1"));
    let refused = take(&replica, "snapshot-2", "pvc-1").await.unwrap_err();
    assert!(refused.message().contains("the Secret tierce-key-pvc-1 is gone"), "{refused:?}");
}

#[tokio::test]
async fn a_volume_is_encrypted_as_it_says_or_as_its_tier_says() {
    let (api, _node, _replica) = cluster().await;
    let class = async |name: &str| {
        let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", name)).await;
        claim["spec"]["storageClassName"].as_str().unwrap().to_owned()
    };
    volume(&api, "asked", &json!({"size": "1Gi", "tier": "ssd", "encryption": {"enabled": true}}));
    assert_eq!(class("asked").await, "tierce-ssd-encrypted");
    volume(&api, "plain", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    assert_eq!(class("plain").await, "tierce-ssd-immediate");
    let mut pool = api.get("storagepools", "", "ssd").unwrap();
    pool["spec"]["encryptByDefault"] = json!(true);
    api.put("storagepools", pool);
    // The pool's word has come when the class follows it.
    tokio::time::sleep(GRACE).await;
    volume(&api, "by-default", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    assert_eq!(class("by-default").await, "tierce-ssd-encrypted-immediate");
    volume(&api, "not", &json!({"size": "1Gi", "tier": "ssd", "encryption": {"enabled": false}}));
    assert_eq!(class("not").await, "tierce-ssd");
}

/// Makes the encrypted Volume `data`; returns the id of its NodeVolume.
async fn encrypted_volume(api: &FakeApi, replica: &Replica) -> String {
    volume(api, "data", &json!({"size": "1Gi", "tier": "ssd", "encryption": {"enabled": true}}));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", "data")).await;
    let mut make = request_for(&claim, "ssd");
    make.parameters.insert(names::PARAMETER_ENCRYPTED.to_owned(), "true".to_owned());
    within(replica.create(make)).await.unwrap();
    let id = format!("pvc-{}", claim["metadata"]["uid"].as_str().unwrap());
    bind(api, &claim, &id);
    says(api, "data", "Provisioned").await;
    id
}

fn rotation(api: &FakeApi) -> Option<(String, String)> {
    let volume = api.get("volumes", "ada", "data")?;
    let all = volume["status"]["conditions"].as_array()?.clone();
    let found = all.into_iter().find(|condition| condition["type"] == "KeyRotation")?;
    Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
}

#[tokio::test]
async fn a_key_is_rotated_when_the_node_has_the_new_one_in_force_and_not_before() {
    let (api, mut node, replica) = cluster().await;
    let id = encrypted_volume(&api, &replica).await;
    node.stop_plugin();
    let first = key(&api, &id, "key").unwrap();

    for (round, old) in [("a", first.clone()), ("b", String::new())] {
        let old = if old.is_empty() { key(&api, &id, "key").unwrap() } else { old };
        let mut volume = api.get("volumes", "ada", "data").unwrap();
        volume["metadata"]["annotations"] = json!({names::ANNOTATION_ROTATE_KEY: round});
        api.put("volumes", volume);
        let next = until("a second key", || key(&api, &id, "next-key")).await;
        assert_eq!(key(&api, &id, "key").unwrap(), old, "the old one still opens it");
        until("it says so", || rotation(&api).filter(|(_, reason)| reason == "WaitingForMount")).await;
        // A controller that looks again makes no third one.
        let mut again = api.get("nodevolumes", "", &id).unwrap();
        again["status"]["usedBytes"] = json!(round.len());
        api.put("nodevolumes", again);
        tokio::time::sleep(GRACE).await;
        assert_eq!(key(&api, &id, "next-key").unwrap(), next);

        // The node has mounted it.
        let header = "6ad1a2a4-6c0c-4f4e-9d5c-3f6f2a1b0c9d:x";
        let shown = fingerprint(&next, header).unwrap();
        let mut mounted = api.get("nodevolumes", "", &id).unwrap();
        mounted["status"]["keyFingerprint"] = json!(shown);
        api.put("nodevolumes", mounted);
        until("the new key takes its place", || key(&api, &id, "key").filter(|key| *key == next)).await;
        assert_eq!(key(&api, &id, "next-key"), None);
        until("it says so", || {
            rotation(&api).filter(|(status, reason)| status == "True" && reason == "Rotated")
        })
        .await;
    }
    assert_ne!(key(&api, &id, "key").unwrap(), first);
}

#[tokio::test]
async fn a_revoked_key_that_an_older_version_left_as_the_next_one_does_not_come_back() {
    let (api, mut node, replica) = cluster().await;
    let id = encrypted_volume(&api, &replica).await;
    node.stop_plugin();
    drop(replica);

    // A rotation ended, and a restore in place lent the key of the snapshot, which was mounted since.
    let now = "0b".repeat(32);
    let mut left = secret(&api, &id).unwrap();
    let text = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
    left["data"] = json!({"key": text(&now), "next-key": old_key()});
    left["metadata"]["annotations"] = json!({names::ANNOTATION_ROTATE_KEY: "once"});
    left["metadata"]["labels"] = json!({names::LABEL_MANAGED_BY.0: names::LABEL_MANAGED_BY.1});
    api.put("secrets", left.clone());
    let shows = |key: &str| {
        let mut device = api.get("nodevolumes", "", &id).unwrap();
        device["metadata"]["annotations"] = json!({names::ANNOTATION_ROTATED_KEY: "once"});
        device["status"]["keyFingerprint"] =
            json!(fingerprint(key, "6ad1a2a4-6c0c-4f4e-9d5c-3f6f2a1b0c9d:x").unwrap());
        api.put("nodevolumes", device);
    };
    shows(&OLD.repeat(32));
    let mut asks = api.get("volumes", "ada", "data").unwrap();
    asks["metadata"]["annotations"] = json!({names::ANNOTATION_ROTATE_KEY: "once"});
    api.put("volumes", asks);
    // Of a rotation that is under way, next to it.
    let mut rotating = left;
    rotating["metadata"]["name"] = json!(names::key_secret("pvc-2"));
    rotating["metadata"]["annotations"] = json!({names::ANNOTATION_ROTATE_KEY: "twice"});
    api.put("secrets", rotating);
    let mut other = api.get("nodevolumes", "", &id).unwrap();
    other["metadata"]["name"] = json!("pvc-2");
    api.put("nodevolumes", other);

    let _replica = Replica::reconciling(&api, GRACE).await;
    let wanted = until("another key is wanted", || {
        let print = key(&api, &id, "wanted")?;
        key(&api, &id, &format!("key-{print}"))
    })
    .await;
    let wanted = wanted.trim_start_matches("plain:").to_owned();
    assert!(wanted != OLD.repeat(32), "the revoked key is wanted");
    let all = secret(&api, &id).unwrap()["data"].as_object().unwrap().clone();
    let keys = all.keys().filter(|name| name.starts_with("key-"));
    assert_eq!(keys.count(), 3, "whatever is in force now still opens it");
    assert_eq!(key(&api, "pvc-2", "next-key").unwrap(), OLD.repeat(32), "a rotation goes on");
    shows(&wanted);
    until("it is alone", || key(&api, &id, "next-key").is_none().then_some(())).await;
    assert_eq!(key(&api, &id, "key").unwrap(), wanted);
}

#[tokio::test]
async fn a_key_is_there_until_what_it_opens_is_gone_whoever_deletes_its_secret() {
    let (api, _node, replica) = cluster().await;
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    take(&replica, "snapshot-1", "pvc-1").await.unwrap();
    // One that an older controller made.
    let mut bare = secret(&api, "snapshot-1").unwrap();
    bare["metadata"]["finalizers"] = json!([]);
    api.put("secrets", bare);
    let guarded = |id: &str| {
        let secret = secret(&api, id)?;
        (secret["metadata"]["finalizers"] == json!([names::FINALIZER_KEY])).then_some(())
    };
    until("it has the finalizer", || guarded("snapshot-1")).await;
    // As `kubectl delete namespace` does it.
    let first = key(&api, "pvc-1", "key");
    for id in ["pvc-1", "snapshot-1"] {
        api.delete_object("secrets", "default", &names::key_secret(id));
    }
    tokio::time::sleep(GRACE).await;
    assert_eq!((key(&api, "pvc-1", "key"), key(&api, "snapshot-1", "key")), (first.clone(), first.clone()));
    take(&replica, "snapshot-2", "pvc-1").await.unwrap();
    assert_eq!(key(&api, "snapshot-2", "key"), first, "it opens still");
    within(replica.delete("pvc-1")).await.unwrap();
    until("it goes with its volume", || secret(&api, "pvc-1").is_none().then_some(())).await;
    assert_eq!(key(&api, "snapshot-1", "key"), first, "and no other");
    // A key whose volume is gone is Kubernetes' to delete.
    api.remove("nodesnapshots", "", "snapshot-2");
    until("it is let go", || {
        secret(&api, "snapshot-2").filter(|s| s["metadata"]["finalizers"] == json!([])).map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_key_stays_as_long_as_a_node_has_something_of_its_volume_on_a_disk() {
    let (api, mut node, replica) = cluster().await;
    for id in ["pvc-1", "pvc-2"] {
        within(replica.create(encrypted(id))).await.unwrap();
    }
    node.stop_plugin();
    let first = key(&api, "pvc-1", "key");
    let report = |unclaimed: &[&str]| {
        let mut report = api.get("nodestorages", "", "n1").unwrap();
        report["status"]["unclaimed"] = json!(unclaimed);
        api.put("nodestorages", report);
    };
    // Somebody takes the objects away by force, or a backup brings the Secrets back before them; the node tells a moment later.
    for id in ["pvc-1", "pvc-2"] {
        api.remove("nodevolumes", "", id);
        api.delete_object("secrets", "default", &names::key_secret(id));
    }
    tokio::time::sleep(GRACE).await;
    report(&["pvc-1"]);
    until("the other one is let go", || secret(&api, "pvc-2").is_none().then_some(())).await;
    assert_eq!(key(&api, "pvc-1", "key"), first);
    let many: Vec<_> = (0..100).map(|n| format!("other-{n}")).collect();
    report(&many.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(key(&api, "pvc-1", "key"), first, "a list that is cut off may lack it");
    report(&[]);
    until("it is let go", || secret(&api, "pvc-1").is_none().then_some(())).await;
}

#[tokio::test]
async fn a_snapshot_that_is_made_anew_under_its_id_keeps_the_keys_of_the_one_that_was_taken_away_by_force() {
    let (api, mut node, replica) = cluster().await;
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    for id in ["snapshot-1", "snapshot-2"] {
        take(&replica, id, "pvc-1").await.unwrap();
    }
    node.stop_plugin();
    let first = key(&api, "pvc-1", "key").unwrap();
    // The volume's key is another one since, and the first one was revoked.
    let mut rotated = secret(&api, "pvc-1").unwrap();
    rotated["data"] = json!({"key": old_key()});
    api.put("secrets", rotated);
    let mut report = api.get("nodestorages", "", "n1").unwrap();
    report["status"]["unclaimed"] = json!(["snapshot-1", "snapshot-2"]);
    api.put("nodestorages", report);
    let status = api.get("nodesnapshots", "", "snapshot-1").unwrap()["status"].clone();
    for id in ["snapshot-1", "snapshot-2"] {
        api.remove("nodesnapshots", "", id);
    }
    until("the watch has told", || {
        replica.index.read(|state| state.snapshots.iter().next().is_none()).then_some(())
    })
    .await;
    // As Kubernetes does it with what belongs to nothing any more; of the other one it has not heard yet.
    api.delete_object("secrets", "default", &names::key_secret("snapshot-1"));

    for id in ["snapshot-1", "snapshot-2"] {
        let again =
            CreateSnapshotRequest { name: id.into(), source_volume_id: "pvc-1".into(), ..Default::default() };
        let late = within(replica.service.create_snapshot(in_time(again, "2S"))).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "its node does not answer");
        assert_eq!(key(&api, id, "key"), Some(first.clone()), "{id} may lie on a disk as it was");
        assert_eq!(key(&api, id, "next-key").unwrap(), OLD.repeat(32), "{id}: the volume's, as of any copy");
        // The node has found it there.
        let mut found = api.get("nodesnapshots", "", id).unwrap();
        found["status"] = status.clone();
        found["status"]["keyFingerprint"] =
            json!(fingerprint(&first, "6ad1a2a4-6c0c-4f4e-9d5c-3f6f2a1b0c9d:x").unwrap());
        api.put("nodesnapshots", found.clone());
        take(&replica, id, "pvc-1").await.unwrap();
        assert_eq!(owner(&api, id), found["metadata"]["uid"]);
    }
}

/// As `Keys::put` leaves it when the call ends before it has written its object.
fn left_behind(api: &FakeApi, id: &str, untied_since: Option<&str>) {
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let mut metadata =
        json!({"name": names::key_secret(id), "namespace": "default", "creationTimestamp": now});
    if let Some(since) = untied_since {
        let since = if since == "now" { &now } else { since };
        metadata["annotations"] = json!({names::ANNOTATION_UNTIED_KEY: since});
    }
    api.put("secrets", json!({"metadata": metadata, "data": {"key": old_key()}}));
}

#[tokio::test]
async fn a_key_whose_volume_never_came_goes_and_every_other_stays() {
    let (api, node, _replica) = cluster().await;
    let restore = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore",
        "metadata": {"name": "back", "namespace": "ada", "generation": 1, "uid": "r", "finalizers": ["example.org/x"]},
        "spec": {"volume": "none", "snapshot": "none"}});
    api.put("volumerestores", restore);
    api.put(
        "nodevolumes",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": {"name": "pvc-there"},
            "spec": {"nodeName": "n1", "pool": "ssd", "sizeBytes": "unreadable", "filesystem": "ext4"}}),
    );
    api.put(
        "nodesnapshots",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeSnapshot", "metadata": {"name": "snapshot-there"},
            "spec": {"nodeName": "gone", "pool": "ssd", "source": "pvc-gone"}}),
    );
    let mut report = api.get("nodestorages", "", "n1").unwrap();
    report["status"]["unclaimed"] = json!(["pvc-on-a-disk"]);
    api.put("nodestorages", report.clone());
    for stays in ["before-r", "pvc-there", "snapshot-there", "pvc-on-a-disk"] {
        left_behind(&api, stays, Some("now"));
    }
    left_behind(&api, "pvc-by-hand", None);
    left_behind(&api, "pvc-from-a-backup", Some("2026-01-01T00:00:00Z"));
    left_behind(&api, "pvc-never-came", Some("now"));
    let all = api.all("secrets").len();
    until("it is reaped", || secret(&api, "pvc-never-came").is_none().then_some(())).await;
    tokio::time::sleep(GRACE * 12).await;
    assert_eq!(api.all("secrets").len(), all - 1, "{:?}", api.all("secrets"));

    // What kept them goes.
    api.remove("volumerestores", "ada", "back");
    report["status"]["unclaimed"] = json!([]);
    api.put("nodestorages", report.clone());
    api.remove("nodesnapshots", "", "snapshot-there");
    for goes in ["before-r", "pvc-on-a-disk", "snapshot-there"] {
        until(&format!("{goes} is reaped"), || secret(&api, goes).is_none().then_some(())).await;
    }
    // A disk that nobody can read may hold anything.
    report["status"]["pools"][0]["state"] = json!("Unavailable");
    api.put("nodestorages", report);
    left_behind(&api, "pvc-later", Some("now"));
    tokio::time::sleep(GRACE * 12).await;
    assert!(secret(&api, "pvc-later").is_some());
    node.report();
    until("it is reaped", || secret(&api, "pvc-later").is_none().then_some(())).await;
    assert_eq!(api.all("secrets").len(), 3);
}

#[tokio::test]
async fn a_creation_that_goes_on_keeps_its_key_from_the_reaper() {
    let (api, _node, replica) = cluster().await;
    // What the reaper has seen is another version than the one that the creation touched.
    left_behind(&api, "pvc-1", Some("now"));
    let seen = secret(&api, "pvc-1").unwrap()["metadata"].clone();
    api.forbid(Some((http::Method::POST, "nodevolumes", 403)));
    within(replica.create(encrypted("pvc-1"))).await.unwrap_err();
    api.forbid(None);
    let touched = secret(&api, "pvc-1").unwrap()["metadata"].clone();
    assert_eq!((&touched["uid"], &touched["creationTimestamp"]), (&seen["uid"], &seen["creationTimestamp"]));
    assert_ne!(touched["resourceVersion"], seen["resourceVersion"]);
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    let tied = secret(&api, "pvc-1").unwrap()["metadata"].clone();
    assert_eq!(tied["annotations"], json!({}), "it goes with its volume now");
    tokio::time::sleep(GRACE * 12).await;
    assert_eq!(key(&api, "pvc-1", "key").unwrap(), OLD.repeat(32));
}

#[tokio::test]
async fn a_key_that_went_before_it_was_tied_is_made_anew_only_where_nothing_was_written_with_it() {
    let (api, mut node, replica) = cluster().await;
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    take(&replica, "snapshot-1", "pvc-1").await.unwrap();
    for id in ["pvc-1", "snapshot-1"] {
        api.remove("secrets", "default", &names::key_secret(id));
    }
    let lost = take(&replica, "snapshot-1", "pvc-1").await.unwrap_err();
    assert_eq!(lost.code(), Code::FailedPrecondition);
    assert!(lost.message().contains("the Secret tierce-key-snapshot-1 is gone"), "{lost:?}");
    within(replica.create(encrypted("pvc-1"))).await.unwrap();
    let fresh = key(&api, "pvc-1", "key").unwrap();
    assert_eq!(fresh.len(), 64);
    take(&replica, "snapshot-1", "pvc-1").await.unwrap();
    assert_eq!(key(&api, "snapshot-1", "key").unwrap(), fresh);

    node.stop_plugin();
    // Once it was mounted, only the one key opens it.
    let mut mounted = api.get("nodevolumes", "", "pvc-1").unwrap();
    mounted["status"]["keyFingerprint"] = json!("6ad1a2a4-6c0c-4f4e-9d5c-3f6f2a1b0c9d:x");
    api.put("nodevolumes", mounted);
    api.remove("secrets", "default", &names::key_secret("pvc-1"));
    let shown =
        |state: &tierce_controller::index::State| state.devices.get("pvc-1").unwrap().fingerprint.is_some();
    until("the watch has told", || replica.index.read(shown).then_some(())).await;
    let lost = within(replica.create(encrypted("pvc-1"))).await.unwrap_err();
    assert!(lost.message().contains("cannot tie the Secret to the NodeVolume"), "{lost:?}");
    assert!(secret(&api, "pvc-1").is_none());
}
