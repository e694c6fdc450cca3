//! What operators ask over HTTP: `/healthz`, `/readyz`, `/metrics`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::readiness::Readiness;

/// The format that `/metrics` speaks.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why the HTTP server does not run.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The address can't be parsed, or is in use.
    #[error(
        "can't listen for /healthz and /metrics on {address:?} (want such as \":9808\" or \"127.0.0.1:9808\")"
    )]
    Listen {
        /// As given.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Serving ended by itself.
    #[error("can't serve /healthz and /metrics")]
    Serve(#[source] io::Error),
}

/// The HTTP server, listening already; or off.
#[derive(Debug)]
pub struct OpsServer {
    listener: Option<TcpListener>,
}

#[derive(Debug, Clone)]
struct Sources {
    readiness: Readiness,
    registry: Arc<Registry>,
}

impl OpsServer {
    /// Listens on `address`: `host:port`, `:port` for all addresses, or empty for "off".
    pub async fn bind(address: &str) -> Result<Self, OpsError> {
        if address.is_empty() {
            return Ok(Self { listener: None });
        }
        let full = if address.starts_with(':') { format!("[::]{address}") } else { address.to_owned() };
        let listener = TcpListener::bind(&full).await;
        // A kernel without IPv6.
        let listener = match listener {
            Err(error) if address.starts_with(':') && error.raw_os_error() == Some(EAFNOSUPPORT) => {
                TcpListener::bind(format!("0.0.0.0{address}")).await
            }
            other => other,
        };
        let listener = listener.map_err(|source| OpsError::Listen { address: address.to_owned(), source })?;
        Ok(Self { listener: Some(listener) })
    }

    /// Where it listens; `None` when off.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown`. When off, only waits for it.
    ///
    /// `/healthz` answers 200 while the program runs at all: a program that is not ready must not be restarted for
    /// it. `/readyz` answers 200, or 503 with one line per part that is not ready.
    pub async fn serve(
        self,
        readiness: Readiness,
        registry: Arc<Registry>,
        shutdown: CancellationToken,
    ) -> Result<(), OpsError> {
        let address = self.address();
        let Some(listener) = self.listener else {
            shutdown.cancelled().await;
            return Ok(());
        };
        if let Some(address) = address {
            info!("serving /healthz, /readyz and /metrics on {address}");
        }
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(Sources { readiness, registry });
        // Not graceful: a scraper's idle connection must not hold up the shutdown.
        tokio::select! {
            result = axum::serve(listener, router) => result.map_err(OpsError::Serve),
            () = shutdown.cancelled() => Ok(()),
        }
    }
}

const EAFNOSUPPORT: i32 = 97;

async fn readyz(State(sources): State<Sources>) -> (StatusCode, String) {
    match sources.readiness.check() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
    }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, &sources.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
