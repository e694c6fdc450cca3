//! Drives the reconciles: by the watch on our own objects of a kind, and by nudges from the rest of the program.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::controller::{self, applier};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tierce_crds::conditions;
use tierce_engine::VolumeId;
use tierce_runtime::errors::in_words;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::context::Context;
use super::intent::Intent;
use super::reconcile::{error_policy, in_lane};
use crate::pools::{streaming, strip};

/// How many nudges wait at most, while the API server is away.
const WAITING_NUDGES: usize = 4096;

/// Asks for a look at single volumes, without waiting and without the API server: a pod that starts must not.
#[derive(Clone)]
pub(crate) struct Nudges {
    queue: mpsc::Sender<String>,
}

impl Nudges {
    /// The volume was staged, unstaged or measured: its status may be out of date.
    pub(crate) fn volume(&self, id: &VolumeId) {
        self.name(id.to_string());
    }

    fn name(&self, name: String) {
        // At shutdown nobody listens any more; and the queue is full only before the first list. Both are followed by a look at
        // every volume.
        let _ = self.queue.try_send(name);
    }
}

type Writer<K> = reflector::store::Writer<DeserializeGuard<K>>;

/// The objects of this node as we last heard of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Intents<K: Intent> {
    store: Store<DeserializeGuard<K>>,
    nudges: Nudges,
    listener: Arc<Mutex<Option<mpsc::Receiver<String>>>>,
    changed: Arc<Notify>,
    writer: Arc<Mutex<Option<Writer<K>>>>,
}

impl<K: Intent> Default for Intents<K> {
    fn default() -> Self {
        let (queue, listener) = mpsc::channel(WAITING_NUDGES);
        let (store, writer) = reflector::store();
        Self {
            store,
            nudges: Nudges { queue },
            listener: Arc::new(Mutex::new(Some(listener))),
            changed: Arc::default(),
            writer: Arc::new(Mutex::new(Some(writer))),
        }
    }
}

impl<K: Intent> Intents<K> {
    /// Where to ask for a look at a volume.
    pub(crate) fn nudges(&self) -> Nudges {
        self.nudges.clone()
    }

    /// Names of all of this node, unreadable ones too; `None` until the first list is complete.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        let ready = futures::FutureExt::now_or_never(self.store.wait_until_ready());
        ready?.ok()?;
        Some(self.store.state().iter().map(|object| object.name_any()).collect())
    }

    /// Waits until the first list is complete.
    pub(crate) async fn listed(&self) {
        if self.store.wait_until_ready().await.is_err() {
            // The watch ended, as at shutdown: it never is.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until an object came, changed or went since the last call. For one caller.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// All of this node that can be read, as we last heard of them.
    pub(crate) fn readable(&self) -> Vec<K> {
        self.store.state().iter().filter_map(|object| object.0.as_ref().ok().cloned()).collect()
    }

    /// Metadata of those of this node that are there and can't be read, as a later version may have written them.
    pub(crate) fn unreadable(&self) -> Vec<ObjectMeta> {
        let unread = |object: &Arc<DeserializeGuard<K>>| Some(object.0.as_ref().err()?.metadata.clone());
        self.store.state().iter().filter_map(unread).collect()
    }

    /// One of this node; `None`: there is none that can be read, or the API server has not told yet.
    pub(crate) fn get(&self, name: &str) -> Option<K> {
        self.store.get(&ObjectRef::new(name))?.0.as_ref().ok().cloned()
    }

    /// Asks for a look at every one that said why it is not as it should be: room or a pool may have come back. The
    /// others are in the queue already, and a look from an old copy would write their status twice.
    pub(crate) fn nudge_failed(&self) {
        for object in self.store.state() {
            let failed = object.0.as_ref().is_ok_and(|object| {
                let ready = conditions::find(object.conditions(), conditions::READY);
                ready.is_some_and(|ready| ready.status == "False")
            });
            if failed {
                self.nudges.name(object.name_any());
            }
        }
    }
}

/// Carries out our objects until `shutdown`; what is under way ends first.
pub(crate) async fn run<K: Intent>(
    client: Client,
    intents: Intents<K>,
    context: Arc<Context<K>>,
    shutdown: CancellationToken,
) {
    let writer = intents.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    let listener = intents.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
    let writer = writer.expect("run is called once");
    let listener = listener.expect("run is called once");

    let config = streaming().fields(&format!("spec.nodeName={}", context.shared.node));
    let changes = context.shared.changes.clone();
    let news = Arc::clone(&intents.changed);
    let events = watcher(Api::<DeserializeGuard<K>>::all(client), config)
        .default_backoff()
        .modify(strip)
        .reflect(writer)
        .inspect_err(|error| warn!("watch of {}s: {}", K::KIND, in_words(error)))
        .inspect_ok(move |event| {
            // An object that went without us leaves a volume that nobody speaks of, and the list is then known.
            if matches!(event, watcher::Event::Delete(_) | watcher::Event::InitDone) {
                changes.notify_inventory();
            }
            news.notify_one();
        })
        .applied_objects()
        // Errors are logged and the watch goes on by its backoff.
        .filter_map(|object| async move { object.ok().map(|object| Ok(ObjectRef::from_obj(&object))) });
    let nudged = ReceiverStream::new(listener).map(|name| Ok(ObjectRef::new(&name)));
    let queue = stream::select(events, nudged).take_until(shutdown.clone().cancelled_owned());

    let store = intents.store.clone();
    let newest = store.clone();
    let carried_out = applier(
        move |object, context| Box::pin(in_lane(object, newest.clone(), context)),
        |object, error, context: Arc<Context<K>>| error_policy(&object, error, &context),
        context,
        store.clone(),
        queue.map_err(|never: std::convert::Infallible| never),
        // Bounded in each pool by its lane.
        controller::Config::default(),
    )
    // Each result is logged where it arises; a nudge for an object that is gone is no news.
    .for_each(|_| async {});
    // With a queue that ends before the first list is complete the applier would repeat that error for ever, without
    // ever giving way; nothing is under way then.
    let nothing_to_finish = async {
        shutdown.cancelled().await;
        if futures::FutureExt::now_or_never(store.wait_until_ready()).is_some() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = nothing_to_finish => {}
        () = carried_out => {}
    }
}
