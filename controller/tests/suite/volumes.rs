//! The life of Volumes: reconcilers and the CSI service against an API server in memory and simulated nodes.

use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::{GI, Replica, claim, provision, ready, says, tier, until, volume, within};
use serde_json::{Value, json};
use std::time::Duration;
use tierce_crds::names;

const GRACE: Duration = Duration::from_millis(300);

/// A cluster with one node and a tier `ssd`, and a replica that does everything.
async fn cluster(capacity: i64) -> (FakeApi, FakeNode, Replica) {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let node = FakeNode::start(&api, "n1", "ssd", capacity);
    let replica = Replica::reconciling(&api, GRACE).await;
    (api, node, replica)
}

async fn claim_of(api: &FakeApi, name: &str) -> Value {
    until("its claim", || api.get("persistentvolumeclaims", "ada", name)).await
}

async fn gone(api: &FakeApi, plural: &str, namespace: &str, name: &str) {
    until(&format!("{plural} {name} goes"), || api.get(plural, namespace, name).is_none().then_some(()))
        .await;
}

/// What Kubernetes does when a claim is gone: its PersistentVolume goes or is released, and with it the NodeVolume.
async fn release(replica: &Replica, id: &str) {
    let pv = replica.api.get("persistentvolumes", "", id).unwrap();
    if pv["spec"]["persistentVolumeReclaimPolicy"] == "Delete" {
        within(replica.delete(id)).await.unwrap();
        replica.api.remove("persistentvolumes", "", id);
    }
}

fn delete(api: &FakeApi, name: &str) {
    let mut volume = api.get("volumes", "ada", name).unwrap();
    volume["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    api.put("volumes", volume);
}

fn pod(api: &FakeApi, name: &str, claim: &str) {
    api.put(
        "pods",
        json!({"metadata": {"name": name, "namespace": "ada"}, "spec": {"nodeName": "n1",
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}}),
    );
}

#[tokio::test]
async fn a_volume_becomes_a_claim_is_provisioned_and_deleted() {
    let (api, node, replica) = cluster(10 * GI).await;
    api.writes();
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "accessMode": "ReadWriteOncePod"}));
    let (status, message) = says(&api, "data", "WaitingForFirstUse").await;
    assert_eq!(status, "True", "a pod can use it, so nothing that waits for Ready hangs");
    assert!(message.contains("the node of the first pod"), "{message}");
    let claim = claim_of(&api, "data").await;
    assert_eq!(claim["spec"]["storageClassName"], json!("tierce-ssd"));
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
    assert_eq!(claim["metadata"]["ownerReferences"][0]["controller"], json!(true));
    let id = provision(&replica, &claim, "ssd").await.unwrap();
    let (status, message) = says(&api, "data", "Provisioned").await;
    assert_eq!((status.as_str(), message.as_str()), ("True", "1Gi on node n1, pool ssd"));
    let status = api.get("volumes", "ada", "data").unwrap()["status"].clone();
    for (field, value) in
        [("phase", "Ready"), ("capacity", "1Gi"), ("node", "n1"), ("claimName", "data"), ("volumeName", &id)]
    {
        assert_eq!(status[field], json!(value), "{field}");
    }
    let mut writes = api.writes();
    writes.retain(|write| !write.ends_with("events"));
    assert_eq!(
        writes,
        [
            "PATCH volumes",
            "POST persistentvolumeclaims",
            "PATCH volumes/status",
            "POST nodevolumes",
            "PATCH nodevolumes/status",
            "PATCH volumes/status"
        ],
        "two for the volume on its node, and four for the Volume and its claim"
    );

    delete(&api, "data");
    gone(&api, "persistentvolumeclaims", "ada", "data").await;
    assert!(api.get("volumes", "ada", "data").is_some(), "deleted means that the data is gone");
    release(&replica, &id).await;
    gone(&api, "volumes", "ada", "data").await;
    assert!(node.holds().is_empty());
    let mut writes = api.writes();
    writes.retain(|write| !write.ends_with("events"));
    assert_eq!(
        writes,
        ["DELETE persistentvolumeclaims", "DELETE nodevolumes", "PATCH nodevolumes", "PATCH volumes"]
    );
}

#[tokio::test]
async fn a_volume_that_brings_its_finalizer_costs_four_writes() {
    let (api, _node, replica) = cluster(10 * GI).await;
    api.writes();
    let spec = json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"});
    let metadata =
        json!({"name": "data", "namespace": "ada", "generation": 1, "finalizers": [names::FINALIZER_VOLUME]});
    let kind = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "metadata": metadata, "spec": spec});
    // As the chart's admission policy lets it through.
    api.put("volumes", kind);
    provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    let mut writes = api.writes();
    writes.retain(|write| !write.ends_with("events"));
    assert_eq!(
        writes,
        [
            "POST persistentvolumeclaims",
            "POST nodevolumes",
            "PATCH nodevolumes/status",
            "PATCH volumes/status"
        ]
    );
}

#[tokio::test]
async fn a_claim_that_the_watch_does_not_show_yet_is_not_made_again() {
    let (api, _node, replica) = cluster(10 * GI).await;
    api.silence("persistentvolumeclaims", true);
    api.writes();
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd"}));
    says(&api, "data", "WaitingForFirstUse").await;
    let mut changed = api.get("volumes", "ada", "data").unwrap();
    changed["metadata"]["labels"] = json!({"looked": "at again"});
    api.put("volumes", changed);
    tokio::time::sleep(GRACE).await;
    let writes = api.writes();
    assert_eq!(
        writes.iter().filter(|write| *write == "POST persistentvolumeclaims").count(),
        1,
        "{writes:?}"
    );
    api.silence("persistentvolumeclaims", false);
    provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
}

#[tokio::test]
async fn an_unknown_tier_is_told_with_those_that_exist_and_heals() {
    let (api, _node, _replica) = cluster(10 * GI).await;
    tier(&api, "hdd");
    volume(&api, "data", &json!({"size": "1Gi", "tier": "nvme"}));
    let (status, message) = says(&api, "data", "NoSuchTier").await;
    assert_eq!(
        (status.as_str(), message.as_str()),
        ("False", r#"no tier is named "nvme": the tiers are hdd, ssd"#)
    );
    assert!(api.all("persistentvolumeclaims").is_empty());
    tier(&api, "nvme");
    let (_, message) = says(&api, "data", "NoPool").await;
    assert!(message.ends_with("the tiers are hdd, nvme, ssd"), "{message}");
    let _faster = FakeNode::start(&api, "n2", "nvme", 10 * GI);
    says(&api, "data", "WaitingForFirstUse").await;
    claim_of(&api, "data").await;
}

#[tokio::test]
async fn no_space_is_told_with_the_largest_size_and_heals_when_space_comes() {
    let (api, node, _replica) = cluster(3 * GI).await;
    volume(&api, "data", &json!({"size": "5Gi", "tier": "ssd", "binding": "Immediate"}));
    let (status, message) = says(&api, "data", "OutOfSpace").await;
    assert_eq!(status, "False");
    assert_eq!(
        message,
        r#"no pool of tier "ssd" on any node has room for 5Gi: the largest volume that would fit is 3Gi"#
    );
    node.resize(8 * GI);
    says(&api, "data", "Provisioning").await;
    assert_eq!(claim_of(&api, "data").await["spec"]["storageClassName"], json!("tierce-ssd-immediate"));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_swings_costs_each_volume_that_waits_one_write_a_minute_and_no_events() {
    let (api, node, _replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "5Gi", "tier": "ssd"}));
    says(&api, "data", "WaitingForFirstUse").await;
    claim_of(&api, "data").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    api.writes();
    let events = api.all("events").len();
    for swing in 0..20 {
        node.resize(if swing % 2 == 0 { 3 * GI } else { 10 * GI });
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let written =
        |writes: Vec<String>| writes.iter().filter(|write| *write == "PATCH volumes/status").count();
    assert_eq!(written(api.writes()), 1, "the first turn only");
    node.resize(10 * GI);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(ready(&api, "data").unwrap().1, "WaitingForFirstUse", "what is so in the end is said");
    assert_eq!(api.all("events").len(), events);
}

#[tokio::test]
async fn settled_volumes_are_not_looked_at_when_a_replica_begins_to_lead() {
    let (api, _node, replica) = cluster(10 * GI).await;
    for name in ["one", "two"] {
        volume(&api, name, &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
        provision(&replica, &claim_of(&api, name).await, "ssd").await.unwrap();
        says(&api, name, "Provisioned").await;
    }
    drop(replica);
    let mut grows = api.get("volumes", "ada", "two").unwrap();
    grows["spec"]["size"] = json!("2Gi");
    grows["metadata"]["generation"] = json!(2);
    api.put("volumes", grows);
    let next = Replica::serving(&api).await;
    let queue = tierce_controller::run::queue::Queue::default();
    next.index.listen::<tierce_controller::volumes::personal::Volumes>(&queue).await;
    assert_eq!(queue.len(), 1, "the one that is to grow");
}

#[tokio::test]
async fn a_claim_of_the_name_that_is_not_ours_is_left_as_it_is() {
    let (api, _node, replica) = cluster(10 * GI).await;
    let theirs = claim(&api, "data", "1Gi");
    volume(&api, "data", &json!({"size": "5Gi", "tier": "ssd", "deletionPolicy": "Retain"}));
    let (status, message) = says(&api, "data", "NameConflict").await;
    assert_eq!(status, "False");
    assert!(
        message.contains(r#"a PersistentVolumeClaim "data" exists that does not belong to this Volume"#),
        "{message}"
    );
    provision(&replica, &theirs, "ssd").await.unwrap();
    tokio::time::sleep(GRACE).await;
    let now = claim_of(&api, "data").await;
    assert_eq!(now["metadata"].as_object().unwrap().get("ownerReferences"), None);
    assert_eq!(now["spec"]["resources"]["requests"]["storage"], json!("1Gi"));
    let id = now["spec"]["volumeName"].as_str().unwrap();
    assert_eq!(
        api.get("persistentvolumes", "", id).unwrap()["spec"]["persistentVolumeReclaimPolicy"],
        json!("Delete")
    );
    api.remove("volumes", "ada", "data");
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumeclaims", "ada", "data").is_some());
}

#[tokio::test]
async fn growth_goes_to_the_claim_and_to_the_node_and_says_when_there_is_no_room() {
    let (api, node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    let mut grown = api.get("volumes", "ada", "data").unwrap();
    grown["spec"]["size"] = json!("4Gi");
    grown["spec"]["mountOptions"] = json!(["noatime"]);
    grown["metadata"]["generation"] = json!(2);
    api.put("volumes", grown.clone());
    until("the claim asks for more", || {
        let claim = api.get("persistentvolumeclaims", "ada", "data").unwrap();
        (claim["spec"]["resources"]["requests"]["storage"] == "4Gi").then_some(())
    })
    .await;
    // What external-resizer does then.
    let request = tierce_proto::csi::ControllerExpandVolumeRequest {
        volume_id: id.clone(),
        capacity_range: Some(tierce_proto::csi::CapacityRange { required_bytes: 4 * GI, limit_bytes: 0 }),
        ..Default::default()
    };
    let call = tierce_proto::csi::controller_server::Controller::controller_expand_volume(
        &replica.service,
        crate::support::in_time(request, "5S"),
    );
    within(call).await.unwrap();
    until("the status says so", || {
        let volume = api.get("volumes", "ada", "data").unwrap();
        (volume["status"]["capacity"] == "4Gi" && volume["status"]["observedGeneration"] == 2).then_some(())
    })
    .await;
    assert_eq!(api.get("nodevolumes", "", &id).unwrap()["spec"]["mountOptions"], json!(["noatime"]));
    grown = api.get("volumes", "ada", "data").unwrap();
    grown["spec"]["size"] = json!("40Gi");
    api.put("volumes", grown);
    let (_, message) = says(&api, "data", "OutOfSpace").await;
    assert_eq!(
        message,
        "node n1 has no room to grow it to 40Gi: at most 10Gi would fit. It works with its 4Gi until then"
    );
    node.resize(50 * GI);
    says(&api, "data", "Growing").await;
}

#[tokio::test]
async fn a_volume_in_use_waits_and_says_by_whom() {
    let (api, _node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    pod(&api, "notebook", "data");
    pod(&api, "other", "something-else");
    until("the index knows", || replica.index.read(|state| (state.pods.len() == 2).then_some(()))).await;
    delete(&api, "data");
    let (_, message) = says(&api, "data", "InUse").await;
    assert_eq!(message, "it is deleted when no pod uses it any more; used now by ada/notebook");
    assert!(api.get("persistentvolumeclaims", "ada", "data").is_some());
    api.remove("pods", "ada", "notebook");
    gone(&api, "persistentvolumeclaims", "ada", "data").await;
    release(&replica, &id).await;
    gone(&api, "volumes", "ada", "data").await;
}

#[tokio::test]
async fn retain_keeps_the_data_and_says_where() {
    let (api, node, replica) = cluster(10 * GI).await;
    volume(
        &api,
        "data",
        &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate", "deletionPolicy": "Retain"}),
    );
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    let policy = |api: &FakeApi| {
        api.get("persistentvolumes", "", &id).unwrap()["spec"]["persistentVolumeReclaimPolicy"].clone()
    };
    until("it is kept from the beginning", || (policy(&api) == "Retain").then_some(())).await;
    // Changed to Delete and back, it follows.
    for (wanted, kept) in [("Delete", "Delete"), ("Retain", "Retain")] {
        let mut changed = api.get("volumes", "ada", "data").unwrap();
        changed["spec"]["deletionPolicy"] = json!(wanted);
        api.put("volumes", changed);
        until("the PersistentVolume follows", || (policy(&api) == kept).then_some(())).await;
    }
    delete(&api, "data");
    gone(&api, "volumes", "ada", "data").await;
    assert!(api.get("persistentvolumeclaims", "ada", "data").is_none());
    let pv = api.get("persistentvolumes", "", &id).unwrap();
    let written = &pv["metadata"]["annotations"][names::ANNOTATION_RETAINED_FROM];
    assert_eq!(written, &json!("Volume ada/data on node n1, pool ssd"));
    let events = api.all("events");
    let told = events.iter().find(|event| event["reason"] == "Retained").unwrap();
    assert_eq!(told["note"], json!(format!("PersistentVolume {id} keeps the data (1Gi) on node n1")));
    tokio::time::sleep(GRACE * 3).await;
    assert_eq!(node.holds(), [id], "the reaper knows that its PersistentVolume stays");
}

#[tokio::test]
async fn a_claim_that_names_the_persistent_volume_of_another_has_no_say_in_it() {
    let (api, node, replica) = cluster(10 * GI).await;
    let retained = json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate", "deletionPolicy": "Retain"});
    volume(&api, "bens", &retained);
    let id = provision(&replica, &claim_of(&api, "bens").await, "ssd").await.unwrap();
    says(&api, "bens", "Provisioned").await;
    delete(&api, "bens");
    gone(&api, "volumes", "ada", "bens").await;
    let kept = api.get("persistentvolumes", "", &id).unwrap();
    for policy in ["Delete", "Retain"] {
        volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "deletionPolicy": policy}));
        let mut claim = claim_of(&api, "data").await;
        claim["spec"]["volumeName"] = json!(id);
        api.put("persistentvolumeclaims", claim);
        until("the index knows", || {
            let key = tierce_controller::index::Namespaced::new("ada", "data");
            replica.index.read(|state| state.claims.get(&key)?.volume_name.clone())
        })
        .await;
        tokio::time::sleep(GRACE).await;
        assert_eq!(api.get("volumes", "ada", "data").unwrap()["status"]["node"], json!(null));
        delete(&api, "data");
        gone(&api, "volumes", "ada", "data").await;
        assert_eq!(api.get("persistentvolumes", "", &id).unwrap(), kept, "with {policy}");
    }
    assert_eq!(node.holds(), [id]);
}

#[tokio::test]
async fn a_claim_that_was_bound_behind_the_back_of_the_watch_is_not_deleted_before_its_data_is_kept() {
    let (api, node, replica) = cluster(10 * GI).await;
    let retained = json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate", "deletionPolicy": "Retain"});
    volume(&api, "data", &retained);
    let claim = claim_of(&api, "data").await;
    let key = tierce_controller::index::Namespaced::new("ada", "data");
    until("the index knows", || replica.index.read(|state| state.claims.get(&key).map(drop))).await;
    api.silence("persistentvolumeclaims", true);
    api.silence("persistentvolumes", true);
    let id = provision(&replica, &claim, "ssd").await.unwrap();
    delete(&api, "data");
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumeclaims", "ada", "data").is_some());
    api.silence("persistentvolumeclaims", false);
    api.silence("persistentvolumes", false);
    gone(&api, "volumes", "ada", "data").await;
    let pv = api.get("persistentvolumes", "", &id).unwrap();
    assert_eq!(pv["spec"]["persistentVolumeReclaimPolicy"], json!("Retain"));
    assert_eq!(node.holds(), [id]);
}

#[tokio::test]
async fn retain_decided_only_while_deleting_still_keeps_the_data() {
    let (api, node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    let mut going = api.get("volumes", "ada", "data").unwrap();
    going["spec"]["deletionPolicy"] = json!("Retain");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T00:00:00Z");
    api.put("volumes", going);
    gone(&api, "volumes", "ada", "data").await;
    assert_eq!(
        api.get("persistentvolumes", "", &id).unwrap()["spec"]["persistentVolumeReclaimPolicy"],
        json!("Retain")
    );
    assert_eq!(node.holds(), [id]);
}

#[tokio::test]
async fn bug_34_a_lost_node_is_told_at_once_and_nothing_hangs_on_it() {
    let (api, mut node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    node.stop_plugin();
    api.remove("nodes", "", "n1");
    let (status, message) = says(&api, "data", "NodeLost").await;
    assert_eq!(status, "False");
    assert!(message.starts_with("node n1 is not in the cluster any more"), "{message}");
    assert_eq!(api.get("volumes", "ada", "data").unwrap()["status"]["phase"], json!("Lost"));
    gone(&api, "nodestorages", "", "n1").await;
    tokio::time::sleep(GRACE).await;
    assert!(api.get("nodevolumes", "", &id).is_some(), "the node may come back with its disk");
    delete(&api, "data");
    gone(&api, "persistentvolumeclaims", "ada", "data").await;
    gone(&api, "volumes", "ada", "data").await;
    within(replica.delete(&id)).await.expect("its finalizer goes after the grace");
    assert!(api.get("nodevolumes", "", &id).is_none());
}

#[tokio::test]
async fn a_node_that_is_down_is_offered_to_nobody_until_it_answers() {
    let (api, _node, _replica) = cluster(10 * GI).await;
    let up = api.get("nodes", "", "n1").unwrap();
    for taint in ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"] {
        let mut down = up.clone();
        down["spec"]["taints"] = json!([{"key": taint, "effect": "NoExecute"}]);
        api.put("nodes", down);
        let name = taint.split('/').next_back().unwrap();
        volume(&api, name, &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
        says(&api, name, "NoPool").await;
        api.put("nodes", up.clone());
        says(&api, name, "Provisioning").await;
    }
}

#[tokio::test]
async fn a_node_that_comes_back_brings_its_volumes_back() {
    let (api, _node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    let back = api.get("nodes", "", "n1").unwrap();
    api.remove("nodes", "", "n1");
    says(&api, "data", "NodeLost").await;
    api.put("nodes", back);
    says(&api, "data", "Provisioned").await;
}

#[tokio::test]
async fn a_claim_that_somebody_deletes_is_told_and_not_made_anew_empty() {
    let (api, _node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    api.remove("persistentvolumeclaims", "ada", "data");
    release(&replica, &id).await;
    let (status, message) = until("it is told", || {
        ready(&api, "data")
            .filter(|(_, _, message)| message.contains("the data with it"))
            .map(|(status, _, m)| (status, m))
    })
    .await;
    assert_eq!(status, "False", "{message}");
    tokio::time::sleep(GRACE).await;
    assert!(api.get("persistentvolumeclaims", "ada", "data").is_none());
    delete(&api, "data");
    gone(&api, "volumes", "ada", "data").await;
}

#[tokio::test]
async fn bug_24_one_bad_object_of_each_kind_does_not_stop_the_others() {
    let (api, _node, replica) = cluster(10 * GI).await;
    let bad_specs = [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"size": 5, "tier": []}),
        json!({"size": "x", "tier": "ssd"}),
        json!({"size": "1Gi", "tier": "ssd", "accessMode": "Many"}),
        json!({"nodeName": 7}),
        json!({"nodeName": "n1", "pool": "ssd", "sizeBytes": "many"}),
    ];
    for (n, spec) in bad_specs.iter().enumerate() {
        for (plural, namespace) in [
            ("volumes", json!("ada")),
            ("nodevolumes", json!(null)),
            ("nodestorages", json!(null)),
            ("storagepools", json!(null)),
        ] {
            api.put(
                plural,
                json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "X", "spec": spec, "status": 3,
                "metadata": {"name": format!("bad-{n}"), "namespace": namespace}}),
            );
        }
    }
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd"}));
    says(&api, "data", "WaitingForFirstUse").await;
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    // A good one that turns bad is not taken for gone.
    let good = api.get("nodevolumes", "", &id).unwrap();
    let mut bad = good.clone();
    bad["spec"]["sizeBytes"] = json!("many");
    api.put("nodevolumes", bad);
    until("the index knows", || replica.index.read(|state| (state.devices.unreadable() > 8).then_some(())))
        .await;
    assert_eq!(ready(&api, "data").unwrap().1, "Provisioned");
    assert!(replica.index.read(|state| state.devices.exists(&id)));
    // Also a new replica, which never saw it good, starts and works.
    let other = Replica::serving(&api).await;
    assert!(other.index.read(|state| state.devices.exists(&id) && state.devices.get(&id).is_none()));
    within(other.create(crate::support::request("v2", "ssd", GI))).await.unwrap();
}

#[tokio::test]
async fn what_the_api_server_refuses_is_told_and_heals() {
    let (api, node, replica) = cluster(10 * GI).await;
    api.forbid(Some((http::Method::POST, "persistentvolumeclaims", 403)));
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"}));
    let (_, message) = says(&api, "data", "Failed").await;
    assert_eq!(message, "cannot make the claim of Volume ada/data: exceeded quota: storage");
    assert_eq!(api.get("volumes", "ada", "data").unwrap()["status"]["claimName"], json!(null));
    api.forbid(None);
    provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    api.forbid(Some((http::Method::PATCH, "persistentvolumeclaims", 403)));
    let mut grown = api.get("volumes", "ada", "data").unwrap();
    grown["spec"]["size"] = json!("2Gi");
    api.put("volumes", grown);
    let (_, message) = says(&api, "data", "Growing").await;
    let expected =
        "it grows from 1Gi to 2Gi; cannot grow the claim of Volume ada/data: exceeded quota: storage";
    assert_eq!(message, expected);
    let status = api.get("volumes", "ada", "data").unwrap()["status"].clone();
    assert_eq!((&status["capacity"], &status["node"]), (&json!("1Gi"), &json!("n1")));
    // Room comes and goes all the time, and no quota is raised by that.
    api.writes();
    for round in 0..100 {
        node.resize((10 + round % 2) * GI);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let asked = api.writes().iter().filter(|write| *write == "PATCH persistentvolumeclaims").count();
    assert!(asked <= 2, "it was asked for {asked} times");
}

#[tokio::test]
async fn bug_27_every_mismatch_converges() {
    let (api, node, replica) = cluster(50 * GI).await;
    // Claim and PersistentVolume are gone, and it was never used: the reaper takes it.
    let orphan = claim(&api, "orphan", "1Gi");
    let orphan_id = provision(&replica, &orphan, "ssd").await.unwrap();
    // The same, but it was used: it stays, and somebody is told.
    let used = claim(&api, "used", "1Gi");
    let used_id = provision(&replica, &used, "ssd").await.unwrap();
    node.disk.lock().unwrap().volumes.get_mut(&used_id).unwrap().1 = true;
    let mut seen = api.get("nodevolumes", "", &used_id).unwrap();
    seen["status"]["used"] = json!(true);
    api.put("nodevolumes", seen);
    // Used, but the API does not know it yet: the node refuses.
    let secretly = claim(&api, "secretly", "1Gi");
    let secretly_id = provision(&replica, &secretly, "ssd").await.unwrap();
    // The claim is gone, the PersistentVolume stays (Retain).
    let retained = claim(&api, "retained", "1Gi");
    let retained_id = provision(&replica, &retained, "ssd").await.unwrap();
    // Another claim has the name now.
    let replaced = claim(&api, "replaced", "1Gi");
    let replaced_id = provision(&replica, &replaced, "ssd").await.unwrap();
    // Nobody named a claim: another client of CSI made it.
    within(replica.create(crate::support::request("foreign", "ssd", GI))).await.unwrap();
    // Everything is as it should be.
    let fine = claim(&api, "fine", "1Gi");
    let fine_id = provision(&replica, &fine, "ssd").await.unwrap();
    node.disk.lock().unwrap().volumes.get_mut(&secretly_id).unwrap().1 = true;
    for name in ["orphan", "used", "secretly", "retained", "replaced"] {
        api.remove("persistentvolumeclaims", "ada", name);
    }
    claim(&api, "replaced", "1Gi");
    for id in [&orphan_id, &used_id, &secretly_id, &replaced_id] {
        api.remove("persistentvolumes", "", id);
    }
    gone(&api, "nodevolumes", "", &orphan_id).await;
    gone(&api, "nodevolumes", "", &replaced_id).await;
    until("the node refuses", || {
        let refused = api.get("nodevolumes", "", &secretly_id).unwrap();
        (refused["status"]["conditions"][0]["message"] == "it may hold data").then_some(())
    })
    .await;
    let told = until("somebody is told", || {
        api.all("events").into_iter().find(|event| event["reason"] == "Unclaimed")
    })
    .await;
    assert_eq!(told["regarding"]["name"], json!(used_id));
    tokio::time::sleep(GRACE).await;
    let mut expected = vec![used_id, secretly_id, retained_id, "foreign".to_owned(), fine_id];
    expected.sort();
    assert_eq!(node.holds(), expected);
}

#[tokio::test]
async fn a_persistent_volume_of_another_name_stands_for_its_volume() {
    let (api, node, replica) = cluster(10 * GI).await;
    let mut ids = Vec::new();
    for (name, used, watched) in [("fresh", false, true), ("used", true, true), ("unseen", false, false)] {
        let known = |name: &str| replica.index.read(|state| state.persistent_volumes.get(name).is_some());
        let id = provision(&replica, &claim(&api, name, "1Gi"), "ssd").await.unwrap();
        let mut seen = api.get("nodevolumes", "", &id).unwrap();
        seen["status"]["used"] = json!(used);
        api.put("nodevolumes", seen);
        let mut by_hand = api.get("persistentvolumes", "", &id).unwrap();
        api.remove("persistentvolumes", "", &id);
        until("the index forgets", || (!known(&id)).then_some(())).await;
        // The last one is known to the API server only, as long as the watch is behind.
        api.silence("persistentvolumes", !watched);
        by_hand["metadata"] = json!({"name": format!("by-hand-{name}")});
        by_hand["spec"]["claimRef"] = json!(null);
        api.put("persistentvolumes", by_hand);
        if watched {
            until("the index knows", || known(&format!("by-hand-{name}")).then_some(())).await;
        }
        api.remove("persistentvolumeclaims", "ada", name);
        ids.push(id);
    }
    tokio::time::sleep(GRACE * 3).await;
    ids.sort();
    assert_eq!(node.holds(), ids);
    assert!(api.all("events").iter().all(|event| event["reason"] != "Unclaimed"));
    api.silence("persistentvolumes", false);
    // Once that is gone as well, nobody claims it.
    let kept = api.get("persistentvolumes", "", "by-hand-fresh").unwrap();
    api.remove("persistentvolumes", "", "by-hand-fresh");
    gone(&api, "nodevolumes", "", kept["spec"]["csi"]["volumeHandle"].as_str().unwrap()).await;
}

#[tokio::test]
async fn the_last_word_on_an_orphan_is_asked_for_page_by_page() {
    let (api, node, replica) = cluster(10 * GI).await;
    for n in 0..1_200 {
        api.put(
            "persistentvolumes",
            json!({"metadata": {"name": format!("other-{n:04}")},
                "spec": {"csi": {"driver": names::DRIVER, "volumeHandle": format!("handle-{n}")}}}),
        );
    }
    let known = |name: &str| replica.index.read(|state| state.persistent_volumes.get(name).is_some());
    let mut ids = Vec::new();
    for name in ["orphan", "kept"] {
        ids.push(provision(&replica, &claim(&api, name, "1Gi"), "ssd").await.unwrap());
    }
    until("the index knows all", || (known("other-1199") && ids.iter().all(|id| known(id))).then_some(()))
        .await;
    let mut by_hand = api.get("persistentvolumes", "", &ids[1]).unwrap();
    for id in &ids {
        api.remove("persistentvolumes", "", id);
    }
    until("the index forgets", || ids.iter().all(|id| !known(id)).then_some(())).await;
    // The API server alone knows of it, on the last page.
    api.silence("persistentvolumes", true);
    by_hand["metadata"] = json!({"name": "zz-by-hand"});
    api.put("persistentvolumes", by_hand);
    api.remove("persistentvolumeclaims", "ada", "kept");
    let pages = until("it is looked for", || {
        let pages = api.listed("persistentvolumes");
        (!pages.is_empty()).then_some(pages)
    })
    .await;
    assert!(pages.iter().all(|page| *page <= 500), "{pages:?}");
    api.remove("persistentvolumeclaims", "ada", "orphan");
    gone(&api, "nodevolumes", "", &ids[0]).await;
    assert_eq!(node.holds(), [ids[1].clone()]);
}

#[tokio::test]
async fn bug_26_a_crash_at_any_await_of_create_leaves_no_orphan() {
    for polls in 1.. {
        let (api, node, replica) = cluster(10 * GI).await;
        let wanted = claim(&api, "c", "1Gi");
        let crashed = {
            let call = replica.create(crate::support::request_for(&wanted, "ssd"));
            let mut call = Box::pin(call);
            let mut left = polls;
            // Like a SIGKILL: the future is polled so often, then never again.
            within(std::future::poll_fn(|context| {
                let polled = call.as_mut().poll(context);
                left -= 1;
                if polled.is_ready() || left == 0 {
                    std::task::Poll::Ready(polled.is_pending())
                } else {
                    std::task::Poll::Pending
                }
            }))
            .await
        };
        drop(replica);
        let next = Replica::reconciling(&api, GRACE).await;
        if polls % 2 == 0 {
            // The provisioner asks again, and there is one volume.
            within(next.create(crate::support::request_for(&wanted, "ssd"))).await.unwrap();
            assert_eq!((node.holds().len(), api.all("nodevolumes").len()), (1, 1), "after {polls} polls");
        }
        // The claim goes, and nobody asks ever again.
        api.remove("persistentvolumeclaims", "ada", "c");
        until(&format!("nothing is left after {polls} polls"), || {
            (node.holds().is_empty() && api.all("nodevolumes").is_empty()).then_some(())
        })
        .await;
        if !crashed {
            assert!(polls > 2, "the call has more than one await");
            return;
        }
    }
}

#[tokio::test]
async fn a_class_that_is_missing_or_wrong_is_told_and_heals_when_it_comes() {
    let api = FakeApi::new();
    crate::support::pool(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::reconciling(&api, GRACE).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd"}));
    volume(&api, "secret", &json!({"size": "1Gi", "tier": "ssd", "encryption": {"enabled": true}}));
    let (status, message) = says(&api, "data", "NoStorageClass").await;
    assert_eq!(status, "False");
    assert!(message.starts_with("StorageClass tierce-ssd is not there"), "{message}");
    says(&api, "secret", "NoStorageClass").await;
    crate::support::class(&api, "tierce-ssd", &json!({"tier": "ssd"}));
    says(&api, "data", "WaitingForFirstUse").await;
    crate::support::class(&api, "tierce-ssd-encrypted", &json!({"tier": "ssd"}));
    let told = until("the slip is named", || {
        ready(&api, "secret").filter(|(_, _, message)| message.contains("not encrypted"))
    });
    assert_eq!(told.await.1, "NoStorageClass");
    provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
}

#[tokio::test]
async fn a_volume_whose_class_retains_it_says_that_its_data_stays() {
    let (api, _node, replica) = cluster(10 * GI).await;
    volume(&api, "data", &json!({"size": "1Gi", "tier": "ssd"}));
    let id = provision(&replica, &claim_of(&api, "data").await, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    let mut kept = api.get("persistentvolumes", "", &id).unwrap();
    kept["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
    api.put("persistentvolumes", kept);
    until("it says so", || ready(&api, "data").filter(|(_, _, message)| message.contains("stays when")))
        .await;
}
