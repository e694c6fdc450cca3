//! The cluster of a history: its API server, one controller, one node.

use super::disk::Disk;
use crate::support::fake_api::FakeApi;
use crate::support::{bind, in_time};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tierce_controller::csi::ControllerService;
use tierce_controller::devices::keys::Keys;
use tierce_controller::devices::lost_node::Absences;
use tierce_controller::devices::older_keys;
use tierce_controller::devices::restore::RestoreReconciler;
use tierce_controller::devices::rotation::KeyRotation;
use tierce_controller::devices::unclaimed::UnclaimedKeys;
use tierce_controller::index::{
    ClaimObject, Index, Namespaced, NodeObject, PersistentVolumeObject, SecretObject, Tracked,
};
use tierce_controller::run::events::Events;
use tierce_crds::{KeyRing, NodeSnapshot, NodeVolume, Volume, VolumeRestore, names};
use tierce_proto::csi::CreateSnapshotRequest;
use tierce_proto::csi::controller_server::Controller as _;
use tokio_util::sync::CancellationToken;

/// The volume.
pub(crate) const ID: &str = "pvc-1";

pub(crate) struct World {
    pub(crate) api: FakeApi,
    pub(crate) disk: Disk,
    client: kube::Client,
    controller: Option<Controller>,
    /// What was read in the Secrets as they are.
    rings: RefCell<BTreeMap<String, Read>>,
}

/// A Secret, and what was read in it.
struct Read {
    secret: Arc<Value>,
    ring: Rc<KeyRing>,
}

struct Controller {
    index: Arc<Index>,
    heard: u64,
    service: ControllerService,
    restores: RestoreReconciler,
    rotation: KeyRotation,
    keys: UnclaimedKeys,
}

impl World {
    pub(crate) fn new(api: FakeApi) -> Self {
        let (client, rings) = (api.client(), RefCell::default());
        Self { client, api, disk: Disk::default(), controller: None, rings }
    }

    /// One that was killed before remembers nothing, and lists everything.
    pub(crate) fn start_controller(&mut self) {
        let index = Arc::new(Index::default());
        for (kind, _) in KINDS {
            for object in self.api.all(kind) {
                tell(&index, kind, "ADDED", &object);
            }
        }
        let heard = self.api.news(0).last().map_or(0, |event| event.version);
        let (client, keys) = (self.client.clone(), Keys::new(self.client.clone(), "default"));
        self.controller = Some(Controller {
            heard,
            service: ControllerService::new(client.clone(), Arc::clone(&index), "default"),
            restores: RestoreReconciler::new(
                client.clone(),
                Arc::clone(&index),
                Events::new(client.clone(), "test"),
                keys.clone(),
                Arc::new(Absences::new(Duration::from_mins(5))),
            ),
            rotation: KeyRotation::new(client.clone(), Arc::clone(&index), keys.clone()),
            keys: UnclaimedKeys::new(client, Arc::clone(&index), keys, Duration::ZERO),
            index,
        });
    }

    /// As the older version leaves the Secret when a restore in place is over, after a rotation.
    pub(crate) fn leave_in_older_form(&self, key: &str, next: &str) {
        let name = names::key_secret(ID);
        let mut secret = self.api.get("secrets", "default", &name).unwrap();
        let text = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
        secret["data"] = json!({"key": text(key), "next-key": text(next)});
        secret["metadata"]["annotations"] = json!({names::ANNOTATION_ROTATE_KEY: "once"});
        self.api.put("secrets", secret);
        let mut device = self.api.get("nodevolumes", "", ID).unwrap();
        device["metadata"]["annotations"] = json!({names::ANNOTATION_ROTATED_KEY: "once"});
        self.api.put("nodevolumes", device);
        self.annotate(names::ANNOTATION_ROTATE_KEY, "once");
    }

    /// As every controller does before it looks at anything.
    pub(crate) async fn convert_older_keys(&self) {
        let keys = Keys::new(self.client.clone(), "default");
        older_keys::convert_all(&self.client, &keys, &CancellationToken::new()).await;
    }

    fn controller(&self) -> &Controller {
        self.controller.as_ref().unwrap()
    }

    /// An encrypted Volume `data` of namespace `ada`, as CreateVolume leaves it, and no controller yet.
    pub(crate) async fn with_a_volume() -> Self {
        let world = Self::new(FakeApi::new());
        let api = &world.api;
        api.put("nodes", json!({"metadata": {"name": "n1"}}));
        let uid = "00000000-0000-4000-8000-000000000aaa";
        api.put(
            "volumes",
            json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
                "metadata": {"name": "data", "namespace": "ada", "uid": uid}, "spec": {"size": "1Gi", "tier": "ssd"}}),
        );
        let owner = json!([{"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "name": "data", "uid": uid,
            "controller": true}]);
        let claim = json!({"metadata": {"name": "data", "namespace": "ada", "uid": "claim", "ownerReferences": owner},
            "spec": {"volumeName": ID, "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Bound"}});
        api.put("persistentvolumeclaims", claim.clone());
        bind(api, &claim, ID);
        let keys = Keys::new(world.client.clone(), "default");
        keys.make(ID).await.unwrap();
        api.put(
            "nodevolumes",
            json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
                "metadata": {"name": ID, "uid": "device", "generation": 1, "finalizers": [names::FINALIZER_ON_NODE]},
                "spec": {"nodeName": "n1", "pool": "ssd", "sizeBytes": 1 << 30, "filesystem": "ext4", "encrypted": true,
                    "claim": {"namespace": "ada", "name": "data", "uid": "claim"}}}),
        );
        keys.belongs_to(ID, "NodeVolume", ID, "device").await.unwrap();
        world.node_reports();
        world
    }

    /// The watches tell so much of what they have not told yet; `None`: all.
    pub(crate) fn tell_index(&mut self, some: Option<usize>) {
        let controller = self.controller.as_mut().unwrap();
        for event in self.api.news(controller.heard).into_iter().take(some.unwrap_or(usize::MAX)) {
            controller.heard = event.version;
            tell(&controller.index, &event.plural, event.kind, &event.object);
        }
    }

    pub(crate) fn annotate(&self, name: &str, value: &str) {
        let mut volume = self.api.get("volumes", "ada", "data").unwrap();
        volume["metadata"]["annotations"][name] = json!(value);
        self.api.put("volumes", volume);
    }

    pub(crate) fn restore(&self, name: &str, snapshot: &str) {
        self.api.put(
            "volumerestores",
            json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore",
                "metadata": {"name": name, "namespace": "ada", "generation": 1},
                "spec": {"volume": "data", "snapshot": snapshot}}),
        );
    }

    pub(crate) fn names(&self, plural: &str) -> Vec<String> {
        let name = |object: &Arc<Value>| object["metadata"]["name"].as_str().unwrap().to_owned();
        self.api.all(plural).iter().map(name).collect()
    }

    /// The `VolumeSnapshot`s of the volume, by name.
    pub(crate) fn volume_snapshots(&self) -> Vec<String> {
        let name = |object: &Arc<Value>| object["spec"]["snapshot"]["name"].as_str().map(ToOwned::to_owned);
        self.api.all("nodesnapshots").iter().filter_map(name).collect()
    }

    pub(crate) async fn reconcile_restore(&self, name: &str) {
        self.controller().restores.reconcile(&Namespaced::new("ada", name)).await;
    }

    pub(crate) async fn look_at_rotation(&self) {
        self.controller().rotation.look(&Namespaced::new("ada", "data")).await;
    }

    pub(crate) async fn look_at_keys(&self) {
        for name in self.names("secrets") {
            self.controller().keys.look(names::of_key_secret(&name).unwrap()).await;
        }
    }

    /// `CreateSnapshot`, while the node works, and `meanwhile` once before it does.
    pub(crate) async fn take(
        &mut self,
        name: &str,
        meanwhile: impl AsyncFnOnce(&mut Disk, &FakeApi, &KeyRotation),
    ) -> Result<(), tonic::Status> {
        let mut request = CreateSnapshotRequest {
            name: format!("snapshot-{name}"),
            source_volume_id: ID.into(),
            ..CreateSnapshotRequest::default()
        };
        for (parameter, value) in
            [(names::PARAMETER_SNAPSHOT_NAMESPACE, "ada"), (names::PARAMETER_SNAPSHOT_NAME, name)]
        {
            request.parameters.insert(parameter.to_owned(), value.to_owned());
        }
        let controller = self.controller.as_mut().unwrap();
        let call = controller.service.create_snapshot(in_time(request, "5S"));
        let mut call = std::pin::pin!(call);
        let mut meanwhile = Some(meanwhile);
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return answer.map(drop),
                // Passes only when everybody waits.
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile(&mut self.disk, &self.api, &controller.rotation).await;
            }
            snapshots(&self.api, &mut self.disk);
            for event in self.api.news(controller.heard) {
                controller.heard = event.version;
                tell(&controller.index, &event.plural, event.kind, &event.object);
            }
        }
    }

    /// The node does what it is told. `begins_only`: it is killed in the middle of a restore.
    pub(crate) fn node_works(&mut self, begins_only: bool) {
        let volume = self.api.see("nodevolumes", "", ID).unwrap();
        self.disk.obey(&volume["spec"]["restore"], begins_only);
        snapshots(&self.api, &mut self.disk);
    }

    pub(crate) fn node_reports(&self) {
        let volume = self.api.see("nodevolumes", "", ID).unwrap();
        let generation = volume["metadata"]["generation"].clone();
        let status = json!({
            "capacityBytes": 1 << 30, "used": self.disk.volume.header.is_some(), "keyFingerprint": self.disk.volume.print(),
            "restored": self.disk.done, "restoreCalledOff": self.disk.called_off, "observedGeneration": generation,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Created", "message": "", "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        });
        if volume["status"] != status {
            let mut volume = Arc::unwrap_or_clone(volume);
            volume["status"] = status;
            self.api.put("nodevolumes", volume);
        }
    }

    /// The same as [`ring`].
    pub(crate) fn ring(&self, id: &str) -> Option<Rc<KeyRing>> {
        let secret = self.api.see("secrets", "default", &names::key_secret(id))?;
        let mut rings = self.rings.borrow_mut();
        if let Some(read) = rings.get(id)
            && Arc::ptr_eq(&read.secret, &secret)
        {
            return Some(Rc::clone(&read.ring));
        }
        let ring = Rc::new(read(&secret));
        rings.insert(id.to_owned(), Read { secret, ring: Rc::clone(&ring) });
        Some(ring)
    }

    /// As Kubernetes deletes what belongs to what is gone.
    pub(crate) fn collect_garbage(&self) {
        let owners = ["nodevolumes", "nodesnapshots"].map(|plural| self.api.all(plural)).concat();
        let is_there = |uid: &Value| owners.iter().any(|object| object["metadata"]["uid"] == *uid);
        for secret in self.api.all("secrets") {
            let of = secret["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
            if !of.is_empty() && !of.iter().any(|owner| is_there(&owner["uid"])) {
                self.api.delete_object("secrets", "default", secret["metadata"]["name"].as_str().unwrap());
            }
        }
    }
}

/// The keys of a volume or snapshot, as the kubelet would give them to the node.
pub(crate) fn ring(api: &FakeApi, id: &str) -> Option<KeyRing> {
    api.see("secrets", "default", &names::key_secret(id)).map(|secret| read(&secret))
}

fn read(secret: &Value) -> KeyRing {
    let data = BTreeMap::<String, k8s_openapi::ByteString>::deserialize(&secret["data"]).unwrap();
    KeyRing::read(data.iter().map(|(name, value)| (name.as_str(), value.0.as_slice())))
}

/// The node takes and removes snapshots, and says so.
fn snapshots(api: &FakeApi, disk: &mut Disk) {
    for object in api.all("nodesnapshots") {
        let id = object["metadata"]["name"].as_str().unwrap().to_owned();
        if !object["metadata"]["deletionTimestamp"].is_null() {
            if disk.begun.as_ref().is_none_or(|begun| begun.snapshot != id) {
                disk.snapshots.remove(&id);
                api.remove("nodesnapshots", "", &id);
            }
            continue;
        }
        if !disk.snapshots.contains_key(&id) {
            disk.settle();
            disk.snapshots.insert(id.clone(), disk.volume.clone());
        }
        let status = json!({
            "sizeBytes": 1 << 30, "usedBytes": 0, "takenAt": "2026-01-01T00:00:00Z", "volumeMode": "Filesystem", "filesystem": "ext4",
            "keyFingerprint": disk.snapshots[&id].print(), "observedGeneration": object["metadata"]["generation"],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Taken", "message": "",
                "observedGeneration": object["metadata"]["generation"], "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        });
        if object["status"] != status {
            let mut object = Arc::unwrap_or_clone(object);
            object["status"] = status;
            api.put("nodesnapshots", object);
        }
    }
}

type Teller = fn(&Index, &str, &Value);

/// What the controller watches.
const KINDS: [(&str, Teller); 8] = [
    ("nodes", put_or_remove::<NodeObject>),
    ("volumes", put_or_remove::<Volume>),
    ("persistentvolumeclaims", put_or_remove::<ClaimObject>),
    ("persistentvolumes", put_or_remove::<PersistentVolumeObject>),
    ("nodevolumes", put_or_remove::<NodeVolume>),
    ("nodesnapshots", put_or_remove::<NodeSnapshot>),
    ("volumerestores", put_or_remove::<VolumeRestore>),
    ("secrets", put_or_remove::<SecretObject>),
];

fn tell(index: &Index, plural: &str, event: &str, object: &Value) {
    if let Some((_, teller)) = KINDS.iter().find(|(kind, _)| *kind == plural) {
        teller(index, event, object);
    }
}

fn put_or_remove<T: Tracked + kube::Resource + DeserializeOwned>(index: &Index, event: &str, object: &Value) {
    let object = T::deserialize(object).unwrap();
    if event == "DELETED" { index.remove::<T>(object.meta()) } else { index.put(object) }
}
