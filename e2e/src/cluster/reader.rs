//! Reads a cluster's objects and waits for them, as `kubectl get` and `kubectl wait` do, without starting a program each time: a suite looks two
//! thousand times.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryStreamExt as _};
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;
use serde_json::Value;

use super::jsonpath::JsonPath;

/// The kinds that tests read: the names that they call them by, group and version, kind, plural, and whether they lie in a namespace.
const KINDS: [(&[&str], &str, &str, &str, bool); 18] = [
    (&["volume", "volumes"], TIERCE, "Volume", "volumes", true),
    (&["sharedvolume", "sharedvolumes"], TIERCE, "SharedVolume", "sharedvolumes", true),
    (&["volumerestore", "volumerestores"], TIERCE, "VolumeRestore", "volumerestores", true),
    (&["nodevolume", "nodevolumes"], TIERCE, "NodeVolume", "nodevolumes", false),
    (&["nodesnapshot", "nodesnapshots"], TIERCE, "NodeSnapshot", "nodesnapshots", false),
    (&["nodestorage", "nodestorages"], TIERCE, "NodeStorage", "nodestorages", false),
    (&["storagepool", "storagepools"], TIERCE, "StoragePool", "storagepools", false),
    (&["storagequota", "storagequotas"], TIERCE, "StorageQuota", "storagequotas", false),
    (&["volumesnapshot", "volumesnapshots"], SNAPSHOT, "VolumeSnapshot", "volumesnapshots", true),
    (
        &["volumesnapshotcontent", "volumesnapshotcontents"],
        SNAPSHOT,
        "VolumeSnapshotContent",
        "volumesnapshotcontents",
        false,
    ),
    (&["pod", "pods"], "v1", "Pod", "pods", true),
    (&["pvc"], "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    (&["pv"], "v1", "PersistentVolume", "persistentvolumes", false),
    (&["node"], "v1", "Node", "nodes", false),
    (&["secrets"], "v1", "Secret", "secrets", true),
    (&["serviceaccount"], "v1", "ServiceAccount", "serviceaccounts", true),
    (&["csinode"], "storage.k8s.io/v1", "CSINode", "csinodes", false),
    (&["namespace"], "v1", "Namespace", "namespaces", false),
];
const TIERCE: &str = "storage.tierce.dev/v1alpha1";
const SNAPSHOT: &str = "snapshot.storage.k8s.io/v1";
/// How long one watch lasts: after it the object is read once more.
const WATCH: Duration = Duration::from_mins(1);
/// Before a question is put again to an API server that was just not there.
const PAUSE: Duration = Duration::from_millis(200);

type Work = Box<dyn FnOnce(Client) -> BoxFuture<'static, ()> + Send>;

/// A connection to the API server of a cluster, in the cluster's network.
pub struct Reader {
    works: Mutex<tokio::sync::mpsc::UnboundedSender<Work>>,
}

impl Reader {
    /// Connects by a kubeconfig, from the network namespace of a process, or from this one's.
    pub(super) fn start(kubeconfig: PathBuf, inside: Option<Pid>) -> Result<Self> {
        let network =
            inside.map(|pid| File::open(format!("/proc/{}/ns/net", pid.as_raw_nonzero()))).transpose()?;
        let (works, mut queue) = tokio::sync::mpsc::unbounded_channel::<Work>();
        let (started, is_started) = mpsc::channel();
        // A thread of its own, since only threads change their network namespace.
        std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
            let enter = || {
                if let Some(network) = network {
                    rustix::thread::move_into_link_name_space(
                        network.as_fd(),
                        Some(LinkNameSpaceType::Network),
                    )?;
                }
                Ok::<_, anyhow::Error>(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
            };
            let runtime = match enter() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                let client = match client(&kubeconfig).await {
                    Ok(client) => client,
                    Err(error) => return drop(started.send(Err(error))),
                };
                started.send(Ok(())).ok();
                while let Some(work) = queue.recv().await {
                    tokio::spawn(work(client.clone()));
                }
            });
        })?;
        is_started.recv().context("the reader ended")??;
        Ok(Self { works: Mutex::new(works) })
    }

    fn ask<T, F>(&self, question: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Client) -> BoxFuture<'static, Result<T>> + Send + 'static,
    {
        let (answer, answered) = mpsc::channel();
        let work: Work =
            Box::new(move |client| async move { drop(answer.send(question(client).await)) }.boxed());
        let works = self.works.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        works.send(work).map_err(|_| anyhow!("the reader has ended"))?;
        answered.recv().context("the reader has ended")?
    }

    /// An object by `kind/name`, with the namespace of those that lie in one. `None`: it is not there.
    pub fn get(&self, namespace: &str, object: &str) -> Result<Option<Value>> {
        let (kind, name) = parse(object)?;
        let namespace = namespace.to_owned();
        self.ask(move |client| {
            async move {
                let api = kind.api(client, Some(&namespace));
                let found = retried(|| api.get_opt(&name)).await?;
                found.map(serde_json::to_value).transpose().map_err(Into::into)
            }
            .boxed()
        })
    }

    /// The names of all objects of these kinds, each as `plural/name`, in every namespace or in one.
    pub fn names(&self, kinds: &[&str], namespace: Option<&str>) -> Result<Vec<String>> {
        let kinds = kinds.iter().map(|kind| Kind::named(kind)).collect::<Result<Vec<_>>>()?;
        let namespace = namespace.map(str::to_owned);
        self.ask(move |client| {
            async move {
                let mut found = Vec::new();
                for kind in kinds {
                    let api = kind.api(client.clone(), namespace.as_deref());
                    let all = ListParams::default();
                    let listed = match retried(|| api.list_metadata(&all)).await {
                        // An older version of Tierce is installed, which has no such kind.
                        Err(kube::Error::Api(status)) if status.code == 404 => continue,
                        listed => listed?,
                    };
                    for one in listed {
                        found.push(format!("{}/{}", kind.plural, one.metadata.name.unwrap_or_default()));
                    }
                }
                Ok(found)
            }
            .boxed()
        })
    }

    /// Waits on a watch until an object is so. Returns whether it came to be within that time.
    pub fn wait(&self, namespace: &str, object: &str, until: Until, patience: Duration) -> Result<bool> {
        let (kind, name) = parse(object)?;
        let namespace = namespace.to_owned();
        self.ask(move |client| {
            async move {
                let api = kind.api(client, Some(&namespace));
                Ok(tokio::time::timeout(patience, watched(&api, &name, &until)).await.is_ok())
            }
            .boxed()
        })
    }
}

async fn client(kubeconfig: &PathBuf) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A connection that was kept may end with the API server that is being restarted: once more, on a new one.
async fn retried<T, F: Future<Output = kube::Result<T>>>(ask: impl Fn() -> F) -> kube::Result<T> {
    match ask().await {
        Err(kube::Error::HyperError(_) | kube::Error::Service(_)) => {
            tokio::time::sleep(PAUSE).await;
            ask().await
        }
        answer => answer,
    }
}

/// Returns when the object is as `until` says; the API server may be away meanwhile.
async fn watched(api: &Api<DynamicObject>, name: &str, until: &Until) {
    loop {
        if matches!(look_and_watch(api, name, until).await, Ok(true)) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// `false`: the watch ended before the object was so.
async fn look_and_watch(api: &Api<DynamicObject>, name: &str, until: &Until) -> Result<bool> {
    let fields = format!("metadata.name={name}");
    let listed = api.list(&ListParams::default().fields(&fields)).await?;
    let version = listed.metadata.resource_version.clone().unwrap_or_default();
    let object = listed.items.into_iter().next().map(serde_json::to_value).transpose()?;
    if until.holds(object.as_ref()) {
        return Ok(true);
    }
    let seconds = u32::try_from(WATCH.as_secs())?;
    let changes = api.watch(&WatchParams::default().fields(&fields).timeout(seconds), &version).await?;
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.try_next().await? {
        let is_so = match change {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                until.holds(Some(&serde_json::to_value(object)?))
            }
            WatchEvent::Deleted(_) => until.holds(None),
            WatchEvent::Bookmark(_) => false,
            WatchEvent::Error(_) => break,
        };
        if is_so {
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    plural: &'static str,
    is_namespaced: bool,
}

impl Kind {
    fn named(called: &str) -> Result<Self> {
        let found = KINDS.iter().find(|(names, ..)| names.contains(&called));
        let (_, version, kind, plural, is_namespaced) =
            *found.with_context(|| format!("the reader does not know the kind {called}"))?;
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let named = kube::core::GroupVersionKind::gvk(group, version, kind);
        Ok(Self { resource: ApiResource::from_gvk_with_plural(&named, plural), plural, is_namespaced })
    }

    fn api(&self, client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace.filter(|_| self.is_namespaced) {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        }
    }
}

fn parse(object: &str) -> Result<(Kind, String)> {
    let (kind, name) = object.split_once('/').with_context(|| format!("{object} is not KIND/NAME"))?;
    Ok((Kind::named(kind)?, name.to_owned()))
}

/// What is waited for, in the words of `kubectl wait --for`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// `delete`
    Gone,
    /// `create`
    There,
    /// `condition=TYPE`, or `condition=TYPE=STATUS`
    Condition(String, String),
    /// `jsonpath={PATH}=VALUE`, or `jsonpath={PATH}` for any
    Field(JsonPath, Option<String>),
}

impl Until {
    /// Reads what stands behind `--for=`.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(condition) = text.strip_prefix("condition=") {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
            return Ok(Self::Condition(kind.to_owned(), status.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("jsonpath={") {
            let (path, value) = rest.rsplit_once('}').with_context(|| format!("{text} lacks its `}}`"))?;
            return Ok(Self::Field(JsonPath::parse(path)?, value.strip_prefix('=').map(str::to_owned)));
        }
        match text {
            "delete" => Ok(Self::Gone),
            "create" => Ok(Self::There),
            _ => bail!("`{text}` can't be waited for"),
        }
    }

    fn holds(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Gone, object) => object.is_none(),
            (_, None) => false,
            (Self::There, Some(_)) => true,
            (Self::Condition(kind, status), Some(object)) => has_condition(object, kind, status),
            (Self::Field(path, value), Some(object)) => {
                let text = path.text(object);
                value.as_ref().map_or(!text.is_empty(), |value| text == *value)
            }
        }
    }
}

/// What was said of an older generation of the object counts for nothing.
fn has_condition(object: &Value, kind: &str, status: &str) -> bool {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or_default();
    let of_now = |told: &Value| told["observedGeneration"].as_i64().is_none_or(|told| told >= generation);
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        let is_it = condition["type"].as_str().is_some_and(|one| one.eq_ignore_ascii_case(kind));
        let says = condition["status"].as_str().is_some_and(|one| one.eq_ignore_ascii_case(status));
        is_it && says && of_now(condition) && of_now(&object["status"])
    })
}
