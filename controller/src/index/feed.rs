//! One watch per kind, into the index.

use super::hearing::Ear;
use super::news::Tracked;
use super::shared::Index;
use super::{
    ClaimObject, ClassObject, ContentObject, NodeObject, PersistentVolumeObject, PodObject, SecretObject,
};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use kube::core::{DeserializeGuard, error_boundary::InvalidObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use tierce_crds::{
    NodeSnapshot, NodeStorage, NodeVolume, SharedVolume, StorageLedger, StoragePool, StorageQuota, Volume,
    VolumeRestore, names,
};
use tierce_runtime::errors::in_words;
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
    index.keys_are_in(namespace);
    let on = |part| Feed { client: client.clone(), index: Arc::clone(index), ear: Ear::default(), part };
    let needed = |name| on(Some(readiness.part(name)));
    let feeds = [
        needed("watch of Volumes").guarded::<Volume>(),
        needed("watch of SharedVolumes").guarded::<SharedVolume>(),
        needed("watch of NodeVolumes").guarded::<NodeVolume>(),
        needed("watch of NodeSnapshots").guarded::<NodeSnapshot>(),
        needed("watch of VolumeRestores").guarded::<VolumeRestore>(),
        needed("watch of NodeStorages").guarded::<NodeStorage>(),
        needed("watch of StoragePools").guarded::<StoragePool>(),
        needed("watch of StorageQuotas").guarded::<StorageQuota>(),
        needed("watch of StorageLedgers").guarded::<StorageLedger>(),
        needed("watch of PersistentVolumeClaims").plain::<ClaimObject>(config()),
        needed("watch of PersistentVolumes").plain::<PersistentVolumeObject>(config()),
        needed("watch of Pods").plain::<PodObject>(pods),
        needed("watch of Nodes").plain::<NodeObject>(config()),
        needed("watch of StorageClasses").guarded::<ClassObject>(),
        on(None).guarded::<ContentObject>(),
        on(None).keys(namespace),
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

/// What a watch needs.
struct Feed {
    client: Client,
    index: Arc<Index>,
    ear: Ear,
    /// Without it, the controller works without the kind: it may be absent from the cluster, or the right to read it.
    part: Option<Part>,
}

impl Feed {
    /// A watch on which one bad object does not stop the others.
    fn guarded<T>(self) -> BoxFuture<'static, ()>
    where
        T: Tracked + Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
    {
        let api: Api<DeserializeGuard<T>> = Api::all(self.ear.on(&self.client));
        let events = kube::runtime::watcher(api, config());
        self.run(events.map(|event| event.map(|event| map(event, |guard| guard.0.map_err(Box::new)))))
    }

    fn plain<T>(self, config: Config) -> BoxFuture<'static, ()>
    where
        T: Tracked + Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
    {
        let api = Api::<T>::all(self.ear.on(&self.client));
        self.run(kube::runtime::watcher(api, config).map(|event| event.map(whole)))
    }

    /// Without what is in them: nothing here needs to know.
    fn keys(self, namespace: &str) -> BoxFuture<'static, ()> {
        let (label, us) = names::LABEL_MANAGED_BY;
        let secrets: Api<SecretObject> = Api::namespaced(self.ear.on(&self.client), namespace);
        let only_ours = config().labels(&format!("{label}={us}"));
        self.run(kube::runtime::watcher(secrets, only_ours).map(|event| event.map(whole)))
    }

    fn run<T>(
        self,
        stream: impl Stream<Item = watcher::Result<Event<Arrival<T>>>> + Send + 'static,
    ) -> BoxFuture<'static, ()>
    where
        T: Tracked + Resource<DynamicType = ()> + Send + 'static,
    {
        Box::pin(feed(stream, self.index, self.ear, self.part))
    }
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

async fn feed<T>(
    stream: impl Stream<Item = watcher::Result<Event<Arrival<T>>>> + Send + 'static,
    index: Arc<Index>,
    ear: Ear,
    part: Option<Part>,
) where
    T: Tracked + Resource<DynamicType = ()> + Send + 'static,
{
    let kind = T::kind(&());
    let mut stream = Box::pin(stream.default_backoff());
    let (mut listed, mut last_error) = (false, String::new());
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            silence = ear.silence() => {
                let seconds = silence.as_secs();
                warn!(%kind, "its watch has been broken for {seconds} s; until it comes back, what is decided rests on what was so before: {last_error}");
                continue;
            }
        };
        match event {
            Some(Ok(event)) => {
                if !listed && matches!(event, Event::InitDone) {
                    listed = true;
                    index.hears(&kind, &ear);
                }
                ear.heard();
                receive::<T>(&index, event);
                if let (true, Some(part)) = (listed, &part) {
                    part.ready();
                }
            }
            // What was listed stays good enough to answer with; the watch comes back by itself.
            Some(Err(error)) if listed => {
                last_error = in_words(&error);
                debug!(%kind, "watch interrupted: {last_error}");
                ear.broke();
            }
            Some(Err(error)) => {
                let words = in_words(&error);
                let Some(part) = &part else {
                    debug!(%kind, "cannot watch it: {words}");
                    continue;
                };
                warn!(%kind, "cannot watch yet: {words}");
                part.not_ready(words);
            }
            None => return,
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
