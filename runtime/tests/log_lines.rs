//! What an RPC leaves in the log at the most talkative level. One process, one subscriber: hence a file of its own.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy excuses test functions, not the functions they share

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tierce_proto::csi::controller_client::ControllerClient;
use tierce_proto::csi::controller_server::{Controller, ControllerServer};
use tierce_proto::csi::node_client::NodeClient;
use tierce_proto::csi::node_server::{Node, NodeServer};
use tierce_proto::csi::{
    CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeStageVolumeResponse,
};
use tierce_runtime::grpc::{self, Abandoned, Routes, RpcMetrics};
use tierce_socket::Socket;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{Level, Span, trace};

const CANARY: &str = "canary-7f3a";

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs what it is given, as a careless handler would.
struct Careless;

#[tonic::async_trait]
impl Node for Careless {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        Span::current().record("volume", &request.get_ref().volume_id);
        trace!(?request, "staging");
        Err(Status::not_found(format!("no such volume: {:?}", request.get_ref())))
    }
}

#[tonic::async_trait]
impl Controller for Careless {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        trace!(?request, "creating");
        panic!("{request:?}")
    }
}

#[tokio::test]
async fn bug_17_no_secret_in_any_log_line_error_panic_or_metric() {
    let capture = Capture::default();
    let writer = capture.clone();
    // Everything, the HTTP/2 library included.
    tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let panics = capture.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let mut panics = panics.clone();
        io::Write::write_all(&mut panics, format!("{panic}\n").as_bytes()).unwrap();
    }));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("csi.sock");
    let mut registry = Registry::default();
    let metrics = RpcMetrics::register(&mut registry);
    let shutdown = CancellationToken::new();
    let routes = Routes::new(NodeServer::new(Careless)).add_service(ControllerServer::new(Careless));
    let socket = Socket::bind(&path).await.unwrap();
    let serving = tokio::spawn(grpc::serve(socket, routes, metrics, Abandoned::Finish, shutdown.clone()));

    let secrets = || BTreeMap::from([("key".to_owned(), CANARY.to_owned())]);
    let channel = grpc::connect(&path).await.unwrap();
    let mut node = NodeClient::new(channel.clone());
    let mut controller = ControllerClient::new(channel);
    let mut errors = Vec::new();
    let stage =
        NodeStageVolumeRequest { volume_id: "pvc-1".to_owned(), secrets: secrets(), ..Default::default() };
    errors.push(node.node_stage_volume(stage).await.unwrap_err());
    let publish = NodePublishVolumeRequest { secrets: secrets(), ..Default::default() };
    errors.push(node.node_publish_volume(publish).await.unwrap_err());
    let create = CreateVolumeRequest { secrets: secrets(), ..Default::default() };
    errors.push(controller.create_volume(create).await.unwrap_err());
    let delete = DeleteVolumeRequest { secrets: secrets(), ..Default::default() };
    errors.push(controller.delete_volume(delete).await.unwrap_err());
    shutdown.cancel();
    serving.await.unwrap().unwrap();

    let log = String::from_utf8(capture.0.lock().unwrap().clone()).unwrap();
    let mut counted = String::new();
    text::encode(&mut counted, &registry).unwrap();
    for (place, text) in [("log", &log), ("errors", &format!("{errors:?}")), ("metrics", &counted)] {
        assert!(!text.contains(CANARY), "a secret in the {place}:\n{text}");
    }
    assert!(log.contains("secrets: <redacted>"), "the handlers did log their requests");
    assert!(log.contains("panicked at"), "and one did panic");
    assert!(log.lines().count() > 50, "and the libraries talked");

    let lines: Vec<&str> = log.lines().filter(|line| line.contains("tierce_runtime::observe")).collect();
    let answered = lines.iter().find(|line| line.contains("NodeStageVolume")).expect("one line per RPC");
    for part in
        ["WARN", r#"method="csi.v1.Node/NodeStageVolume""#, r#"volume="pvc-1""#, r#"code="NotFound""#, "ms="]
    {
        assert!(answered.contains(part), "{part} is missing in {answered}");
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
}
