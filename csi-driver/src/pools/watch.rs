//! Follows the `StoragePools` and the labels of our own Node.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tierce_crds::StoragePool;
use tierce_runtime::errors::in_words;
use tokio_stream::wrappers::IntervalStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{PoolBoard, Wanted};

/// How often it is looked whether a pool that is kept because of its volumes is empty now.
const LOOKS: Duration = Duration::from_mins(1);

/// Why the pools may have to be looked at.
#[derive(Debug, Clone, Copy)]
enum Tick {
    /// A StoragePool or our Node changed.
    Event,
    Look,
}

/// What we know of our own Node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeFacts {
    store: Store<PartialObjectMeta<Node>>,
}

impl NodeFacts {
    /// Its UID; `None` while there is no such Node.
    pub(crate) fn uid(&self) -> Option<String> {
        self.store.state().first().and_then(|node| node.metadata.uid.clone())
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.store.state().first().map(|node| node.labels().clone()).unwrap_or_default()
    }
}

/// Makes the watches; `run` drives them. Without a Node of our name only pools without a selector are served.
pub(crate) fn run<F: Fn() + Send + Sync>(
    client: Client,
    me: &str,
    board: PoolBoard,
    changed: F,
    shutdown: CancellationToken,
) -> (NodeFacts, impl Future<Output = ()> + Send + use<F>) {
    let (pools, pool_writer) = reflector::store::<DeserializeGuard<StoragePool>>();
    let (nodes, node_writer) = reflector::store::<PartialObjectMeta<Node>>();
    let pool_events = watcher(Api::<DeserializeGuard<StoragePool>>::all(client.clone()), streaming())
        .default_backoff()
        .modify(strip)
        .reflect(pool_writer);
    let node_events = watcher(
        Api::<PartialObjectMeta<Node>>::all(client),
        streaming().fields(&format!("metadata.name={me}")),
    )
    .default_backoff()
    .modify(strip)
    .reflect(node_writer);
    let facts = NodeFacts { store: nodes };
    let follow =
        follow(facts.clone(), pools, ticks(pool_events), ticks(node_events), board, changed, shutdown);
    (facts, follow)
}

async fn follow(
    facts: NodeFacts,
    pools: Store<DeserializeGuard<StoragePool>>,
    pool_ticks: impl Stream<Item = ()> + Send,
    node_ticks: impl Stream<Item = ()> + Send,
    board: PoolBoard,
    changed: impl Fn() + Send + Sync,
    shutdown: CancellationToken,
) {
    let looks = IntervalStream::new(tokio::time::interval(LOOKS)).map(|_| Tick::Look);
    let events = stream::select(pool_ticks, node_ticks).map(|()| Tick::Event);
    let mut ticks = std::pin::pin!(stream::select(events, looks).take_until(shutdown.cancelled()));
    let (mut node, mut last) = (None, None);
    while let Some(tick) = ticks.next().await {
        let ready = |state: Option<_>| state.is_some_and(|result: Result<(), _>| result.is_ok());
        if !ready(now(pools.wait_until_ready())) || !ready(now(facts.store.wait_until_ready())) {
            continue;
        }
        let wanted = wanted(&pools, &facts.labels());
        let first = !board.is_synced();
        let news = last.as_ref() != Some(&wanted);
        let moved = if first || matters(tick, news, board.keeps_some()) {
            last = Some(wanted.clone());
            board.apply(wanted).await
        } else {
            false
        };
        // A Node that was made again took the NodeStorage of the old one with it.
        let replaced = std::mem::replace(&mut node, facts.uid()) != node;
        if moved || first || replaced {
            changed();
        }
    }
}

/// Whether the pools are looked at, which asks all disks where a pool is kept because volumes lie in it. The status of a StoragePool
/// changes all the time, and so does that of our Node: neither says anything about which pools there should be.
fn matters(tick: Tick, news: bool, keeps_some: bool) -> bool {
    match tick {
        Tick::Event => news,
        Tick::Look => news || keeps_some,
    }
}

fn wanted(pools: &Store<DeserializeGuard<StoragePool>>, labels: &BTreeMap<String, String>) -> Wanted {
    let mut wanted = Wanted::default();
    for pool in pools.state() {
        let name = pool.name_any();
        match &pool.0 {
            Ok(pool) if pool.spec.selects(labels) => {
                wanted.selected.insert(name, pool.spec.clone());
            }
            Ok(_) => {}
            Err(invalid) => {
                warn!("StoragePool {name} can't be read, so nothing about it changes here: {invalid}");
                wanted.unreadable.insert(name);
            }
        }
    }
    wanted
}

/// One tick per event that may matter; errors of the watch are logged and retried by its backoff.
fn ticks<K>(
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send,
) -> impl Stream<Item = ()> + Send
where
    K: Resource + Send,
{
    events.inspect_err(|error| warn!("watch: {}", in_words(error))).filter_map(|event| async move {
        match event {
            // While a list comes in, the old state stays in force until it is complete.
            Err(_) | Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Ok(watcher::Event::InitDone | watcher::Event::Apply(_) | watcher::Event::Delete(_)) => Some(()),
        }
    })
}

/// `Some` if the future is ready at once.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    futures::FutureExt::now_or_never(future)
}

/// A watch whose first state comes as a stream too: the API server need not build a list for each node.
pub(crate) fn streaming() -> watcher::Config {
    watcher::Config::default().streaming_lists()
}

/// The larger half of most objects, of no use to us.
pub(crate) fn strip(object: &mut impl Resource) {
    object.meta_mut().managed_fields = None;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(name: &str, tier: &str, promised: &str) -> DeserializeGuard<StoragePool> {
        serde_json::from_value(json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": name},
            "spec": {"tier": tier, "directory": {"path": "/p/q"}}, "status": {"promised": promised}
        }))
        .unwrap()
    }

    #[test]
    fn the_status_of_a_pool_is_no_news() {
        let (pools, mut writer) = reflector::store();
        let mut show = |pool| {
            writer.apply_watcher_event(&watcher::Event::Apply(pool));
            wanted(&pools, &BTreeMap::new())
        };
        let before = show(pool("a", "hdd", "1Gi"));
        assert_eq!(before.selected.len(), 1);
        assert_eq!(show(pool("a", "hdd", "2Gi")), before, "figures alone");
        assert_ne!(show(pool("b", "hdd", "0")), before, "another pool");
        let (event, look) = (Tick::Event, Tick::Look);
        for (tick, news, keeps_some, expected) in [
            (event, true, false, true),
            (event, false, false, false),
            (event, false, true, false),
            (look, false, false, false),
            (look, false, true, true),
            (look, true, false, true),
        ] {
            assert_eq!(matters(tick, news, keeps_some), expected, "{tick:?} {news} {keeps_some}");
        }
    }
}
