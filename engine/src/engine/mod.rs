//! The engine: every operation on volumes, over any host.

mod asking;
mod clones;
mod core;
mod devices;
mod disks;
mod encryption;
mod entering;
mod finding;
mod formatting;
mod gates;
mod growing;
mod guard;
mod locks;
mod new_record;
mod opening;
mod overhauling;
mod overhauls;
mod pause;
mod pools;
mod promises;
mod publishing;
mod reading;
mod recovery;
mod restore;
mod room;
mod rotation;
mod sharing;
mod sizes;
mod slot;
mod snapshots;
mod staging;
mod stats;
mod sweeping;
mod sweeps;
mod unstaging;
mod volumes;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    Change, Error, Inventory, PoolConfig, PoolReport, PublishRequest, Recovery, SnapshotInfo, SnapshotSpec,
    StageRequest, Stats, VolumeId, VolumeInfo, VolumeSpec, host::Host,
};
use core::Core;
use locks::{Held, Locks};
pub use promises::{Promise, Promises};

/// All volumes of a node. Cheap to clone; needs a tokio runtime.
///
/// Every call may be repeated, and finds out from the disk and the kernel what is left to do. A call whose future is dropped still runs to
/// its end; a second call for the same volume waits for it.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
    locks: Locks,
}

impl Engine {
    /// An engine without pools.
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { core: Core::new(host, None), locks: Locks::default() }
    }

    /// The same where other processes use the same pools, which tell each other what room they set aside.
    pub fn among_others(host: Arc<dyn Host>, promises: Arc<dyn Promises>) -> Self {
        Self { core: Core::new(host, Some(promises)), locks: Locks::default() }
    }

    /// Sets the pools of this node, all at once. A pool that can't be opened shows in [`Self::reports`] and is tried again there; the
    /// others go on.
    pub async fn set_pools(&self, pools: Vec<PoolConfig>) {
        self.run(move |core| core.set_pools(pools)).await;
    }

    /// From now on nothing becomes a pool that is none yet, for that reason, or may again (`None`): where the pools' ids were lost, an empty
    /// directory may be one whose disk is missing. What is a pool is opened as ever.
    pub fn make_no_pools(&self, because: Option<String>) {
        self.core.make_no_pools(because);
    }

    /// Every pool's state, in the order they were set.
    pub async fn reports(&self) -> Vec<PoolReport> {
        self.run(Core::reports).await
    }

    /// Changes whenever a pool answers that was reported not to, because its disk took too long, and when a pool seems not to answer that was
    /// reported to: [`Self::reports`] then has another answer.
    pub fn late_answers(&self) -> watch::Receiver<u64> {
        self.core.late_answers()
    }

    /// Whether a pool answers, as far as is known: from memory, without waiting for anything.
    pub fn answers(&self, pool: &str) -> bool {
        self.core.answers(pool)
    }

    /// Names and own ids of the pools that were open at least once, to be given back as [`PoolConfig::expected_id`] after a restart.
    pub async fn pool_ids(&self) -> Vec<(String, Uuid)> {
        self.run(Core::pool_ids).await
    }

    /// Every volume of the pools that can be used, from the disk.
    pub async fn list(&self) -> Inventory {
        self.run(Core::list).await
    }

    /// One volume, from the disk; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::BrokenRecord`]; [`Error::PoolUnavailable`] when it may lie in a pool that can't be used now.
    pub async fn get(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        let id = id.clone();
        self.run(move |core| core.get(&id)).await
    }

    /// One volume, looked for in that pool alone; `None`: the pool could be read just now and does not hold it.
    ///
    /// # Errors
    /// [`Error::BrokenRecord`]; [`Error::PoolUnavailable`], [`Error::UnknownPool`].
    pub async fn get_in(&self, pool: &str, id: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        let (pool, id) = (pool.to_owned(), id.clone());
        self.run(move |core| core.get_in(&pool, &id)).await
    }

    /// Makes a volume, empty or with the content of a snapshot or volume of this node. One that exists with the same pool, mode and source
    /// and at least the size is left as it is; its label, owner and mount options are not compared.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::OutOfSpace`], [`Error::InvalidArgument`], [`Error::UnknownPool`], [`Error::PoolUnavailable`],
    /// [`Error::BrokenRecord`]; with a source [`Error::SourceNotFound`], [`Error::SourceMismatch`], [`Error::SourceTooLarge`],
    /// [`Error::SnapshotInvalid`], [`Error::CopyNeedsPause`].
    pub async fn create(&self, pool: &str, spec: &VolumeSpec) -> Result<Change<VolumeInfo>, Error> {
        let (pool, spec) = (pool.to_owned(), spec.clone());
        let ids = [Some(spec.id.clone()), spec.source.clone()];
        self.copying(ids.into_iter().flatten().collect(), move |core, held| core.create(&pool, &spec, held))
            .await
    }

    /// Takes a snapshot of a volume: of a mounted filesystem as it is now, of a raw block device as a power cut would leave it.
    ///
    /// # Errors
    /// [`Error::SourceNotFound`]; [`Error::Conflict`] when the id is a volume's or another volume's snapshot's; [`Error::OutOfSpace`],
    /// [`Error::CopyNeedsPause`], [`Error::PoolUnavailable`], [`Error::BrokenRecord`].
    pub async fn snapshot(&self, spec: &SnapshotSpec) -> Result<Change<SnapshotInfo>, Error> {
        let spec = spec.clone();
        let ids = vec![spec.id.clone(), spec.source.clone()];
        self.copying(ids, move |core, held| core.snapshot(&spec, held)).await
    }

    /// One snapshot, from the disk; `None` where there is none.
    ///
    /// # Errors
    /// As [`Self::get`]; [`Error::Conflict`] when it is a volume.
    pub async fn get_snapshot(&self, id: &VolumeId) -> Result<Option<SnapshotInfo>, Error> {
        let id = id.clone();
        self.run(move |core| core.get_snapshot(&id)).await
    }

    /// One snapshot, looked for in that pool alone; `None`: the pool could be read just now and does not hold it.
    ///
    /// # Errors
    /// As [`Self::get_in`]; [`Error::Conflict`] when it is a volume.
    pub async fn get_snapshot_in(&self, pool: &str, id: &VolumeId) -> Result<Option<SnapshotInfo>, Error> {
        let (pool, id) = (pool.to_owned(), id.clone());
        self.run(move |core| core.get_snapshot_in(&pool, &id)).await
    }

    /// Deletes a snapshot; one that does not exist is deleted already.
    ///
    /// # Errors
    /// [`Error::InUse`] while a volume is made from it or restored with it; [`Error::Conflict`] when it is a volume.
    pub async fn delete_snapshot(&self, id: &VolumeId) -> Result<Change<()>, Error> {
        self.core.check_not_read(id)?;
        let id = id.clone();
        self.locked(&id.clone(), move |core| core.delete_snapshot(&id)).await
    }

    /// Gives a volume the content of one of its snapshots, in place: it keeps its id, and its size where that is larger. The content of before
    /// is kept as the snapshot `safety`, which also tells one restore from another: the same call again changes nothing.
    ///
    /// # Errors
    /// [`Error::InUse`] while the volume is staged or mounted; [`Error::SourceNotFound`], [`Error::SourceMismatch`] (the snapshot is another
    /// volume's, or of another mode), [`Error::SourceTooLarge`], [`Error::SnapshotInvalid`], [`Error::OutOfSpace`], [`Error::NotFound`].
    pub async fn restore(
        &self,
        id: &VolumeId,
        snapshot: &VolumeId,
        safety: &VolumeId,
    ) -> Result<Change<()>, Error> {
        let (id, snapshot, safety) = (id.clone(), snapshot.clone(), safety.clone());
        let ids = vec![id.clone(), snapshot.clone(), safety.clone()];
        self.all_locked(ids, move |core| core.restore(&id, &snapshot, &safety)).await
    }

    /// Calls off the restore of this safety. `true`: nothing of it has happened, and nothing will unless it is asked for again; `false`: it had
    /// begun, and is over now.
    ///
    /// # Errors
    /// As [`Self::restore`]; [`Error::Conflict`] when the safety is a volume, or another volume's.
    pub async fn call_off_restore(&self, id: &VolumeId, safety: &VolumeId) -> Result<bool, Error> {
        let (id, safety) = (id.clone(), safety.clone());
        self.all_locked(vec![id.clone(), safety.clone()], move |core| core.call_off_restore(&id, &safety))
            .await
    }

    /// Sets the mount options of the next stage.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the allowed options; [`Error::NotFound`], [`Error::BrokenRecord`].
    pub async fn set_mount_options(&self, id: &VolumeId, options: Vec<String>) -> Result<Change<()>, Error> {
        let id = id.clone();
        self.locked(&id.clone(), move |core| core.set_mount_options(&id, options)).await
    }

    /// Makes a volume's device at least that large, in bytes. The filesystem follows with [`Self::expand`] or the next stage.
    ///
    /// # Errors
    /// [`Error::Shrink`], [`Error::OutOfSpace`], [`Error::NotFound`], [`Error::BrokenRecord`].
    pub async fn grow(&self, id: &VolumeId, size_bytes: u64) -> Result<Change<VolumeInfo>, Error> {
        let id = id.clone();
        self.locked(&id.clone(), move |core| core.grow(&id, size_bytes)).await
    }

    /// Deletes a volume; one that does not exist is deleted already. Its space counts as free at once and is freed in the background.
    ///
    /// # Errors
    /// [`Error::InUse`] while it is staged, mounted or copied; [`Error::MayHoldData`] for a volume that was ever staged if `only_if_unused`;
    /// [`Error::BrokenRecord`]; [`Error::PoolUnavailable`] when it may lie in a pool that can't be used now.
    pub async fn delete(&self, id: &VolumeId, only_if_unused: bool) -> Result<Change<()>, Error> {
        self.core.check_not_read(id)?;
        let id = id.clone();
        self.locked(&id.clone(), move |core| core.delete(&id, only_if_unused)).await
    }

    /// Frees what deleted volumes still take, and waits for that. Only a caller that ends soon needs it: the background goes on by itself.
    pub async fn sweep(&self) {
        self.run(Core::sweep).await;
    }

    /// Goes on in the background with what an earlier process left to be freed. Call it after [`Self::recover`], when others are served.
    pub async fn start_sweeps(&self) {
        self.run(Core::start_sweeps).await;
    }

    /// Ends what goes on in the background, and copies of volumes, at a place from which the next process goes on or begins anew, and waits for the
    /// former at most so long. Nothing more is freed by this engine.
    pub async fn stop_sweeps(&self, limit: Duration) {
        self.run(move |core| core.sweeps.stop(limit)).await;
    }

    /// Mounts a volume's filesystem at the staging path, after making or growing the filesystem where that is due; attaches the device of a
    /// raw block volume.
    ///
    /// # Errors
    /// [`Error::FormatRefused`] when the device does not look as the record says; [`Error::ForeignTarget`] when something else is at the
    /// path; [`Error::InvalidArgument`], [`Error::NotFound`], [`Error::BrokenRecord`], [`Error::Command`], [`Error::Io`].
    pub async fn stage(
        &self,
        id: &VolumeId,
        staging: &Path,
        request: &StageRequest,
    ) -> Result<Change<()>, Error> {
        let held = self.wanted(id).await;
        self.stage_held(held, id, staging, request).await
    }

    /// Undoes [`Self::stage`]. The staging folder stays, and can be removed by its owner.
    ///
    /// # Errors
    /// [`Error::InUse`] when files are open or a raw block device is still published; [`Error::ForeignTarget`].
    pub async fn unstage(&self, id: &VolumeId, staging: &Path) -> Result<Change<()>, Error> {
        let (id, staging) = (id.clone(), staging.to_owned());
        self.served(&id.clone(), move |core| core.unstage(&id, &staging)).await
    }

    /// Gives the root of a filesystem that is staged at a path to root and a group: whatever is made in it from then on is the group's to read
    /// and write. What is there already stays as it is.
    ///
    /// # Errors
    /// [`Error::NotStaged`] when the path does not carry this volume; [`Error::Unsupported`] for a raw block volume.
    pub async fn give_to_group(&self, id: &VolumeId, staging: &Path, gid: u32) -> Result<Change<()>, Error> {
        let (id, staging) = (id.clone(), staging.to_owned());
        self.served(&id.clone(), move |core| core.give_to_group(&id, &staging, gid)).await
    }

    /// Shows a staged volume at a target: the filesystem as a directory, a raw block device as a node bound onto a file. The target is made;
    /// its parent must exist.
    ///
    /// # Errors
    /// [`Error::NotStaged`] when the staging path does not carry this volume; [`Error::ForeignTarget`] when something else is at the target;
    /// [`Error::Conflict`] when it is published there with the other `readonly`.
    pub async fn publish(
        &self,
        id: &VolumeId,
        staging: &Path,
        target: &Path,
        request: &PublishRequest,
    ) -> Result<Change<()>, Error> {
        let (id, staging, target, request) = (id.clone(), staging.to_owned(), target.to_owned(), *request);
        self.served(&id.clone(), move |core| core.publish(&id, &staging, &target, request)).await
    }

    /// Undoes [`Self::publish`] and removes the target.
    ///
    /// # Errors
    /// [`Error::InUse`] when files are open; [`Error::ForeignTarget`]; [`Error::NotFound`] when something is mounted at the target and no
    /// such volume exists.
    pub async fn unpublish(&self, id: &VolumeId, target: &Path) -> Result<Change<()>, Error> {
        let (id, target) = (id.clone(), target.to_owned());
        self.served(&id.clone(), move |core| core.unpublish(&id, &target)).await
    }

    /// Makes the filesystem mounted at a path (staging or target) as large as its device. Returns the device's bytes.
    ///
    /// # Errors
    /// [`Error::GrowOffline`] when only the next stage can do it; [`Error::NotStaged`] when the volume is not mounted there.
    pub async fn expand(&self, id: &VolumeId, path: &Path) -> Result<u64, Error> {
        let (id, path) = (id.clone(), path.to_owned());
        self.served(&id.clone(), move |core| core.expand(&id, &path)).await
    }

    /// Fill level of the volume at a path (staging or target).
    ///
    /// # Errors
    /// [`Error::NotStaged`] when the volume is not there; [`Error::NotFound`].
    pub async fn stats(&self, id: &VolumeId, path: &Path) -> Result<Stats, Error> {
        let (id, path) = (id.clone(), path.to_owned());
        let pass = self.core.enter(&id).await?;
        self.run(move |core| {
            let result = core.stats(&id, &path);
            drop(pass);
            result
        })
        .await
    }

    /// Cleans up after a crash or a restart: suspended devices go on, loop devices of ours that nothing needs go, and what was being made is
    /// set aside with what was deleted, which [`Self::start_sweeps`] frees. Call it once, after [`Self::set_pools`] and before anything else.
    pub async fn recover(&self) -> Recovery {
        self.recover_holding(()).await
    }

    /// The same. What does not answer is waited for only so long, and then goes on aside: what is passed is let go when that is over too, and
    /// until then what is made in the pools may be taken for remains.
    pub async fn recover_holding(&self, kept: impl Send + Sync + 'static) -> Recovery {
        let kept: recovery::Kept = Arc::new(kept);
        self.run(move |core| core.recover(&kept)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Core) -> T + Send + 'static) -> T {
        let core = Arc::clone(&self.core);
        join(tokio::task::spawn_blocking(move || work(&core)).await)
    }

    /// Runs something while no other call works on the volume.
    async fn locked<T: Send + 'static>(
        &self,
        id: &VolumeId,
        work: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> T {
        self.all_locked(vec![id.clone()], work).await
    }

    /// Runs `work` for a call of the node, which calls for all volumes at once: with the volume locked and a place in its pool taken.
    async fn served<T: Send + 'static>(
        &self,
        id: &VolumeId,
        work: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let held = self.wanted(id).await;
        let pass = self.core.enter(id).await?;
        self.run(move |core| {
            let result = work(core);
            drop((pass, held));
            result
        })
        .await
    }

    /// Waits for the lock of a volume that the node wants to use, or to use no more.
    async fn wanted(&self, id: &VolumeId) -> Held {
        // A copy of a volume that nobody uses gives way.
        let _want = self.core.want(id);
        self.locks.hold(vec![id.clone()]).await
    }

    /// Runs something while no other call works on any of these.
    async fn all_locked<T: Send + 'static>(
        &self,
        ids: Vec<VolumeId>,
        work: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> T {
        let held = self.locks.hold(ids).await;
        // The locks move along: a caller that gives up must not let the next one in while this one still works.
        self.run(move |core| {
            let result = work(core);
            drop(held);
            result
        })
        .await
    }

    /// As [`Self::all_locked`], but `work` may release the lock of a volume before it ends.
    async fn copying<T: Send + 'static>(
        &self,
        ids: Vec<VolumeId>,
        work: impl FnOnce(&Core, &mut Held) -> T + Send + 'static,
    ) -> T {
        let mut held = self.locks.hold(ids).await;
        self.run(move |core| work(core, &mut held)).await
    }
}

fn join<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking tasks are only cancelled by the end of the runtime, and then nobody polls us.
            Err(error) => unreachable!("the runtime ended under a call: {error}"),
        },
    }
}
