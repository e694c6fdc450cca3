//! What the simulated kernel knows, in one JSON file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Error, Filesystem, VolumeId, device::DeviceNumber, error::Context, lasting::lasting, mount::table::Mount,
};

/// Major number of simulated devices: none that a kernel gives out.
const MAJOR: u32 = 7000;

/// A simulated filesystem.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SimFilesystem {
    pub(super) filesystem: Filesystem,
    pub(super) uuid: Uuid,
    pub(super) label: String,
    pub(super) bytes: u64,
    /// The text that stands for all files in the filesystem.
    #[serde(default)]
    pub(super) text: String,
}

/// A simulated LUKS2 header.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SimHeader {
    pub(super) uuid: Uuid,
    /// The key in each slot, by its hash.
    pub(super) slots: BTreeMap<u32, String>,
}

/// A simulated mapper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SimMapper {
    pub(super) header: Uuid,
    /// Whether the mapper goes with its last mount.
    pub(super) deferred: bool,
}

/// Everything that would be the kernel's or the disk's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tables {
    pub(super) mounts: Vec<Mount>,
    next_mount: u64,
    /// Every volume keeps its number for life.
    numbers: BTreeMap<VolumeId, u32>,
    next_number: u32,
    /// Raw block volumes that are attached.
    pub(super) attached: BTreeSet<VolumeId>,
    pub(super) filesystems: BTreeMap<VolumeId, SimFilesystem>,
    pub(super) headers: BTreeMap<VolumeId, SimHeader>,
    pub(super) mappers: BTreeMap<VolumeId, SimMapper>,
    /// Bytes of the devices below mappers.
    pub(super) sizes: BTreeMap<VolumeId, u64>,
}

impl Tables {
    /// The volume's device number, now and later.
    pub(super) fn number(&mut self, id: &VolumeId) -> DeviceNumber {
        let next = &mut self.next_number;
        let minor = *self.numbers.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            *next
        });
        DeviceNumber { major: MAJOR, minor }
    }

    /// The volume's device number, if it ever had one.
    pub(super) fn known_number(&self, id: &VolumeId) -> Option<DeviceNumber> {
        self.numbers.get(id).map(|&minor| DeviceNumber { major: MAJOR, minor })
    }

    /// The volume behind a number.
    pub(super) fn volume(&self, number: DeviceNumber) -> Option<&VolumeId> {
        self.numbers.iter().find(|(_, minor)| **minor == number.minor).map(|(id, _)| id)
    }

    /// Adds a mount on top of what is at its point.
    pub(super) fn push(&mut self, mut mount: Mount) {
        self.next_mount += 1;
        mount.id = self.next_mount;
        mount.parent = crate::mount::table::top_at(&self.mounts, &mount.point).map_or(0, |top| top.id);
        self.mounts.push(mount);
    }

    /// Gives a volume the content of another one.
    pub(super) fn copy(&mut self, from: &VolumeId, to: &VolumeId) {
        match self.filesystems.get(from).cloned() {
            Some(found) => self.filesystems.insert(to.clone(), found),
            None => self.filesystems.remove(to),
        };
        match self.headers.get(from).cloned() {
            Some(found) => self.headers.insert(to.clone(), found),
            None => self.headers.remove(to),
        };
    }

    /// Forgets a deleted volume.
    pub(super) fn forget(&mut self, id: &VolumeId) {
        self.numbers.remove(id);
        self.attached.remove(id);
        self.filesystems.remove(id);
        self.headers.remove(id);
        self.mappers.remove(id);
        self.sizes.remove(id);
    }
}

/// The tables and their file.
pub(super) struct State {
    file: PathBuf,
    tables: Mutex<Tables>,
}

impl State {
    pub(super) fn open(file: PathBuf) -> io::Result<Self> {
        let tables = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Tables::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, tables: Mutex::new(tables) })
    }

    /// Whether that pool's disk, or that volume's filesystem, does not answer now: somebody made a file for
    /// it.
    pub(super) fn hangs(&self, name: &str) -> bool {
        self.file.with_file_name(format!("{name}-hangs")).exists()
    }

    /// Whether that pool's disk takes long to write while the kernel has in memory whatever else is asked of
    /// it: somebody made a file for it.
    pub(super) fn syncs_slowly(&self, pool: &str) -> bool {
        self.file.with_file_name(format!("{pool}-syncs-slowly")).exists()
    }

    /// Whether that volume's filesystem takes long to mount.
    pub(super) fn mounts_slowly(&self, volume: &str) -> bool {
        self.file.with_file_name(format!("{volume}-mounts-slowly")).exists()
    }

    /// Whether a copy in that pool takes for ever: a test has made a file for that.
    pub(super) fn copies_slowly(&self, pool: &str) -> bool {
        self.file.with_file_name(format!("{pool}-copies-slowly")).exists()
    }

    /// Looks at the tables.
    pub(super) fn look<T>(&self, read: impl FnOnce(&Tables) -> T) -> T {
        read(&self.lock())
    }

    /// Changes the tables and the file.
    pub(super) fn change<T>(&self, what: &str, change: impl FnOnce(&mut Tables) -> T) -> Result<T, Error> {
        lasting(what, || self.change_by_others(what, change))
    }

    /// Changes the tables and the file for something that is not the engine's doing.
    pub(super) fn change_by_others<T>(
        &self,
        what: &str,
        change: impl FnOnce(&mut Tables) -> T,
    ) -> Result<T, Error> {
        let mut tables = self.lock();
        let result = change(&mut tables);
        let bytes = serde_json::to_vec(&*tables).expect("the tables have only text keys");
        let temporary = self.file.with_extension("tmp");
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &self.file))
            .doing(|| format!("{what}: write {}", self.file.display()))?;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
