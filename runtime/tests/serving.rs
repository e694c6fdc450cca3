//! A real server on a real socket: what callers see of Identity, panics, hang-ups and shutdown.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy excuses test functions, not the functions they share

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tierce_proto::csi::identity_client::IdentityClient;
use tierce_proto::csi::node_client::NodeClient;
use tierce_proto::csi::node_server::{Node, NodeServer};
use tierce_proto::csi::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use tierce_proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, NodeExpandVolumeRequest, NodeGetInfoRequest,
    NodeGetInfoResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, ProbeRequest,
};
use tierce_runtime::grpc::{self, Abandoned, Routes, RpcMetrics, ServeError};
use tierce_runtime::identity::IdentityService;
use tierce_runtime::readiness::{Part, Readiness};
use tierce_socket::Socket;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// Long enough for a busy machine; only a failing test waits for it.
const SOON: Duration = Duration::from_secs(10);

/// Shows what its calls do: staging waits until released, publishing panics.
#[derive(Debug, Default, Clone)]
struct Staged {
    entered: Arc<Notify>,
    release: Arc<Notify>,
    finished: Arc<AtomicBool>,
    left: Arc<Notify>,
}

/// Tells when a call is over, in whichever way.
struct Leaving(Arc<Notify>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tonic::async_trait]
impl Node for Staged {
    async fn node_stage_volume(
        &self,
        _: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let _leaving = Leaving(Arc::clone(&self.left));
        self.entered.notify_one();
        self.release.notified().await;
        self.finished.store(true, Ordering::SeqCst);
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        _: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        panic!("on purpose")
    }

    async fn node_unstage_volume(
        &self,
        _: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        Err(Status::aborted("volume pvc-1: another operation is under way"))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: "node-1".to_owned(), ..Default::default() }))
    }
}

struct Running {
    _folder: TempDir,
    path: PathBuf,
    node: Staged,
    part: Part,
    registry: Registry,
    shutdown: CancellationToken,
    server: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    async fn new(abandoned: Abandoned) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("csi.sock");
        let node = Staged::default();
        let readiness = Readiness::new();
        let part = readiness.part("watch");
        let identity = IdentityService::new("csi.tierce.dev", "1.2.3", readiness);
        let mut registry = Registry::default();
        let metrics = RpcMetrics::register(&mut registry);
        let shutdown = CancellationToken::new();
        let routes = Routes::new(identity.into_server()).add_service(NodeServer::new(node.clone()));
        let socket = Socket::bind(&path).await.unwrap();
        let server = tokio::spawn(grpc::serve(socket, routes, metrics, abandoned, shutdown.clone()));
        Self { _folder: folder, path, node, part, registry, shutdown, server }
    }

    async fn channel(&self) -> Channel {
        grpc::connect(&self.path).await.unwrap()
    }

    async fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel().await)
    }

    fn metrics(&self) -> String {
        let mut body = String::new();
        text::encode(&mut body, &self.registry).unwrap();
        body
    }

    /// Waits for a line of the metrics, because a call counts only once it has really ended.
    async fn counted(&self, line: &str) {
        let seen = timeout(SOON, async {
            while !self.metrics().contains(line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(seen.await.is_ok(), "{line} is missing in\n{}", self.metrics());
    }

    async fn ended(self) {
        timeout(SOON, self.server).await.expect("serving ends").unwrap().unwrap();
        assert!(!self.path.exists(), "the socket is removed");
    }
}

fn count(method: &str, code: &str, times: u32) -> String {
    format!(r#"tierce_grpc_requests_total{{method="csi.v1.{method}",code="{code}"}} {times}"#)
}

#[tokio::test]
async fn identity_says_who_we_are_and_whether_we_are_ready() {
    let running = Running::new(Abandoned::Drop).await;
    let mut identity = IdentityClient::new(running.channel().await);

    let info = identity.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.name.as_str(), info.vendor_version.as_str()), ("csi.tierce.dev", "1.2.3"));
    let claims =
        identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap().into_inner();
    let service = |claim: service::Type| Type::Service(Service { r#type: claim.into() });
    let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
    assert_eq!(
        claims.capabilities.into_iter().filter_map(|claim| claim.r#type).collect::<Vec<_>>(),
        [
            service(service::Type::ControllerService),
            service(service::Type::VolumeAccessibilityConstraints),
            Type::VolumeExpansion(online),
        ]
    );
    for (ready, change) in [(false, None), (true, Some(true)), (false, Some(false))] {
        match change {
            Some(true) => running.part.ready(),
            Some(false) => running.part.not_ready("the API server is away"),
            None => {}
        }
        let probe = identity.probe(ProbeRequest {}).await.unwrap().into_inner();
        assert_eq!(probe.ready, Some(ready));
    }
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let running = Running::new(Abandoned::Drop).await;
    let mut node = running.node().await;
    for _ in 0..2 {
        node.node_get_info(NodeGetInfoRequest {}).await.unwrap();
    }
    let aborted = node.node_unstage_volume(NodeUnstageVolumeRequest::default()).await.unwrap_err();
    assert_eq!(aborted.code(), Code::Aborted);
    assert_eq!(aborted.message(), "volume pvc-1: another operation is under way");
    let missing = node.node_expand_volume(NodeExpandVolumeRequest::default()).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unimplemented, "what a server leaves out");

    running.counted(&count("Node/NodeGetInfo", "OK", 2)).await;
    running.counted(&count("Node/NodeUnstageVolume", "Aborted", 1)).await;
    running.counted(&count("Node/NodeExpandVolume", "Unimplemented", 1)).await;
    running.counted(r#"tierce_grpc_request_seconds_count{method="csi.v1.Node/NodeGetInfo"} 2"#).await;
}

#[tokio::test]
async fn a_call_that_panics_ends_only_itself() {
    let running = Running::new(Abandoned::Drop).await;
    let mut node = running.node().await;
    let mut neighbour = node.clone();
    let waiting =
        tokio::spawn(async move { neighbour.node_stage_volume(NodeStageVolumeRequest::default()).await });
    timeout(SOON, running.node.entered.notified()).await.unwrap();

    let status = node.node_publish_volume(NodePublishVolumeRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("on purpose"), "a panic's message may hold anything: {status}");
    running.counted(&count("Node/NodePublishVolume", "Internal", 1)).await;

    running.node.release.notify_one();
    timeout(SOON, waiting).await.unwrap().unwrap().expect("the neighbour on the same connection ends well");
}

/// Starts a staging call, waits until it runs, and hangs up.
async fn hang_up(running: &Running) {
    let mut node = running.node().await;
    let call = tokio::spawn(async move { node.node_stage_volume(NodeStageVolumeRequest::default()).await });
    timeout(SOON, running.node.entered.notified()).await.unwrap();
    call.abort();
}

#[tokio::test]
async fn an_abandoned_call_is_dropped_where_it_waits() {
    let running = Running::new(Abandoned::Drop).await;
    hang_up(&running).await;
    timeout(SOON, running.node.left.notified()).await.expect("the call ends without its release");
    assert!(!running.node.finished.load(Ordering::SeqCst));
    running.counted(&count("Node/NodeStageVolume", "Canceled", 1)).await;
}

#[tokio::test]
async fn an_abandoned_call_finishes_where_that_is_asked_for() {
    let running = Running::new(Abandoned::Finish).await;
    hang_up(&running).await;
    let left = timeout(Duration::from_millis(100), running.node.left.notified()).await;
    assert!(left.is_err(), "the call goes on");
    running.node.release.notify_one();
    running.counted(&count("Node/NodeStageVolume", "OK", 1)).await;
    assert!(running.node.finished.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_deadline_reaches_the_caller_and_the_call_finishes() {
    let running = Running::new(Abandoned::Finish).await;
    let mut node = running.node().await;
    let mut request = Request::new(NodeStageVolumeRequest::default());
    request.set_timeout(Duration::from_millis(50));
    let status = timeout(SOON, node.node_stage_volume(request)).await.unwrap().unwrap_err();
    assert!(matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded), "{status}");
    running.node.release.notify_one();
    running.counted(&count("Node/NodeStageVolume", "OK", 1)).await;
}

#[tokio::test]
async fn shutdown_waits_for_calls_under_way_but_not_for_idle_connections() {
    for abandoned in [Abandoned::Drop, Abandoned::Finish] {
        let running = Running::new(abandoned).await;
        let mut idle = running.node().await;
        idle.node_get_info(NodeGetInfoRequest {}).await.unwrap();
        let mut node = running.node().await;
        let call =
            tokio::spawn(async move { node.node_stage_volume(NodeStageVolumeRequest::default()).await });
        timeout(SOON, running.node.entered.notified()).await.unwrap();

        running.shutdown.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!running.server.is_finished(), "a call is under way");
        running.node.release.notify_one();
        timeout(SOON, call).await.unwrap().unwrap().expect("the call ends well");
        running.ended().await;
    }
}

#[tokio::test]
async fn shutdown_waits_for_a_call_that_outlives_its_client() {
    let running = Running::new(Abandoned::Finish).await;
    hang_up(&running).await;
    running.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.server.is_finished(), "disk work is under way");
    running.node.release.notify_one();
    running.ended().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_ever() {
    let running = Running::new(Abandoned::Finish).await;
    hang_up(&running).await;
    let before = tokio::time::Instant::now();
    running.shutdown.cancel();
    running.server.await.unwrap().unwrap();
    let waited = before.elapsed();
    assert!(waited >= grpc::DRAIN && waited < grpc::DRAIN + Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn a_second_server_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let running = Running::new(Abandoned::Drop).await;
    let mut node = running.node().await;
    assert!(Socket::bind(&running.path).await.is_err());
    node.node_get_info(NodeGetInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn connecting_to_nobody_is_an_error() {
    let (done, result) = oneshot::channel();
    tokio::spawn(async move {
        let _ = done.send(grpc::connect(Path::new("/nonexistent/csi.sock")).await.is_err());
    });
    assert!(timeout(SOON, result).await.unwrap().unwrap());
}
