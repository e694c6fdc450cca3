//! The way to a cluster: kubeconfig, context and namespace as kubectl takes them.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde::de::DeserializeOwned;
use tierce_crds::Volume;

use crate::{Error, Tried, known, names};

/// How long a server may be silent in the middle of an answer. Watches say something every minute.
const SILENCE: Duration = Duration::from_secs(90);
const CONNECT: Duration = Duration::from_secs(10);

/// Which cluster, and where on it; as kubectl takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// The namespace; `None`: that of the context.
    pub namespace: Option<String>,
    /// The context of the kubeconfig; `None`: its current one.
    pub context: Option<String>,
    /// The kubeconfig file; `None`: those of KUBECONFIG, else the one at home.
    pub kubeconfig: Option<PathBuf>,
}

/// A cluster, and the namespace to work in.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
    /// The namespace.
    pub namespace: String,
    tried: Tried,
}

impl Cluster {
    /// Finds out which cluster is meant. Nothing is sent yet.
    pub async fn open(connection: &Connection) -> Result<Self, Error> {
        let (mut config, kubeconfig, context) = config(connection).await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        let tried = Tried { kubeconfig, context, server: config.cluster_url.to_string() };
        let namespace = connection.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        names::checked("Namespace", &namespace, 63)?;
        let client = Client::try_from(config)
            .map_err(|source| Error::Unreachable { tried: tried.clone(), source: source.into() })?;
        Ok(Self { client, namespace, tried })
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn here<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The same, of all namespaces if so wanted.
    pub(crate) fn here_or_everywhere<K>(&self, everywhere: bool) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        if everywhere { Api::all(self.client.clone()) } else { self.here() }
    }

    /// Which cluster it is, for questions.
    pub fn context_and_server(&self) -> String {
        self.tried.context_and_server()
    }

    /// Where a listing looked, for messages.
    pub fn place(&self, everywhere: bool) -> String {
        if everywhere { "any namespace".to_owned() } else { format!("namespace '{}'", self.namespace) }
    }

    /// A Volume that must be there.
    pub async fn volume(&self, name: &str) -> Result<Volume, Error> {
        names::checked("Volume", name, 63)?;
        let found = self.find(&self.here::<Volume>(), name).await?;
        match found {
            Some(volume) => Ok(volume),
            None => Err(Error::NotFound {
                name: name.to_owned(),
                namespace: self.namespace.clone(),
                known: known(self.names::<Volume>().await?),
            }),
        }
    }

    /// The names of the namespace's objects of a kind, without anything else of them.
    pub(crate) async fn names<K>(&self) -> Result<Vec<String>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        self.names_of(&self.here::<K>()).await
    }

    pub(crate) async fn names_of<K>(&self, api: &Api<K>) -> Result<Vec<String>, Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        let found = api.list_metadata(&ListParams::default()).await;
        let found = found.map_err(|error| self.failed(&format!("list each {}", K::kind(&())), error))?;
        Ok(found.items.into_iter().map(|object| object.name_any()).collect())
    }

    /// An object that may be there. A kind that the server does not know is an error, not an absence.
    pub(crate) async fn find<K>(&self, api: &Api<K>, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        match api.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if is_absence(&status) => Ok(None),
            Err(error) => Err(self.failed(&format!("read {} '{name}'", K::kind(&())), error)),
        }
    }

    /// An error of the client as one of a verb.
    pub(crate) fn failed(&self, doing: &str, error: kube::Error) -> Error {
        let doing = doing.to_owned();
        match error {
            kube::Error::Api(status) if status.code == 404 && !is_absence(&status) => {
                let (kind, advice) = if doing.to_lowercase().contains("snapshot") {
                    (
                        "VolumeSnapshots",
                        "its administrator installs them with the snapshot controller, as the chart of Tierce does",
                    )
                } else {
                    (
                        "Tierce",
                        "its administrator installs it with Helm; for the volumes of this host add --host",
                    )
                };
                Error::NoSuchKind { doing, kind, advice }
            }
            kube::Error::Api(status) if status.code == 401 => Error::RefusedByServer {
                doing,
                message: format!(
                    "it does not know you ({}); sign in again, tried {}",
                    status.message, self.tried
                ),
            },
            kube::Error::Api(status) => Error::RefusedByServer { doing, message: status.message },
            kube::Error::SerdeError(source) => Error::Unreadable { doing, source: source.into() },
            // Its own words repeat those of the error in it.
            kube::Error::Service(source) => Error::Unreachable { tried: self.tried.clone(), source },
            kube::Error::HyperError(source) => {
                Error::Unreachable { tried: self.tried.clone(), source: source.into() }
            }
            other => Error::Unreachable { tried: self.tried.clone(), source: other.into() },
        }
    }
}

/// Whether the server says that an object is not there; of a kind that it does not know it speaks in no such words.
pub(crate) fn is_absence(status: &kube::core::Status) -> bool {
    status.code == 404 && status.reason == "NotFound"
}

/// Configuration, the files that it is from, and the context.
async fn config(connection: &Connection) -> Result<(Config, String, Option<String>), Error> {
    let (files, looked_at) = files(connection);
    if files.is_empty() {
        // A pod's service account, as kubectl does in a pod.
        if connection.kubeconfig.is_none()
            && connection.context.is_none()
            && let Ok(config) = Config::incluster()
        {
            return Ok((config, "the service account of this pod".to_owned(), None));
        }
        return Err(Error::NoKubeconfig { looked_at });
    }
    let shown = format!("kubeconfig {looked_at}");
    let unusable =
        |source: KubeconfigError| Error::Kubeconfig { kubeconfig: looked_at.clone(), source: source.into() };
    let kubeconfig = merged(&files).map_err(unusable)?;
    let wanted = connection.context.clone().or_else(|| kubeconfig.current_context.clone());
    let known: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    let no_context = |words: String| Error::NoContext {
        words,
        kubeconfig: looked_at.clone(),
        known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
    };
    let context = match wanted.filter(|name| !name.is_empty()) {
        None => return Err(no_context("there is no current context".to_owned())),
        Some(name) if !known.contains(&name.as_str()) => {
            return Err(no_context(format!("there is no context '{name}'")));
        }
        Some(name) => name,
    };
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?;
    Ok((config, shown, Some(context)))
}

/// The contexts that there are, for a command line that is being typed.
pub fn contexts(connection: &Connection) -> Vec<String> {
    let (files, _) = files(connection);
    let contexts = merged(&files).map(|kubeconfig| kubeconfig.contexts).unwrap_or_default();
    contexts.into_iter().map(|context| context.name).collect()
}

fn merged(files: &[PathBuf]) -> Result<Kubeconfig, KubeconfigError> {
    files.iter().try_fold(Kubeconfig::default(), |merged, file| {
        Kubeconfig::read_from(file).and_then(|next| merged.merge(next))
    })
}

/// The kubeconfig files that are there, and all that were looked for. One that is named by its option must be there; of those in
/// KUBECONFIG some may be missing, as for kubectl.
fn files(connection: &Connection) -> (Vec<PathBuf>, String) {
    let candidates: Vec<PathBuf> = match (&connection.kubeconfig, env::var_os("KUBECONFIG")) {
        (Some(file), _) => vec![file.clone()],
        (None, Some(list)) if !list.is_empty() => {
            env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        _ => env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config")).into_iter().collect(),
    };
    let shown: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    let shown = if shown.is_empty() { "HOME with a .kube/config".to_owned() } else { shown.join(", ") };
    (candidates.into_iter().filter(|path| path.exists()).collect(), shown)
}
