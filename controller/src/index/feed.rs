//! One watch per kind, into the index.

use super::claims::{ClaimObject, PersistentVolumeObject};
use super::pods::PodObject;
use super::{ClassObject, ContentObject, Index, NodeObject, SecretObject, Tracked};
use crate::words::in_words;
use futures::{Stream, StreamExt};
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use tierce_crds::{NodeSnapshot, NodeStorage, NodeVolume, StoragePool, Volume, VolumeRestore, names};
use tierce_runtime::readiness::{Part, Readiness};
use tracing::{debug, warn};

/// Watches every kind until dropped. `readiness` gets a part per kind, ready once it has been listed. `namespace`: that of the release.
pub fn watch_everything(
    client: &Client,
    index: &Arc<Index>,
    readiness: &Readiness,
    namespace: &str,
) -> impl Future<Output = ()> + Send + use<> {
    // A pod that has ended holds no volume. One that ends leaves the watch as if deleted.
    let pods = config().fields("status.phase!=Succeeded,status.phase!=Failed");
    let nodes = plain::<NodeObject>(client, config());
    let feeds = [
        Box::pin(feed(guarded::<Volume>(client), index, Some(readiness.part("watch of Volumes"))))
            as futures::future::BoxFuture<'static, ()>,
        Box::pin(feed(guarded::<NodeVolume>(client), index, Some(readiness.part("watch of NodeVolumes")))),
        Box::pin(feed(
            guarded::<NodeSnapshot>(client),
            index,
            Some(readiness.part("watch of NodeSnapshots")),
        )),
        Box::pin(feed(
            guarded::<VolumeRestore>(client),
            index,
            Some(readiness.part("watch of VolumeRestores")),
        )),
        Box::pin(feed(guarded::<NodeStorage>(client), index, Some(readiness.part("watch of NodeStorages")))),
        Box::pin(feed(guarded::<StoragePool>(client), index, Some(readiness.part("watch of StoragePools")))),
        Box::pin(feed(
            plain::<ClaimObject>(client, config()),
            index,
            Some(readiness.part("watch of PersistentVolumeClaims")),
        )),
        Box::pin(feed(
            plain::<PersistentVolumeObject>(client, config()),
            index,
            Some(readiness.part("watch of PersistentVolumes")),
        )),
        Box::pin(feed(plain::<PodObject>(client, pods), index, Some(readiness.part("watch of Pods")))),
        Box::pin(feed(nodes, index, Some(readiness.part("watch of Nodes")))),
        Box::pin(feed(
            guarded::<ClassObject>(client),
            index,
            Some(readiness.part("watch of StorageClasses")),
        )),
        Box::pin(feed(guarded::<ContentObject>(client), index, None)),
        Box::pin(feed(keys(client, namespace), index, None)),
    ];
    async move {
        futures::future::join_all(feeds).await;
    }
}

fn config() -> Config {
    // One object at a time instead of pages: memory stays flat on a start with 10,000 volumes.
    Config::default().streaming_lists()
}

/// An object, or what could be read of it.
type Arrival<T> = Result<T, Box<InvalidObject>>;

/// A watch on which one bad object does not stop the others.
fn guarded<T>(client: &Client) -> impl Stream<Item = watcher::Result<Event<Arrival<T>>>> + Send + 'static
where
    T: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    let api: Api<DeserializeGuard<T>> = Api::all(client.clone());
    kube::runtime::watcher(api, config())
        .map(|event| event.map(|event| map(event, |guard| guard.0.map_err(Box::new))))
}

fn plain<T>(
    client: &Client,
    config: Config,
) -> impl Stream<Item = watcher::Result<Event<Arrival<T>>>> + Send + 'static
where
    T: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    kube::runtime::watcher(Api::<T>::all(client.clone()), config).map(|event| event.map(whole))
}

/// Without what is in them: nothing here needs to know.
fn keys(
    client: &Client,
    namespace: &str,
) -> impl Stream<Item = watcher::Result<Event<Arrival<SecretObject>>>> + Send + use<> {
    let (label, us) = names::LABEL_MANAGED_BY;
    let secrets: Api<SecretObject> = Api::namespaced(client.clone(), namespace);
    kube::runtime::watcher(secrets, config().labels(&format!("{label}={us}"))).map(|event| event.map(whole))
}

fn whole<T>(event: Event<T>) -> Event<Arrival<T>> {
    map(event, Ok)
}

fn map<A, B>(event: Event<A>, f: impl FnOnce(A) -> B) -> Event<B> {
    match event {
        Event::Apply(object) => Event::Apply(f(object)),
        Event::Delete(object) => Event::Delete(f(object)),
        Event::InitApply(object) => Event::InitApply(f(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// Without a part, the controller works without the kind: it may be absent from the cluster, or the right to read it.
fn feed<T>(
    stream: impl Stream<Item = watcher::Result<Event<Arrival<T>>>> + Send + 'static,
    index: &Arc<Index>,
    part: Option<Part>,
) -> impl Future<Output = ()> + Send + 'static
where
    T: Tracked + Resource<DynamicType = ()> + Send + 'static,
{
    let index = Arc::clone(index);
    async move {
        let mut stream = Box::pin(stream.default_backoff());
        let mut listed = false;
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => {
                    listed |= matches!(event, Event::InitDone);
                    receive::<T>(&index, event);
                    if let (true, Some(part)) = (listed, &part) {
                        part.ready();
                    }
                }
                // What was listed stays good enough to answer with; the watch comes back by itself.
                Err(error) if listed => {
                    debug!(kind = %T::kind(&()), "watch interrupted: {}", in_words(&error));
                }
                Err(error) => {
                    let words = in_words(&error);
                    let Some(part) = &part else {
                        debug!(kind = %T::kind(&()), "cannot watch it: {words}");
                        continue;
                    };
                    warn!(kind = %T::kind(&()), "cannot watch yet: {words}");
                    part.not_ready(words);
                }
            }
        }
    }
}

fn receive<T: Tracked + Resource<DynamicType = ()>>(index: &Index, event: Event<Arrival<T>>) {
    match event {
        Event::Init => index.begin::<T>(),
        Event::InitDone => index.end::<T>(),
        Event::Apply(Ok(object)) | Event::InitApply(Ok(object)) => index.put(object),
        Event::Apply(Err(invalid)) | Event::InitApply(Err(invalid)) => {
            if index.put_unreadable::<T>(&invalid.metadata) {
                let name = invalid.metadata.name.as_deref().unwrap_or_default();
                warn!(kind = %T::kind(&()), name, error = %invalid.error, "left alone: it can't be read");
            }
        }
        Event::Delete(Ok(object)) => index.remove::<T>(object.meta()),
        Event::Delete(Err(invalid)) => index.remove::<T>(&invalid.metadata),
    }
}
