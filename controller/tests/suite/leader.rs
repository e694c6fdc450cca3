//! Leader election between replicas over one Lease.

use crate::support::fake_api::FakeApi;
use crate::support::within;
use serde_json::json;
use std::time::Duration;
use tierce_controller::run::lease::{Candidate, Held};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn candidate(api: &FakeApi, me: &str) -> Candidate {
    Candidate::new(api.client(), "default", "tierce-controller", me)
}

fn acquiring(api: &FakeApi, me: &str) -> JoinHandle<Held> {
    tokio::spawn(candidate(api, me).acquire())
}

fn holder(api: &FakeApi) -> String {
    let lease = api.get("leases", "default", "tierce-controller").unwrap();
    lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

async fn pass(seconds: u64) {
    // In small steps, so that tasks between two timers run.
    for _ in 0..seconds * 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_a_release_hands_over_at_once() {
    let api = FakeApi::new();
    let first = within(candidate(&api, "a").acquire()).await;
    assert_eq!(holder(&api), "a");
    let second = acquiring(&api, "b");
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(first.keep(stop.clone()));
    pass(120).await;
    assert!(!second.is_finished() && !keeping.is_finished(), "a renews, so b waits");
    stop.cancel();
    assert!(within(keeping).await.unwrap());
    pass(1).await;
    assert!(second.is_finished(), "not only when the lease has run out");
    assert_eq!(holder(&api), "b");
    drop(second.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_when_its_lease_runs_out_and_not_before() {
    let api = FakeApi::new();
    drop(within(candidate(&api, "a").acquire()).await);
    let second = acquiring(&api, "b");
    pass(14).await;
    assert!(!second.is_finished());
    pass(3).await;
    assert!(second.is_finished());
    assert_eq!(holder(&api), "b");
    assert_eq!(
        api.get("leases", "default", "tierce-controller").unwrap()["spec"]["leaseTransitions"],
        json!(2)
    );
}

#[tokio::test(start_paused = true)]
async fn of_many_candidates_exactly_one_leads() {
    let api = FakeApi::new();
    let all: Vec<_> = (0..10).map(|n| acquiring(&api, &format!("replica-{n}"))).collect();
    pass(5).await;
    assert_eq!(all.iter().filter(|candidate| candidate.is_finished()).count(), 1);
    all.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops() {
    let api = FakeApi::new();
    let held = within(candidate(&api, "a").acquire()).await;
    let keeping = tokio::spawn(held.keep(CancellationToken::new()));
    let mut lease = api.get("leases", "default", "tierce-controller").unwrap();
    lease["spec"]["holderIdentity"] = json!("b");
    api.put("leases", lease);
    pass(6).await;
    assert!(keeping.is_finished(), "at its next renewal");
    assert!(!keeping.await.unwrap());
    assert_eq!(holder(&api), "b");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
    let api = FakeApi::new();
    let held = within(candidate(&api, "a").acquire()).await;
    api.refuse_writes(true);
    let start = tokio::time::Instant::now();
    let kept = held.keep(CancellationToken::new()).await;
    assert!(!kept);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    api.refuse_writes(false);
    assert_eq!(holder(&api), "a");
}

#[tokio::test(start_paused = true)]
async fn a_leader_counts_from_its_write_and_not_from_the_late_answer() {
    let api = FakeApi::new();
    let held = within(candidate(&api, "a").acquire()).await;
    api.answer_writes_after(Duration::from_secs(4));
    let start = tokio::time::Instant::now();
    let keeping = tokio::spawn(held.keep(CancellationToken::new()));
    // It writes after 5 s and hears of it after 9 s.
    pass(10).await;
    api.answer_writes_after(Duration::ZERO);
    api.refuse_writes(true);
    assert!(!within(keeping).await.unwrap());
    assert!(start.elapsed() < Duration::from_secs(5 + 14), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_somebody_touched_but_did_not_take_is_kept() {
    let api = FakeApi::new();
    let held = within(candidate(&api, "a").acquire()).await;
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(held.keep(stop.clone()));
    let mut lease = api.get("leases", "default", "tierce-controller").unwrap();
    lease["metadata"]["labels"] = json!({"touched": "yes"});
    api.put("leases", lease);
    pass(30).await;
    assert!(!keeping.is_finished());
    stop.cancel();
    assert!(within(keeping).await.unwrap());
    assert_eq!(holder(&api), "");
}
