//! `tierce-controller`: wiring only.

use clap::Parser;
use kube::Client;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tierce_controller::csi::ControllerService;
use tierce_controller::index::{Index, watch_everything};
use tierce_controller::metrics::Metrics;
use tierce_controller::run::config::{Cli, Command, Crds, Serve};
use tierce_controller::{reconcilers, run};
use tierce_crds::names;
use tierce_runtime::grpc::{self, Abandoned, Routes, RpcMetrics};
use tierce_runtime::identity::IdentityService;
use tierce_runtime::ops::OpsServer;
use tierce_runtime::readiness::Readiness;
use tierce_runtime::{api_server, logs, shutdown};
use tierce_socket::Socket;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    logs::init()?;
    let client = api_server::client(concat!("tierce-controller/", env!("CARGO_PKG_VERSION"))).await?;
    match cli.command {
        Some(Command::Crds(Crds::Apply)) => Ok(run::crds::apply(&client).await?),
        None => Box::pin(serve(client, &cli.serve)).await,
    }
}

async fn serve(client: Client, config: &Serve) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    let mut registry = Registry::default();
    let rpc = RpcMetrics::register(&mut registry);
    let readiness = Readiness::new();
    let index = Arc::new(Index::default());
    let metrics = Metrics::register(&mut registry, &index);
    let watches = watch_everything(&client, &index, &readiness, &config.namespace);

    let socket = Socket::bind(&config.csi_socket).await?;
    let ops = OpsServer::bind(&config.metrics_addr).await?;
    let identity = IdentityService::new(names::DRIVER, env!("CARGO_PKG_VERSION"), readiness.clone());
    let service = ControllerService::new(client.clone(), Arc::clone(&index), &config.namespace);
    let routes = Routes::new(identity.into_server()).add_service(service.into_server());

    // A call that its client gave up is dropped: what it wrote is found by the next one.
    let rpcs = grpc::serve(socket, routes, rpc, Abandoned::Drop, shutdown.clone());
    let reconcilers = reconcilers::run(client, index, readiness.clone(), config, metrics, shutdown.clone());
    let ops = ops.serve(readiness, Arc::new(registry), shutdown.clone());
    let serving = async {
        tokio::try_join!(
            async { rpcs.await.map_err(anyhow::Error::from) },
            async { reconcilers.await.map_err(anyhow::Error::from) },
            async { ops.await.map_err(anyhow::Error::from) },
        )
    };
    tokio::select! {
        result = serving => result.map(drop),
        () = watches => Err(anyhow::anyhow!("the watches ended")),
    }
}
