//! No secret leaves the plugin by any door that we know of. A program of its own, as it listens to all logs of the
//! process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

#[path = "suite/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the suite, which uses more of it")]
mod support;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tierce_proto::csi::{NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing_subscriber::fmt::MakeWriter;

use support::*;

const CANARY: &str = "canary-Xq7-never-to-be-seen";
/// An address that no other test has, and a port that the kernel gives to no outgoing connection.
const METRICS: &str = "127.17.17.17:9808";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bug_17_secrets_stay_out_of_logs_answers_metrics_and_objects() {
    let captured = Captured::default();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(captured.clone()).init();
    let machine = Machine::new();
    let api = FakeApi::start().await;
    api.put(POOLS, pool("p", &machine.pool_path("p")));
    api.put(VOLUMES, node_volume("pvc-1", GIB));
    let metrics_addr = format!("--metrics-addr={METRICS}");
    let mut plugin = machine.start_with(api.client(), &["--no-registration", &metrics_addr]).await;
    api.until(VOLUMES, "pvc-1", ready).await;

    let secret = || [("key".to_owned(), CANARY.to_owned()), (CANARY.to_owned(), "value".to_owned())].into();
    let tokens = || [("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), CANARY.to_owned())].into();
    let (s, t) = (machine.kubelet_path("staging"), machine.kubelet_path("pods/target"));
    let mut answers = Vec::new();
    // Right ones and wrong ones.
    for id in ["pvc-1", "pvc-9", "../"] {
        let staged = NodeStageVolumeRequest { secrets: secret(), volume_context: tokens(), ..stage(id, &s) };
        answers.push(format!("{:?}", plugin.node.node_stage_volume(staged).await));
        let published =
            NodePublishVolumeRequest { secrets: secret(), volume_context: tokens(), ..publish(id, &s, &t) };
        answers.push(format!("{:?}", plugin.node.node_publish_volume(published).await));
        let expanded = NodeExpandVolumeRequest {
            volume_id: id.into(),
            volume_path: t.clone(),
            secrets: secret(),
            ..Default::default()
        };
        answers.push(format!("{:?}", plugin.node.node_expand_volume(expanded).await));
    }
    let mut scrape = TcpStream::connect(METRICS).await.unwrap();
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut metrics = String::new();
    scrape.read_to_string(&mut metrics).await.unwrap();
    plugin.stop().await;

    let logs = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    // The doors were open: each request was logged, and the metrics came.
    for call in ["NodeStageVolumeRequest {", "NodePublishVolumeRequest {", "NodeExpandVolumeRequest {"] {
        assert!(logs.contains(call), "{call} was not logged");
    }
    assert!(logs.contains("secrets: <redacted>"));
    assert!(metrics.contains("tierce_grpc_requests_total"), "{metrics}");
    let object = api.get(VOLUMES, "pvc-1").unwrap().to_string();
    for (door, words) in
        [("logs", logs), ("answers", answers.join("\n")), ("metrics", metrics), ("objects", object)]
    {
        assert!(!words.contains(CANARY), "a secret is in the {door}");
    }
}
