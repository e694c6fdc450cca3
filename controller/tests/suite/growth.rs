//! Growths that are taken back.

use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::{GI, Replica, in_time, provision, says, tier, until, volume, within};
use serde_json::json;
use std::time::Duration;
use tierce_crds::names;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::{CapacityRange, ControllerExpandVolumeRequest};
use tonic::{Code, Status};

const MI: i64 = 1 << 20;

async fn cluster(capacity: i64) -> (FakeApi, FakeNode, Replica) {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let node = FakeNode::start(&api, "n1", "ssd", capacity);
    let replica = Replica::reconciling(&api, Duration::from_millis(300)).await;
    (api, node, replica)
}

async fn expand(replica: &Replica, id: &str, bytes: i64) -> Result<i64, Status> {
    let request = ControllerExpandVolumeRequest {
        volume_id: id.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..ControllerExpandVolumeRequest::default()
    };
    let call = replica.service.controller_expand_volume(in_time(request, "5S"));
    within(call).await.map(|answer| answer.into_inner().capacity_bytes)
}

fn resize(api: &FakeApi, name: &str, size: &str) {
    let mut volume = api.get("volumes", "ada", name).unwrap();
    volume["spec"]["size"] = json!(size);
    volume["metadata"]["generation"] = json!(volume["metadata"]["generation"].as_i64().unwrap() + 1);
    api.put("volumes", volume);
}

fn request(api: &FakeApi, name: &str) -> String {
    let claim = api.get("persistentvolumeclaims", "ada", name).unwrap_or_default();
    claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or_default().to_owned()
}

async fn requests(api: &FakeApi, name: &str, size: &str) {
    until(&format!("the claim of {name} asks for {size}"), || (request(api, name) == size).then_some(()))
        .await;
}

/// What Kubernetes writes of a claim that has its volume.
fn has(api: &FakeApi, name: &str, size: &str) {
    let mut claim = api.get("persistentvolumeclaims", "ada", name).unwrap();
    claim["status"]["capacity"] = json!({"storage": size});
    api.put("persistentvolumeclaims", claim);
}

async fn bound(api: &FakeApi, replica: &Replica, name: &str, size: &str) -> String {
    volume(api, name, &json!({"size": size, "tier": "ssd", "binding": "Immediate"}));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", name)).await;
    let id = provision(replica, &claim, "ssd").await.unwrap();
    says(api, name, "Provisioned").await;
    has(api, name, size);
    id
}

#[tokio::test]
async fn a_growth_that_has_no_room_is_taken_back() {
    let (api, _node, replica) = cluster(10 * GI).await;
    let id = bound(&api, &replica, "data", "1Gi").await;
    resize(&api, "data", "900Ti");
    requests(&api, "data", "900Ti").await;
    let refused = expand(&replica, &id, 900 << 40).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal, "a final word, after which the resizer takes a smaller size");
    says(&api, "data", "OutOfSpace").await;
    resize(&api, "data", "2Gi");
    requests(&api, "data", "2Gi").await;
    assert_eq!(expand(&replica, &id, 2 * GI).await.unwrap(), 2 * GI);
    has(&api, "data", "2Gi");
    let (_, message) = says(&api, "data", "Provisioned").await;
    assert!(message.starts_with("2Gi on node n1"), "{message}");

    // To just what it has: the API server wants a step more.
    resize(&api, "data", "900Ti");
    requests(&api, "data", "900Ti").await;
    resize(&api, "data", "2Gi");
    requests(&api, "data", "2049Mi").await;
    assert_eq!(expand(&replica, &id, 2049 * MI).await.unwrap(), 2049 * MI);
    has(&api, "data", "2049Mi");
    says(&api, "data", "Provisioned").await;
    assert_eq!(request(&api, "data"), "2049Mi");
}

#[tokio::test]
async fn a_growth_that_the_node_has_not_carried_out_is_taken_back_there_too() {
    let (api, node, replica) = cluster(10 * GI).await;
    let id = bound(&api, &replica, "data", "1Gi").await;
    // Somebody fills the disk, and its node has not said so yet.
    node.disk.lock().unwrap().capacity = 3 * GI;
    expand(&replica, &id, 8 * GI).await.unwrap_err();
    let on_node = || api.get("nodevolumes", "", &id).unwrap()["spec"]["sizeBytes"].clone();
    assert_eq!(on_node(), json!(8 * GI));
    assert_eq!(expand(&replica, &id, 2 * GI).await.unwrap(), 2 * GI);
    assert_eq!(on_node(), json!(2 * GI), "the node would go on with it when room comes");
}

#[tokio::test]
async fn what_another_program_asks_for_on_the_claim_is_left() {
    let (api, _node, replica) = cluster(10 * GI).await;
    bound(&api, &replica, "data", "1Gi").await;
    resize(&api, "data", "2Gi");
    requests(&api, "data", "2Gi").await;
    let mut claim = api.get("persistentvolumeclaims", "ada", "data").unwrap();
    assert_eq!(claim["metadata"]["annotations"][names::ANNOTATION_RAISED_TO], json!("2Gi"));
    claim["spec"]["resources"]["requests"]["storage"] = json!("4Gi");
    api.put("persistentvolumeclaims", claim);
    resize(&api, "data", "1Gi");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(request(&api, "data"), "4Gi");
}

#[tokio::test]
async fn a_volume_that_was_never_made_is_made_with_the_size_it_has_then() {
    let (api, _node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "900Ti", "tier": "ssd"}));
    requests(&api, "data", "900Ti").await;
    resize(&api, "data", "1Gi");
    requests(&api, "data", "1Gi").await;
    says(&api, "data", "WaitingForFirstUse").await;
    let claim = api.get("persistentvolumeclaims", "ada", "data").unwrap();
    provision(&replica, &claim, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
}

#[tokio::test]
async fn a_claim_that_an_admission_webhook_makes_larger_is_made_once() {
    let (api, _node, replica) = cluster(20 * GI).await;
    api.enlarge_claims_to("10Gi");
    volume(&api, "data", &json!({"size": "5Gi", "tier": "ssd"}));
    requests(&api, "data", "10Gi").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let writes = api.writes();
    let count = |write: &str| writes.iter().filter(|other| *other == write).count();
    let claims = (count("POST persistentvolumeclaims"), count("DELETE persistentvolumeclaims"));
    assert_eq!(claims, (1, 0), "{writes:?}");
    let claim = api.get("persistentvolumeclaims", "ada", "data").unwrap();
    provision(&replica, &claim, "ssd").await.unwrap();
    let (_, message) = says(&api, "data", "Provisioned").await;
    assert!(message.starts_with("10Gi on node n1"), "{message}");
}
