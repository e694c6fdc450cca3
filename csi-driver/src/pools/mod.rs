//! The pools of this node: chosen from the `StoragePools`, given to the engine, remembered for the next start.

mod choice;
mod kept;
#[expect(
    unreachable_pub,
    reason = "the last change of that file says which version an upgrade is tested from"
)]
mod state_file;
mod watch;

pub(crate) use choice::{Known, Offer, Pools, Wanted, choose, configs};
pub(crate) use watch::{NodeFacts, run, streaming, strip};

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kept::Kept;
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
    kept: Arc<Mutex<Kept>>,
    /// Held while the pools and their file change.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Turns true when the API server has told us the pools; until then the file counts.
    synced: Arc<channel::Sender<bool>>,
}

impl PoolBoard {
    /// The pools of the last time, given to the engine. A file that can't be read is reported, set aside and does not stop us: the API server has it
    /// all, except which disk belongs where. So until that is known nothing becomes a pool that is none yet.
    pub(crate) async fn load(engine: Engine, file: PathBuf) -> Self {
        let mut kept = Kept::beside(&file);
        let mut pools = state_file::read(&file).unwrap_or_else(|problem| {
            let problem = in_words(&problem);
            match kept.set_aside() {
                Ok(kept) => error!("starting without the last pool configuration, kept as {kept:?}: {problem}"),
                Err(error) => error!("starting without the last pool configuration, which can't be set aside ({error}): {problem}"),
            }
            Pools::new()
        });
        for earlier in kept.aside() {
            // This program may read what the one before could not.
            let Ok(known) = state_file::read(earlier) else { continue };
            info!("the pools of {earlier:?} are known again");
            choice::remember(&mut pools, known);
            if kept.in_force() {
                continue;
            }
            if let Err(problem) = state_file::write(&file, &pools) {
                error!("{}", in_words(&problem));
            } else if let Err(error) = std::fs::remove_file(earlier) {
                error!("can't remove {earlier:?}: {error}");
            }
        }
        kept.look();
        engine.make_no_pools(kept.lost_ids());
        if !pools.is_empty() {
            info!("{} pools from {file:?}", pools.len());
            engine.set_pools(configs(&pools)).await;
        }
        Self {
            engine,
            file: Arc::new(file),
            pools: Arc::new(Mutex::new(pools)),
            kept: Arc::new(Mutex::new(kept)),
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
        let was_unwritten = self.kept().in_force();
        self.kept().look();
        self.engine.make_no_pools(self.kept().lost_ids());
        let ids = self.engine.pool_ids().await;
        let (before, mut pools) = (self.known(), self.known());
        for (name, id) in ids {
            if let Some(pool) = pools.get_mut(&name) {
                pool.id = pool.id.or(Some(id));
            }
        }
        if pools != before || was_unwritten {
            self.write(&pools);
            *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
        }
    }

    fn write(&self, pools: &Pools) {
        if self.kept().in_force() {
            // It may be the only one that knows some pool's id.
            return;
        }
        if let Err(problem) = state_file::write(&self.file, pools) {
            error!("pods won't start without the API server: {}", in_words(&problem));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use tierce_crds::{DirectoryBackend, Provisioning, StoragePoolSpec};
    use tierce_engine::{SimConfig, SimHost};

    use super::*;

    fn selected(folder: &Path, names: &[&str]) -> Wanted {
        let spec = |name: &str| StoragePoolSpec {
            tier: "fast".into(),
            node_selector: BTreeMap::new(),
            directory: Some(DirectoryBackend {
                path: folder.join(name).display().to_string(),
                provisioning: Provisioning::Thin,
                create_path: true,
            }),
            lvm: None,
            encrypt_by_default: false,
            overcommit_percent: 100,
            reserve_percent: 0,
        };
        Wanted {
            selected: names.iter().map(|name| ((*name).to_owned(), spec(name))).collect(),
            ..Wanted::default()
        }
    }

    fn engine(folder: &Path) -> Engine {
        let sim = SimConfig { state: folder.join("sim"), capacity_bytes: 1 << 30 };
        Engine::new(Arc::new(SimHost::open(sim).unwrap()))
    }

    async fn usable(board: &PoolBoard) -> Vec<bool> {
        board.engine.reports().await.iter().map(|report| report.result.is_ok()).collect()
    }

    #[tokio::test]
    async fn without_the_ids_of_before_nothing_new_becomes_a_pool() {
        let folder = tempfile::tempdir().unwrap();
        let (at, file) = (folder.path(), folder.path().join("pools.json"));
        let before = PoolBoard::load(engine(at), file.clone()).await;
        before.apply(selected(at, &["a"])).await;
        assert_eq!(usable(&before).await, [true]);
        drop(before);
        let newer = fs::read("golden/pools/newer-form.json").unwrap();
        fs::write(&file, &newer).unwrap();
        fs::create_dir(at.join("b")).unwrap();

        let wanted = || selected(at, &["a", "b", "c"]);
        for _ in 0..2 {
            let board = PoolBoard::load(engine(at), file.clone()).await;
            board.apply(wanted()).await;
            assert_eq!(usable(&board).await, [true, false, false]);
            assert!(!at.join("b/pool.json").exists() && !at.join("c").exists());
            let said = board.engine.reports().await.remove(1).result.unwrap_err().to_string();
            assert!(said.contains("pools.json.kept") && said.contains("remove that file"), "{said}");
        }
        assert_eq!(fs::read(at.join("pools.json.kept")).unwrap(), newer);
        // Somebody says that they are new.
        let board = PoolBoard::load(engine(at), file.clone()).await;
        board.apply(wanted()).await;
        fs::remove_file(at.join("pools.json.kept")).unwrap();
        board.remember_ids().await;
        assert_eq!(usable(&board).await, [true; 3]);
    }

    #[tokio::test]
    async fn a_list_that_can_neither_be_read_nor_set_aside_is_not_forgotten_and_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        // No filesystem takes a name that is longer than this one.
        let (at, file) = (folder.path(), folder.path().join(format!("{}.json", "p".repeat(250))));
        let newer = fs::read("golden/pools/newer-form.json").unwrap();
        fs::write(&file, &newer).unwrap();
        let board = PoolBoard::load(engine(at), file.clone()).await;
        board.apply(selected(at, &["a"])).await;
        for _ in 0..2 {
            board.remember_ids().await;
            assert_eq!(usable(&board).await, [false]);
            let said = board.engine.reports().await.remove(0).result.unwrap_err().to_string();
            assert!(said.contains("pppp.json, can't be read") && said.contains("remove that file"), "{said}");
            assert_eq!(fs::read(&file).unwrap(), newer);
        }
        fs::remove_file(&file).unwrap();
        board.remember_ids().await;
        assert_eq!(usable(&board).await, [true]);
        board.remember_ids().await;
        let written = state_file::read(&file).unwrap();
        assert_eq!((written.len(), written["a"].id.is_some()), (1, true));
    }

    #[tokio::test]
    async fn what_an_older_program_could_not_read_is_remembered_by_one_that_can() {
        let folder = tempfile::tempdir().unwrap();
        let (at, file) = (folder.path(), folder.path().join("pools.json"));
        let before = PoolBoard::load(engine(at), file.clone()).await;
        before.apply(selected(at, &["a"])).await;
        let id = before.known()["a"].id;
        assert!(id.is_some());
        drop(before);
        fs::rename(&file, at.join("pools.json.kept")).unwrap();
        let board = PoolBoard::load(engine(at), file.clone()).await;
        assert_eq!(board.known()["a"].id, id);
        assert!(!at.join("pools.json.kept").exists() && file.exists());
    }
}
