//! An API server in memory: objects of any kind, with resource versions, finalizers, preconditions, status
//! subresources and watches. Enough of Kubernetes for the controller, and every write is counted.

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Clones are the same server.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    version: Arc<watch::Sender<u64>>,
}

#[derive(Clone, Default)]
struct State {
    objects: HashMap<String, BTreeMap<(String, String), Arc<Value>>>,
    events: Vec<Event>,
    writes: Vec<String>,
    next_uid: u64,
    refuses_writes: bool,
    /// Kinds of which no watch tells anything more.
    silent: HashSet<String>,
    /// Answers to writes take so long; the write itself is done at once.
    slow: std::time::Duration,
    /// Method, plural and code of a write that is refused for good.
    forbidden: Option<(Method, String, u16)>,
    /// A mutating webhook gives each new claim this size.
    enlarged: Option<String>,
    /// Nothing can be made in the namespace any more.
    ending: Option<String>,
    /// Kind of each single object that was read.
    reads: Vec<String>,
    /// Sizes of the lists that were answered.
    listed: Vec<(String, usize)>,
    /// Kinds whose watches break, and can't be had again.
    broken: HashSet<String>,
    /// What befalls the write after so many others.
    fault: Option<(u32, Fault)>,
}

const ENDS: &str = "unable to create new content";

/// What happened to an object; nothing that was stored is ever changed in its place.
#[derive(Clone)]
pub struct Event {
    pub version: u64,
    pub plural: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    pub object: Arc<Value>,
}

/// What befalls a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Somebody else was faster: 409.
    Conflict,
    /// Its caller is killed before it.
    KilledBefore,
    /// Its caller is killed after it.
    KilledAfter,
}

/// A path of the API, taken apart.
struct Target {
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

/// An answer that is no object.
struct Refused(u16, &'static str, String);

impl FakeApi {
    pub fn new() -> Self {
        Self { state: Arc::default(), version: Arc::new(watch::Sender::new(1)) }
    }

    /// Another server with the same in it.
    pub fn copy(&self) -> Self {
        let state = self.state.lock().unwrap().clone();
        Self { state: Arc::new(Mutex::new(state)), version: Arc::new(watch::Sender::new(self.now())) }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// `POST nodevolumes`, `PATCH volumes/status` … in their order, since the last call.
    pub fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().writes)
    }

    /// How often single objects of this kind were read since the last call.
    pub fn read(&self, plural: &str) -> usize {
        let reads = std::mem::take(&mut self.state.lock().unwrap().reads);
        reads.into_iter().filter(|kind| kind == plural).count()
    }

    /// An object, by plural, namespace (empty for none) and name.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.see(plural, namespace, name).map(Arc::unwrap_or_clone)
    }

    /// The same to look at alone.
    pub fn see(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let state = self.state.lock().unwrap();
        state.objects.get(plural)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a kind.
    pub fn all(&self, plural: &str) -> Vec<Arc<Value>> {
        let state = self.state.lock().unwrap();
        state.objects.get(plural).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// Writes an object as it is, past all checks, as another version of the API could have left it.
    pub fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        let key = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(state.uid());
        }
        if object["metadata"]["creationTimestamp"].is_null() {
            object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let known = state.objects.get(plural).is_some_and(|objects| objects.contains_key(&key));
        self.store(&mut state, plural, key, object, if known { "MODIFIED" } else { "ADDED" });
    }

    /// Every write is answered with an error of the server, as while it has lost its etcd.
    pub fn refuse_writes(&self, refuse: bool) {
        self.state.lock().unwrap().refuses_writes = refuse;
    }

    /// The answer to every write comes so much later than the write is done.
    pub fn answer_writes_after(&self, delay: std::time::Duration) {
        self.state.lock().unwrap().slow = delay;
    }

    /// Watches of this kind tell nothing any more until they may again; then they catch up.
    pub fn silence(&self, plural: &str, silent: bool) {
        let mut state = self.state.lock().unwrap();
        if silent {
            state.silent.insert(plural.to_owned());
        } else {
            state.silent.remove(plural);
            drop(state);
            self.version.send_modify(|_| {});
        }
    }

    /// Watches of this kind end, and new ones are forbidden, until they may be had again.
    pub fn break_watches(&self, plural: &str, broken: bool) {
        let mut state = self.state.lock().unwrap();
        if broken {
            state.broken.insert(plural.to_owned());
        } else {
            state.broken.remove(plural);
        }
        drop(state);
        self.version.send_modify(|_| {});
    }

    /// How many objects of this kind each list had that was answered since the last call.
    pub fn listed(&self, plural: &str) -> Vec<usize> {
        let listed = std::mem::take(&mut self.state.lock().unwrap().listed);
        listed.into_iter().filter(|(kind, _)| kind == plural).map(|(_, count)| count).collect()
    }

    /// The namespace is deleted: nothing can be made in it any more.
    pub fn end_namespace(&self, namespace: &str) {
        self.state.lock().unwrap().ending = Some(namespace.to_owned());
    }

    /// Such writes are refused with this code, as by an admission rule or a quota.
    pub fn forbid(&self, forbidden: Option<(Method, &str, u16)>) {
        let forbidden = forbidden.map(|(method, plural, code)| (method, plural.to_owned(), code));
        self.state.lock().unwrap().forbidden = forbidden;
    }

    /// From now on a mutating webhook makes each new claim ask for this size.
    pub fn enlarge_claims_to(&self, size: &str) {
        self.state.lock().unwrap().enlarged = Some(size.to_owned());
    }

    /// This befalls the write after so many others; `None`: nothing.
    pub fn befall(&self, fault: Option<(u32, Fault)>) {
        self.state.lock().unwrap().fault = fault;
    }

    fn fault(&self) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let (writes, fault) = state.fault?;
        state.fault = (writes > 0).then(|| (writes - 1, fault));
        (writes == 0).then_some(fault)
    }

    /// What happened after this version.
    pub fn news(&self, after: u64) -> Vec<Event> {
        let state = self.state.lock().unwrap();
        let start = state.events.partition_point(|event| event.version <= after);
        state.events[start..].to_vec()
    }

    /// A user deletes an object: it stays while it has finalizers.
    pub fn delete_object(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        let key = (namespace.to_owned(), name.to_owned());
        let old = state.objects.get(plural).and_then(|objects| objects.get(&key)).cloned();
        if let Some(old) = old {
            let _ = self.delete(&mut state, plural, key, &old, &Value::Null);
        }
    }

    /// Removes an object at once, whatever its finalizers.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        self.drop_object(&mut state, plural, &(namespace.to_owned(), name.to_owned()));
    }

    async fn answer(&self, request: Request<Body>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let query: HashMap<String, String> =
            form(parts.uri.query().unwrap_or_default()).into_iter().collect();
        let target = Target::of(parts.uri.path());
        let watches = query.get("watch").is_some_and(|watch| watch == "true");
        let broken = self.state.lock().unwrap().broken.contains(&target.plural);
        if parts.method == Method::GET && watches && !broken {
            return Response::new(StreamBody::new(self.watch(&target, &query)).boxed_unsync());
        }
        let content = parts.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let fault = if parts.method == Method::GET { None } else { self.fault() };
        let answer = match fault {
            Some(Fault::Conflict) => Err(Refused(409, "Conflict", "somebody was faster".into())),
            // A caller that is never answered is as good as dead; whoever made it so drops it.
            Some(Fault::KilledBefore) => std::future::pending().await,
            Some(Fault::KilledAfter) => {
                let _ = self.handle(&parts.method, &target, content, body);
                std::future::pending().await
            }
            None if watches => Err(Refused(403, "Forbidden", format!("{} can't be watched", target.plural))),
            None if parts.method == Method::GET && target.name.is_none() => {
                Ok(Arc::new(self.list(&target, &query)))
            }
            None => self.handle(&parts.method, &target, content, body),
        };
        let slow = self.state.lock().unwrap().slow;
        if parts.method != Method::GET && !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let (code, answer) = match answer {
            Ok(answer) => (200, answer),
            Err(Refused(code, reason, message)) => {
                let causes: &[_] = if message.starts_with(ENDS) {
                    &[json!({"reason": "NamespaceTerminating"})]
                } else {
                    &[]
                };
                let mut status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message});
                status["details"] = json!({"causes": causes});
                (code, Arc::new(status))
            }
        };
        let bytes = Full::new(Bytes::from(serde_json::to_vec(&*answer).unwrap())).boxed_unsync();
        Response::builder().status(code).body(bytes).unwrap()
    }

    fn handle(
        &self,
        method: &Method,
        target: &Target,
        content: &str,
        body: Value,
    ) -> Result<Arc<Value>, Refused> {
        let mut state = self.state.lock().unwrap();
        let (plural, namespace) = (target.plural.as_str(), target.namespace.clone().unwrap_or_default());
        if method != Method::GET {
            let subresource = target.subresource.as_ref().map(|s| format!("/{s}")).unwrap_or_default();
            state.writes.push(format!("{method} {plural}{subresource}"));
            if state.refuses_writes {
                return Err(Refused(503, "ServiceUnavailable", "no leader".into()));
            }
            if let Some((refused, kind, code)) = &state.forbidden
                && refused == method
                && kind == plural
            {
                return Err(Refused(*code, "Forbidden", "exceeded quota: storage".into()));
            }
        }
        if method == Method::POST && !namespace.is_empty() && state.ending.as_ref() == Some(&namespace) {
            return Err(Refused(403, "Forbidden", format!("{ENDS}: {namespace} is being terminated")));
        }
        let Some(name) = target.name.clone() else {
            return self.create(&mut state, plural, &namespace, body);
        };
        if method == Method::GET {
            state.reads.push(plural.to_owned());
        }
        let key = (namespace, name);
        let known = state.objects.get(plural).and_then(|objects| objects.get(&key)).cloned();
        let old = known.ok_or_else(|| Refused(404, "NotFound", format!("{plural} {:?} not found", key.1)))?;
        match *method {
            Method::GET => Ok(old),
            Method::DELETE => self.delete(&mut state, plural, key, &old, &body),
            Method::PUT => {
                check(&old, &body["metadata"])?;
                let mut new = body;
                for field in ["uid", "namespace", "creationTimestamp", "generation"] {
                    new["metadata"][field] = old["metadata"][field].clone();
                }
                Ok(self.update(&mut state, plural, key, &old, new))
            }
            Method::PATCH => {
                check(&old, &body["metadata"])?;
                let mut new = (*old).clone();
                if target.subresource.as_deref() == Some("status") {
                    // Applied by one manager, the whole status is that manager's.
                    if content.contains("apply") {
                        new["status"] = body["status"].clone();
                    } else {
                        merge(&mut new["status"], &body["status"]);
                    }
                } else {
                    let mut patch = body;
                    patch
                        .get_mut("metadata")
                        .and_then(Value::as_object_mut)
                        .map(|meta| meta.remove("resourceVersion"));
                    merge(&mut new, &patch);
                }
                Ok(self.update(&mut state, plural, key, &old, new))
            }
            _ => Err(Refused(405, "MethodNotAllowed", method.to_string())),
        }
    }

    /// In pages where a limit is asked for; the token is how many were there before.
    fn list(&self, target: &Target, query: &HashMap<String, String>) -> Value {
        let mut state = self.state.lock().unwrap();
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let from = number("continue").unwrap_or(0);
        let all = state.matching(&target.plural, target, None);
        let until = number("limit").map_or(all.len(), |limit| all.len().min(from + limit));
        let token = (until < all.len()).then(|| until.to_string());
        state.listed.push((target.plural.clone(), until - from));
        let items: Vec<&Value> = all[from..until].iter().map(|object| &**object).collect();
        json!({"kind": "List", "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": self.now().to_string(), "continue": token}})
    }

    fn create(
        &self,
        state: &mut State,
        plural: &str,
        namespace: &str,
        mut body: Value,
    ) -> Result<Arc<Value>, Refused> {
        let name = text(&body["metadata"]["name"]);
        let key = (namespace.to_owned(), name.clone());
        if state.objects.get(plural).is_some_and(|objects| objects.contains_key(&key)) {
            return Err(Refused(409, "AlreadyExists", format!("{plural} {name:?} already exists")));
        }
        if !namespace.is_empty() {
            body["metadata"]["namespace"] = json!(namespace);
        }
        if plural == "persistentvolumeclaims"
            && let Some(size) = &state.enlarged
        {
            body["spec"]["resources"]["requests"]["storage"] = json!(size);
        }
        body["metadata"]["uid"] = json!(state.uid());
        body["metadata"]["generation"] = json!(1);
        body["metadata"]["creationTimestamp"] = json!(k8s_openapi::jiff::Timestamp::now().to_string());
        Ok(self.store(state, plural, key, body, "ADDED"))
    }

    fn delete(
        &self,
        state: &mut State,
        plural: &str,
        key: (String, String),
        old: &Value,
        options: &Value,
    ) -> Result<Arc<Value>, Refused> {
        check(old, &options["preconditions"])?;
        if old["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.drop_object(state, plural, &key);
            let done = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "code": 200});
            return Ok(Arc::new(done));
        }
        let mut new = old.clone();
        if new["metadata"]["deletionTimestamp"].is_null() {
            new["metadata"]["deletionTimestamp"] = json!(k8s_openapi::jiff::Timestamp::now().to_string());
            new["metadata"]["generation"] = json!(new["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        Ok(self.update(state, plural, key, old, new))
    }

    fn update(
        &self,
        state: &mut State,
        plural: &str,
        key: (String, String),
        old: &Value,
        mut new: Value,
    ) -> Arc<Value> {
        if new == *old {
            return Arc::new(new);
        }
        if new["spec"] != old["spec"] {
            new["metadata"]["generation"] = json!(new["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        let finalized = new["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if finalized && !new["metadata"]["deletionTimestamp"].is_null() {
            self.drop_object(state, plural, &key);
            return Arc::new(new);
        }
        self.store(state, plural, key, new, "MODIFIED")
    }

    fn store(
        &self,
        state: &mut State,
        plural: &str,
        key: (String, String),
        mut object: Value,
        kind: &'static str,
    ) -> Arc<Value> {
        let version = self.now() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        state.objects.entry(plural.to_owned()).or_default().insert(key, Arc::clone(&object));
        state.events.push(Event { version, plural: plural.to_owned(), kind, object: Arc::clone(&object) });
        self.version.send_replace(version);
        object
    }

    fn drop_object(&self, state: &mut State, plural: &str, key: &(String, String)) {
        let Some(object) = state.objects.get_mut(plural).and_then(|objects| objects.remove(key)) else {
            return;
        };
        let version = self.now() + 1;
        let mut object = Arc::unwrap_or_clone(object);
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let (plural, object) = (plural.to_owned(), Arc::new(object));
        state.events.push(Event { version, plural, kind: "DELETED", object });
        self.version.send_replace(version);
    }

    fn now(&self) -> u64 {
        *self.version.borrow()
    }

    fn watch(
        &self,
        target: &Target,
        query: &HashMap<String, String>,
    ) -> impl Stream<Item = Result<http_body::Frame<Bytes>, Infallible>> + Send + use<> {
        let only = query
            .get("fieldSelector")
            .and_then(|selector| selector.strip_prefix("metadata.name="))
            .map(ToOwned::to_owned);
        let (mut first, mut after) =
            (Vec::new(), query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0));
        if query.contains_key("sendInitialEvents") {
            let state = self.state.lock().unwrap();
            for object in state.matching(&target.plural, target, only.as_deref()) {
                first.push(json!({"type": "ADDED", "object": *object}));
            }
            after = self.now();
            first.push(json!({"type": "BOOKMARK", "object": {"kind": "Bookmark", "apiVersion": "v1", "metadata": {
                "resourceVersion": after.to_string(), "annotations": {"k8s.io/initial-events-end": "true"}}}}));
        }
        let (api, plural, changes) = (self.clone(), target.plural.clone(), self.version.subscribe());
        let namespace = target.namespace.clone();
        let later = stream::unfold((api, after, changes), move |(api, mut after, mut changes)| {
            let (plural, only, namespace) = (plural.clone(), only.clone(), namespace.clone());
            async move {
                loop {
                    let news: Vec<_> = {
                        let state = api.state.lock().unwrap();
                        if state.broken.contains(&plural) {
                            return None;
                        }
                        changes.mark_unchanged();
                        let silent = state.silent.contains(&plural);
                        let start = state.events.partition_point(|event| event.version <= after);
                        let matches = |object: &Value| {
                            only.as_ref().is_none_or(|name| object["metadata"]["name"] == json!(name))
                                && namespace
                                    .as_ref()
                                    .is_none_or(|ns| object["metadata"]["namespace"] == json!(ns))
                        };
                        let found = state.events[start..]
                            .iter()
                            .filter(|event| !silent && event.plural == plural && matches(&event.object))
                            .map(|event| json!({"type": event.kind, "object": *event.object}))
                            .collect();
                        if !silent {
                            after = state.events.last().map_or(after, |event| after.max(event.version));
                        }
                        found
                    };
                    if !news.is_empty() {
                        return Some((news, (api, after, changes)));
                    }
                    if changes.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        stream::iter((!first.is_empty()).then_some(first)).chain(later).map(|events| {
            let lines: Vec<_> = events.iter().map(ToString::to_string).collect();
            Ok(http_body::Frame::data(Bytes::from(lines.join("\n") + "\n")))
        })
    }
}

impl State {
    fn uid(&mut self) -> String {
        self.next_uid += 1;
        format!("00000000-0000-4000-8000-{:012}", self.next_uid)
    }

    fn matching(&self, plural: &str, target: &Target, only: Option<&str>) -> Vec<Arc<Value>> {
        let objects = self.objects.get(plural).into_iter().flatten();
        objects
            .filter(|((namespace, name), _)| {
                target.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
                    && only.is_none_or(|only| only == name)
            })
            .map(|(_, object)| object.clone())
            .collect()
    }
}

impl Target {
    fn of(path: &str) -> Self {
        let mut parts: Vec<_> = path.trim_matches('/').split('/').map(ToOwned::to_owned).collect();
        parts.drain(..if parts[0] == "api" { 2 } else { 3 });
        let namespace =
            (parts[0] == "namespaces" && parts.len() > 2).then(|| parts.drain(..2).nth(1).unwrap());
        let mut parts = parts.into_iter();
        Self { plural: parts.next().unwrap(), namespace, name: parts.next(), subresource: parts.next() }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn check(old: &Value, wanted: &Value) -> Result<(), Refused> {
    for field in ["uid", "resourceVersion"] {
        if !wanted[field].is_null() && wanted[field] != old["metadata"][field] {
            return Err(Refused(409, "Conflict", format!("{field} differs")));
        }
    }
    Ok(())
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let fields = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn form(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| {
            (key.to_owned(), value.replace("%3D", "=").replace("%21", "!").replace("%2C", ","))
        })
        .collect()
}
