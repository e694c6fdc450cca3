//! Watches that break.

use crate::support::fake_api::FakeApi;
use crate::support::{Replica, tier, until};
use prometheus_client::registry::Registry;
use std::time::Duration;
use tierce_controller::metrics::Metrics;

/// What `/metrics` says of the watch of this kind.
fn behind(registry: &Registry, kind: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let line = format!("tierce_watch_behind_seconds{{kind=\"{kind}\"}} ");
    text.lines()
        .find_map(|found| found.strip_prefix(&line))
        .expect("it is told of each kind")
        .parse()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stays_broken_is_told_until_it_is_heard_again() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let replica = Replica::serving(&api).await;
    let mut registry = Registry::default();
    Metrics::register(&mut registry, &replica.index);
    assert_eq!(behind(&registry, "StoragePool"), 0);
    api.break_watches("storagepools", true);
    tokio::time::sleep(Duration::from_secs(90)).await;
    let seconds = behind(&registry, "StoragePool");
    assert!((60..=90).contains(&seconds), "{seconds}");
    assert_eq!(behind(&registry, "Node"), 0);
    // It comes back and has nothing to tell.
    api.break_watches("storagepools", false);
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(behind(&registry, "StoragePool"), 0);
    tier(&api, "hdd");
    until("it tells", || replica.index.read(|state| state.pools.get("hdd").map(drop))).await;
}
