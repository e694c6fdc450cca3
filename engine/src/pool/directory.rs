//! The directory pool: image files on any filesystem, made devices by direct-I/O loop devices.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use rustix::{
    fs::{self, FallocateFlags, IFlags, Mode, OFlags},
    io::Errno,
};
use uuid::Uuid;

use crate::{
    Error, VolumeId, VolumeMode,
    error::Context,
    lasting::lasting,
    pool::{
        Attached, Backend, Content, Device, PAUSE_LIMIT, Pause, Pool, PoolConfig, PoolError, Promised,
        Provisioning, Scanned, images,
        ledger::Ledger,
        loops::{self, Identity, Loop},
        record::Record,
        space::Disk,
        store::{self, Broken, IMAGE, Store},
    },
};

/// Sector size of the devices of filesystem volumes, in bytes: writes then never make the filesystem below read before it writes.
const FILESYSTEM_SECTOR: u32 = 4096;

/// A directory of images.
pub(crate) struct DirectoryPool {
    config: PoolConfig,
    thick: bool,
    store: Store,
    ledger: Ledger,
    /// Where a volume's loop device was last seen: a hint, checked before use.
    hints: Mutex<HashMap<VolumeId, u32>>,
    direct_io: AtomicU8,
    block_sector: u32,
}

impl DirectoryPool {
    pub(crate) fn open(config: &PoolConfig, known: Option<Uuid>) -> Result<Self, PoolError> {
        let Backend::Directory { path, provisioning, create_path } = &config.backend else {
            unreachable!("the host opens each kind of pool with its own code");
        };
        let store = Store::open(&config.name, path, *create_path, known, true)?;
        let block_sector = direct_io_alignment(store.root()).unwrap_or(512).clamp(512, 4096);
        let pool = Self {
            config: config.clone(),
            thick: *provisioning == Provisioning::Thick,
            store,
            ledger: Ledger::default(),
            hints: Mutex::default(),
            direct_io: AtomicU8::new(UNKNOWN),
            block_sector,
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

    fn open_image(&self, id: &VolumeId, flags: OFlags) -> Result<OwnedFd, Error> {
        let folder = self.store.folder(id)?.ok_or_else(|| Error::NotFound { id: id.clone() })?;
        match store::open_beneath(&folder, IMAGE, flags) {
            Err(Errno::NOENT) => Err(Error::BrokenRecord {
                id: id.clone(),
                reason: format!("its image {} is missing", self.image_path(id).display()),
            }),
            other => other.doing(|| format!("open {}", self.image_path(id).display())),
        }
    }

    fn identity(&self, id: &VolumeId) -> Result<Option<Identity>, Error> {
        let Some(folder) = self.store.folder(id)? else { return Ok(None) };
        match fs::statat(&folder, IMAGE, fs::AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other
                .map(|stat| Some(Identity::of(&stat)))
                .doing(|| format!("look at {}", self.image_path(id).display())),
        }
    }

    fn find(&self, id: &VolumeId) -> Result<Option<Loop>, Error> {
        let Some(identity) = self.identity(id)? else { return Ok(None) };
        let hint = lock(&self.hints).get(id).copied();
        let found =
            loops::find(identity, hint).doing(|| format!("look for the loop device of volume {id}"))?;
        match &found {
            Some(found) => lock(&self.hints).insert(id.clone(), found.index()),
            None => lock(&self.hints).remove(id),
        };
        Ok(found)
    }

    fn remember(&self, found: &Loop) {
        self.direct_io.store(if found.direct_io() { YES } else { NO }, Ordering::Relaxed);
    }

    /// Gives an image its length, and its blocks where the pool is thick. Never shortens it.
    fn lengthen(&self, image: impl AsFd, record: &Record) -> Result<(), Error> {
        let doing =
            || format!("make {} {} bytes long", self.image_path(&record.id).display(), record.size_bytes);
        let length = u64::try_from(fs::fstat(&image).doing(doing)?.st_size).unwrap_or(0);
        if length >= record.size_bytes {
            return Ok(());
        }
        let result = lasting("lengthen an image", || {
            if self.thick {
                fs::fallocate(&image, FallocateFlags::empty(), 0, record.size_bytes)
            } else {
                fs::ftruncate(&image, record.size_bytes)
            }
        });
        match result {
            Ok(()) => fs::fsync(image).doing(doing),
            Err(Errno::NOSPC | Errno::DQUOT) => Err(Error::OutOfSpace {
                pool: self.config.name.clone(),
                requested: record.size_bytes,
                largest: self.disk()?.free,
            }),
            Err(Errno::FBIG) => Err(Error::InvalidArgument(format!(
                "the filesystem below pool {} can't hold a file of {} bytes",
                self.config.name, record.size_bytes
            ))),
            Err(Errno::OPNOTSUPP) => Err(Error::Unsupported(format!(
                "the filesystem below pool {} can't allocate ahead: make the pool thin",
                self.config.name
            ))),
            Err(error) => Err(error).doing(doing),
        }
    }

    fn new_image(&self, folder: &OwnedFd, id: &VolumeId) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let image = lasting("make an image", || fs::openat(folder, IMAGE, flags, Mode::RUSR | Mode::WUSR))
            .doing(|| format!("make {}", self.image_path(id).display()))?;
        // Copy-on-write below a filesystem that writes in place makes every write a new extent. Only btrfs knows the flag; it shares
        // blocks only between files that both have it.
        if let Ok(flags) = fs::ioctl_getflags(&image) {
            let _ = fs::ioctl_setflags(&image, flags | IFlags::NOCOW);
        }
        Ok(image)
    }

    /// Makes the image of `record` in a folder, with the content that the source's has at one moment.
    fn copy_image(
        &self,
        folder: &OwnedFd,
        record: &Record,
        from: &File,
        source: &Record,
        pause: &dyn Pause,
    ) -> Result<(), Error> {
        let doing = || format!("copy {} to {}", source.id, self.image_path(&record.id).display());
        let too_long = |by: &str, why: &str| Error::CopyNeedsPause {
            id: source.id.clone(),
            by: by.to_owned(),
            reason: format!(
                "the filesystem below pool {} can't share blocks, and {why}; stop the pods that use it and try again, or keep such \
                 volumes in a pool on XFS or btrfs",
                self.config.name
            ),
        };
        let image = File::from(self.new_image(folder, &record.id)?);
        let (mut shared, mut whole) = (false, true);
        let still = pause.hold(&mut || {
            shared = lasting("share blocks", || images::share(from, &image))
                .map_err(|error| self.full_or(error, record, doing))?;
            if shared {
                return Ok(());
            }
            if let Some(by) = pause.user().filter(|_| source.mode == VolumeMode::Block) {
                return Err(too_long(by, "a raw block device can't be held still"));
            }
            self.lengthen(&image, record)?;
            let until = pause.user().map(|_| Instant::now() + PAUSE_LIMIT);
            whole = lasting("copy data", || images::copy_data(from, source.size_bytes, &image, until))
                .map_err(|error| self.full_or(error, record, doing))?;
            Ok(())
        })?;
        // While blocks are being shared writers wait, so that is one moment also where nothing holds them.
        let one_moment = shared || (still && whole);
        if !one_moment {
            let by = pause.user().unwrap_or("another process");
            return Err(too_long(by, &format!("copying takes longer than {} s", PAUSE_LIMIT.as_secs())));
        }
        self.lengthen(&image, record)?;
        image.sync_all().doing(doing)
    }

    fn full_or(&self, error: io::Error, record: &Record, doing: impl FnOnce() -> String) -> Error {
        let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        if is(Errno::NOSPC) || is(Errno::DQUOT) {
            let largest = self.disk().map_or(0, |disk| disk.free);
            let pool = self.config.name.clone();
            return Error::OutOfSpace { pool, requested: record.size_bytes, largest };
        }
        Error::Io { doing: doing(), source: error }
    }

    /// Gives a thick volume the blocks back that somebody discarded. The volume can be used without them as long as the disk has room.
    fn fill_holes(&self, image: &OwnedFd, record: &Record) {
        let allocated =
            fs::fstat(image).map(|stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if !self.thick || allocated.is_ok_and(|allocated| allocated >= record.size_bytes) {
            return;
        }
        let keep = FallocateFlags::KEEP_SIZE;
        if let Err(error) = lasting("fill holes", || fs::fallocate(image, keep, 0, record.size_bytes)) {
            tracing::warn!(volume = %record.id, %error, "the volume's discarded blocks could not be allocated again");
        }
    }

    /// An image shorter than its record lost data: growing it back would hide that.
    fn check_length(&self, image: impl AsFd, record: &Record) -> Result<(), Error> {
        let stat = fs::fstat(image).doing(|| format!("look at {}", self.image_path(&record.id).display()))?;
        if u64::try_from(stat.st_size).unwrap_or(0) >= record.size_bytes {
            return Ok(());
        }
        let (path, length, promised) = (self.image_path(&record.id), stat.st_size, record.size_bytes);
        let reason =
            format!("its image {} was cut off: {length} of {promised} bytes are there", path.display());
        Err(Error::BrokenRecord { id: record.id.clone(), reason })
    }

    fn mark(&self) -> String {
        loops::mark(self.store.id, "")
    }
}

/// A source that nothing can write to.
struct Unused;

impl Pause for Unused {
    fn user(&self) -> Option<&str> {
        None
    }

    fn hold(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error> {
        work()?;
        Ok(true)
    }
}

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

impl Pool for DirectoryPool {
    fn config(&self) -> &PoolConfig {
        &self.config
    }

    fn id(&self) -> Uuid {
        self.store.id
    }

    fn check(&self) -> Result<(), PoolError> {
        self.store.check()
    }

    fn disk(&self) -> Result<Disk, PoolError> {
        let bad = |error: Errno| self.error("can't ask the filesystem for its size", &error.into());
        let stat = fs::fstat(self.store.root()).map_err(bad)?;
        let space = fs::fstatvfs(self.store.root()).map_err(bad)?;
        Ok(Disk {
            id: stat.st_dev,
            capacity: space.f_blocks.saturating_mul(space.f_frsize),
            free: space.f_bavail.saturating_mul(space.f_frsize),
            trash: self.store.trash_bytes(),
            closed: false,
        })
    }

    fn promised(&self) -> Promised {
        self.ledger.promised(|id| self.allocated(id))
    }

    fn direct_io(&self) -> Option<bool> {
        match self.direct_io.load(Ordering::Relaxed) {
            UNKNOWN => None,
            state => Some(state == YES),
        }
    }

    fn scan(&self) -> Result<Vec<Scanned>, PoolError> {
        self.ledger
            .scan(&self.store, |id, _| self.store.image_size(id))
            .map_err(|error| self.error("can't list the volumes", &error))
    }

    fn held(&self, id: &VolumeId) -> bool {
        self.ledger.holds(id)
    }

    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        self.store.load(id)
    }

    fn save(&self, record: &Record) -> Result<(), Error> {
        self.store.save(record)?;
        self.ledger.set(record);
        Ok(())
    }

    fn allocated(&self, id: &VolumeId) -> u64 {
        self.store.image_size(id).map_or(0, |size| size.allocated)
    }

    fn sector_bytes(&self, mode: VolumeMode) -> u32 {
        match mode {
            VolumeMode::Filesystem(_) => FILESYSTEM_SECTOR,
            VolumeMode::Block => self.block_sector,
        }
    }

    fn create(&self, record: &Record) -> Result<(), Error> {
        self.store.insert(record, |folder| {
            let image = self.new_image(folder, &record.id)?;
            self.lengthen(&image, record)
        })?;
        self.ledger.set(record);
        Ok(())
    }

    fn copy(&self, record: &Record, source: &Record, pause: &dyn Pause) -> Result<(), Error> {
        let from = File::from(self.open_image(&source.id, OFlags::RDONLY)?);
        self.check_length(&from, source)?;
        self.store.insert(record, |folder| self.copy_image(folder, record, &from, source, pause))?;
        self.ledger.set(record);
        Ok(())
    }

    fn content(&self, record: &Record) -> Result<Content, Error> {
        let image = self.open_image(&record.id, OFlags::RDONLY)?;
        self.check_length(&image, record)?;
        Ok(Content { file: Some(File::from(image)), bytes: record.size_bytes })
    }

    fn fill(&self, record: &Record, source: &Record, content: Content) -> Result<(), Error> {
        let doing = || format!("copy {} to {}", source.id, self.image_path(&record.id).display());
        self.store.insert(record, |folder| {
            let image = self.new_image(folder, &record.id)?;
            self.lengthen(&image, record)?;
            let image = File::from(image);
            if let Some(file) = &content.file {
                lasting("copy data", || images::copy_data(file, content.bytes, &image, None))
                    .map_err(|error| self.full_or(error, record, doing))?;
            }
            image.sync_all().doing(doing)
        })?;
        self.ledger.set(record);
        Ok(())
    }

    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error> {
        let from = File::from(self.open_image(&snapshot.id, OFlags::RDONLY)?);
        self.check_length(&from, snapshot)?;
        self.store.exchange(volume, |folder| self.copy_image(folder, volume, &from, snapshot, &Unused))?;
        self.ledger.set(volume);
        lock(&self.hints).remove(&volume.id);
        Ok(())
    }

    fn keeps_blocks(&self) -> bool {
        self.thick
    }

    fn resize(&self, record: &Record) -> Result<(), Error> {
        let image = self.open_image(&record.id, OFlags::RDWR)?;
        self.lengthen(&image, record)?;
        if let Some(device) = self.find(&record.id)? {
            device.follow_image().doing(|| format!("grow {}", device.node().display()))?;
        }
        Ok(())
    }

    fn delete(&self, id: &VolumeId) -> Result<bool, Error> {
        let removed = self.store.remove(id)?;
        self.ledger.remove(id);
        lock(&self.hints).remove(id);
        Ok(removed)
    }

    fn sweep(&self) -> (usize, Vec<String>) {
        self.store.sweep_trash()
    }

    fn sweep_unfinished(&self) -> (usize, Vec<String>) {
        self.store.sweep_new()
    }

    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error> {
        let image = File::from(self.open_image(id, OFlags::RDONLY)?);
        images::all_zeros(&image).doing(|| format!("read {}", self.image_path(id).display()))
    }

    fn wipe(&self, record: &Record) -> Result<bool, Error> {
        let image = self.open_image(&record.id, OFlags::RDWR)?;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match lasting("empty an image", || fs::fallocate(&image, punch, 0, record.size_bytes)) {
            Err(Errno::OPNOTSUPP) => return Ok(false),
            other => other.doing(|| format!("empty {}", self.image_path(&record.id).display()))?,
        }
        if self.thick {
            fs::fallocate(&image, FallocateFlags::empty(), 0, record.size_bytes)
                .doing(|| format!("allocate {}", self.image_path(&record.id).display()))?;
        }
        Ok(true)
    }

    fn attach(&self, record: &Record) -> Result<Device, Error> {
        let id = &record.id;
        let (device, fresh) = if let Some(found) = self.find(id)? {
            (found, false)
        } else {
            let image = self.open_image(id, OFlags::RDWR)?;
            self.check_length(&image, record)?;
            self.fill_holes(&image, record);
            // A filesystem's loop device goes with its last mount, so a plugin that is killed leaks none. A raw block device must stay
            // while nobody has it open.
            let autoclear = matches!(record.mode, VolumeMode::Filesystem(_));
            let name = loops::mark(self.store.id, id.as_str());
            let attached = loops::attach(image.as_fd(), record.sector_bytes, autoclear, &name)
                .doing(|| format!("attach {} to a loop device", self.image_path(id).display()))?;
            lock(&self.hints).insert(id.clone(), attached.index());
            (attached, true)
        };
        self.remember(&device);
        let size =
            |device: &Loop| device.bytes().doing(|| format!("ask {} for its size", device.node().display()));
        let mut bytes = size(&device)?;
        if bytes < record.size_bytes {
            device.follow_image().doing(|| format!("grow {}", device.node().display()))?;
            bytes = size(&device)?;
        }
        Ok(Device {
            number: device.number(),
            node: device.node(),
            bytes,
            fresh,
            _hold: Some(device.into_fd()),
        })
    }

    fn attached(&self, id: &VolumeId) -> Result<Option<Attached>, Error> {
        Ok(self.find(id)?.map(|device| device.attached()))
    }

    fn device(&self, record: &Record) -> Result<Option<Device>, Error> {
        let Some(device) = self.find(&record.id)? else { return Ok(None) };
        let bytes = device.bytes().doing(|| format!("ask {} for its size", device.node().display()))?;
        Ok(Some(Device {
            number: device.number(),
            node: device.node(),
            bytes,
            fresh: false,
            _hold: Some(device.into_fd()),
        }))
    }

    fn detach(&self, id: &VolumeId) -> Result<bool, Error> {
        let Some(device) = self.find(id)? else { return Ok(false) };
        let node = device.node();
        device.detach().doing(|| format!("detach {}", node.display()))?;
        Ok(true)
    }

    fn free_stale(&self, is_stale: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut freed, mut problems) = (Vec::new(), Vec::new());
        let images: HashMap<Identity, VolumeId> = match self.store.ids() {
            // Without the list nothing is known to be stale.
            Err(error) => return (freed, vec![chain(&self.error("can't list the volumes", &error))]),
            Ok((ids, _)) => ids.into_iter().filter_map(|id| Some((self.identity(&id).ok()??, id))).collect(),
        };
        let found = match loops::all(|_| true) {
            Ok(found) => found,
            Err(error) => return (freed, vec![format!("list the loop devices: {error}")]),
        };
        let mark = self.mark();
        for device in found.into_iter().filter(|device| device.name().starts_with(&mark)) {
            let attached = device.attached();
            if images.get(&device.identity()).is_some_and(|id| !is_stale(id, &attached)) {
                continue;
            }
            match device.detach() {
                Ok(true) => freed.push(attached.node.display().to_string()),
                // Its last user will free it.
                Ok(false) => {}
                Err(error) => problems.push(format!("detach {}: {error}", attached.node.display())),
            }
        }
        (freed, problems)
    }
}

/// An error with its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these protect are caches; a panic elsewhere leaves them usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
