//! Runs the reconcilers: while this replica holds the lease, or always where there is no election.

use crate::claims::Claims;
use crate::devices::keys::Keys;
use crate::devices::lost_node::{Absences, LostNodes};
use crate::devices::older_keys;
use crate::devices::restore::RestoreReconciler;
use crate::devices::rotation::KeyRotation;
use crate::devices::unclaimed::{Reaper, UnclaimedKeys, UnclaimedSnapshots};
use crate::index::{
    Devices, Index, KeySecrets, Nodes, Pools, Restores, Rotations, Snapshots, Topic, WaitingClaims,
};
use crate::metrics::Metrics;
use crate::pools::PoolReconciler;
use crate::quota::{LedgerKeeper, Ledgers, QuotaReconciler, Quotas};
use crate::run::config::Serve;
use crate::run::events::Events;
use crate::run::lease::Candidate;
use crate::run::queue::{Next, Queue};
use crate::sharing::{Sharing, Sharings};
use crate::volumes::life::Lives;
use crate::volumes::personal::Volumes;
use crate::volumes::shared::SharedVolumes;
use kube::Client;
use std::future::Future;
use std::sync::Arc;
use thiserror::Error;
use tierce_crds::{SharedVolume, Volume};
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
    let desk = Desk { index: Arc::clone(&index), metrics: metrics.clone(), shutdown };
    let volumes = Arc::new(Lives::<Volume>::new(client.clone(), Arc::clone(&index), events.clone()));
    let shared = Arc::new(Lives::<SharedVolume>::new(client.clone(), Arc::clone(&index), events.clone()));
    let sharing = Arc::new(Sharing::new(client.clone(), Arc::clone(&index), config.client_grace));
    let claims = Arc::new(Claims::new(client.clone(), Arc::clone(&index), events.clone()));
    let pools = Arc::new(PoolReconciler::new(client.clone(), Arc::clone(&index)));
    let quotas = Arc::new(QuotaReconciler::new(client.clone(), Arc::clone(&index)));
    let ledgers = Arc::new(LedgerKeeper::new(client.clone(), Arc::clone(&index)));
    let keys = Keys::new(client.clone(), &config.namespace);
    older_keys::convert_all(&client, &keys, &desk.shutdown).await;
    let absences = Arc::new(Absences::new(config.node_lost_grace));
    let restores = Arc::new(RestoreReconciler::new(
        client.clone(),
        Arc::clone(&index),
        events.clone(),
        keys.clone(),
        Arc::clone(&absences),
    ));
    let rotation = Arc::new(KeyRotation::new(client.clone(), Arc::clone(&index), keys.clone()));
    let grace = config.reap_grace;
    let reaper =
        Arc::new(Reaper::new(client.clone(), Arc::clone(&index), events.clone(), metrics.clone(), grace));
    let snapshots =
        UnclaimedSnapshots::new(client.clone(), Arc::clone(&index), events, metrics.clone(), grace);
    let snapshots = Arc::new(snapshots);
    let unclaimed_keys =
        Arc::new(UnclaimedKeys::new(client.clone(), Arc::clone(&index), keys, grace * KEY_GRACES));
    let lost_nodes = Arc::new(LostNodes::new(client, index, absences));
    tokio::join!(
        desk.looks::<Volumes, _>("volume", PARALLEL, move |key| {
            let volumes = Arc::clone(&volumes);
            async move { volumes.reconcile(&key).await }
        }),
        desk.looks::<SharedVolumes, _>("shared_volume", 4, move |key| {
            let shared = Arc::clone(&shared);
            async move { shared.reconcile(&key).await }
        }),
        desk.looks::<Sharings, _>("sharing", 4, move |key| {
            let sharing = Arc::clone(&sharing);
            async move { sharing.reconcile(&key).await }
        }),
        desk.looks::<WaitingClaims, _>("claim", 4, move |key| {
            let claims = Arc::clone(&claims);
            async move { claims.reconcile(&key).await }
        }),
        desk.looks::<Pools, _>("pool", 2, move |name| {
            let pools = Arc::clone(&pools);
            async move { pools.reconcile(&name).await }
        }),
        desk.looks::<Quotas, _>("quota", 2, move |name| {
            let quotas = Arc::clone(&quotas);
            async move { quotas.reconcile(&name).await }
        }),
        desk.looks::<Ledgers, _>("ledger", 4, move |namespace| {
            let ledgers = Arc::clone(&ledgers);
            async move { ledgers.reconcile(&namespace).await }
        }),
        desk.looks::<Rotations, _>("rotation", 2, move |key| {
            let rotation = Arc::clone(&rotation);
            async move { rotation.look(&key).await }
        }),
        desk.looks::<Restores, _>("restore", 2, move |key| {
            let restores = Arc::clone(&restores);
            async move { restores.reconcile(&key).await }
        }),
        desk.looks::<Devices, _>("reaper", 4, move |id| {
            let reaper = Arc::clone(&reaper);
            async move { reaper.look(&id).await }
        }),
        desk.looks::<Snapshots, _>("unclaimed_snapshot", 1, move |id| {
            let snapshots = Arc::clone(&snapshots);
            async move { snapshots.look(&id).await }
        }),
        desk.looks::<KeySecrets, _>("unclaimed_key", 4, move |id| {
            let unclaimed_keys = Arc::clone(&unclaimed_keys);
            async move { unclaimed_keys.look(&id).await }
        }),
        desk.looks::<Nodes, _>("lost_node", 2, move |node| {
            let lost_nodes = Arc::clone(&lost_nodes);
            async move { lost_nodes.look(&node).await }
        }),
    );
    metrics.leading(false);
}

/// Where reconcilers work.
struct Desk {
    index: Arc<Index>,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Desk {
    /// Looks at what the topic tells of until the shutdown, at so many at once.
    async fn looks<T: Topic, F>(&self, name: &'static str, parallel: usize, look: impl Fn(T::Key) -> F)
    where
        F: Future<Output = Next> + Send + 'static,
    {
        let queue = Queue::default();
        let work = queue.run(parallel, self.shutdown.clone(), |key| {
            let (look, metrics) = (look(key), self.metrics.clone());
            async move { metrics.count(name, look.await) }
        });
        tokio::join!(self.index.listen::<T>(&queue), work);
    }
}
