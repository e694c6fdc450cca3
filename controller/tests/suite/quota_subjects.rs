//! What counts for a namespace: shared volumes, what older versions made, snapshots.

use crate::quotas::{grow, in_flight, knows, ledger, make, promised, quota, used};
use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::snapshots::take;
use crate::support::{GI, Replica, bind, claim, provision, request_for, tier, until, within};
use serde_json::{Value, json};
use std::time::Duration;
use tierce_crds::names;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tonic::{Code, Status};

async fn cluster() -> (FakeApi, FakeNode, Replica) {
    let api = FakeApi::new();
    tier(&api, "ssd");
    for name in ["ada", "vision"] {
        api.put("namespaces", json!({"metadata": {"name": name}}));
    }
    let node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let replica = Replica::reconciling(&api, Duration::from_mins(5)).await;
    (api, node, replica)
}

/// A SharedVolume of `ada` that `vision` reads; with the next generation where there is one of this name.
fn shared(api: &FakeApi, name: &str, size: &str) {
    let spec = json!({"size": size, "tier": "ssd", "binding": "Immediate",
        "members": [{"kind": "Namespace", "name": "vision", "access": "Read"}]});
    let mut object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "SharedVolume",
        "metadata": {"name": name, "namespace": "ada", "generation": 1}, "spec": spec});
    if let Some(known) = api.get("sharedvolumes", "ada", name) {
        object["metadata"] = known["metadata"].clone();
        object["metadata"]["generation"] = json!(known["metadata"]["generation"].as_i64().unwrap() + 1);
        object["status"] = known["status"].clone();
    }
    api.put("sharedvolumes", object);
}

/// Waits until the SharedVolume's Ready condition has this reason; its message.
async fn says(api: &FakeApi, name: &str, reason: &str) -> String {
    until(&format!("SharedVolume {name} says {reason}"), || {
        let shared = api.get("sharedvolumes", "ada", name)?;
        let conditions = shared["status"]["conditions"].as_array()?.clone();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready")?;
        (ready["reason"] == reason).then(|| ready["message"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

/// Provisions the claim of a SharedVolume and binds it; the id of its volume.
async fn provisioned(api: &FakeApi, replica: &Replica, name: &str) -> Result<String, Status> {
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", name)).await;
    let mut request = request_for(&claim, "ssd");
    request.volume_capabilities[0].access_mode.as_mut().unwrap().mode = Mode::MultiNodeMultiWriter.into();
    let id = within(replica.create(request)).await?.volume.unwrap().volume_id;
    let mut bound = api.get("persistentvolumeclaims", "ada", name).unwrap();
    bound["spec"]["volumeName"] = json!(id);
    bound["status"]["phase"] = json!("Bound");
    api.put("persistentvolumeclaims", bound);
    Ok(id)
}

fn requested(api: &FakeApi, name: &str) -> String {
    let claim = api.get("persistentvolumeclaims", "ada", name).unwrap();
    claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_shared_volume_counts_once_for_its_own_namespace_and_goes_on_when_there_is_room() {
    let (api, _node, replica) = cluster().await;
    quota(&api, "q", &json!({"hard": "3Gi"}));
    quota(&api, "none", &json!({"subject": {"kind": "Namespace", "name": "vision"}, "hard": "0"}));
    knows(&replica, 2).await;
    shared(&api, "team", "2Gi");
    let id = provisioned(&api, &replica, "team").await.unwrap();
    says(&api, "team", "Provisioned").await;
    // The claim of the member asks for 1Mi of nothing: it is a door to what is there.
    until("the claim of vision", || api.get("persistentvolumeclaims", "vision", "team")).await;
    used(&api, "q", "2Gi").await;
    used(&api, "none", "0").await;
    let plain = claim(&api, "plain", "1Gi");
    let of_plain = provision(&replica, &plain, "ssd").await.unwrap();

    shared(&api, "more", "1Gi");
    let words = "StorageQuota q: namespace ada has 3Gi of 3Gi; 1Gi more asked: delete volumes, ask for less, or have the quota raised";
    assert_eq!(says(&api, "more", "QuotaExceeded").await, words);
    let refused = provisioned(&api, &replica, "more").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, words));
    shared(&api, "team", "3Gi");
    let message = says(&api, "team", "QuotaExceeded").await;
    assert_eq!(message, format!("{words}. It works with its 2Gi until then"));
    let refused = within(grow(&replica, &id, 3 * GI)).await.unwrap_err();
    assert_eq!((refused.code(), requested(&api, "team").as_str()), (Code::FailedPrecondition, "2Gi"));
    assert_eq!(promised(&api), 3 * GI);

    // Room for one of the two: the plain volume goes.
    within(replica.delete(&of_plain)).await.unwrap();
    until("the claim asks for more", || (requested(&api, "team") == "3Gi").then_some(())).await;
    until("the provisioner is told", || {
        let claim = api.get("persistentvolumeclaims", "ada", "more").unwrap();
        claim["metadata"]["annotations"][names::ANNOTATION_QUOTA_ROOM].is_string().then_some(())
    })
    .await;
    provisioned(&api, &replica, "more").await.unwrap();
    assert_eq!(within(grow(&replica, &id, 3 * GI)).await.unwrap_err().code(), Code::FailedPrecondition);
    says(&api, "more", "Provisioned").await;
    says(&api, "team", "QuotaExceeded").await;
    quota(&api, "q", &json!({"hard": "4Gi"}));
    says(&api, "team", "Growing").await;
    within(grow(&replica, &id, 3 * GI)).await.unwrap();
    says(&api, "team", "Provisioned").await;
    assert_eq!(promised(&api), 4 * GI);
}

/// A NodeVolume as a controller writes it that knows nothing of quotas; carried out by the node.
async fn made_by_an_older_one(api: &FakeApi, name: &str, of: (&str, Value)) {
    let mut object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
        "metadata": {"name": name, "finalizers": [names::FINALIZER_ON_NODE]},
        "spec": {"nodeName": "n1", "pool": "ssd", "sizeBytes": GI, "filesystem": "ext4"}});
    object["spec"][of.0] = of.1;
    api.put("nodevolumes", object);
    until("it is there", || {
        api.get("nodevolumes", "", name)?["status"]["capacityBytes"].is_i64().then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_an_older_controller_made_counts_and_a_ledger_that_is_lost_is_made_anew() {
    let (api, _node, replica) = cluster().await;
    let newcomer = Replica::serving(&api).await;
    quota(&api, "q", &json!({"soft": "3Gi", "hard": "4Gi"}));
    for replica in [&replica, &newcomer] {
        knows(replica, 1).await;
    }
    let reference = |name: &str| json!({"namespace": "ada", "name": name, "uid": format!("uid-{name}")});
    made_by_an_older_one(&api, "pvc-old-1", ("claim", reference("one"))).await;
    let of_volume = json!({"kind": "Volume", "namespace": "ada", "name": "two", "uid": "uid-of-the-volume"});
    made_by_an_older_one(&api, "pvc-old-2", ("volumeRef", of_volume)).await;
    used(&api, "q", "2Gi").await;
    let id = provision(&replica, &claim(&api, "three", "1Gi"), "ssd").await.unwrap();
    // While the new version rolls out, the older controller still makes some.
    made_by_an_older_one(&api, "pvc-old-3", ("claim", reference("four"))).await;
    used(&api, "q", "4Gi").await;
    let since =
        until("its grace", || ledger(&api)?["spec"]["over"][0]["bytes"].as_str().map(str::to_owned)).await;
    assert!(!since.is_empty());

    api.remove("storageledgers", "", "namespace-ada");
    let refused = within(make(&newcomer, &claim(&api, "five", "1Gi"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let words = "StorageQuota q: namespace ada has 4Gi of 4Gi; 1Gi more asked";
    assert!(refused.message().starts_with(words), "{refused}");
    until("the ledger is there again, with a grace", || {
        ledger(&api)?["spec"]["over"][0]["bytes"].is_string().then_some(())
    })
    .await;
    within(replica.delete(&id)).await.unwrap();
    until("both know", || {
        [&replica, &newcomer].iter().all(|r| r.index.read(|state| !state.devices.exists(&id))).then_some(())
    })
    .await;
    within(make(&newcomer, &claim(&api, "five", "1Gi"))).await.unwrap();
    assert_eq!((promised(&api), in_flight(&api) <= 1), (4 * GI, true));
}

#[tokio::test]
async fn snapshots_leave_less_for_volumes_where_they_count_and_are_taken_all_the_same() {
    let (api, _node, replica) = cluster().await;
    quota(&api, "q", &json!({"hard": "3Gi", "countSnapshots": true}));
    knows(&replica, 1).await;
    let claim_of_data = claim(&api, "data", "1Gi");
    let id = provision(&replica, &claim_of_data, "ssd").await.unwrap();
    bind(&api, &claim_of_data, &id);
    for name in ["snapshot-1", "snapshot-2", "snapshot-3"] {
        take(&replica, name, &id, Some(("ada", name))).await.unwrap();
    }
    used(&api, "q", "4Gi").await;
    let refused = within(make(&replica, &claim(&api, "more", "1Gi"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("has 4Gi of 3Gi; 1Gi more asked"), "{refused}");
    quota(&api, "q", &json!({"hard": "3Gi"}));
    used(&api, "q", "1Gi").await;
    within(make(&replica, &claim(&api, "more", "1Gi"))).await.unwrap();
}
