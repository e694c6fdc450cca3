//! Runs the reconcilers: while this replica holds the lease, or always where there is no election.

use crate::config::Serve;
use crate::events::Events;
use crate::index::{Index, Queues};
use crate::keys::Keys;
use crate::lease::Candidate;
use crate::lost_node::LostNodes;
use crate::metrics::Metrics;
use crate::pool::PoolReconciler;
use crate::restore::RestoreReconciler;
use crate::rotation::KeyRotation;
use crate::unclaimed::{Reaper, UnclaimedKeys, UnclaimedSnapshots};
use crate::volume::VolumeReconciler;
use kube::Client;
use std::sync::Arc;
use thiserror::Error;
use tierce_runtime::readiness::Readiness;
use tokio_util::sync::CancellationToken;

/// Name of the Lease.
const LEASE: &str = "tierce-controller";
/// A key waits longer than a volume, by so many graces: the call that made it may hang between the two.
const KEY_GRACES: u32 = 10;
/// Volumes at work at once.
const PARALLEL: usize = 16;

/// Why reconciling ended before it was told to.
#[derive(Debug, Error)]
pub enum ReconcilersError {
    /// Another replica may reconcile now; a restart of this one makes it a candidate again.
    #[error("the lease is lost: another replica reconciles")]
    LeaseLost,
}

/// Reconciles until `shutdown`, once the index knows everything.
pub async fn run(
    client: Client,
    index: Arc<Index>,
    synced: Readiness,
    config: &Serve,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), ReconcilersError> {
    tokio::select! {
        () = synced.wait() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    if !config.leader_election {
        reconcile(client, index, config, metrics, shutdown).await;
        return Ok(());
    }
    let candidate = Candidate::new(client.clone(), &config.namespace, LEASE, &config.identity);
    let held = tokio::select! {
        held = candidate.acquire() => held,
        () = shutdown.cancelled() => return Ok(()),
    };
    // The lease outlives the work: it is given free only after the last reconcile has ended.
    let done = CancellationToken::new();
    let work = async {
        reconcile(client, index, config, metrics, shutdown).await;
        done.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        kept = held.keep(done.clone()) => if kept { Ok(()) } else { Err(ReconcilersError::LeaseLost) },
        () = work => Ok(()),
    }
}

async fn reconcile(
    client: Client,
    index: Arc<Index>,
    config: &Serve,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    metrics.leading(true);
    let events = Events::new(client.clone(), &config.identity);
    let queues = Arc::new(Queues::default());
    index.listen(&queues);
    let volumes = Arc::new(VolumeReconciler::new(client.clone(), Arc::clone(&index), events.clone()));
    let pools = Arc::new(PoolReconciler::new(client.clone(), Arc::clone(&index)));
    let keys = Keys::new(client.clone(), &config.namespace);
    let restores =
        Arc::new(RestoreReconciler::new(client.clone(), Arc::clone(&index), events.clone(), keys.clone()));
    let rotation = Arc::new(KeyRotation::new(client.clone(), Arc::clone(&index), keys.clone()));
    let grace = config.reap_grace;
    let reaper =
        Arc::new(Reaper::new(client.clone(), Arc::clone(&index), events.clone(), metrics.clone(), grace));
    let snapshots =
        UnclaimedSnapshots::new(client.clone(), Arc::clone(&index), events, metrics.clone(), grace);
    let snapshots = Arc::new(snapshots);
    let unclaimed_keys =
        Arc::new(UnclaimedKeys::new(client.clone(), Arc::clone(&index), keys, grace * KEY_GRACES));
    let lost_nodes = Arc::new(LostNodes::new(client, index, config.node_lost_grace));
    tokio::join!(
        queues.volumes.run(PARALLEL, shutdown.clone(), |key| {
            let (volumes, metrics) = (Arc::clone(&volumes), metrics.clone());
            async move { metrics.count("volume", volumes.reconcile(&key).await) }
        }),
        queues.pools.run(2, shutdown.clone(), |name| {
            let (pools, metrics) = (Arc::clone(&pools), metrics.clone());
            async move { metrics.count("pool", pools.reconcile(&name).await) }
        }),
        queues.rotations.run(2, shutdown.clone(), |key| {
            let (rotation, metrics) = (Arc::clone(&rotation), metrics.clone());
            async move { metrics.count("rotation", rotation.look(&key).await) }
        }),
        queues.restores.run(2, shutdown.clone(), |key| {
            let (restores, metrics) = (Arc::clone(&restores), metrics.clone());
            async move { metrics.count("restore", restores.reconcile(&key).await) }
        }),
        queues.devices.run(4, shutdown.clone(), |id| {
            let (reaper, metrics) = (Arc::clone(&reaper), metrics.clone());
            async move { metrics.count("reaper", reaper.look(&id).await) }
        }),
        queues.snapshots.run(1, shutdown.clone(), |id| {
            let (snapshots, metrics) = (Arc::clone(&snapshots), metrics.clone());
            async move { metrics.count("unclaimed_snapshot", snapshots.look(&id).await) }
        }),
        queues.keys.run(1, shutdown.clone(), |id| {
            let (unclaimed_keys, metrics) = (Arc::clone(&unclaimed_keys), metrics.clone());
            async move { metrics.count("unclaimed_key", unclaimed_keys.look(&id).await) }
        }),
        queues.nodes.run(2, shutdown.clone(), |node| {
            let (lost_nodes, metrics) = (Arc::clone(&lost_nodes), metrics.clone());
            async move { metrics.count("lost_node", lost_nodes.look(&node).await) }
        }),
    );
    metrics.leading(false);
}
