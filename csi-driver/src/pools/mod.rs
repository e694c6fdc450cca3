//! The pools of this node: chosen from the `StoragePools`, given to the engine, remembered for the next start.

mod choice;
#[expect(
    unreachable_pub,
    reason = "the last change of that file says which version an upgrade is tested from"
)]
mod state_file;
mod watch;

pub(crate) use choice::{Known, Offer, Pools, Wanted, choose, configs};
pub(crate) use watch::{NodeFacts, run, streaming, strip};

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tierce_engine::Engine;
use tierce_runtime::errors::in_words;
use tokio::sync::watch as channel;
use tracing::{error, info, warn};

/// The pools in force. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PoolBoard {
    engine: Engine,
    file: Arc<PathBuf>,
    pools: Arc<Mutex<Pools>>,
    /// Held while the pools and their file change.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Turns true when the API server has told us the pools; until then the file counts.
    synced: Arc<channel::Sender<bool>>,
}

impl PoolBoard {
    /// The pools of the last time, given to the engine. A file that can't be read is reported and does not stop us:
    /// the API server has it all.
    pub(crate) async fn load(engine: Engine, file: PathBuf) -> Self {
        let pools = state_file::read(&file).unwrap_or_else(|problem| {
            error!("starting without the last pool configuration: {}", in_words(&problem));
            Pools::new()
        });
        if !pools.is_empty() {
            info!("{} pools from {file:?}", pools.len());
            engine.set_pools(configs(&pools)).await;
        }
        Self {
            engine,
            file: Arc::new(file),
            pools: Arc::new(Mutex::new(pools)),
            changing: Arc::default(),
            synced: Arc::new(channel::Sender::new(false)),
        }
    }

    /// Puts new pools in force. Whether anything changed.
    pub(crate) async fn apply(&self, wanted: Wanted) -> bool {
        let changing = self.changing.lock().await;
        let known = self.known();
        let holding = self.holding(&known, &wanted).await;
        let next = choose(wanted, &known, |name| holding.iter().any(|held| held == name));
        let changed = next != known;
        if changed {
            for (name, pool) in &next {
                if let Some(trouble) = &pool.trouble {
                    warn!("pool {name}: {trouble}");
                }
            }
            // The file first: a crash in between must not leave volumes in a pool that the next start does not know.
            self.write(&next);
            self.engine.set_pools(configs(&next)).await;
            info!("pools: {:?}", next.keys().collect::<Vec<_>>());
            *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = next;
        }
        drop(changing);
        self.remember_ids().await;
        self.synced.send_replace(true);
        changed
    }

    /// Notes the own ids of pools that were opened for the first time, so that after a restart an empty directory does not pass for them.
    pub(crate) async fn remember_ids(&self) {
        let _changing = self.changing.lock().await;
        let ids = self.engine.pool_ids().await;
        let (before, mut pools) = (self.known(), self.known());
        for (name, id) in ids {
            if let Some(pool) = pools.get_mut(&name) {
                pool.id = pool.id.or(Some(id));
            }
        }
        if pools != before {
            self.write(&pools);
            *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
        }
    }

    fn write(&self, pools: &Pools) {
        if let Err(problem) = state_file::write(&self.file, pools) {
            error!("pods won't start without the API server: {}", in_words(&problem));
        }
    }

    /// Whether the pool takes new volumes.
    pub(crate) fn offer(&self, name: &str) -> Offer {
        match self.pools.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            Some(pool) if pool.offered => Offer::Offered,
            Some(_) => Offer::Retired,
            None => Offer::Unknown,
        }
    }

    /// The pools in force.
    pub(crate) fn known(&self) -> Pools {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a pool is kept only because volumes lie in it, or may.
    pub(crate) fn keeps_some(&self) -> bool {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).values().any(|pool| !pool.offered)
    }

    /// Whether the API server has told us the pools.
    pub(crate) fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Returns once the API server has told us the pools.
    pub(crate) async fn wait_until_synced(&self) {
        let mut synced = self.synced.subscribe();
        synced.wait_for(|synced| *synced).await.expect("self holds a sender");
    }

    /// The known pools that hold volumes, or may. Looks at the disks only when it matters. One that this node never opened holds
    /// nothing of it: a path with a typo in it, for instance.
    async fn holding(&self, known: &Pools, wanted: &Wanted) -> Vec<String> {
        let matters = known.iter().any(|(name, pool)| {
            wanted.selected.get(name).is_none_or(|spec| choice::elsewhere(spec, &pool.spec))
        });
        if !matters {
            return Vec::new();
        }
        let opened: Vec<String> = self.engine.pool_ids().await.into_iter().map(|(name, _)| name).collect();
        let inventory = self.engine.list().await;
        let snapshots = inventory.snapshots.into_iter().map(|snapshot| snapshot.pool);
        let on_disk = inventory.volumes.into_iter().map(|volume| volume.pool).chain(snapshots);
        let broken = inventory.broken.into_iter().map(|record| record.pool);
        let unreadable =
            self.engine.reports().await.into_iter().filter(|r| r.result.is_err()).map(|r| r.name);
        let was_open =
            |name: &String| opened.contains(name) || known.get(name).is_some_and(|pool| pool.id.is_some());
        let may_hold = inventory.unread.into_iter().chain(unreadable).filter(was_open);
        on_disk.chain(broken).chain(may_hold).collect()
    }
}
