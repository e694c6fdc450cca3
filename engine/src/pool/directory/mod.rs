//! The directory pool: image files on any filesystem, made devices by direct-I/O loop devices.

mod devices;
mod image;
mod pool;

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Mutex, atomic::AtomicU8},
};

use rustix::fs::{self, Mode, OFlags};
use uuid::Uuid;

use crate::{
    PoolError, VolumeId, kernel,
    pool::{
        Backend, PoolConfig, Provisioning, Volumes,
        ledger::Ledger,
        store::{IMAGE, Store},
    },
};

/// What is known of direct I/O.
const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// A directory of images.
pub(crate) struct DirectoryPool {
    config: PoolConfig,
    thick: bool,
    store: Store,
    ledger: Ledger,
    /// The loop device that a volume had when it was last seen: a hint, checked before use.
    hints: Mutex<HashMap<VolumeId, u32>>,
    direct_io: AtomicU8,
    block_sector: u32,
    disk: u64,
}

impl DirectoryPool {
    pub(crate) fn open(config: &PoolConfig, known: Option<Uuid>) -> Result<Self, PoolError> {
        let Backend::Directory { path, provisioning, create_path } = &config.backend else {
            unreachable!("the host opens each kind of pool with its own code");
        };
        let store = Store::open(&config.name, path, *create_path, known, true)?;
        let disk = disk_below(store.root()).map_err(|error| {
            PoolError::of_system(&config.name, path, "can't look at the directory", &error)
        })?;
        let block_sector = direct_io_alignment(store.root()).unwrap_or(512).clamp(512, 4096);
        let pool = Self {
            config: config.clone(),
            thick: *provisioning == Provisioning::Thick,
            store,
            ledger: Ledger::default(),
            hints: Mutex::default(),
            direct_io: AtomicU8::new(UNKNOWN),
            block_sector,
            disk,
        };
        pool.scan()?;
        Ok(pool)
    }

    fn error(&self, what: &str, error: &io::Error) -> PoolError {
        PoolError::of_system(&self.config.name, self.store.path(), what, error)
    }

    fn image_path(&self, id: &VolumeId) -> PathBuf {
        self.store.path_of(id, IMAGE)
    }
}

/// What tells the filesystem of a folder from all others. Each subvolume of a btrfs has a device number of
/// its own, and the space is one.
fn disk_below(folder: &OwnedFd) -> io::Result<u64> {
    // No device number has this bit.
    const OF_BTRFS: u64 = 1 << 63;
    // `BTRFS_SUPER_MAGIC` of `linux/magic.h`.
    let is_btrfs = fs::fstatfs(folder)?.f_type == 0x9123_683e;
    if is_btrfs && let Ok(id) = kernel::btrfs_id(folder) {
        let (first, second) = Uuid::from_bytes(id).as_u64_pair();
        return Ok(OF_BTRFS | first ^ second);
    }
    Ok(fs::fstat(folder)?.st_dev)
}

/// The alignment that direct I/O needs below a folder, in bytes; `None` where the kernel can't tell.
fn direct_io_alignment(folder: &OwnedFd) -> Option<u32> {
    // Asked of a file without a name: directories have no such alignment.
    let file =
        fs::openat(folder, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
            .ok()?;
    let stat = fs::statx(&file, "", fs::AtFlags::EMPTY_PATH, fs::StatxFlags::DIOALIGN).ok()?;
    (stat.stx_dio_offset_align > 0).then_some(stat.stx_dio_offset_align)
}
