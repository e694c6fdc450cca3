//! Volumes with a size: images and logical volumes of the engine's pools, each mounted at its volume's place.

use std::{cell::RefCell, collections::BTreeSet, path::Path, sync::Arc};

use jiff::Timestamp;
use tierce_engine::{
    Engine, Key, LinuxHost, Owner, PoolReport, SnapshotInfo, SnapshotSpec, StageRequest, VolumeId,
    VolumeInfo, VolumeMode, VolumeSpec,
};
use tokio::runtime::Runtime;

use super::{
    Error,
    error::{Context, no_snapshot},
    layout::Root,
    locks::Lock,
    names::{Name, digest},
    pools::{Need, Pools},
    promises::Promises,
    shape::Shape,
};
use crate::{sizes, terminal};

/// Shared by whoever makes anything that a clean-up by another process would take for remains, however long that takes; a clean-up alone has it
/// to itself. Earlier versions have it to themselves whatever they make. No volume has such a name.
const MAKING: &str = ".room";
/// Held while a pool that was never used is opened, since it is made then, and its id noted.
const NEW_POOL: &str = ".new-pool";
/// Whose volumes these are: a volume group may hold those of a cluster's node too.
const OURS: &str = "host";

/// The devices of one root's volumes.
pub(super) struct Devices {
    runtime: Runtime,
    host: Arc<LinuxHost>,
    engine: Engine,
    promises: Arc<Promises>,
    root: Root,
    pools: Pools,
    /// The pools that were needed so far.
    needed: RefCell<BTreeSet<String>>,
}

/// What lies in the open pools.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Every device with its volume's name.
    pub(super) volumes: Vec<(Name, VolumeInfo)>,
    /// The pools that can't be read, and why.
    pub(super) unread: Vec<(String, String)>,
    /// What can't be trusted.
    pub(super) broken: Vec<String>,
}

/// What came of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounted {
    Done,
    /// It is encrypted, not open, and no key was given.
    KeyNeeded,
    KeyWrong,
}

impl Devices {
    pub(super) fn start(root: &Root, pools: &Pools) -> Result<Self, Error> {
        // Programs such as mkfs are awaited while a call blocks, so one more thread drives them.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .doing(|| "start the engine".to_owned())?;
        let (host, promises) = (Arc::new(LinuxHost::new()), Arc::new(Promises::new(root)));
        let engine = Engine::among_others(host.clone(), promises.clone());
        let needed = RefCell::default();
        Ok(Self { runtime, host, engine, promises, root: root.clone(), pools: pools.clone(), needed })
    }

    /// Opens the pools that are needed now; those that were needed before stay open.
    pub(super) fn open(&self, need: Need<'_>) -> Result<(), Error> {
        let names = self.pools.needed(need);
        if names.is_subset(&self.needed.borrow()) {
            return Ok(());
        }
        self.open_these(names, None)
    }

    fn open_these(&self, names: BTreeSet<String>, wanted: Option<&str>) -> Result<(), Error> {
        let mut all = self.needed.borrow().clone();
        all.extend(names);
        let settings = self.pools.settings(&all, wanted)?;
        self.runtime.block_on(self.engine.set_pools(settings));
        self.needed.replace(all);
        Ok(())
    }

    /// Opens a pool that a volume shall be made in, and makes it where that is due.
    pub(super) fn ensure(&self, pool: &str) -> Result<(), Error> {
        let _making = Lock::share(&self.root, MAKING)?;
        let is_known = self.pools.is_known(pool)?;
        let _new = if is_known { None } else { Some(Lock::acquire(&self.root, NEW_POOL)?) };
        self.open_these(self.pools.needed(Need::Room(pool)), Some(pool))?;
        self.runtime.block_on(async {
            // No volume has that id: what is asked is whether the pool can be read.
            self.engine.get_in(pool, &hashed("h", "")).await?;
            match self.engine.pool_ids().await.into_iter().find(|(name, _)| name == pool) {
                Some((name, id)) => self.pools.remember(&name, id),
                None => Ok(()),
            }
        })
    }

    /// Held while something is made in a pool: nobody cleans up meanwhile. What others changed since the pool was opened is known.
    fn making(&self, pool: &str) -> Result<Lock, Error> {
        let making = Lock::share(&self.root, MAKING)?;
        self.open(Need::Room(pool))?;
        self.runtime.block_on(self.engine.list());
        Ok(making)
    }

    /// What lies in the open pools.
    pub(super) fn list(&self) -> Listed {
        let inventory = self.runtime.block_on(self.engine.list());
        let named = |info: VolumeInfo| {
            let owner = info.owner.as_ref().filter(|owner| owner.uid == OURS)?;
            Some((Name::new(Some(&owner.namespace), &owner.name).ok()?, info))
        };
        let broken = inventory.broken.into_iter();
        let mut listed = Listed {
            volumes: inventory.volumes.into_iter().filter_map(named).collect(),
            unread: Vec::new(),
            broken: broken
                .map(|broken| format!("{}: {}: it is left alone", broken.file.display(), broken.reason))
                .collect(),
        };
        for report in self.runtime.block_on(self.engine.reports()) {
            match report.result {
                Err(error) => listed.unread.push((report.name, error.to_string())),
                Ok(_) if inventory.unread.contains(&report.name) => {
                    let reason = format!("pool {}: its volumes can't be listed", report.name);
                    listed.unread.push((report.name, reason));
                }
                Ok(_) => {}
            }
        }
        listed
    }

    /// How the pools are, the images below the root among them.
    pub(super) fn reports(&self) -> Vec<PoolReport> {
        self.runtime.block_on(self.engine.reports())
    }

    /// A volume's device, looked for in that pool alone; `None`: it has none there.
    pub(super) fn get_in(&self, name: &Name, pool: &str) -> Result<Option<VolumeInfo>, Error> {
        Ok(self.runtime.block_on(self.engine.get_in(pool, &id(name)))?)
    }

    /// A volume's device, looked for in every open pool; `None`: it has none.
    pub(super) fn get(&self, name: &Name) -> Result<Option<VolumeInfo>, Error> {
        Ok(self.runtime.block_on(self.engine.get(&id(name)))?)
    }

    /// Makes a volume's device, with the content of another volume's or of a snapshot where `source` is given.
    pub(super) fn create(&self, name: &Name, shape: &Shape, source: Option<VolumeId>) -> Result<(), Error> {
        let spec = VolumeSpec {
            id: id(name),
            size_bytes: shape.size_bytes,
            mode: VolumeMode::Filesystem(shape.filesystem),
            label: name.short().to_owned(),
            owner: Some(owner(name.stack(), name.short())),
            mount_options: Vec::new(),
            source,
            may_convert: false,
            encrypted: shape.encrypted,
        };
        let making = self.making(&shape.pool)?;
        let made = self.runtime.block_on(self.engine.create(&shape.pool, &spec));
        drop(making);
        if made.is_err() {
            self.free();
        }
        made.map(drop).map_err(|error| no_room(error, &name.full()))
    }

    /// Mounts a volume at its place, unless it is. An encrypted one is opened with `key`; `next` becomes its key then.
    pub(super) fn mount(
        &self,
        name: &Name,
        at: &Path,
        key: Option<&Key>,
        next: Option<&Key>,
    ) -> Result<Mounted, Error> {
        let request = StageRequest {
            key: next.or(key).cloned(),
            older_keys: next.and(key).into_iter().cloned().collect(),
            ..StageRequest::default()
        };
        // A restore that was cut off is carried to its end first, and what that makes is nothing to clean up.
        let _making = Lock::share(&self.root, MAKING)?;
        match self.runtime.block_on(self.engine.stage(&id(name), at, &request)) {
            Ok(_) => Ok(Mounted::Done),
            Err(tierce_engine::Error::KeyMissing { .. }) => Ok(Mounted::KeyNeeded),
            Err(tierce_engine::Error::WrongKey { .. }) => Ok(Mounted::KeyWrong),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a volume is mounted at its place.
    pub(super) fn is_mounted(&self, name: &Name, at: &Path) -> bool {
        self.runtime.block_on(self.engine.stats(&id(name), at)).is_ok()
    }

    pub(super) fn unmount(&self, name: &Name, at: &Path) -> Result<(), Error> {
        self.runtime.block_on(self.engine.unstage(&id(name), at))?;
        Ok(())
    }

    /// Makes it larger. `true`: its filesystem grew too, `false`: the filesystem grows at the next mount.
    pub(super) fn grow(&self, name: &Name, pool: &str, size_bytes: u64, at: &Path) -> Result<bool, Error> {
        let making = self.making(pool)?;
        let grown = self.runtime.block_on(self.engine.grow(&id(name), size_bytes));
        grown.map_err(|error| no_room(error, &name.full()))?;
        drop(making);
        match self.runtime.block_on(self.engine.expand(&id(name), at)) {
            Ok(_) => Ok(true),
            Err(tierce_engine::Error::GrowOffline { .. } | tierce_engine::Error::NotStaged { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a volume's device.
    pub(super) fn delete(&self, name: &Name) -> Result<(), Error> {
        self.runtime.block_on(self.engine.delete(&id(name), false))?;
        self.free();
        Ok(())
    }

    /// Frees what was deleted or is left of a copy, before this process ends: the engine's background would end with it.
    fn free(&self) {
        self.runtime.block_on(self.engine.sweep());
    }

    /// Bytes in use: of the mounted filesystem, else those that the device takes.
    pub(super) fn bytes_used(&self, info: &VolumeInfo, at: &Path) -> Result<u64, Error> {
        match self.runtime.block_on(self.engine.stats(&info.id, at)) {
            Ok(stats) => Ok(stats.used_bytes),
            Err(tierce_engine::Error::NotStaged { .. }) => Ok(info.allocated_bytes),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a snapshot of a volume.
    pub(super) fn snapshot(&self, name: &Name, pool: &str, snapshot: &str) -> Result<(), Error> {
        let spec = SnapshotSpec {
            id: snapshot_id(name, snapshot),
            source: id(name),
            owner: Some(owner(&name.full(), snapshot)),
        };
        let making = self.making(pool)?;
        let taken = self.runtime.block_on(self.engine.snapshot(&spec));
        drop(making);
        // Of a thick volume in use something is left that held it still.
        self.free();
        taken.map(drop).map_err(|error| no_room(error, &name.full()))
    }

    /// A volume's snapshots with their names, oldest first.
    pub(super) fn snapshots(&self, name: &Name) -> Vec<(String, SnapshotInfo)> {
        let listed = self.runtime.block_on(self.engine.list()).snapshots.into_iter();
        let of_volume = listed.filter(|info| info.source == id(name));
        let mut found: Vec<_> = of_volume.map(|info| (called(name, &info), info)).collect();
        found.sort_by_key(|(_, info)| info.taken_at);
        found
    }

    /// Every snapshot in the open pools, with its volume's name and its own.
    pub(super) fn all_snapshots(&self) -> Vec<(Name, String, SnapshotInfo)> {
        let named = |info: SnapshotInfo| {
            let owner = info.owner.as_ref().filter(|owner| owner.uid == OURS)?;
            // What a restore kept has its volume's own owner.
            let of_kept = Name::new(Some(&owner.namespace), &owner.name);
            let readings = Name::readings(&owner.namespace).unwrap_or_default();
            let volume = readings.into_iter().chain(of_kept).find(|name| id(name) == info.source)?;
            let name = called(&volume, &info);
            Some((volume, name, info))
        };
        self.runtime.block_on(self.engine.list()).snapshots.into_iter().filter_map(named).collect()
    }

    fn snapshot_named(&self, name: &Name, snapshot: &str) -> Result<VolumeId, Error> {
        let all = self.snapshots(name);
        match all.iter().find(|(called, _)| called == snapshot) {
            Some((_, info)) => Ok(info.id.clone()),
            None => Err(no_snapshot(name, snapshot, all.into_iter().map(|(called, _)| called).collect())),
        }
    }

    pub(super) fn delete_snapshot(&self, name: &Name, snapshot: &str) -> Result<(), Error> {
        let snapshot = self.snapshot_named(name, snapshot)?;
        self.runtime.block_on(self.engine.delete_snapshot(&snapshot))?;
        self.free();
        Ok(())
    }

    /// Gives a volume the content of its snapshot back. What it had before is kept as a further snapshot, whose name is returned.
    pub(super) fn restore(&self, name: &Name, pool: &str, snapshot: &str) -> Result<String, Error> {
        let from = self.snapshot_named(name, snapshot)?;
        let volume = id(name);
        // The engine takes the same safety snapshot for the same restore; two restores within a second are one.
        let safety =
            format!("before-{}-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"), &volume.as_str()[1..9]);
        let kept: VolumeId = safety.parse().map_err(tierce_engine::Error::from)?;
        let making = self.making(pool)?;
        let restored = self.runtime.block_on(self.engine.restore(&volume, &from, &kept));
        restored.map_err(|error| no_room(error, &name.full()))?;
        drop(making);
        self.free();
        Ok(safety)
    }

    /// Cleans up what interrupted commands left in the open pools. `false`: others make something just now, which can't be told from what is
    /// left, and it stays for a later clean-up.
    pub(super) fn clean(&self) -> Result<bool, Error> {
        self.promises.forget_the_dead()?;
        let Some(alone) = Lock::try_acquire(&self.root, MAKING)? else { return Ok(false) };
        // An engine that has cleaned up does so in each pool that it opens later, when others may make something there.
        let engine = Engine::new(self.host.clone());
        let settings = self.pools.settings(&self.needed.borrow(), None)?;
        let recovery = self.runtime.block_on(async {
            engine.set_pools(settings).await;
            // Nobody makes anything in a pool that is still being cleaned up, however late that ends.
            engine.recover_holding(alone).await
        });
        for problem in recovery.problems {
            terminal::note(&format!("Warning: {problem}"));
        }
        self.runtime.block_on(engine.sweep());
        Ok(true)
    }
}

/// The same name gives the same id: a creation that was killed is found by the next.
fn id(name: &Name) -> VolumeId {
    hashed("h", &format!("{}/{}", name.stack(), name.short()))
}

fn snapshot_id(name: &Name, snapshot: &str) -> VolumeId {
    hashed("s", &format!("{}/{}/{snapshot}", name.stack(), name.short()))
}

/// A snapshot's name. What a restore kept is called by its id.
fn called(volume: &Name, info: &SnapshotInfo) -> String {
    let given = info.owner.as_ref().map(|owner| &owner.name);
    let given = given.filter(|given| snapshot_id(volume, given) == info.id);
    given.map_or_else(|| info.id.to_string(), Clone::clone)
}

fn hashed(prefix: &str, text: &str) -> VolumeId {
    format!("{prefix}{:032x}", digest(text)).parse().expect("hexadecimal digits are an id")
}

fn owner(namespace: &str, name: &str) -> Owner {
    Owner { namespace: namespace.to_owned(), name: name.to_owned(), uid: OURS.to_owned() }
}

fn no_room(error: tierce_engine::Error, name: &str) -> Error {
    match error {
        tierce_engine::Error::OutOfSpace { requested, largest, .. } => Error::NoRoom {
            name: name.to_owned(),
            asked: sizes::limit(requested),
            // Rounded down to what can be typed.
            largest: sizes::limit(largest >> 20 << 20),
        },
        other => other.into(),
    }
}
