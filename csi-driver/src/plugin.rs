//! Puts the parts together, in the order that lets pods start as early as possible.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Client;
use prometheus_client::registry::Registry;
use tierce_crds::{NodeSnapshot, NodeVolume, names};
use tierce_engine::{Engine, Host, LinuxHost, SimConfig, SimHost};
use tierce_runtime::grpc::{self, Abandoned, Routes, RpcMetrics};
use tierce_runtime::identity::IdentityService;
use tierce_runtime::readiness::Readiness;
use tierce_socket::Socket;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::changes::Changes;
use crate::config::Config;
use crate::intents::{self, Intents};
use crate::metrics::Metrics;
use crate::node_service::NodeService;
use crate::node_storage::{self, Claims, Reporter};
use crate::ops;
use crate::pools::{self, PoolBoard};
use crate::registration::{self, RegistrationService};
use crate::served::Board;
use crate::sharing::{self, Exporter, Holders, Kernel, LinuxKernel, Places, PretendedKernel, Sharing};
use crate::state_lock::StateLock;

/// How long the end waits for what frees the space of deleted volumes.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Runs the plugin until `shutdown`. Keep what it returns until the process ends: work on a disk may outlast the calls.
pub async fn run(config: Config, client: Client, shutdown: CancellationToken) -> anyhow::Result<StateLock> {
    // Before anything is cleaned up.
    let lock = tokio::select! {
        lock = StateLock::acquire(&config.state_dir) => {
            lock.with_context(|| format!("can't lock the state folder {}", config.state_dir.display()))?
        }
        () = shutdown.cancelled() => bail!("stopped while another node plugin works on this node"),
    };
    let engine = Engine::new(host(&config)?);
    // The pools of the last time first: recovery and the kubelet's calls need to know where to look.
    let board = PoolBoard::load(engine.clone(), config.pools_file()).await;
    tokio::select! {
        () = recover(&engine) => {}
        () = shutdown.cancelled() => {
            info!("stopped while looking for leftovers");
            return Ok(lock);
        }
    }

    let mut registry = Registry::default();
    let rpc_metrics = RpcMetrics::register(&mut registry);
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let changes = Changes::default();
    let volumes = Intents::<NodeVolume>::default();

    let sharing = shared_with(&config);
    let node = NodeService::new(
        config.node_name.clone(),
        engine.clone(),
        volumes.nudges(),
        changes.clone(),
        sharing.clone(),
        Holders::new(config.node_name.clone(), engine.clone(), volumes.clone(), client.clone()),
    );
    let identity = IdentityService::new(names::DRIVER, env!("CARGO_PKG_VERSION"), readiness.clone());
    let csi = Socket::bind(config.csi_socket()).await?;
    let csi_routes = Routes::new(identity.into_server()).add_service(node.into_server());
    let registration = config.registration_folder().map(|folder| {
        let part = readiness.part("registration");
        (folder, RegistrationService::new(&config.csi_socket_on_host(), part, &mut registry))
    });
    let ops_address = config.ops_address();
    let ops = ops::try_bind(&ops_address).await?;
    // Only when calls can come in: zeros over all deleted volumes may take hours.
    engine.start_sweeps().await;

    let pools_part = readiness.part("pools");
    if board.known().is_empty() {
        pools_part.not_ready("the API server has not told the pools yet");
    } else {
        pools_part.ready();
    }
    let served = Board::default();
    let (me, api) = (config.node_name.clone(), client.clone());
    let exporter = Exporter::new(me, api, engine.clone(), sharing, volumes.clone(), served.clone());
    let kubernetes = kubernetes(
        &config,
        client,
        &engine,
        board.clone(),
        &volumes,
        &changes,
        served,
        metrics,
        shutdown.clone(),
    );
    let serve_registration = async {
        // After the CSI socket listens: the kubelet calls it as soon as it has found this one.
        let Some((folder, service)) = registration else { return anyhow::Ok(()) };
        registration::serve(service, &folder, rpc_metrics.clone(), shutdown.clone()).await
    };
    let say_when_synced = async {
        tokio::select! {
            () = board.wait_until_synced() => pools_part.ready(),
            () = shutdown.cancelled() => {}
        }
        Ok(())
    };
    let stop_background = async {
        shutdown.cancelled().await;
        // At once: what is carried out may wait for a copy, and the program ends whether the disks answer or not.
        engine.stop_sweeps(STOP_PATIENCE).await;
        Ok(())
    };
    tokio::try_join!(
        stop_background,
        async {
            grpc::serve(csi, csi_routes, rpc_metrics.clone(), Abandoned::Finish, shutdown.clone()).await?;
            anyhow::Ok(())
        },
        serve_registration,
        async {
            let ops = match ops {
                None => ops::bind_later(&ops_address, &shutdown).await?,
                bound => bound,
            };
            if let Some(ops) = ops {
                ops.serve(readiness, Arc::new(registry), shutdown.clone()).await?;
            }
            anyhow::Ok(())
        },
        say_when_synced,
        async {
            exporter.run(shutdown.clone()).await;
            Ok(())
        },
        async {
            Box::pin(kubernetes).await;
            anyhow::Ok(())
        },
    )?;
    info!("stopped");
    Ok(lock)
}

fn host(config: &Config) -> anyhow::Result<Arc<dyn Host>> {
    Ok(match &config.simulate {
        None => Arc::new(LinuxHost::new()),
        Some(folder) => {
            warn!("simulating all pools in {folder:?}: no data is kept");
            let simulated = SimConfig { state: folder.clone(), capacity_bytes: config.simulate_capacity };
            Arc::new(
                SimHost::open(simulated)
                    .with_context(|| format!("can't simulate in {}", folder.display()))?,
            )
        }
    })
}

/// What volumes are shared with. Where none is any more, what was shared before is taken away with it.
fn shared_with(config: &Config) -> Sharing {
    let places = Places::below(&config.kubelet_dir);
    let addresses = config.node_addresses.clone();
    let kernel: Arc<dyn Kernel> = if config.simulate.is_some() {
        Arc::new(PretendedKernel)
    } else {
        // Without a port there is nothing to serve, and none is opened.
        let port = config.sharing_port.unwrap_or_default();
        let settings =
            sharing::settings(&config.state_dir, &config.run_dir, places.exports(), addresses.clone(), port);
        Arc::new(LinuxKernel::new(settings, config.node_name.clone()))
    };
    Sharing { places, kernel, addresses, port: config.sharing_port }
}

async fn recover(engine: &Engine) {
    let recovery = engine.recover().await;
    info!(
        freed_loops = ?recovery.freed_loops,
        closed_mappers = ?recovery.closed_mappers,
        thrown_unfinished = recovery.thrown_unfinished,
        thawed = ?recovery.thawed,
        "looked for leftovers"
    );
    for problem in recovery.problems {
        warn!("recovery: {problem}");
    }
}

/// Everything that needs the API server. It may be away for as long as it likes.
#[allow(clippy::too_many_arguments)]
async fn kubernetes(
    config: &Config,
    client: Client,
    engine: &Engine,
    board: PoolBoard,
    volumes: &Intents<NodeVolume>,
    changes: &Changes,
    served: Board,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let node = config.node_name.clone();
    let snapshots = Intents::<NodeSnapshot>::default();
    let told = {
        let (changes, volumes, snapshots) = (changes.clone(), volumes.clone(), snapshots.clone());
        move || {
            changes.notify_rewrite();
            volumes.nudge_failed();
            snapshots.nudge_failed();
        }
    };
    let (facts, follow_pools) = pools::run(client.clone(), &node, board.clone(), told, shutdown.clone());
    let reporter = Reporter::new(
        client.clone(),
        node.clone(),
        engine.clone(),
        board.clone(),
        Claims { volumes: volumes.clone(), snapshots: snapshots.clone() },
        facts,
        metrics.clone(),
    );
    let shared = Arc::new(intents::Shared {
        engine: engine.clone(),
        node,
        pools: board.clone(),
        served,
        changes: changes.clone(),
        metrics,
        copied: {
            let (volumes, snapshots) = (volumes.clone(), snapshots.clone());
            Box::new(move || {
                volumes.nudge_failed();
                snapshots.nudge_failed();
            })
        },
    });
    // Before the pools are known every volume would seem to lie in an unknown one.
    let after_pools = async {
        tokio::select! {
            () = board.wait_until_synced() => {}
            () = shutdown.cancelled() => return,
        }
        let more_room = || {
            volumes.nudge_failed();
            snapshots.nudge_failed();
        };
        let parallel = config.parallel;
        let for_volumes =
            Arc::new(intents::Context::new(client.clone(), Arc::clone(&shared), parallel, shutdown.clone()));
        let for_snapshots =
            Arc::new(intents::Context::new(client.clone(), shared, parallel, shutdown.clone()));
        tokio::join!(
            intents::run(client.clone(), volumes.clone(), for_volumes, shutdown.clone()),
            intents::run(client, snapshots.clone(), for_snapshots, shutdown.clone()),
            node_storage::run(&reporter, changes, more_room, shutdown.clone()),
            node_storage::tell_of_late_answers(engine.late_answers(), changes, shutdown.clone()),
        );
    };
    tokio::join!(follow_pools, after_pools);
}
