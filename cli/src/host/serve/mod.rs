//! `serve`: the Docker volume plugin, for Docker and Podman
//! (<https://docs.docker.com/engine/extend/plugins_volume/>).
//!
//! It keeps nothing in memory: each call finds volumes and their users on the disk, so it may be killed and started again under running
//! containers.

mod calls;
mod socket;

use std::path::Path;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{Error, error::Context, layout::Root, volumes::Volumes};

/// What Docker's plugin protocol wants as the type of every answer.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(root: &Path, path: &Path) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .doing(|| "start the plugin".to_owned())?;
    let root = Root::new(root);
    runtime.block_on(async {
        let listener = socket::listen(path)?;
        let mut terminated = signal(SignalKind::terminate()).doing(|| "listen for signals".to_owned())?;
        let stop = async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let router = Router::new().fallback(answer).with_state(root);
        eprintln!("Serving volumes at {}", path.display());
        axum::serve(listener, router)
            .with_graceful_shutdown(stop)
            .await
            .doing(|| format!("serve {}", path.display()))
    })
}

/// One call. Its body is read as JSON whatever its content type says: Docker and Podman send none.
async fn answer(State(root): State<Root>, uri: Uri, body: Bytes) -> Response {
    let call = uri.path().trim_start_matches('/').to_owned();
    // The engine blocks, and has a runtime of its own.
    let done = tokio::task::spawn_blocking(move || calls::answer(&Volumes::new(root), &call, &body)).await;
    let (status, json) = match done {
        Ok(Ok(json)) => (StatusCode::OK, json),
        Ok(Err(calls::Refusal::Unknown(call))) => {
            (StatusCode::NOT_FOUND, serde_json::json!({"Err": format!("call {call:?} is not known")}))
        }
        Ok(Err(calls::Refusal::Failed(message))) => {
            (StatusCode::INTERNAL_SERVER_ERROR, serde_json::json!({"Err": message}))
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, serde_json::json!({"Err": error.to_string()})),
    };
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], json.to_string()).into_response()
}
