//! What the scenarios share: an API server in memory, nodes that carry out NodeVolumes, a provisioner.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong here fails the test")]

pub mod fake_api;
pub mod fake_node;
pub mod snapshots;

use fake_api::FakeApi;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tierce_controller::csi::ControllerService;
use tierce_controller::index::{Index, watch_everything};
use tierce_controller::metrics::Metrics;
use tierce_controller::reconcilers;
use tierce_controller::run::config::Serve;
use tierce_crds::{Binding, names};
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use tierce_proto::csi::{
    CapacityRange, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, TopologyRequirement,
    VolumeCapability,
};
use tierce_runtime::readiness::Readiness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

pub const GI: i64 = 1 << 30;

/// One replica of the controller over an API server in memory.
pub struct Replica {
    pub api: FakeApi,
    pub index: Arc<Index>,
    pub service: ControllerService,
    readiness: Readiness,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    /// Serves CSI; reconciles nothing.
    pub async fn serving(api: &FakeApi) -> Self {
        let client = api.client();
        let (index, readiness) = (Arc::new(Index::default()), Readiness::new());
        let watches = tokio::spawn(watch_everything(&client, &index, &readiness, "default"));
        within(readiness.wait()).await;
        let service = ControllerService::new(client, Arc::clone(&index), "default");
        Self { api: api.clone(), index, service, readiness, tasks: vec![watches] }
    }

    /// Serves CSI and reconciles, with graces of so long.
    pub async fn reconciling(api: &FakeApi, grace: Duration) -> Self {
        let mut replica = Self::serving(api).await;
        let config = Serve {
            csi_socket: "/unused".into(),
            metrics_addr: String::new(),
            namespace: "default".into(),
            identity: "test".into(),
            leader_election: false,
            node_lost_grace: grace,
            reap_grace: grace,
            client_grace: grace,
        };
        let (client, index, readiness) =
            (api.client(), Arc::clone(&replica.index), replica.readiness.clone());
        replica.tasks.push(tokio::spawn(async move {
            let run = reconcilers::run(
                client,
                index,
                readiness,
                &config,
                Metrics::default(),
                CancellationToken::new(),
            );
            run.await.unwrap();
        }));
        replica
    }

    /// Its index stays as it is.
    pub fn stop_watching(&self) {
        self.tasks[0].abort();
    }

    pub async fn create(&self, request: CreateVolumeRequest) -> Result<CreateVolumeResponse, Status> {
        self.service.create_volume(in_time(request, "5S")).await.map(tonic::Response::into_inner)
    }

    pub async fn delete(&self, id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: id.into(), ..DeleteVolumeRequest::default() };
        self.service.delete_volume(in_time(request, "5S")).await.map(drop)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub fn in_time<T>(request: T, timeout: &'static str) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

/// What takes longer does not happen.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it did not happen in 20 s")
}

/// Looks until something is there.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..2_000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}")
}

/// A tier with one pool of its name, and its classes.
pub fn tier(api: &FakeApi, name: &str) {
    pool(api, name);
    for binding in [Binding::OnFirstUse, Binding::Immediate] {
        class(api, &names::storage_class(name, false, binding), &json!({"tier": name}));
        let key = "csi.storage.k8s.io/node-stage-secret-name";
        let namespace = "csi.storage.k8s.io/node-stage-secret-namespace";
        let encrypted =
            json!({"tier": name, "encrypted": "true", key: "tierce-key-${pv.name}", namespace: "default"});
        class(api, &names::storage_class(name, true, binding), &encrypted);
    }
}

/// A StorageClass of ours.
pub fn class(api: &FakeApi, name: &str, parameters: &Value) {
    let binding = if name.ends_with("-immediate") { "Immediate" } else { "WaitForFirstConsumer" };
    api.put(
        "storageclasses",
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": names::DRIVER, "parameters": parameters, "volumeBindingMode": binding}),
    );
}

/// A tier with one pool of its name, to which no class leads.
pub fn pool(api: &FakeApi, name: &str) {
    api.put(
        "storagepools",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": name, "generation": 1},
            "spec": {"tier": name, "directory": {"path": "/pool"}}}),
    );
}

/// A CreateVolume request as external-provisioner writes it, without a claim.
pub fn request(name: &str, tier: &str, bytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capabilities: vec![mount("")],
        parameters: [("tier".to_owned(), tier.to_owned())].into(),
        ..CreateVolumeRequest::default()
    }
}

pub fn mount(fs_type: &str) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: fs_type.into(),
            ..MountVolume::default()
        })),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    }
}

/// Only this node.
pub fn on(node: &str) -> TopologyRequirement {
    let there = tierce_proto::csi::Topology {
        segments: [(tierce_crds::names::TOPOLOGY_NODE.to_owned(), node.to_owned())].into(),
    };
    TopologyRequirement { requisite: vec![there.clone()], preferred: vec![there] }
}

/// The same for a claim that exists.
pub fn request_for(claim: &Value, tier: &str) -> CreateVolumeRequest {
    let size = claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap();
    let bytes = i64::try_from(tierce_crds::parse_bytes(size).unwrap()).unwrap();
    let mut request = request(&format!("pvc-{}", claim["metadata"]["uid"].as_str().unwrap()), tier, bytes);
    for (parameter, value) in [
        (tierce_crds::names::PARAMETER_PVC_NAME, &claim["metadata"]["name"]),
        (tierce_crds::names::PARAMETER_PVC_NAMESPACE, &claim["metadata"]["namespace"]),
        (tierce_crds::names::PARAMETER_PV_NAME, &json!(request.name.clone())),
    ] {
        request.parameters.insert(parameter.to_owned(), value.as_str().unwrap().to_owned());
    }
    request
}

/// A claim in namespace `ada`.
pub fn claim(api: &FakeApi, name: &str, size: &str) -> Value {
    api.put(
        "persistentvolumeclaims",
        json!({"metadata": {"name": name, "namespace": "ada"}, "spec": {"resources": {"requests": {"storage": size}}},
            "status": {"phase": "Pending"}}),
    );
    api.get("persistentvolumeclaims", "ada", name).unwrap()
}

/// What provisioner and binder do for a claim: CreateVolume, then a PersistentVolume bound to it.
pub async fn provision(replica: &Replica, claim: &Value, tier: &str) -> Result<String, Status> {
    let made = within(replica.create(request_for(claim, tier))).await?.volume.unwrap();
    bind(&replica.api, claim, &made.volume_id);
    Ok(made.volume_id)
}

/// A PersistentVolume for the volume of this id, bound to the claim.
pub fn bind(api: &FakeApi, claim: &Value, id: &str) {
    let meta = &claim["metadata"];
    api.put(
        "persistentvolumes",
        json!({"metadata": {"name": id}, "spec": {
            "csi": {"driver": "csi.tierce.dev", "volumeHandle": id},
            "claimRef": {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
            "persistentVolumeReclaimPolicy": "Delete"}}),
    );
    let mut bound = claim.clone();
    bound["spec"]["volumeName"] = json!(id);
    bound["status"]["phase"] = json!("Bound");
    api.put("persistentvolumeclaims", bound);
}

/// A Volume in namespace `ada`.
pub fn volume(api: &FakeApi, name: &str, spec: &Value) {
    api.put(
        "volumes",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
            "metadata": {"name": name, "namespace": "ada", "generation": 1}, "spec": spec}),
    );
}

/// Status, reason and message of a Volume's Ready condition.
pub fn ready(api: &FakeApi, name: &str) -> Option<(String, String, String)> {
    let volume = api.get("volumes", "ada", name)?;
    let conditions = volume["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    let field = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    Some((field("status"), field("reason"), field("message")))
}

/// Waits until a Volume's Ready condition has this reason; status and message.
pub async fn says(api: &FakeApi, name: &str, reason: &str) -> (String, String) {
    until(&format!("Volume {name} says {reason}; it says {:?}", ready(api, name)), || {
        ready(api, name).filter(|(_, now, _)| now == reason).map(|(status, _, message)| (status, message))
    })
    .await
}
