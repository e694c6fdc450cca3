//! Serves RPCs on a unix socket until told to stop, and connects to one.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use tierce_socket::Socket;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
pub use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tracing::{info, warn};

use crate::observe::ObserveLayer;
pub use crate::observe::{Abandoned, RpcMetrics};

/// How long calls under way may take to end after the shutdown began. Less than the 30 s that Kubernetes grants by
/// default before it kills.
pub const DRAIN: Duration = Duration::from_secs(20);

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
#[error("can't serve RPCs on {path}")]
pub struct ServeError {
    path: String,
    source: tonic::transport::Error,
}

/// Serves `routes` until `shutdown`; then takes no new calls, lets those under way end for at most [`DRAIN`], and
/// removes the socket.
pub async fn serve(
    socket: Socket,
    routes: Routes,
    metrics: RpcMetrics,
    abandoned: Abandoned,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (listener, file) = socket.into_parts();
    let path = file.path().display().to_string();
    info!("serving RPCs on {path}");

    let calls = TaskTracker::new();
    let server = Server::builder()
        .layer(ObserveLayer::new(metrics, abandoned, calls.clone()))
        .add_routes(routes)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.clone().cancelled_owned());
    let all = async {
        server.await?;
        // Calls that outlive their connection.
        calls.close();
        calls.wait().await;
        Ok(())
    };
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        result = all => result.map_err(|source| ServeError { path: path.clone(), source })?,
        () = too_late => warn!("{path}: {} calls did not end within {DRAIN:?}", calls.len()),
    }
    info!("{path}: closed");
    drop(file);
    Ok(())
}

/// A connection to the server on the unix socket `path`. Fails when nobody answers there now; later it reconnects by
/// itself.
pub async fn connect(path: &Path) -> Result<Channel, tonic::transport::Error> {
    endpoint(path)?.connect().await
}

/// The same without connecting now: the first call does.
pub fn connect_lazy(path: &Path) -> Result<Channel, tonic::transport::Error> {
    Ok(endpoint(path)?.connect_lazy())
}

fn endpoint(path: &Path) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared([b"unix://", path.as_os_str().as_bytes()].concat())
}
