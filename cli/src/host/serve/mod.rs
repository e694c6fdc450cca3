//! `serve`: the Docker volume plugin, for Docker and Podman
//! (<https://docs.docker.com/engine/extend/plugins_volume/>).
//!
//! It keeps nothing in memory: each call finds volumes and their users on the disk, so it may be killed and started again under running
//! containers. While it runs it also watches thin pools.

mod asked;
mod caller;
mod calls;
mod socket;
mod watching;

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use self::caller::Caller;
use super::{Error, error::Context, keys::Asking, layout::Root, pools::Pools, volumes::Volumes};
use crate::{config::Pool, failure, terminal};

/// What Docker's plugin protocol wants as the type of every answer.
const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(root: &Path, pools: Vec<Pool>, path: &Path) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .doing(|| "start the plugin".to_owned())?;
    let root = Root::new(root);
    let watched = Pools::new(&root, &pools);
    let place = Place { root, pools: pools.into(), looks: Arc::default() };
    // The journal adds the time.
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false);
    log.with_ansi(false).with_max_level(tracing::Level::INFO).init();
    runtime.block_on(async {
        // Its file goes when we end.
        let (listener, _file) = socket::listen(path).await?;
        let mut terminated = signal(SignalKind::terminate()).doing(|| "listen for signals".to_owned())?;
        let stop = async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let looks = Arc::clone(&place.looks);
        tokio::spawn(async move {
            if let Err(error) = watching::watch(watched, looks).await {
                tracing::warn!("thin pools are not watched: {}", failure::in_words(&error));
            }
        });
        let router = Router::new().fallback(answer).with_state(place);
        terminal::note(&format!("Serving volumes at {}", path.display()));
        axum::serve(listener, router.into_make_service_with_connect_info::<Caller>())
            .with_graceful_shutdown(stop)
            .await
            .doing(|| format!("serve {}", path.display()))
    })
}

/// Where the volumes are.
#[derive(Clone)]
struct Place {
    root: Root,
    pools: Arc<[Pool]>,
    /// Lets thin pools be looked at again that could not be watched.
    looks: Arc<Notify>,
}

/// One call. Its body is read as JSON whatever its content type says: Docker and Podman send none.
async fn answer(
    State(place): State<Place>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let call = uri.path().trim_start_matches('/').to_owned();
    // The engine blocks, and has a runtime of its own.
    let looks = Arc::clone(&place.looks);
    let done = tokio::task::spawn_blocking(move || {
        let volumes = Volumes::new(place.root, &place.pools, Asking::Never).for_caller(caller.engine);
        calls::answer(&volumes, &call, &body, caller.process)
    })
    .await;
    looks.notify_one();
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
