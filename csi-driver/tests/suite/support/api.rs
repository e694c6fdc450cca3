//! An API server in memory, on loopback: as much of it as the node plugin uses, and a diary of what was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Plural and name.
type Key = (String, String);

struct Event {
    plural: String,
    kind: &'static str,
    object: Value,
}

#[derive(Default)]
struct Table {
    version: u64,
    objects: BTreeMap<Key, Value>,
    events: Vec<Event>,
    writes: Vec<String>,
    /// How often a single object was read.
    reads: usize,
    /// Plurals of which nothing is told.
    mute: BTreeSet<String>,
}

struct Shared {
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
}

/// Ends with its last clone.
#[derive(Clone)]
pub(crate) struct FakeApi {
    shared: Arc<Shared>,
    address: String,
    _server: Arc<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared { table: Mutex::default(), changed: watch::Sender::new(0) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, address, _server: Arc::new(AbortOnDrop(server)) }
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.address)
    }

    /// Watches of this plural are accepted and never answered.
    pub(crate) fn mute(&self, plural: &str) {
        self.shared.table.lock().unwrap().mute.insert(plural.to_owned());
    }

    /// A user makes or replaces an object.
    pub(crate) fn put(&self, plural: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.change(plural, &name, |_| Some(object));
    }

    /// A user changes an object.
    pub(crate) fn edit(&self, plural: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        self.change(plural, name, |old| {
            let mut object = old.unwrap();
            edit(&mut object);
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = json!(generation + 1);
            Some(object)
        });
    }

    /// The watches tell of an object as it was once.
    pub(crate) fn tell(&self, plural: &str, object: Value) {
        let mut table = self.shared.table.lock().unwrap();
        table.version += 1;
        table.events.push(Event { plural: plural.to_owned(), kind: "MODIFIED", object });
        self.shared.changed.send_replace(table.version);
    }

    /// Waits until single objects were read so often.
    pub(crate) async fn until_read(&self, times: usize) {
        let mut changed = self.shared.changed.subscribe();
        let seen = timeout(Duration::from_secs(10), async {
            while self.shared.table.lock().unwrap().reads < times {
                changed.changed().await.unwrap();
            }
        });
        seen.await.expect("nothing was read");
    }

    /// A user deletes an object: it stays while it has finalizers.
    pub(crate) fn delete(&self, plural: &str, name: &str) {
        self.change(plural, name, |old| {
            let mut object = old.unwrap();
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            let finalizers = object["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
            (finalizers > 0).then_some(object)
        });
    }

    /// Somebody takes the finalizers off by hand, and the object goes.
    pub(crate) fn remove(&self, plural: &str, name: &str) {
        self.change(plural, name, |_| None);
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.shared.table.lock().unwrap().objects.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    /// Everything that was written to the API server by its client: `PATCH nodevolumes/pvc-1/status`.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.shared.table.lock().unwrap().writes.clone()
    }

    /// Waits until the object is as wanted (`None`: gone), and returns it. Ten seconds catch what never comes.
    pub(crate) async fn until(
        &self,
        plural: &str,
        name: &str,
        what: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let mut changed = self.shared.changed.subscribe();
        let seen = timeout(Duration::from_secs(10), async {
            loop {
                changed.borrow_and_update();
                let object = self.get(plural, name);
                if what(object.as_ref()) {
                    return object;
                }
                changed.changed().await.unwrap();
            }
        });
        seen.await
            .unwrap_or_else(|_| panic!("{plural}/{name} did not come to that: {:#?}", self.get(plural, name)))
    }

    fn change(&self, plural: &str, name: &str, change: impl FnOnce(Option<Value>) -> Option<Value>) {
        let mut table = self.shared.table.lock().unwrap();
        table.change(plural, name, change);
        self.shared.changed.send_replace(table.version);
    }
}

/// A client of whatever is, or is not, at the address.
pub(crate) fn client(address: &str) -> Client {
    Client::try_from(Config::new(address.parse().unwrap())).unwrap()
}

impl Table {
    fn change(
        &mut self,
        plural: &str,
        name: &str,
        change: impl FnOnce(Option<Value>) -> Option<Value>,
    ) -> Value {
        self.version += 1;
        let key = (plural.to_owned(), name.to_owned());
        let old = self.objects.get(&key).cloned();
        let next = change(old.clone());
        let kind = match (&old, &next) {
            (None, _) => "ADDED",
            (Some(_), Some(_)) => "MODIFIED",
            (Some(_), None) => "DELETED",
        };
        let mut object = next.clone().or(old).unwrap();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let uid =
            object["metadata"]["uid"].as_str().map_or_else(|| format!("uid-{}", self.version), str::to_owned);
        object["metadata"]["uid"] = json!(uid);
        if object["metadata"]["generation"].is_null() {
            object["metadata"]["generation"] = json!(1);
        }
        match next {
            Some(_) => self.objects.insert(key, object.clone()),
            None => self.objects.remove(&key),
        };
        self.events.push(Event { plural: plural.to_owned(), kind, object: object.clone() });
        object
    }

    fn patch(
        &mut self,
        plural: &str,
        name: &str,
        status: bool,
        content_type: &str,
        patch: &Value,
    ) -> Response {
        let key = (plural.to_owned(), name.to_owned());
        let old = self.objects.get(&key).cloned();
        let apply = content_type.contains("apply-patch");
        let Some(mut object) = old.clone().or_else(|| (apply && !status).then(|| patch.clone())) else {
            return refusal(StatusCode::NOT_FOUND, "NotFound");
        };
        let expected = &patch["metadata"];
        for field in ["uid", "resourceVersion"] {
            if expected[field].is_string() && expected[field] != object["metadata"][field] {
                return refusal(StatusCode::CONFLICT, "Conflict");
            }
        }
        if status {
            assert!(apply, "the plugin applies its status");
            object["status"] = patch["status"].clone();
        } else if let Some(operations) = patch.as_array() {
            if !json_patch(&mut object, operations) {
                return refusal(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
            }
        } else {
            for (field, value) in patch["metadata"].as_object().unwrap() {
                object["metadata"][field] = value.clone();
            }
        }
        let gone = object["metadata"]["deletionTimestamp"].is_string()
            && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        let object = self.change(plural, name, |_| (!gone).then_some(object));
        json_response(StatusCode::OK, &object)
    }
}

/// `test` and `remove`, as far as paths of objects and indexes go.
fn json_patch(object: &mut Value, operations: &[Value]) -> bool {
    operations.iter().all(|operation| {
        let path = operation["path"].as_str().unwrap();
        match operation["op"].as_str().unwrap() {
            "test" => object.pointer(path) == Some(&operation["value"]),
            "remove" => {
                let (parent, index) = path.rsplit_once('/').unwrap();
                let list = object.pointer_mut(parent).and_then(Value::as_array_mut).unwrap();
                list.remove(index.parse().unwrap());
                true
            }
            other => panic!("unknown operation {other}"),
        }
    })
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().replace("%3D", "=");
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let resource = match parts.as_slice() {
        ["api", "v1", rest @ ..] | ["apis", "storage.tierce.dev", "v1alpha1", rest @ ..] => rest,
        other => panic!("asked for {other:?}"),
    };
    match (request.method(), resource) {
        (&Method::GET, [plural]) if query.contains("watch=true") => watched(shared, plural, &query),
        (&Method::GET, [plural, name]) => {
            let key = ((*plural).to_owned(), (*name).to_owned());
            let mut table = shared.table.lock().unwrap();
            table.reads += 1;
            shared.changed.send_replace(table.version);
            match table.objects.get(&key) {
                Some(object) => json_response(StatusCode::OK, object),
                None => refusal(StatusCode::NOT_FOUND, "NotFound"),
            }
        }
        (&Method::PATCH, [plural, name, rest @ ..]) => {
            let content_type = request.headers()["content-type"].to_str().unwrap().to_owned();
            let (plural, name, status) = ((*plural).to_owned(), (*name).to_owned(), rest == ["status"]);
            let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
            let change: Value = serde_json::from_slice(&body).unwrap();
            let mut table = shared.table.lock().unwrap();
            table.writes.push(format!("PATCH {}", resource_name(&plural, &name, status)));
            let response = table.patch(&plural, &name, status, &content_type, &change);
            shared.changed.send_replace(table.version);
            response
        }
        (method, other) => panic!("asked to {method} {other:?} {query}"),
    }
}

fn resource_name(plural: &str, name: &str, status: bool) -> String {
    if status { format!("{plural}/{name}/status") } else { format!("{plural}/{name}") }
}

/// The state as events, a bookmark, then what happens; or, from a version on, what happens.
fn watched(shared: Arc<Shared>, plural: &str, query: &str) -> Response {
    let selector = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=")).map(str::to_owned);
    let plural = plural.to_owned();
    let mut first = Vec::new();
    let table = shared.table.lock().unwrap();
    if table.mute.contains(&plural) {
        return Response::new(Body::from_stream(
            stream::pending::<Result<String, std::convert::Infallible>>(),
        ));
    }
    let mut next = table.events.len();
    if query.contains("sendInitialEvents=true") {
        let ours = table
            .objects
            .iter()
            .filter(|((kind, _), object)| *kind == plural && selected(object, selector.as_deref()));
        first.extend(ours.map(|(_, object)| line("ADDED", object)));
        first.push(line(
            "BOOKMARK",
            &json!({ "kind": "Bookmark", "apiVersion": "v1", "metadata": {
                "resourceVersion": table.version.to_string(),
                "annotations": { "k8s.io/initial-events-end": "true" },
            }}),
        ));
    } else {
        let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap();
        next = from.parse().unwrap();
    }
    drop(table);
    let changed = shared.changed.subscribe();
    let later = stream::unfold((shared, changed, next), move |(shared, mut changed, next)| {
        let (plural, selector) = (plural.clone(), selector.clone());
        async move {
            loop {
                changed.borrow_and_update();
                let (lines, end) = {
                    let table = shared.table.lock().unwrap();
                    let ours = |event: &&Event| {
                        event.plural == plural && selected(&event.object, selector.as_deref())
                    };
                    let news = table.events[next..].iter().filter(ours);
                    (
                        news.map(|event| line(event.kind, &event.object)).collect::<String>(),
                        table.events.len(),
                    )
                };
                if !lines.is_empty() {
                    return Some((lines, (shared, changed, end)));
                }
                changed.changed().await.ok()?;
            }
        }
    });
    let lines = stream::iter(first).chain(later).map(Ok::<_, std::convert::Infallible>);
    Response::new(Body::from_stream(lines))
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "object": object }))
}

fn selected(object: &Value, selector: Option<&str>) -> bool {
    let Some((path, value)) = selector.and_then(|selector| selector.split_once('=')) else { return true };
    object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str) == Some(value)
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16(),
    });
    json_response(code, &status)
}

fn json_response(code: StatusCode, object: &Value) -> Response {
    (code, [("content-type", "application/json")], object.to_string()).into_response()
}
