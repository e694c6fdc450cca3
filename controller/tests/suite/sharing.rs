//! SharedVolumes: claims of other namespaces, the nodes that they are served to, and their end.

use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::{GI, Replica, request_for, tier, until, volume, within};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tierce_crds::names;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::{CreateVolumeRequest, ValidateVolumeCapabilitiesRequest};
use tonic::{Code, Request};

const GRACE: Duration = Duration::from_millis(300);
/// Long enough to see that nothing happens before.
const LONG: Duration = Duration::from_secs(3);
const NAME: &str = "team";

async fn cluster() -> (FakeApi, FakeNode, Replica) {
    let api = FakeApi::new();
    let (node, replica) = cluster_of(&api, GRACE).await;
    (api, node, replica)
}

async fn cluster_of(api: &FakeApi, grace: Duration) -> (FakeNode, Replica) {
    tier(api, "ssd");
    for name in ["ada", "vision", "ci"] {
        api.put("namespaces", json!({"metadata": {"name": name}}));
    }
    let node = FakeNode::start(api, "n1", "ssd", 10 * GI);
    (node, Replica::reconciling(api, grace).await)
}

fn shared(api: &FakeApi, members: &Value) {
    let spec = json!({"size": "1Gi", "tier": "ssd", "members": members});
    let mut object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "SharedVolume",
        "metadata": {"name": NAME, "namespace": "ada", "generation": 1}, "spec": spec});
    if let Some(known) = api.get("sharedvolumes", "ada", NAME) {
        object["metadata"] = known["metadata"].clone();
        object["metadata"]["generation"] = json!(known["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        object["status"] = known["status"].clone();
    }
    api.put("sharedvolumes", object);
}

fn member(name: &str, access: &str) -> Value {
    json!({"kind": "Namespace", "name": name, "access": access})
}

fn condition(api: &FakeApi, type_: &str) -> Option<(String, String)> {
    let object = api.get("sharedvolumes", "ada", NAME)?;
    let conditions = object["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == type_)?;
    Some((found["reason"].as_str()?.to_owned(), found["message"].as_str()?.to_owned()))
}

async fn says(api: &FakeApi, reason: &str) -> String {
    until(&format!("it says {reason}"), || {
        condition(api, "Ready").filter(|(now, _)| now == reason).map(|(_, message)| message)
    })
    .await
}

fn for_many(mut request: CreateVolumeRequest) -> CreateVolumeRequest {
    request.volume_capabilities[0].access_mode.as_mut().unwrap().mode = Mode::MultiNodeMultiWriter.into();
    request
}

/// Its claim is provisioned and bound, as the provisioner and Kubernetes do it; the id of its volume.
async fn provisioned(api: &FakeApi, replica: &Replica) -> String {
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", NAME)).await;
    let made = within(replica.create(for_many(request_for(&claim, "ssd")))).await.unwrap().volume.unwrap();
    let mut bound = claim.clone();
    bound["spec"]["volumeName"] = json!(made.volume_id);
    bound["status"]["phase"] = json!("Bound");
    api.put("persistentvolumeclaims", bound);
    says(api, "Provisioned").await;
    made.volume_id
}

/// The same once the watches have caught up.
async fn provisioned_soon(api: &FakeApi, replica: &Replica) -> String {
    until("the class to be known", || {
        replica.index.read(|state| state.classes.get("tierce-ssd").is_some()).then_some(())
    })
    .await;
    provisioned(api, replica).await
}

fn handle(api: &FakeApi, id: &str, namespace: &str) -> String {
    let uid = api.get("namespaces", "", namespace).unwrap()["metadata"]["uid"].clone();
    names::shared_handle(id, uid.as_str().unwrap())
}

fn pod(api: &FakeApi, namespace: &str, name: &str, node: &str) {
    api.put(
        "pods",
        json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"nodeName": node,
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": NAME}}]}}),
    );
}

async fn pair(api: &FakeApi, id: &str, namespace: &str) -> (Value, Value) {
    let name = handle(api, id, namespace);
    let pv = until("its PersistentVolume", || api.get("persistentvolumes", "", &name)).await;
    (api.get("persistentvolumeclaims", namespace, NAME).unwrap(), pv)
}

async fn served(api: &FakeApi, id: &str, nodes: &Value, readers: &Value) {
    until(&format!("it is served to {nodes} and {readers}"), || {
        let export = api.get("nodevolumes", "", id)?["spec"]["export"].clone();
        let of = |field: &str| export.get(field).cloned().unwrap_or_else(|| json!([]));
        (of("nodes") == *nodes && of("readOnlyNodes") == *readers).then_some(())
    })
    .await;
}

async fn gone(api: &FakeApi, plural: &str, namespace: &str, name: &str) {
    until(&format!("{plural} {name} goes"), || api.get(plural, namespace, name).is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn a_shared_volume_is_made_for_many_with_its_group_before_any_pod_sees_it() {
    let (api, node, replica) = cluster().await;
    shared(&api, &json!([]));
    says(&api, "WaitingForFirstUse").await;
    let claim = api.get("persistentvolumeclaims", "ada", NAME).unwrap();
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteMany"]));
    assert_eq!(claim["metadata"]["ownerReferences"][0]["kind"], json!("SharedVolume"));
    let id = provisioned(&api, &replica).await;
    let device = api.get("nodevolumes", "", &id).unwrap();
    let uid = api.get("sharedvolumes", "ada", NAME).unwrap()["metadata"]["uid"].clone();
    let gid = names::shared_gid(uid.as_str().unwrap());
    assert_eq!(device["spec"]["export"], json!({"gid": gid}));
    assert_eq!(device["spec"]["volumeRef"]["kind"], json!("SharedVolume"));
    let pv = api.get("persistentvolumes", "", &id).unwrap();
    let (meta, spec) = (&pv["metadata"], &pv["spec"]);
    assert_eq!(meta["annotations"][names::ANNOTATION_GID], json!(gid.to_string()));
    assert_eq!(meta["annotations"]["pv.kubernetes.io/provisioned-by"], json!("csi.tierce.dev"));
    assert_eq!(meta["finalizers"], json!(["external-provisioner.volume.kubernetes.io/finalizer"]));
    assert_eq!(spec["csi"]["volumeHandle"], json!(id));
    assert_eq!(
        spec["csi"]["volumeAttributes"],
        json!({names::ATTRIBUTE_SHARED: id, names::ATTRIBUTE_NAMESPACE: "ada"})
    );
    assert_eq!(
        (&spec["claimRef"]["uid"], &spec["storageClassName"]),
        (&claim["metadata"]["uid"], &json!("tierce-ssd"))
    );
    assert_eq!(spec["persistentVolumeReclaimPolicy"], json!("Delete"));
    let affinity = &spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!(*affinity, json!({"key": names::TOPOLOGY_NODE, "operator": "Exists"}));
    let status = api.get("sharedvolumes", "ada", NAME).unwrap()["status"].clone();
    assert_eq!((&status["gid"], &status["node"]), (&json!(gid), &json!("n1")));
    assert_eq!(status["claims"], json!([{"namespace": "ada", "access": "Write"}]));
    // A call that is repeated changes nothing.
    let again = within(replica.create(for_many(request_for(&claim, "ssd")))).await.unwrap();
    assert_eq!(again.volume.unwrap().volume_id, id);
    assert_eq!(node.holds(), std::slice::from_ref(&id));
    let mut check = ValidateVolumeCapabilitiesRequest {
        volume_id: id,
        volume_capabilities: for_many(request_for(&claim, "ssd")).volume_capabilities,
        ..ValidateVolumeCapabilitiesRequest::default()
    };
    let valid = |check: &ValidateVolumeCapabilitiesRequest| {
        replica.service.validate_volume_capabilities(Request::new(check.clone()))
    };
    assert!(valid(&check).await.unwrap().into_inner().confirmed.is_some());
    within(replica.create(crate::support::request("plain", "ssd", GI))).await.unwrap();
    check.volume_id = "plain".into();
    let refused = valid(&check).await.unwrap().into_inner();
    assert!(
        refused.confirmed.is_none() && refused.message.contains("make a SharedVolume"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn nothing_else_is_made_for_many() {
    let (api, node, replica) = cluster().await;
    volume(&api, "mine", &json!({"size": "1Gi", "tier": "ssd"}));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", "mine")).await;
    let plain = crate::support::claim(&api, "plain", "1Gi");
    for claim in [claim, plain] {
        let refused = within(replica.create(for_many(request_for(&claim, "ssd")))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("make a SharedVolume"), "{}", refused.message());
    }
    assert!(node.holds().is_empty());
}

#[tokio::test]
async fn a_shared_volume_is_not_made_for_one_node() {
    let (api, node, replica) = cluster().await;
    shared(&api, &json!([]));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", NAME)).await;
    let refused = within(replica.create(request_for(&claim, "ssd"))).await.unwrap_err();
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("ReadWriteMany"),
        "{refused:?}"
    );
    assert!(node.holds().is_empty());
    provisioned(&api, &replica).await;
}

#[tokio::test]
async fn whether_the_data_outlives_its_claim_is_never_guessed() {
    let (api, node, replica) = cluster().await;
    shared(&api, &json!([]));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", NAME)).await;
    // Its watch has not told of it yet.
    let mut class = api.get("storageclasses", "", "tierce-ssd").unwrap();
    class["reclaimPolicy"] = json!("Retain");
    let metadata = serde_json::from_value(class["metadata"].clone()).unwrap();
    api.silence("storageclasses", true);
    api.put("storageclasses", class);
    replica.index.remove::<tierce_controller::index::ClassObject>(&metadata);
    let refused = within(replica.create(for_many(request_for(&claim, "ssd")))).await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("tierce-ssd"), "{refused:?}");
    assert!(node.holds().is_empty() && api.all("persistentvolumes").is_empty());
    api.silence("storageclasses", false);
    let id = provisioned_soon(&api, &replica).await;
    let pv = api.get("persistentvolumes", "", &id).unwrap();
    assert_eq!(pv["spec"]["persistentVolumeReclaimPolicy"], json!("Retain"));
}

#[tokio::test]
async fn each_member_has_a_claim_of_its_own_and_a_grant_costs_three_writes() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    let (claim, pv) = pair(&api, &id, "vision").await;
    assert_eq!(claim["spec"]["volumeName"], pv["metadata"]["name"]);
    assert_eq!(
        (&claim["spec"]["storageClassName"], &pv["spec"]["storageClassName"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(pv["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
    assert_eq!(pv["spec"]["persistentVolumeReclaimPolicy"], json!("Retain"));
    assert_eq!(pv["spec"]["csi"]["volumeHandle"], json!(handle(&api, &id, "vision")));
    assert_eq!(pv["spec"]["capacity"]["storage"], json!(GI.to_string()));
    assert_eq!(pv["spec"]["csi"]["readOnly"], Value::Null);
    let home = api.get("persistentvolumes", "", &id).unwrap();
    let gid = |pv: &Value| pv["metadata"]["annotations"][names::ANNOTATION_GID].clone();
    assert!(gid(&pv).is_string() && gid(&pv) == gid(&home));
    until("it says so", || {
        let claims = api.get("sharedvolumes", "ada", NAME)?["status"]["claims"].clone();
        (claims.as_array()?.len() == 2).then_some(())
    })
    .await;

    api.writes();
    shared(&api, &json!([member("vision", "Write"), member("ci", "Read")]));
    let (_, pv) = pair(&api, &id, "ci").await;
    assert_eq!(pv["spec"]["csi"]["readOnly"], json!(true));
    assert_eq!(pv["spec"]["csi"]["volumeAttributes"][names::ATTRIBUTE_READ_ONLY], json!("true"));
    until("it says so", || {
        let claims = api.get("sharedvolumes", "ada", NAME)?["status"]["claims"].clone();
        (claims
            == json!([{"namespace": "ada", "access": "Write"}, {"namespace": "ci", "access": "Read"},
            {"namespace": "vision", "access": "Write"}]))
        .then_some(())
    })
    .await;
    let mut writes = api.writes();
    writes.retain(|write| !write.ends_with("events") && !write.ends_with("status"));
    assert_eq!(writes, ["POST persistentvolumeclaims", "POST persistentvolumes"]);
}

#[tokio::test]
async fn it_is_served_to_the_nodes_of_its_pods_and_to_no_other() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write"), member("ci", "Read")]));
    let id = provisioned(&api, &replica).await;
    pair(&api, &id, "vision").await;
    pair(&api, &id, "ci").await;
    pod(&api, "ada", "here", "n1");
    pod(&api, "ada", "a", "n3");
    pod(&api, "vision", "b", "n2");
    pod(&api, "ci", "c", "n2");
    pod(&api, "ci", "d", "n4");
    pod(&api, "elsewhere", "e", "n5");
    served(&api, &id, &json!(["n2", "n3"]), &json!(["n4"])).await;
    api.remove("pods", "vision", "b");
    served(&api, &id, &json!(["n3"]), &json!(["n2", "n4"])).await;
    for (namespace, name) in [("ada", "a"), ("ci", "c"), ("ci", "d")] {
        api.remove("pods", namespace, name);
    }
    served(&api, &id, &json!([]), &json!([])).await;
    assert!(api.get("nodevolumes", "", &id).unwrap()["spec"]["export"]["gid"].is_i64());
}

/// Nodes of which Kubernetes hears.
fn working(api: &FakeApi, names: &[&str]) {
    for name in names {
        api.put("nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
    }
}

fn nodes(api: &FakeApi, id: &str) -> Value {
    api.get("nodevolumes", "", id).unwrap()["spec"]["export"]["nodes"].clone()
}

#[tokio::test]
async fn a_node_that_works_is_served_for_a_while_after_its_last_pod_and_another_is_not() {
    let api = FakeApi::new();
    let (_node, replica) = cluster_of(&api, LONG).await;
    let started = Instant::now();
    shared(&api, &json!([]));
    let id = provisioned(&api, &replica).await;
    working(&api, &["n2", "n3"]);
    for (name, node) in [("a", "n2"), ("b", "n3"), ("c", "n4")] {
        pod(&api, "ada", name, node);
    }
    served(&api, &id, &json!(["n2", "n3", "n4"]), &json!([])).await;
    // A leader that has just begun knows of no moment.
    api.remove("pods", "ada", "c");
    tokio::time::sleep((LONG * 2 / 3).saturating_sub(started.elapsed())).await;
    assert_eq!(nodes(&api, &id), json!(["n2", "n3", "n4"]));
    served(&api, &id, &json!(["n2", "n3"]), &json!([])).await;

    let ended = Instant::now();
    api.remove("pods", "ada", "a");
    let taint = json!({"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]});
    api.put("nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n3"}, "spec": taint}));
    tokio::time::sleep(LONG / 4).await;
    assert_eq!(nodes(&api, &id), json!(["n2", "n3"]), "its pod may run on");
    api.remove("pods", "ada", "b");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    assert!(ended.elapsed() < LONG * 2 / 3, "it took {:?}", ended.elapsed());
    // A pod that comes back in time finds it as it was.
    pod(&api, "ada", "d", "n2");
    tokio::time::sleep((LONG * 5 / 4).saturating_sub(ended.elapsed())).await;
    assert_eq!(nodes(&api, &id), json!(["n2"]));
    let ended = Instant::now();
    api.remove("pods", "ada", "d");
    served(&api, &id, &json!([]), &json!([])).await;
    assert!(ended.elapsed() > LONG * 2 / 3, "it took {:?}", ended.elapsed());
}

#[tokio::test]
async fn what_was_written_meanwhile_keeps_a_node_from_being_taken_off_and_none_from_being_let_in() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([]));
    let id = provisioned(&api, &replica).await;
    pod(&api, "ada", "a", "n2");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    tokio::time::sleep(GRACE).await;
    api.silence("nodevolumes", true);
    let mut device = api.get("nodevolumes", "", &id).unwrap();
    device["status"]["usedBytes"] = json!(1);
    api.put("nodevolumes", device);
    api.remove("pods", "ada", "a");
    tokio::time::sleep(GRACE).await;
    assert_eq!(nodes(&api, &id), json!(["n2"]));
    pod(&api, "ada", "a", "n2");
    pod(&api, "ada", "b", "n3");
    served(&api, &id, &json!(["n2", "n3"]), &json!([])).await;
    api.remove("pods", "ada", "a");
    api.silence("nodevolumes", false);
    served(&api, &id, &json!(["n3"]), &json!([])).await;
}

#[tokio::test]
async fn a_watch_that_is_late_takes_no_claim_away() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    let (before, _) = pair(&api, &id, "vision").await;
    api.silence("sharedvolumes", true);
    let known = api.get("sharedvolumes", "ada", NAME).unwrap();
    replica
        .index
        .remove::<tierce_crds::SharedVolume>(&serde_json::from_value(known["metadata"].clone()).unwrap());
    pod(&api, "vision", "p", "n2");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    tokio::time::sleep(GRACE).await;
    assert_eq!(api.get("persistentvolumeclaims", "vision", NAME), Some(before));
}

#[tokio::test]
async fn a_claim_of_somebody_else_is_left_and_gives_nobody_access() {
    let (api, _node, replica) = cluster().await;
    let theirs = json!({"metadata": {"name": NAME, "namespace": "vision"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}});
    api.put("persistentvolumeclaims", theirs);
    let before = api.get("persistentvolumeclaims", "vision", NAME);
    shared(&api, &json!([member("vision", "Write"), member("ci", "Write")]));
    let id = provisioned(&api, &replica).await;
    pair(&api, &id, "ci").await;
    let words = until("it says so", || condition(&api, "NameConflict")).await;
    assert!(words.0 == "ClaimExists" && words.1.contains("namespace vision"), "{words:?}");
    pod(&api, "vision", "p", "n2");
    pod(&api, "ci", "q", "n3");
    served(&api, &id, &json!(["n3"]), &json!([])).await;
    assert_eq!(api.get("persistentvolumeclaims", "vision", NAME), before);
    api.remove("pods", "vision", "p");
    api.remove("persistentvolumeclaims", "vision", NAME);
    pair(&api, &id, "vision").await;
    until("it says nothing more of it", || condition(&api, "NameConflict").is_none().then_some(())).await;
}

#[tokio::test]
async fn a_namespace_that_is_taken_out_keeps_the_volume_until_its_last_pod_is_gone() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write"), member("ci", "Read")]));
    let id = provisioned(&api, &replica).await;
    let name = pair(&api, &id, "vision").await.1["metadata"]["name"].as_str().unwrap().to_owned();
    pair(&api, &id, "ci").await;
    pod(&api, "vision", "p", "n2");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    shared(&api, &json!([member("ci", "Read")]));
    gone(&api, "persistentvolumeclaims", "vision", NAME).await;
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumes", "", &name).is_some(), "its pod has it mounted");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    api.remove("pods", "vision", "p");
    gone(&api, "persistentvolumes", "", &name).await;
    served(&api, &id, &json!([]), &json!([])).await;
    assert!(
        api.get("persistentvolumeclaims", "ci", NAME).is_some() && api.get("nodevolumes", "", &id).is_some()
    );
}

#[tokio::test]
async fn whoever_copies_the_label_gets_no_access_and_loses_no_claim_of_theirs() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    let (claim, _) = pair(&api, &id, "vision").await;
    let theirs = json!({"metadata": {"name": NAME, "namespace": "ci", "labels": claim["metadata"]["labels"]},
        "spec": {"volumeName": "pvc-their-own", "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Bound"}});
    api.put("persistentvolumeclaims", theirs);
    pod(&api, "ci", "p", "n4");
    pod(&api, "vision", "q", "n2");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    tokio::time::sleep(GRACE).await;
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    assert!(api.get("persistentvolumeclaims", "ci", NAME).is_some());
}

#[tokio::test]
async fn another_access_makes_the_pair_anew() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    let (old, _) = pair(&api, &id, "vision").await;
    shared(&api, &json!([member("vision", "Read")]));
    let name = handle(&api, &id, "vision");
    until("it reads now", || {
        let pv = api.get("persistentvolumes", "", &name)?;
        let claim = api.get("persistentvolumeclaims", "vision", NAME)?;
        let reads = pv["spec"]["csi"]["readOnly"] == json!(true);
        (reads && claim["metadata"]["uid"] != old["metadata"]["uid"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_access_keeps_no_pod_from_starting() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Read")]));
    let id = provisioned(&api, &replica).await;
    let (before, _) = pair(&api, &id, "vision").await;
    pod(&api, "vision", "p", "n2");
    served(&api, &id, &json!([]), &json!(["n2"])).await;
    shared(&api, &json!([member("vision", "Write")]));
    let words = until("it says so", || condition(&api, "Shared")).await;
    assert!(words.0 == "AccessWaits" && words.1.contains("vision") && words.1.contains(": p"), "{words:?}");
    tokio::time::sleep(GRACE).await;
    assert_eq!(api.get("persistentvolumeclaims", "vision", NAME), Some(before.clone()));
    // The same with less, and back.
    shared(&api, &json!([member("vision", "Read")]));
    until("it says nothing more of it", || condition(&api, "Shared").is_none().then_some(())).await;
    shared(&api, &json!([member("vision", "Write")]));
    until("it says so", || condition(&api, "Shared")).await;
    api.remove("pods", "vision", "p");
    until("it writes now", || {
        let claim = api.get("persistentvolumeclaims", "vision", NAME)?;
        let pv = api.get("persistentvolumes", "", &handle(&api, &id, "vision"))?;
        let writes = pv["spec"]["csi"]["readOnly"].is_null();
        (writes && claim["metadata"]["uid"] != before["metadata"]["uid"]).then_some(())
    })
    .await;
    until("it says nothing more of it", || condition(&api, "Shared").is_none().then_some(())).await;
}

#[tokio::test]
async fn a_member_that_can_have_no_claim_is_named_and_left_alone_for_a_while() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    pair(&api, &id, "vision").await;
    api.forbid(Some((Method::POST, "persistentvolumeclaims", 403)));
    shared(&api, &json!([member("vision", "Write"), member("ci", "Read"), member("misspelt", "Read")]));
    let words = until("it says so", || {
        condition(&api, "Shared").filter(|(_, words)| words.contains("misspelt") && words.contains("ci"))
    })
    .await;
    assert!(
        words.0 == "ClaimRefused"
            && words.1.contains("namespace ci: exceeded quota")
            && words.1.contains("namespace misspelt: there is no such namespace"),
        "{words:?}"
    );
    tokio::time::sleep(GRACE).await;
    let _ = (api.read("namespaces"), api.writes());
    for n in 0..50 {
        pod(&api, "vision", &format!("p{n}"), "n2");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(GRACE).await;
    let claims = api.writes().into_iter().filter(|write| write == "POST persistentvolumeclaims").count();
    assert_eq!((api.read("namespaces"), claims), (0, 0));
    // Another spec is another try.
    api.forbid(None);
    shared(&api, &json!([member("vision", "Write"), member("ci", "Write")]));
    pair(&api, &id, "ci").await;
    until("it says nothing more of it", || condition(&api, "Shared").is_none().then_some(())).await;
}

#[tokio::test]
async fn it_is_deleted_when_no_pod_of_any_namespace_uses_it_and_leaves_nothing() {
    let (api, node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    pair(&api, &id, "vision").await;
    pod(&api, "vision", "p", "n2");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    let mut leaving = api.get("sharedvolumes", "ada", NAME).unwrap();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    api.put("sharedvolumes", leaving);
    let message = says(&api, "InUse").await;
    assert!(message.contains("vision/p"), "{message}");
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumeclaims", "ada", NAME).is_some(), "nothing of the data goes before");
    api.remove("pods", "vision", "p");
    gone(&api, "persistentvolumeclaims", "ada", NAME).await;
    assert_eq!(api.all("persistentvolumes").len(), 1, "those of other namespaces go first");
    within(replica.delete(&id)).await.unwrap();
    api.remove("persistentvolumes", "", &id);
    gone(&api, "sharedvolumes", "ada", NAME).await;
    assert!(node.holds().is_empty() && api.all("persistentvolumeclaims").is_empty());
}

/// A pod of another namespace has it, on another node.
async fn used_elsewhere(api: &FakeApi, replica: &Replica) -> String {
    shared(api, &json!([member("vision", "Write")]));
    let id = provisioned(api, replica).await;
    pair(api, &id, "vision").await;
    pod(api, "vision", "p", "n2");
    served(api, &id, &json!(["n2"]), &json!([])).await;
    id
}

#[tokio::test]
async fn the_data_stays_under_pods_of_other_namespaces_whatever_becomes_of_the_claim() {
    let (api, node, replica) = cluster().await;
    let id = used_elsewhere(&api, &replica).await;
    api.delete_object("persistentvolumeclaims", "ada", NAME);
    let message = says(&api, "ClaimLost").await;
    assert!(message.contains("It stays") && message.contains("SharedVolume"), "{message}");
    assert!(api.get("persistentvolumeclaims", "ada", NAME).is_some());

    // By force.
    api.remove("persistentvolumeclaims", "ada", NAME);
    let refused = within(replica.delete(&id)).await.unwrap_err();
    assert!(
        refused.code() == Code::FailedPrecondition && refused.message().contains("namespace vision"),
        "{refused:?}"
    );
    // Nor where no watch has told of who else has it.
    let late = Replica::serving(&api).await;
    api.silence("persistentvolumes", true);
    let name = handle(&api, &id, "vision");
    let pv = api.get("persistentvolumes", "", &name).unwrap();
    late.index.remove::<tierce_controller::index::PersistentVolumeObject>(
        &serde_json::from_value(pv["metadata"].clone()).unwrap(),
    );
    let refused = within(late.delete(&id)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(api.get("nodevolumes", "", &id).unwrap()["metadata"]["deletionTimestamp"].is_null());
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    assert_eq!(node.holds(), [id]);
}

#[tokio::test]
async fn a_namespace_that_ends_keeps_the_data_of_its_shared_volumes_until_no_other_uses_them() {
    let (api, node, replica) = cluster().await;
    let id = used_elsewhere(&api, &replica).await;
    api.end_namespace("ada");
    api.delete_object("persistentvolumeclaims", "ada", NAME);
    api.delete_object("sharedvolumes", "ada", NAME);
    let message = says(&api, "InUse").await;
    assert!(message.contains("vision/p"), "{message}");
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumeclaims", "ada", NAME).is_some());
    api.remove("pods", "vision", "p");
    gone(&api, "persistentvolumeclaims", "ada", NAME).await;
    assert_eq!(api.all("persistentvolumes").len(), 1, "those of other namespaces go first");
    within(replica.delete(&id)).await.unwrap();
    api.remove("persistentvolumes", "", &id);
    gone(&api, "sharedvolumes", "ada", NAME).await;
    assert!(node.holds().is_empty());
}

#[tokio::test]
async fn the_claim_of_one_that_was_taken_away_by_force_goes_when_nobody_shares_it() {
    let (api, _node, replica) = cluster().await;
    let id = used_elsewhere(&api, &replica).await;
    api.remove("sharedvolumes", "ada", NAME);
    // What owned it is gone.
    api.delete_object("persistentvolumeclaims", "ada", NAME);
    gone(&api, "persistentvolumeclaims", "vision", NAME).await;
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumeclaims", "ada", NAME).is_some(), "its data is in use");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    api.remove("pods", "vision", "p");
    gone(&api, "persistentvolumeclaims", "ada", NAME).await;
    served(&api, &id, &json!([]), &json!([])).await;
}

#[tokio::test]
async fn a_claim_that_was_orphaned_goes_when_somebody_deletes_it() {
    for on_a_disk in [true, false] {
        let (api, _node, replica) = cluster().await;
        shared(&api, &json!([]));
        let id = provisioned(&api, &replica).await;
        let mut claim = api.get("persistentvolumeclaims", "ada", NAME).unwrap();
        claim["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        api.put("persistentvolumeclaims", claim);
        api.remove("sharedvolumes", "ada", NAME);
        pod(&api, "ada", "p", "n2");
        served(&api, &id, &json!(["n2"]), &json!([])).await;
        api.remove("pods", "ada", "p");
        served(&api, &id, &json!([]), &json!([])).await;
        if !on_a_disk {
            api.remove("nodevolumes", "", &id);
        }
        tokio::time::sleep(GRACE).await;
        assert!(api.get("persistentvolumeclaims", "ada", NAME).is_some());
        api.delete_object("persistentvolumeclaims", "ada", NAME);
        gone(&api, "persistentvolumeclaims", "ada", NAME).await;
    }
}

#[tokio::test]
async fn a_claim_that_has_no_data_yet_is_made_anew() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", NAME)).await;
    api.delete_object("persistentvolumeclaims", "ada", NAME);
    until("another one", || {
        let now = api.get("persistentvolumeclaims", "ada", NAME)?;
        (now["metadata"]["uid"] != claim["metadata"]["uid"]).then_some(())
    })
    .await;
    let id = provisioned(&api, &replica).await;
    pair(&api, &id, "vision").await;
}

#[tokio::test]
async fn one_that_somebody_deletes_on_its_node_goes_when_its_last_pod_has() {
    let (api, mut node, replica) = cluster().await;
    let id = used_elsewhere(&api, &replica).await;
    node.stop_plugin();
    api.delete_object("nodevolumes", "", &id);
    tokio::time::sleep(GRACE).await;
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    api.remove("pods", "vision", "p");
    served(&api, &id, &json!([]), &json!([])).await;
}

#[tokio::test]
async fn what_one_left_that_was_taken_away_by_force_goes_and_its_data_stays() {
    let (api, node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    let name = pair(&api, &id, "vision").await.1["metadata"]["name"].as_str().unwrap().to_owned();
    api.remove("sharedvolumes", "ada", NAME);
    gone(&api, "persistentvolumes", "", &name).await;
    gone(&api, "persistentvolumeclaims", "vision", NAME).await;
    tokio::time::sleep(GRACE * 2).await;
    assert!(node.holds() == [id.clone()] && api.get("persistentvolumes", "", &id).is_some());
}

#[tokio::test]
async fn a_claim_whose_persistent_volume_was_never_made_goes_with_its_shared_volume() {
    for by_force in [false, true] {
        let (api, node, mut replica) = cluster().await;
        shared(&api, &json!([]));
        let id = provisioned(&api, &replica).await;
        api.forbid(Some((Method::POST, "persistentvolumes", 403)));
        shared(&api, &json!([member("vision", "Write")]));
        until("its claim", || api.get("persistentvolumeclaims", "vision", NAME)).await;
        tokio::time::sleep(GRACE).await;
        if by_force {
            // Nothing else is left of it when the next leader comes.
            drop(replica);
            api.remove("sharedvolumes", "ada", NAME);
            api.remove("persistentvolumeclaims", "ada", NAME);
            api.remove("nodevolumes", "", &id);
            replica = Replica::reconciling(&api, GRACE).await;
        } else {
            api.delete_object("sharedvolumes", "ada", NAME);
        }
        gone(&api, "persistentvolumeclaims", "vision", NAME).await;
        assert!(api.get("persistentvolumes", "", &id).is_some());
        drop((node, replica));
    }
}

/// Another finalizer keeps the object.
fn held(api: &FakeApi, plural: &str, namespace: &str, name: &str, finalizer: &str) {
    let mut object = api.get(plural, namespace, name).unwrap();
    object["metadata"]["finalizers"] = json!([finalizer]);
    api.put(plural, object);
}

#[tokio::test]
async fn a_member_that_keeps_its_claim_keeps_nobody_elses_volume() {
    let (api, node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    let name = pair(&api, &id, "vision").await.1["metadata"]["name"].as_str().unwrap().to_owned();
    held(&api, "persistentvolumeclaims", "vision", NAME, "theirs.example.org/kept");
    held(&api, "persistentvolumes", "", &name, "kubernetes.io/pv-protection");
    api.delete_object("sharedvolumes", "ada", NAME);
    gone(&api, "persistentvolumeclaims", "ada", NAME).await;
    within(replica.delete(&id)).await.unwrap();
    api.remove("persistentvolumes", "", &id);
    gone(&api, "sharedvolumes", "ada", NAME).await;
    assert!(node.holds().is_empty());
    let left = api.get("persistentvolumeclaims", "vision", NAME).unwrap();
    assert!(left["metadata"]["deletionTimestamp"].is_string(), "it is theirs to let go");
}

#[tokio::test]
async fn a_claim_that_kubernetes_keeps_for_a_pod_keeps_the_volume() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    pair(&api, &id, "vision").await;
    // No watch has told of its pod.
    held(&api, "persistentvolumeclaims", "vision", NAME, "kubernetes.io/pvc-protection");
    api.delete_object("sharedvolumes", "ada", NAME);
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumeclaims", "ada", NAME).is_some());
    let refused = within(replica.delete(&id)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    api.remove("persistentvolumeclaims", "vision", NAME);
    gone(&api, "persistentvolumeclaims", "ada", NAME).await;
}

#[tokio::test]
async fn a_pod_that_can_never_begin_uses_nothing() {
    let (api, _node, replica) = cluster().await;
    shared(&api, &json!([member("vision", "Write")]));
    let id = provisioned(&api, &replica).await;
    let name = pair(&api, &id, "vision").await.1["metadata"]["name"].as_str().unwrap().to_owned();
    pod(&api, "vision", "p", "n2");
    served(&api, &id, &json!(["n2"]), &json!([])).await;
    shared(&api, &json!([]));
    gone(&api, "persistentvolumeclaims", "vision", NAME).await;
    let mut late = (*api.see("pods", "vision", "p").unwrap()).clone();
    late["metadata"] = json!({"name": "late", "namespace": "vision"});
    late["spec"]["nodeName"] = json!("n9");
    late["status"] = json!({"phase": "Pending"});
    api.put("pods", late);
    tokio::time::sleep(GRACE).await;
    assert_eq!(nodes(&api, &id), json!(["n2"]));
    api.delete_object("sharedvolumes", "ada", NAME);
    let message = says(&api, "InUse").await;
    assert!(message.contains("vision/p") && !message.contains("late"), "{message}");
    api.remove("pods", "vision", "p");
    gone(&api, "persistentvolumes", "", &name).await;
    gone(&api, "persistentvolumeclaims", "ada", NAME).await;
}

#[tokio::test]
async fn a_tier_that_encrypts_by_default_is_refused_unless_its_absence_is_asked_for() {
    let (api, _node, _replica) = cluster().await;
    let mut pool = api.get("storagepools", "", "ssd").unwrap();
    pool["spec"]["encryptByDefault"] = json!(true);
    api.put("storagepools", pool);
    shared(&api, &json!([]));
    let message = says(&api, "EncryptionNotSupported").await;
    assert!(message.contains("enabled: false"), "{message}");
    assert!(api.get("persistentvolumeclaims", "ada", NAME).is_none());
}
