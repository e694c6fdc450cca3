//! One image file: made, lengthened, copied.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use rustix::{
    fs::{self, FallocateFlags, IFlags, Mode, OFlags},
    io::Errno,
};

use super::DirectoryPool;
use crate::{
    Error, VolumeId, VolumeMode,
    error::Context,
    lasting::lasting,
    pool::{
        PAUSE_LIMIT, Pause, Space, gave_way, images,
        record::Record,
        store::{self, IMAGE},
    },
};

impl DirectoryPool {
    pub(super) fn open_image(&self, id: &VolumeId, flags: OFlags) -> Result<OwnedFd, Error> {
        let folder = self.store.folder(id)?.ok_or_else(|| Error::NotFound { id: id.clone() })?;
        match store::open_beneath(&folder, IMAGE, flags) {
            Err(Errno::NOENT) => Err(Error::BrokenRecord {
                id: id.clone(),
                reason: format!("its image {} is missing", self.image_path(id).display()),
            }),
            other => other.doing(|| format!("open {}", self.image_path(id).display())),
        }
    }

    /// Gives an image its length, and its blocks where the pool is thick. Never shortens it.
    pub(super) fn lengthen(&self, image: impl AsFd, record: &Record) -> Result<(), Error> {
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

    pub(super) fn new_image(&self, folder: &OwnedFd, id: &VolumeId) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let image = lasting("make an image", || fs::openat(folder, IMAGE, flags, Mode::RUSR | Mode::WUSR))
            .doing(|| format!("make {}", self.image_path(id).display()))?;
        // Copy-on-write below a filesystem that writes in place makes every write a new extent. Only btrfs
        // knows the flag; it shares blocks only between files that both have it.
        if let Ok(flags) = fs::ioctl_getflags(&image) {
            let _ = fs::ioctl_setflags(&image, flags | IFlags::NOCOW);
        }
        Ok(image)
    }

    /// Makes the image of `record` in a folder, with the content that the source's has at one moment.
    pub(super) fn copy_image(
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
            let goes_on = || until.map_or_else(|| pause.goes_on(), |until| Instant::now() < until);
            whole = lasting("copy data", || images::copy_data(from, source.size_bytes, &image, &goes_on))
                .map_err(|error| self.full_or(error, record, doing))?;
            if whole || until.is_some() { Ok(()) } else { Err(gave_way(&source.id)) }
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

    pub(super) fn full_or(&self, error: io::Error, record: &Record, doing: impl FnOnce() -> String) -> Error {
        let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        if is(Errno::NOSPC) || is(Errno::DQUOT) {
            let largest = self.disk().map_or(0, |disk| disk.free);
            let pool = self.config.name.clone();
            return Error::OutOfSpace { pool, requested: record.size_bytes, largest };
        }
        Error::Io { doing: doing(), source: error }
    }

    /// Allocates the blocks of a thick volume again that its user discarded. The volume can be used without
    /// them as long as the disk has room.
    pub(super) fn fill_holes(&self, image: &OwnedFd, record: &Record) {
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
    pub(super) fn check_length(&self, image: impl AsFd, record: &Record) -> Result<(), Error> {
        let stat = fs::fstat(image).doing(|| format!("look at {}", self.image_path(&record.id).display()))?;
        if u64::try_from(stat.st_size).unwrap_or(0) >= record.size_bytes {
            return Ok(());
        }
        let (path, length, promised) = (self.image_path(&record.id), stat.st_size, record.size_bytes);
        let reason =
            format!("its image {} was cut off: {length} of {promised} bytes are there", path.display());
        Err(Error::BrokenRecord { id: record.id.clone(), reason })
    }
}

/// A source that nothing can write to.
pub(super) struct Unused;

impl Pause for Unused {
    fn user(&self) -> Option<&str> {
        None
    }

    fn hold(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error> {
        work()?;
        Ok(true)
    }
}
