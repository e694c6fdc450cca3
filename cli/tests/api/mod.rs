//! An API server in memory behind a port of loopback, and a world whose kubeconfig names it.

#[path = "../../../controller/tests/support/fake_api.rs"]
#[allow(dead_code, unreachable_pub, reason = "the controller's tests use the rest")]
mod fake_api;

use std::{fmt::Debug, fs, net::SocketAddr};

use axum::{Router, body::Body, extract::Request, response::Response, routing};
use futures::{Stream, StreamExt};
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::world::World;
pub(crate) use fake_api::FakeApi;

/// The namespace of the kubeconfig's context.
pub(crate) const NAMESPACE: &str = "ada";

/// What a controller reads and writes.
pub(crate) trait Object:
    kube::Resource<DynamicType = ()> + Clone + Debug + Send + DeserializeOwned + Serialize + 'static
{
}

impl<K> Object for K where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + Send + DeserializeOwned + Serialize + 'static
{
}

pub(crate) struct Cluster {
    pub(crate) api: FakeApi,
    pub(crate) world: World,
    runtime: Option<Runtime>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (api, world) = (FakeApi::new(), World::new());
        // A client starts a task of its own.
        let client = runtime.block_on(async { api.client() });
        let forward = move |request: Request| {
            let client = client.clone();
            async move { forward(client, request).await }
        };
        let version = json!({"major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        let version = routing::get(move || async move { version.to_string() });
        // A kind that this server does not have is answered as by the real one.
        let missing = || async { (axum::http::StatusCode::NOT_FOUND, "404 page not found\n") };
        let router = Router::new()
            .route("/version", version)
            .route("/apis/snapshot.storage.k8s.io/v1/namespaces/bare/volumesnapshots", routing::any(missing))
            .route("/apis/storage.tierce.dev/v1alpha1/namespaces/bare/volumes", routing::any(missing))
            .fallback(forward);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        kubeconfig(&world, address);
        Self { api, world, runtime: Some(runtime) }
    }

    /// Puts objects there as they are.
    pub(crate) fn holds(&self, plural: &str, object: &Value) {
        self.api.put(plural, object.clone());
    }

    /// A controller for Volumes: what `answer` gives for one is written over it.
    pub(crate) fn controls<K: Object>(&self, plural: &'static str, answer: fn(&K) -> Option<Value>) {
        let api = self.api.clone();
        self.runtime.as_ref().unwrap().spawn(async move {
            let mut changes = Box::pin(changes::<K>(api.client()));
            while let Some(object) = changes.next().await {
                if let Some(change) = answer(&object) {
                    let mut whole = serde_json::to_value(&object).unwrap();
                    for (key, value) in change.as_object().unwrap() {
                        whole[key] = value.clone();
                    }
                    api.put(plural, whole);
                }
            }
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn changes<K: Object>(client: kube::Client) -> impl Stream<Item = K> {
    let config = watcher::Config::default().streaming_lists();
    watcher(Api::<K>::all(client), config).applied_objects().filter_map(|object| async { object.ok() })
}

async fn forward(client: kube::Client, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    client.send(request).await.unwrap().map(Body::new)
}

fn kubeconfig(world: &World, address: SocketAddr) {
    fs::create_dir_all(world.path("home/.kube")).unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "ada", "user": {}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "ada", "namespace": NAMESPACE}},
            {"name": "other", "context": {"cluster": "test", "user": "ada"}},
        ],
    });
    fs::write(world.path("home/.kube/config"), config.to_string()).unwrap();
}

pub(crate) fn volume(namespace: &str, name: &str, more: &Value) -> Value {
    let mut volume = json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": {"size": "1Gi", "tier": "hdd"},
        "status": ready(),
    });
    merge(&mut volume, more);
    volume
}

/// The status of a Volume on node n1.
pub(crate) fn ready() -> Value {
    json!({
        "phase": "Ready", "capacity": "1Gi", "used": "40Mi", "node": "n1", "volumeName": "pvc-1", "observedGeneration": 1,
        "conditions": [condition("True", "Provisioned", "1Gi on node n1, pool hdd")],
    })
}

pub(crate) fn condition(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

pub(crate) fn pod(namespace: &str, name: &str, claim: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [], "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": "Running"},
    })
}

fn merge(target: &mut Value, more: &Value) {
    match more {
        Value::Object(fields) => {
            for (key, value) in fields {
                merge(&mut target[key], value);
            }
        }
        other => *target = other.clone(),
    }
}
