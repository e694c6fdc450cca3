//! What a scraper and the kubelet's HTTP probes see.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy excuses test functions, not the functions they share

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tierce_runtime::ops::{OpsError, OpsServer};
use tierce_runtime::readiness::Readiness;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(10);

/// The whole answer to `GET path`, headers included.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let mut registry = Registry::default();
    let gauge = Gauge::<i64>::default();
    registry.register("tierce_volumes", "Volumes on this node", gauge.clone());
    let readiness = Readiness::new();
    let part = readiness.part("watch");
    let server = OpsServer::bind("127.0.0.1:0").await.unwrap();
    let address = server.address().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(readiness, Arc::new(registry), shutdown.clone()));

    assert!(
        get(address, "/healthz").await.starts_with("HTTP/1.1 200"),
        "not ready is no reason to be killed"
    );
    let waiting = get(address, "/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("watch: starting"), "{waiting}");
    part.ready();
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));

    gauge.set(7);
    let metrics = get(address, "/metrics").await;
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.contains("tierce_volumes 7\n# EOF"), "{metrics}");
    assert!(get(address, "/secrets").await.starts_with("HTTP/1.1 404"));

    let _idle = TcpStream::connect(address).await.unwrap();
    shutdown.cancel();
    timeout(SOON, serving).await.expect("idle connections hold nothing up").unwrap().unwrap();
}

#[tokio::test]
async fn an_empty_address_means_off() {
    let server = OpsServer::bind("").await.unwrap();
    assert_eq!(server.address(), None);
    let shutdown = CancellationToken::new();
    let serving =
        tokio::spawn(server.serve(Readiness::new(), Arc::new(Registry::default()), shutdown.clone()));
    tokio::task::yield_now().await;
    assert!(!serving.is_finished(), "it must not end the program that waits for it");
    shutdown.cancel();
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn addresses() {
    assert!(OpsServer::bind(":0").await.unwrap().address().unwrap().ip().is_unspecified());
    let taken = OpsServer::bind("127.0.0.1:0").await.unwrap();
    let address = taken.address().unwrap().to_string();
    for wrong in [address.as_str(), "9808", "nonsense:http"] {
        let error = OpsServer::bind(wrong).await.unwrap_err();
        assert!(matches!(error, OpsError::Listen { .. }), "{error}");
        assert!(error.to_string().contains(wrong), "{error}");
    }
}
