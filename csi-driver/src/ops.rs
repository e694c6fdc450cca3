//! Where operators ask. In the network of the node its port may be somebody else's, which must not keep a node from its volumes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tierce_runtime::errors::in_words;
use tierce_runtime::ops::{OpsError, OpsServer};
use tierce_runtime::readiness::Readiness;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between two tries to listen.
const PAUSE: Duration = Duration::from_secs(10);

/// Listens at the address; `None`: somebody else has the port, or the node has not got the address yet.
pub(crate) async fn try_bind(address: &str) -> Result<Option<OpsServer>, OpsError> {
    match OpsServer::bind(address).await {
        Ok(server) => Ok(Some(server)),
        Err(error) if may_pass(&error) => {
            warn!("no /healthz, /readyz and /metrics for now: {}", in_words(&error));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Serves it until `shutdown`, from when the port is to be had.
pub(crate) async fn serve(
    server: Option<OpsServer>,
    address: &str,
    readiness: Readiness,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let server = match server {
        None => bind_later(address, &shutdown).await?,
        bound => bound,
    };
    if let Some(server) = server {
        server.serve(readiness, registry, shutdown).await?;
    }
    Ok(())
}

/// Waits until that works; `None`: until `shutdown`.
async fn bind_later(address: &str, shutdown: &CancellationToken) -> Result<Option<OpsServer>, OpsError> {
    loop {
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
        if let Some(server) = try_bind(address).await? {
            return Ok(Some(server));
        }
    }
}

fn may_pass(error: &OpsError) -> bool {
    let OpsError::Listen { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_that_somebody_else_has_is_waited_for_and_no_nonsense_is() {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap().to_string();
        assert!(try_bind(&address).await.unwrap().is_none());
        let shutdown = CancellationToken::new();
        let (server, ()) = tokio::join!(bind_later(&address, &shutdown), async {
            sleep(PAUSE + PAUSE / 2).await;
            drop(other);
        });
        assert_eq!(server.unwrap().unwrap().address().unwrap().to_string(), address);
        shutdown.cancel();
        assert!(bind_later(&address, &shutdown).await.unwrap().is_none());
        assert!(try_bind("nonsense").await.is_err());
    }
}
