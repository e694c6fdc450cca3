//! The real host.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};

use uuid::Uuid;

use super::{Host, Operations};
use crate::{
    Error, Filesystem, Inodes, PoolError, Stats, VolumeId,
    command::{Runner, SystemRunner},
    crypt::{
        Crypt,
        cryptsetup::{self, LinuxCrypt},
        mapper::Mapper,
    },
    device::{Attached, Device, DeviceNumber},
    error::Context,
    filesystem::{
        btrfs_id,
        grow::{self, GrowError},
        make::{self, NewFilesystem},
        maker::Maker,
        probe::{self, Probe},
    },
    kernel::device_mapper,
    lasting::lasting,
    mount::{
        calls, freeze, group, mountinfo,
        place::Place,
        table::{Carries, Mount},
    },
    pool::{
        Backend, PAUSE_LIMIT, Pool, PoolConfig,
        directory::DirectoryPool,
        loops::{self, Loop},
        lvm::{self, AllNotes, LvmPool},
        store,
    },
};

/// How often, and how far apart, a busy mount is tried again.
const BUSY_ATTEMPTS: u32 = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// The Linux machine we run on. Needs root: loop devices, mounts.
pub struct LinuxHost {
    runner: Arc<dyn Runner>,
    crypt: LinuxCrypt,
    groups: AllNotes,
    maker: Maker,
}

impl LinuxHost {
    /// The real host.
    pub fn new() -> Self {
        Self::with_runner(Arc::new(SystemRunner))
    }

    /// The real host with another way to start programs, for tests that count them.
    pub fn with_runner(runner: Arc<dyn Runner>) -> Self {
        Self {
            crypt: LinuxCrypt::new(Arc::clone(&runner)),
            runner,
            groups: AllNotes::default(),
            maker: Maker::default(),
        }
    }
}

impl Default for LinuxHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for LinuxHost {}

impl Operations for LinuxHost {
    fn open_pool(&self, config: &PoolConfig, known: Option<Uuid>) -> Result<Arc<dyn Pool>, PoolError> {
        Ok(match &config.backend {
            Backend::Directory { .. } => Arc::new(DirectoryPool::open(config, known)?),
            Backend::Lvm { .. } => LvmPool::open(config, known, Arc::clone(&self.runner), &self.groups)?,
        })
    }

    fn is_pool(&self, config: &PoolConfig) -> Result<bool, PoolError> {
        match &config.backend {
            Backend::Directory { path, .. } => store::is_pool(&config.name, path),
            Backend::Lvm { .. } => lvm::is_pool(config, Arc::clone(&self.runner)),
        }
    }

    fn marked(&self, id: &VolumeId, pools: Option<&[Uuid]>) -> Result<Vec<Attached>, Error> {
        let mut found: Vec<Attached> = marked(id, pools)?.iter().map(Loop::attached).collect();
        found.extend(lvm::marked(id, pools)?.iter().map(lvm::attached));
        found.extend(self.mapper_over(id, &found)?.map(|mapper| mapper.attached()));
        Ok(found)
    }

    fn detach_marked(&self, id: &VolumeId, pools: &[Uuid]) -> Result<bool, Error> {
        let found = marked(id, Some(pools))?;
        let mut any = !found.is_empty();
        let volumes = lvm::marked(id, Some(pools))?;
        let mut below: Vec<Attached> = found.iter().map(Loop::attached).collect();
        below.extend(volumes.iter().map(lvm::attached));
        if let Some(mapper) = self.mapper_over(id, &below)?
            && !self.crypt.close(&mapper)?
        {
            return Err(Error::InUse { id: id.clone(), by: self.crypt.users(&mapper) });
        }
        for device in found {
            let node = device.node();
            device.detach().doing(|| format!("detach {}", node.display()))?;
        }
        for device in volumes {
            any |= device_mapper::remove(&device.name)
                .doing(|| format!("remove device {} of volume {id}", device.name))?;
        }
        Ok(any)
    }

    fn crypt(&self) -> &dyn Crypt {
        &self.crypt
    }

    fn lying_on(&self, device: &Attached) -> Option<String> {
        cryptsetup::lying_on(device.number, &device.node)
    }

    fn mounts(&self) -> Result<Vec<Mount>, Error> {
        // Of this thread: the threads of a test have mount namespaces of their own.
        let text =
            std::fs::read("/proc/thread-self/mountinfo").doing(|| "read the table of mounts".to_owned())?;
        let lines = mountinfo::parse(&text).map_err(|line| Error::Io {
            doing: format!("understand the line {line:?} of the table of mounts"),
            source: io::ErrorKind::InvalidData.into(),
        })?;
        Ok(lines.into_iter().map(understand).collect())
    }

    fn probe(&self, device: &Device) -> Result<Probe, Error> {
        probe::of(device)
    }

    fn make_filesystem(&self, device: &Device, new: &NewFilesystem<'_>) -> Result<(), Error> {
        self.maker.make(self.runner.as_ref(), &device.node, new)?;
        if new.filesystem == Filesystem::Ext4 {
            calls::remove_lost_and_found(&device.node)?;
        }
        // What mkfs wrote must be on the disk before the record says so.
        flush(&device.node)
    }

    fn wants_repair(&self, device: &Device, filesystem: Filesystem) -> Result<bool, Error> {
        if filesystem != Filesystem::Ext4 {
            // The others have no such mark: what their kernels find wrong they don't mount.
            return Ok(false);
        }
        let doing = || format!("read {}", device.node.display());
        let file = File::open(&device.node).doing(doing)?;
        probe::ext4_has_errors(&file).doing(doing)
    }

    fn repair(&self, device: &Device) -> Result<(), Error> {
        let check = make::ext4_check(&device.node);
        tracing::warn!(program = check.line(), "the filesystem says that it has errors: repairing it");
        lasting("check", || self.runner.run(&check))?;
        flush(&device.node)
    }

    fn grow_unmounted(&self, device: &Device, filesystem: Filesystem) -> Result<(), Error> {
        grow::unmounted(self.runner.as_ref(), device, filesystem)
    }

    fn grow_mounted(&self, device: &Device, filesystem: Filesystem, at: &Place) -> Result<u64, GrowError> {
        let mounted = at.directory().map_err(GrowError::Failed)?;
        grow::mounted(device, filesystem, &mounted, at.path())
    }

    fn distinguish(&self, device: &Device, filesystem: Filesystem, own: Uuid) -> Result<(), Error> {
        // ext4 does not care, and xfs is mounted without that check.
        if filesystem != Filesystem::Btrfs {
            return Ok(());
        }
        let doing = || format!("give the btrfs on {} an id of its own", device.node.display());
        let mut file = File::options().read(true).write(true).open(&device.node).doing(doing)?;
        lasting("give a copy its own id", || btrfs_id::set(&mut file, device.bytes, own)).doing(doing)
    }

    fn write_out(&self, at: &Place) -> Result<(), Error> {
        let mounted = at.directory()?;
        fs::syncfs(&mounted).doing(|| format!("write out the filesystem at {}", at.path().display()))
    }

    fn while_frozen(&self, at: &Place, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error> {
        freeze::while_frozen(&at.directory()?, PAUSE_LIMIT, &at.path().display().to_string(), work)
    }

    fn thaw(&self, mount: &Mount) -> Result<bool, Error> {
        // Without it nothing is there to be thawed.
        let Some(place) = Place::open(&mount.point)? else { return Ok(false) };
        freeze::thaw(place.directory()?).doing(|| format!("thaw {}", mount.point.display()))
    }

    fn flush(&self, device: &Device) -> Result<(), Error> {
        flush(&device.node)
    }

    fn ours<'a>(&self, mounts: &'a [Mount]) -> Vec<&'a Mount> {
        let devices = loops::all(|_| true).unwrap_or_default();
        let loops = devices.iter().filter(|device| device.name().starts_with(loops::MARK)).map(Loop::number);
        let mappers = self.crypt.mappers().unwrap_or_default();
        let mappers =
            mappers.iter().filter(|(_, mapper)| mapper.is_made_by_us()).map(|(_, mapper)| mapper.number);
        let ours = loops.chain(mappers);
        ours.filter_map(|number| {
            mounts.iter().find(|mount| mount.carries == Carries::Filesystem { device: number, whole: true })
        })
        .collect()
    }

    fn mount(
        &self,
        device: &Device,
        filesystem: Filesystem,
        options: &[String],
        at: &Place,
    ) -> Result<(), Error> {
        let mut options = options.to_vec();
        // A volume and its clones carry the same uuid and may be mounted side by side. The guard has compared
        // it with the record.
        if filesystem == Filesystem::Xfs {
            options.push("nouuid".to_owned());
        }
        // A user who may write to a btrfs can name a subvolume that is mounted instead of all of it.
        if filesystem == Filesystem::Btrfs {
            options.push("subvolid=5".to_owned());
        }
        calls::mount_device(&device.node, filesystem, &options, at)
    }

    fn bind(&self, device: DeviceNumber, from: &Place, to: &Place, readonly: bool) -> Result<(), Error> {
        calls::bind(from, to, readonly, |copy| {
            // Between our look at the table and this copy it may have been unmounted: then the copy is of the
            // folder below.
            let stat = fs::fstat(copy).doing(|| format!("look at {}", from.path().display()))?;
            let found = DeviceNumber { major: fs::major(stat.st_dev), minor: fs::minor(stat.st_dev) };
            // btrfs answers with a number of its own (major 0) instead of its device's.
            if found == device || found.major == 0 {
                Ok(())
            } else {
                Err(Error::Io {
                    doing: format!("bind {}: it is no longer mounted", from.path().display()),
                    source: Errno::STALE.into(),
                })
            }
        })
    }

    fn bind_node(&self, device: &Device, to: &Place, readonly: bool) -> Result<(), Error> {
        calls::bind_node(&device.node, to, readonly)
    }

    fn unmount(&self, at: &Place) -> Result<bool, Error> {
        for attempt in 0..=BUSY_ATTEMPTS {
            match calls::unmount(at) {
                Ok(()) => return Ok(true),
                // Often only for a moment: a process asks for the fill level, or a child of ours has yet to
                // close what it inherited.
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                    if attempt < BUSY_ATTEMPTS {
                        thread::sleep(BUSY_PAUSE);
                    }
                }
                Err(error) => return Err(error).doing(|| format!("unmount {}", at.path().display())),
            }
        }
        Ok(false)
    }

    fn seal(&self, at: &Place) -> Result<(), Error> {
        at.seal()
    }

    fn unseal(&self, at: &Place) -> Result<(), Error> {
        at.unseal()
    }

    fn give_to_group(&self, at: &Place, gid: u32) -> Result<bool, Error> {
        group::give(&at.directory()?, gid, &at.path().display().to_string())
    }

    fn stats(&self, filesystem: Filesystem, at: &Place) -> Result<Stats, Error> {
        let mounted = at.directory()?;
        let stat =
            fs::fstatvfs(&mounted).doing(|| format!("ask {} for its fill level", at.path().display()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let inodes = (filesystem != Filesystem::Btrfs).then(|| Inodes {
            total: stat.f_files,
            used: stat.f_files.saturating_sub(stat.f_ffree),
            available: stat.f_favail,
        });
        Ok(Stats {
            total_bytes: bytes(stat.f_blocks),
            used_bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            available_bytes: bytes(stat.f_bavail),
            inodes,
        })
    }
}

impl LinuxHost {
    /// The volume's mapper, if it lies on one of these devices.
    fn mapper_over(&self, id: &VolumeId, below: &[Attached]) -> Result<Option<Mapper>, Error> {
        let ours = |mapper: &Mapper| {
            mapper.is_made_by_us() && below.iter().any(|device| mapper.below == [device.number])
        };
        Ok(self.crypt.mapper(id)?.filter(ours))
    }
}

fn flush(node: &Path) -> Result<(), Error> {
    File::open(node).and_then(|file| file.sync_all()).doing(|| format!("flush {}", node.display()))
}

fn marked(id: &VolumeId, pools: Option<&[Uuid]>) -> Result<Vec<Loop>, Error> {
    let mut found = loops::all(|_| true).doing(|| format!("look for the loop device of volume {id}"))?;
    found.retain(|device| {
        loops::is_marked(device.name(), device.backing(), id)
            && pools.is_none_or(|pools| {
                pools.iter().any(|pool| device.name().starts_with(&loops::mark(*pool, "")))
            })
    });
    Ok(found)
}

/// A line of mountinfo in the engine's terms.
fn understand(line: mountinfo::Line) -> Mount {
    let whole = line.root == Path::new("/");
    let carries = if line.device.major != 0 {
        Carries::Filesystem { device: line.device, whole }
    } else if line.fstype == "btrfs" {
        // Its own number is invented; the source is the device's name, kept up to date by the kernel.
        block_device_of(&line.source).map_or(Carries::Other, |device| Carries::Filesystem { device, whole })
    } else if let Some(device) = node_at(&line) {
        Carries::Node { device }
    } else {
        Carries::Other
    };
    let what = match carries {
        Carries::Filesystem { .. } => format!("{} of {}", line.fstype, line.source.display()),
        Carries::Node { device } => format!("device node {device}"),
        Carries::Other => format!("a {} filesystem", line.fstype),
    };
    Mount { id: line.id, parent: line.parent, point: line.point, carries, readonly: line.readonly, what }
}

fn block_device_of(node: &Path) -> Option<DeviceNumber> {
    if !node.starts_with("/dev") {
        return None;
    }
    let name = node.file_name()?;
    if let Ok(text) = std::fs::read_to_string(PathBuf::from("/sys/class/block").join(name).join("dev")) {
        let (major, minor) = text.trim().split_once(':')?;
        return Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? });
    }
    // A name below /dev/mapper: udevd tells btrfs of it, and btrfs shows the name it heard last.
    let stat = fs::stat(node).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice)
        .then(|| DeviceNumber { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) })
}

/// The block device whose node is bound at that point. Only loop and device-mapper nodes on a /dev-like
/// filesystem are looked at, so that no dead network mount is ever touched.
fn node_at(line: &mountinfo::Line) -> Option<DeviceNumber> {
    let name = line.root.file_name()?.to_str()?;
    if !["loop", "dm-"].iter().any(|kind| name.starts_with(kind))
        || !matches!(line.fstype.as_str(), "devtmpfs" | "tmpfs")
    {
        return None;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = fs::open(&line.point, flags, Mode::empty()).ok()?;
    let stat = fs::fstat(&node).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice)
        .then(|| DeviceNumber { major: fs::major(stat.st_rdev), minor: fs::minor(stat.st_rdev) })
}
