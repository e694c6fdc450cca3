//! Volumes with a size: images of the engine's directory pool below the root, each mounted at its volume's place.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tierce_engine::{
    Backend, Engine, Filesystem, Key, LinuxHost, Owner, PoolConfig, Provisioning, SnapshotInfo, SnapshotSpec,
    StageRequest, VolumeId, VolumeInfo, VolumeMode, VolumeSpec,
};
use tokio::runtime::Runtime;

use super::{Error, error::Context, layout::Root, locks::Lock, names::Name};
use crate::sizes;

/// The pool's name and tier.
const POOL: &str = "local";
/// Its folder below the root.
const FOLDER: &str = "pools/local";
/// Held while room is promised: the engine counts what its own process promises, and others may promise too. No volume has such a name.
const ROOM: &str = ".room";

/// The images below one root.
pub(super) struct Images {
    runtime: Runtime,
    engine: Engine,
    root: Root,
}

/// Every image with its volume's name, and what can't be trusted.
type Listed = (Vec<(Name, VolumeInfo)>, Vec<String>);

/// What a volume with a size shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) size_bytes: u64,
    pub(super) filesystem: Filesystem,
    pub(super) encrypted: bool,
}

impl Images {
    /// The images below a root; `None`: there never was one.
    pub(super) fn open(root: &Root) -> Result<Option<Self>, Error> {
        if root.path().join(FOLDER).join("pool.json").exists() {
            Self::start(root, false).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The same, and the pool is made where it is missing. Needs root.
    pub(super) fn make(root: &Root) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NeedsRoot { what: "A volume with a size".to_owned() });
        }
        Self::start(root, true)
    }

    fn start(root: &Root, make: bool) -> Result<Self, Error> {
        // Programs such as mkfs are awaited while a call blocks, so one more thread drives them.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .doing(|| "start the engine".to_owned())?;
        let backend = Backend::Directory {
            path: root.path().join(FOLDER),
            provisioning: Provisioning::Thin,
            create_path: make,
        };
        let config = PoolConfig {
            name: POOL.to_owned(),
            tier: POOL.to_owned(),
            backend,
            reserve_bytes: 0,
            reserve_percent: 0,
            // A limit is a promise: all volumes together never promise more than the disk has.
            overcommit: 1.0,
            expected_id: None,
        };
        let engine = Engine::new(Arc::new(LinuxHost::new()));
        runtime.block_on(engine.set_pools(vec![config]));
        Ok(Self { runtime, engine, root: root.clone() })
    }

    /// Every image with its volume's name, and what can't be trusted.
    pub(super) fn list(&self) -> Result<Listed, Error> {
        let inventory = self.runtime.block_on(self.engine.list());
        if let Some(pool) = inventory.unread.first() {
            return Err(Error::InvalidArgument(format!(
                "Pool '{pool}' below {} can't be listed",
                self.root.path().display()
            )));
        }
        let named = |info: VolumeInfo| {
            let owner = info.owner.as_ref()?;
            Some((Name::new(Some(&owner.namespace), &owner.name).ok()?, info))
        };
        let broken = inventory
            .broken
            .into_iter()
            .map(|broken| format!("{}: {}", broken.file.display(), broken.reason));
        Ok((inventory.volumes.into_iter().filter_map(named).collect(), broken.collect()))
    }

    /// A volume's image; `None`: it has none.
    pub(super) fn get(&self, name: &Name) -> Result<Option<VolumeInfo>, Error> {
        Ok(self.runtime.block_on(self.engine.get(&id(name)))?)
    }

    /// Makes a volume's image, with the content of another volume's or of a snapshot where `source` is given.
    pub(super) fn create(&self, name: &Name, shape: Shape, source: Option<VolumeId>) -> Result<(), Error> {
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
        let _room = Lock::acquire(&self.root, ROOM)?;
        let made = self.runtime.block_on(self.engine.create(POOL, &spec));
        made.map(drop).map_err(|error| no_room(error, &name.full()))
    }

    /// Mounts a volume at its place, unless it is. `key` is asked only where the volume is encrypted and not open yet.
    pub(super) fn mount(
        &self,
        name: &Name,
        at: &Path,
        key: impl FnOnce() -> Result<Key, Error>,
    ) -> Result<(), Error> {
        let stage = |key| {
            let request = StageRequest { key, ..StageRequest::default() };
            self.runtime.block_on(self.engine.stage(&id(name), at, &request))
        };
        let staged = match stage(None) {
            Err(tierce_engine::Error::KeyMissing { .. }) => stage(Some(key()?)),
            other => other,
        };
        match staged {
            Err(tierce_engine::Error::WrongKey { .. }) => Err(Error::Refused(format!(
                "Volume '{}' does not open with the key in its key file: bring back the one that it was made with",
                name.full()
            ))),
            other => Ok(other.map(drop)?),
        }
    }

    /// Undoes it.
    pub(super) fn unmount(&self, name: &Name, at: &Path) -> Result<(), Error> {
        self.runtime.block_on(self.engine.unstage(&id(name), at))?;
        Ok(())
    }

    /// Makes it larger. `true`: its filesystem grew too, `false`: the filesystem grows at the next mount.
    pub(super) fn grow(&self, name: &Name, size_bytes: u64, at: &Path) -> Result<bool, Error> {
        let room = Lock::acquire(&self.root, ROOM)?;
        let grown = self.runtime.block_on(self.engine.grow(&id(name), size_bytes));
        grown.map_err(|error| no_room(error, &name.full()))?;
        drop(room);
        match self.runtime.block_on(self.engine.expand(&id(name), at)) {
            Ok(_) => Ok(true),
            Err(tierce_engine::Error::GrowOffline { .. } | tierce_engine::Error::NotStaged { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a volume's image.
    pub(super) fn delete(&self, name: &Name) -> Result<(), Error> {
        self.runtime.block_on(self.engine.delete(&id(name), false))?;
        Ok(())
    }

    /// Bytes in use: of the mounted filesystem, else those that the image takes.
    pub(super) fn bytes_used(&self, info: &VolumeInfo, at: &Path) -> Result<u64, Error> {
        match self.runtime.block_on(self.engine.stats(&info.id, at)) {
            Ok(stats) => Ok(stats.used_bytes),
            Err(tierce_engine::Error::NotStaged { .. }) => Ok(info.allocated_bytes),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a snapshot of a volume.
    pub(super) fn snapshot(&self, name: &Name, snapshot: &str) -> Result<(), Error> {
        let spec = SnapshotSpec {
            id: snapshot_id(name, snapshot),
            source: id(name),
            owner: Some(owner(&name.full(), snapshot)),
        };
        let _room = Lock::acquire(&self.root, ROOM)?;
        let taken = self.runtime.block_on(self.engine.snapshot(&spec));
        taken.map(drop).map_err(|error| no_room(error, &name.full()))
    }

    /// A volume's snapshots with their names, oldest first. What a restore kept is called by its id.
    pub(super) fn snapshots(&self, name: &Name) -> Vec<(String, SnapshotInfo)> {
        let listed = self.runtime.block_on(self.engine.list()).snapshots.into_iter();
        let called = |info: SnapshotInfo| {
            let given = info.owner.as_ref().map(|owner| owner.name.clone());
            let given = given.filter(|given| snapshot_id(name, given) == info.id);
            (given.unwrap_or_else(|| info.id.to_string()), info)
        };
        let mut found: Vec<_> = listed.filter(|info| info.source == id(name)).map(called).collect();
        found.sort_by_key(|(_, info)| info.taken_at);
        found
    }

    fn snapshot_named(&self, name: &Name, snapshot: &str) -> Result<VolumeId, Error> {
        let found = self.snapshots(name).into_iter().find(|(called, _)| called == snapshot);
        found
            .map(|(_, info)| info.id)
            .ok_or_else(|| Error::SnapshotNotFound { name: name.full(), snapshot: snapshot.to_owned() })
    }

    pub(super) fn delete_snapshot(&self, name: &Name, snapshot: &str) -> Result<(), Error> {
        let snapshot = self.snapshot_named(name, snapshot)?;
        self.runtime.block_on(self.engine.delete_snapshot(&snapshot))?;
        Ok(())
    }

    /// Gives a volume the content of its snapshot back. What it had before is kept as a further snapshot, whose name is returned.
    pub(super) fn restore(&self, name: &Name, snapshot: &str) -> Result<String, Error> {
        let from = self.snapshot_named(name, snapshot)?;
        let volume = id(name);
        // The engine takes the same safety snapshot for the same restore; two restores within a second are one.
        let safety =
            format!("before-{}-{}", Timestamp::now().strftime("%Y%m%d-%H%M%S"), &volume.as_str()[1..9]);
        let kept: VolumeId = safety.parse()?;
        self.runtime.block_on(self.engine.restore(&volume, &from, &kept))?;
        Ok(safety)
    }

    /// Cleans up what interrupted commands left. Nothing may be made meanwhile.
    pub(super) fn clean(&self) -> Result<(), Error> {
        let _room = Lock::acquire(&self.root, ROOM)?;
        for problem in self.runtime.block_on(self.engine.recover()).problems {
            eprintln!("Warning: {problem}");
        }
        Ok(())
    }
}

/// The same name gives the same id: a creation that was killed is found by the next.
fn id(name: &Name) -> VolumeId {
    hashed("h", &format!("{}/{}", name.stack(), name.short()))
}

fn snapshot_id(name: &Name, snapshot: &str) -> VolumeId {
    hashed("s", &format!("{}/{}/{snapshot}", name.stack(), name.short()))
}

fn hashed(prefix: &str, text: &str) -> VolumeId {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let (half, _) = digest.split_first_chunk::<16>().expect("32 bytes are more than 16");
    format!("{prefix}{:032x}", u128::from_be_bytes(*half)).parse().expect("hexadecimal digits are an id")
}

fn owner(namespace: &str, name: &str) -> Owner {
    Owner { namespace: namespace.to_owned(), name: name.to_owned(), uid: "host".to_owned() }
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
