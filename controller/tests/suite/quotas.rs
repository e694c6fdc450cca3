//! StorageQuotas, over both replicas.

use crate::support::fake_api::{FakeApi, Fault};
use crate::support::fake_node::FakeNode;
use crate::support::{
    GI, Replica, claim, in_time, provision, request, request_for, says, tier, until, volume, within,
};
use futures::future::join_all;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::time::Duration;
use tierce_controller::metrics::Metrics;
use tierce_crds::names;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::{CapacityRange, ControllerExpandVolumeRequest};
use tonic::{Code, Status};

pub(crate) fn quota(api: &FakeApi, name: &str, spec: &Value) {
    let subject = json!({"kind": "Namespace", "name": "ada"});
    let mut whole = json!({"subject": subject});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    api.put(
        "storagequotas",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StorageQuota",
            "metadata": {"name": name, "generation": 1}, "spec": whole}),
    );
}

pub(crate) async fn knows(replica: &Replica, quotas: usize) {
    until("the quotas are known", || {
        replica.index.read(|state| (state.quotas.len() == quotas).then_some(()))
    })
    .await;
}

pub(crate) async fn grow(replica: &Replica, id: &str, bytes: i64) -> Result<(), Status> {
    let request = ControllerExpandVolumeRequest {
        volume_id: id.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..ControllerExpandVolumeRequest::default()
    };
    replica.service.controller_expand_volume(in_time(request, "60S")).await.map(drop)
}

pub(crate) async fn make(replica: &Replica, claim: &Value) -> Result<(), Status> {
    replica.service.create_volume(in_time(request_for(claim, "ssd"), "60S")).await.map(drop)
}

pub(crate) fn promised(api: &FakeApi) -> i64 {
    api.all("nodevolumes").iter().map(|volume| volume["spec"]["sizeBytes"].as_i64().unwrap()).sum()
}

/// Status, reason and message of a condition of a quota.
fn condition(api: &FakeApi, name: &str, type_: &str) -> Option<(String, String, String)> {
    let quota = api.get("storagequotas", "", name)?;
    let conditions = quota["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == type_)?;
    let field = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((field("status"), field("reason"), field("message")))
}

async fn says_of(api: &FakeApi, name: &str, type_: &str, reason: &str) -> String {
    until(&format!("{name}: {type_} {reason}"), || {
        condition(api, name, type_).filter(|(_, now, _)| now == reason).map(|(_, _, message)| message)
    })
    .await
}

/// What the status of a quota says is used, once it has settled.
pub(crate) async fn used(api: &FakeApi, name: &str, expected: &str) {
    until(&format!("{expected} of {name} is used"), || {
        (api.get("storagequotas", "", name)?["status"]["used"] == expected).then_some(())
    })
    .await;
}

pub(crate) fn ledger(api: &FakeApi) -> Option<Value> {
    api.get("storageledgers", "", "namespace-ada")
}

pub(crate) fn in_flight(api: &FakeApi) -> usize {
    ledger(api).and_then(|ledger| ledger["spec"]["inFlight"].as_array().map(Vec::len)).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_creations_and_growths_over_two_replicas_never_pass_the_quota() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 10_000 * GI);
    let (one, two) = (Replica::reconciling(&api, Duration::from_mins(5)).await, Replica::serving(&api).await);
    let mut there = Vec::new();
    for n in 0..20 {
        let claim = claim(&api, &format!("there-{n}"), "1Gi");
        there.push(provision(&one, &claim, "ssd").await.unwrap());
    }
    quota(&api, "q", &json!({"hard": "120Gi"}));
    knows(&one, 1).await;
    knows(&two, 1).await;
    let claims: Vec<_> = (0..180).map(|n| claim(&api, &format!("new-{n}"), "1Gi")).collect();
    let replica = |n: usize| if n.is_multiple_of(2) { &one } else { &two };
    let creations = join_all(claims.iter().enumerate().map(|(n, claim)| make(replica(n), claim)));
    let growths = join_all(there.iter().enumerate().map(|(n, id)| grow(replica(n), id, 2 * GI)));
    let (made, grown) = within(async { tokio::join!(creations, growths) }).await;
    let all: Vec<_> = made.into_iter().chain(grown).collect();
    let done = all.iter().filter(|result| result.is_ok()).count();
    assert_eq!((done, promised(&api)), (100, 120 * GI));
    for refused in all.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let words = "StorageQuota q: namespace ada has 120Gi of 120Gi; 1Gi more asked: delete volumes, ask for less, or have the quota raised";
        assert_eq!(refused.message(), words);
    }
    until("nothing is left in the ledger", || (in_flight(&api) == 0).then_some(())).await;
    // One goes, and one comes.
    let gone = api.all("nodevolumes")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let had = api.all("nodevolumes")[0]["spec"]["sizeBytes"].as_i64().unwrap();
    within(one.delete(&gone)).await.unwrap();
    until("both know", || {
        [&one, &two].iter().all(|r| r.index.read(|state| !state.devices.exists(&gone))).then_some(())
    })
    .await;
    assert_eq!(promised(&api), 120 * GI - had);
    within(make(&two, &claim(&api, "last", "1Gi"))).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_hears_of_nothing_gives_away_nothing_that_is_taken() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let (one, deaf) =
        (Replica::reconciling(&api, Duration::from_mins(5)).await, Replica::serving(&api).await);
    quota(&api, "q", &json!({"hard": "3Gi"}));
    knows(&deaf, 1).await;
    deaf.stop_watching();
    for n in 0..3 {
        provision(&one, &claim(&api, &format!("v{n}"), "1Gi"), "ssd").await.unwrap();
    }
    until("what was reserved is to be seen", || (in_flight(&api) == 0).then_some(())).await;
    let refused = within(make(&deaf, &claim(&api, "more", "1Gi"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(promised(&api), 3 * GI);
}

#[tokio::test]
async fn without_a_quota_nothing_is_asked_for() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    let costs = async |claim: &Value| {
        // What was before is forgotten.
        drop((api.writes(), api.read(""), api.listed("")));
        within(make(&replica, claim)).await.unwrap();
        let id = format!("pvc-{}", claim["metadata"]["uid"].as_str().unwrap());
        within(grow(&replica, &id, 2 * GI)).await.unwrap();
        (api.writes(), api.read("storageledgers"))
    };
    let plain =
        ["POST nodevolumes", "PATCH nodevolumes/status", "PATCH nodevolumes", "PATCH nodevolumes/status"];
    let (writes, reads) = costs(&claim(&api, "a", "1Gi")).await;
    assert_eq!((writes, reads), (plain.iter().map(ToString::to_string).collect(), 0));
    // One of another namespace costs those nothing whom it does not concern.
    quota(&api, "q", &json!({"subject": {"kind": "Namespace", "name": "bob"}, "hard": "1Gi"}));
    knows(&replica, 1).await;
    let (writes, reads) = costs(&claim(&api, "b", "1Gi")).await;
    assert_eq!((writes, reads), (plain.iter().map(ToString::to_string).collect(), 0));
}

#[tokio::test]
async fn what_a_killed_call_reserved_is_its_own_when_it_is_repeated_and_free_when_it_is_not() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    quota(&api, "q", &json!({"hard": "1Gi"}));
    let (first, other) = (claim(&api, "first", "1Gi"), claim(&api, "other", "1Gi"));
    let killed = Replica::serving(&api).await;
    // The ledger is written, the NodeVolume is not.
    api.befall(Some((1, Fault::KilledBefore)));
    let call = tokio::time::timeout(Duration::from_secs(1), make(&killed, &first));
    call.await.unwrap_err();
    drop(killed);
    assert_eq!((in_flight(&api), api.all("nodevolumes").len()), (1, 0));
    let replica = Replica::reconciling(&api, Duration::from_mins(5)).await;
    let refused = within(make(&replica, &other)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "it may still come: {refused}");
    within(make(&replica, &first)).await.unwrap();
    assert_eq!(promised(&api), GI);
    let id = format!("pvc-{}", first["metadata"]["uid"].as_str().unwrap());
    until("it is to be seen", || (in_flight(&api) == 0).then_some(())).await;
    within(replica.delete(&id)).await.unwrap();

    // Nobody repeats it.
    until("the ledger is gone with the last volume", || ledger(&api).is_none().then_some(())).await;
    api.befall(Some((1, Fault::KilledBefore)));
    tokio::time::timeout(Duration::from_secs(1), make(&replica, &first)).await.unwrap_err();
    let mut old = ledger(&api).unwrap();
    assert_eq!(in_flight(&api), 1);
    old["spec"]["inFlight"][0]["since"] = json!("2026-01-01T00:00:00Z");
    api.put("storageledgers", old);
    until("it counts no more", || (in_flight(&api) == 0).then_some(())).await;
    within(make(&replica, &other)).await.unwrap();
}

#[tokio::test]
async fn a_volume_says_which_quota_is_in_the_way_and_goes_on_when_there_is_room() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let replica = Replica::reconciling(&api, Duration::from_millis(300)).await;
    quota(&api, "q", &json!({"hard": "3Gi", "tiers": ["ssd"]}));
    let spec = |size: &str| json!({"size": size, "tier": "ssd", "binding": "Immediate"});
    volume(&api, "first", &spec("2Gi"));
    let its = until("its claim", || api.get("persistentvolumeclaims", "ada", "first")).await;
    let id = provision(&replica, &its, "ssd").await.unwrap();
    says(&api, "first", "Provisioned").await;

    volume(&api, "second", &spec("2Gi"));
    let (_, message) = says(&api, "second", "QuotaExceeded").await;
    assert_eq!(
        message,
        "StorageQuota q: namespace ada has 2Gi of 3Gi in ssd; 2Gi more asked: delete volumes, ask for less, or have the quota raised"
    );
    let second = until("its claim", || api.get("persistentvolumeclaims", "ada", "second")).await;
    assert_eq!(provision(&replica, &second, "ssd").await.unwrap_err().code(), Code::FailedPrecondition);

    // A growth waits at the Volume, so that it is carried out at once when it can be.
    let mut larger = api.get("volumes", "ada", "first").unwrap();
    larger["spec"]["size"] = json!("4Gi");
    larger["metadata"]["generation"] = json!(2);
    api.put("volumes", larger);
    let (_, message) = says(&api, "first", "QuotaExceeded").await;
    assert!(
        message.contains("2Gi more asked") && message.ends_with("It works with its 2Gi until then"),
        "{message}"
    );
    let requests = |name: &str| {
        let claim = api.get("persistentvolumeclaims", "ada", name).unwrap();
        claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap().to_owned()
    };
    assert_eq!(requests("first"), "2Gi");
    let refused = within(grow(&replica, &id, 4 * GI)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");

    let mut raised = api.get("storagequotas", "", "q").unwrap();
    raised["spec"]["hard"] = json!("6Gi");
    raised["metadata"]["generation"] = json!(2);
    api.put("storagequotas", raised);
    until("the claim asks for it", || (requests("first") == "4Gi").then_some(())).await;
    within(grow(&replica, &id, 4 * GI)).await.unwrap();
    // The provisioner asks again at once when the claim changes.
    until("the other claim is touched", || {
        let claim = api.get("persistentvolumeclaims", "ada", "second").unwrap();
        claim["metadata"]["annotations"][names::ANNOTATION_QUOTA_ROOM].is_string().then_some(())
    })
    .await;
    let second = api.get("persistentvolumeclaims", "ada", "second").unwrap();
    provision(&replica, &second, "ssd").await.unwrap();
    says(&api, "second", "Provisioned").await;
    until("used", || (api.get("storagequotas", "", "q")?["status"]["used"] == "6Gi").then_some(())).await;
}

#[tokio::test]
async fn a_soft_limit_is_exceeded_for_a_grace() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let replica = Replica::reconciling(&api, Duration::from_mins(5)).await;
    quota(
        &api,
        "q",
        &json!({"subject": {"kind": "Namespace", "name": "*"}, "soft": "2Gi", "hard": "5Gi", "grace": "1h"}),
    );
    knows(&replica, 1).await;
    let claims: Vec<_> = (0..5).map(|n| claim(&api, &format!("v{n}"), "1Gi")).collect();
    let mut ids = Vec::new();
    for claim in &claims[..3] {
        ids.push(provision(&replica, claim, "ssd").await.unwrap());
    }
    let message = says_of(&api, "q", "SoftLimitExceeded", "InGrace").await;
    assert!(message.starts_with("ada has 3Gi in 3 volumes, grace ends "), "{message}");
    let over = api.get("storagequotas", "", "q").unwrap()["status"]["subjectsOverSoft"].clone();
    assert_eq!((over[0]["name"].clone(), over[0]["used"].clone()), (json!("ada"), json!("3Gi")));
    // An hour passes.
    let mut older = ledger(&api).unwrap();
    older["spec"]["over"][0]["bytes"] = json!("2026-01-01T00:00:00Z");
    api.put("storageledgers", older);
    says_of(&api, "q", "SoftLimitExceeded", "GraceOver").await;
    let refused = within(make(&replica, &claims[3])).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        refused.message(),
        "StorageQuota q: namespace ada has 3Gi, 1Gi more asked, and the soft limit is 2Gi; the grace for more ended at 2026-01-01 01:00:00 UTC: \
         delete volumes until it has less, or have the quota raised"
    );
    assert_eq!(within(grow(&replica, &ids[0], 2 * GI)).await.unwrap_err().code(), Code::FailedPrecondition);
    // Back at the limit it begins anew.
    within(replica.delete(&ids[0])).await.unwrap();
    until("nobody is over it", || condition(&api, "q", "SoftLimitExceeded").is_none().then_some(())).await;
    provision(&replica, &claims[3], "ssd").await.unwrap();
    says_of(&api, "q", "SoftLimitExceeded", "InGrace").await;
}

#[tokio::test]
async fn quotas_that_are_not_what_they_should_be_say_so_and_hold() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let replica = Replica::reconciling(&api, Duration::from_mins(5)).await;
    quota(&api, "wide", &json!({"hard": "10Gi", "tiers": ["ssd", "nvme"]}));
    let message = says_of(&api, "wide", "Ready", "UnknownTier").await;
    assert_eq!(message, "no StoragePool has tier nvme, named in spec.tiers: the tiers are ssd");
    tier(&api, "nvme");
    says_of(&api, "wide", "Ready", "Enforced").await;
    quota(&api, "narrow", &json!({"hard": "1Gi", "tiers": ["nvme", "ssd"]}));
    let message = says_of(&api, "wide", "Ready", "TwoQuotas").await;
    assert!(message.starts_with("StorageQuota narrow has the same subject and tiers"), "{message}");
    says_of(&api, "narrow", "Ready", "TwoQuotas").await;
    let refused = within(make(&replica, &claim(&api, "a", "2Gi"))).await.unwrap_err();
    assert!(refused.message().starts_with("StorageQuota narrow: "), "{refused}");
    api.remove("storagequotas", "", "narrow");
    says_of(&api, "wide", "Ready", "Enforced").await;
    within(make(&replica, &claim(&api, "a", "2Gi"))).await.unwrap();
    // What another client of CSI makes is nobody's.
    within(replica.create(request("pvc-other", "ssd", 90 * GI))).await.unwrap();
}

#[tokio::test]
async fn a_quota_of_a_namespace_takes_the_place_of_that_of_each() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let replica = Replica::reconciling(&api, Duration::from_mins(5)).await;
    let mut registry = Registry::default();
    Metrics::register(&mut registry, &replica.index);
    quota(&api, "each", &json!({"subject": {"kind": "Namespace", "name": "*"}, "volumes": {"hard": 1}}));
    knows(&replica, 1).await;
    let [a, b, c] = ["a", "b", "c"].map(|name| claim(&api, name, "1Gi"));
    let id = provision(&replica, &a, "ssd").await.unwrap();
    let refused = within(make(&replica, &b)).await.unwrap_err();
    let words = "StorageQuota each: namespace ada has 1 of 1 volumes: delete one, or have the quota raised";
    assert_eq!(refused.message(), words);
    // A growth makes no volume more.
    within(grow(&replica, &id, 2 * GI)).await.unwrap();
    quota(&api, "own", &json!({"volumes": {"hard": 2}}));
    knows(&replica, 2).await;
    within(make(&replica, &b)).await.unwrap();
    let refused = within(make(&replica, &c)).await.unwrap_err();
    assert!(refused.message().starts_with("StorageQuota own: namespace ada has 2 of 2"), "{refused}");
    until("used", || (api.get("storagequotas", "", "own")?["status"]["volumes"] == 2).then_some(())).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = "tierce_quota_used_bytes{quota=\"own\",kind=\"Namespace\",subject=\"ada\"} 3221225472";
    assert!(text.contains(line), "{text}");
}
