//! Pools: where volumes lie, what they take, and how a volume becomes a device.

pub(crate) mod config;
pub(crate) mod directory;
#[cfg(test)]
pub(crate) mod examples;
pub(crate) mod images;
pub(crate) mod ledger;
pub(crate) mod loops;
pub(crate) mod lvm;
pub(crate) mod record;
pub(crate) mod space;
pub(crate) mod store;
pub(crate) mod stored;

use std::{io, time::Duration};

pub use config::{Backend, LvmKind, PoolConfig, PoolReport, PoolUsage, Provisioning, ThinPool, ThinUsage};

use uuid::Uuid;

use crate::{
    Error, PoolError, VolumeId, VolumeMode,
    device::{Attached, Content, Device},
};
use record::Record;
use space::{Disk, GRAIN};
use store::Broken;

/// How long a mounted filesystem is held still at most. A process of its own thaws it then, also when we are gone.
pub(crate) const PAUSE_LIMIT: Duration = Duration::from_secs(2);

/// Holds a volume still while its content is copied.
pub(crate) trait Pause {
    /// Where the volume is in use; `None`: nobody can write to it during the call.
    fn user(&self) -> Option<&str>;

    /// Whether a copy of what is not in use may go on: somebody may want to use it.
    fn goes_on(&self) -> bool {
        true
    }

    /// Writes out what was written before, which may take long, so that the hold is short.
    fn write_out(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Runs `work` with everything written before on the device, and the mounted filesystem frozen. `false`: somebody may have written
    /// meanwhile, because it took longer than [`PAUSE_LIMIT`] or because it is a raw block device, which can't be held.
    fn hold(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error>;
}

/// What is left to do of a copy whose source may be used and changed again. It is given up when what it is told no longer holds.
pub(crate) type Rest<'a> = Box<dyn FnOnce(&dyn Fn() -> bool) -> Result<(), Error> + 'a>;

/// That the copy of a volume which nobody used gave way.
pub(crate) fn gave_way(source: &VolumeId) -> Error {
    let by = "a pod that starts or ends, for which its copy was given up; the next try begins anew";
    Error::InUse { id: source.clone(), by: by.to_owned() }
}

/// That a copy was given up since this process ends.
pub(crate) fn cut_short(source: &VolumeId) -> Error {
    let by = "a process that ends, for which its copy was given up; the next one begins anew";
    Error::InUse { id: source.clone(), by: by.to_owned() }
}

/// One volume found by a scan.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) id: Option<VolumeId>,
    /// Bytes that its image takes.
    pub(crate) allocated: u64,
    pub(crate) record: Result<Record, Broken>,
}

/// What a pool promised and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Promised {
    pub(crate) volumes: u64,
    pub(crate) snapshots: u64,
    /// Sum of the sizes of both.
    pub(crate) bytes: u64,
    /// Sum of what images take, blocks that several share counted once at most.
    pub(crate) allocated: u64,
}

/// A pool; callers hold the volume's lock around everything that changes it.
pub(crate) trait Pool: Send + Sync {
    /// What it was opened with.
    fn config(&self) -> &PoolConfig;
    /// Its own id, kept on its disk.
    fn id(&self) -> Uuid;
    /// Whether it can be used now.
    fn check(&self) -> Result<(), PoolError>;
    /// Asks its disk for something that the kernel does not have in memory. It returns when the disk answers.
    fn reach_disk(&self) -> io::Result<()>;
    /// What is due in it by itself: looked for whenever the pools are looked at.
    fn tend(&self) {}
    /// Which disk is below it, without asking that.
    fn disk_id(&self) -> Result<u64, PoolError>;
    /// The disk below it.
    fn disk(&self) -> Result<Disk, PoolError>;
    /// What it promised and holds.
    fn promised(&self) -> Promised;
    /// Whether images bypass the page cache, once known.
    fn direct_io(&self) -> Option<bool>;
    /// What needs somebody though the pool can be used.
    fn warning(&self) -> Option<PoolError> {
        None
    }
    /// Fill level of an LVM thin pool.
    fn thin(&self) -> Option<ThinUsage> {
        None
    }

    /// Every volume, from the disk.
    fn scan(&self) -> Result<Vec<Scanned>, PoolError>;
    /// Whether it held a volume when it was last looked at, from memory: a hint.
    fn held(&self, id: &VolumeId) -> bool;
    /// One volume's record.
    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error>;
    /// The same as its disk has it now, whatever is remembered of it.
    fn load_anew(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        self.load(id)
    }
    /// Replaces a record.
    fn save(&self, record: &Record) -> Result<(), Error>;
    /// Bytes that a volume's image takes.
    fn allocated(&self, id: &VolumeId) -> u64;

    /// The logical block size a new volume shall have, in bytes.
    fn sector_bytes(&self, mode: VolumeMode) -> u32;
    /// The one that a volume of this record has here, whatever it was made with elsewhere: a loop device has any.
    fn sector_bytes_of(&self, record: &Record) -> u32 {
        record.sector_bytes
    }
    /// Of how many bytes a volume's size is a whole number. More than was asked for is said in the record: whoever copies the volume must
    /// know of all of it.
    fn grain_bytes(&self) -> u64 {
        GRAIN
    }
    /// Whether a new volume reads as zeros everywhere.
    fn is_zeroed(&self) -> bool {
        true
    }
    /// Makes a volume.
    fn create(&self, record: &Record) -> Result<(), Error>;
    /// Makes a snapshot, or a volume at least as large as `source`, with the content that `source`, which lies in this pool, has at one
    /// moment of the call. It is there when the rest has run too, if there is one; until then the source must not be deleted, grown or
    /// rolled back. A crash leaves all of it or none.
    fn copy<'a>(
        &'a self,
        record: &'a Record,
        source: &'a Record,
        pause: &dyn Pause,
    ) -> Result<Option<Rest<'a>>, Error>;
    /// Bytes of its disk that such a copy takes while it is made. `in_use`: whether somebody may write to the source meanwhile.
    fn bytes_for_copy(&self, record: &Record, _source: &Record, _in_use: bool) -> u64 {
        record.size_bytes
    }
    /// The content of a volume or snapshot, for a copy into another pool.
    fn content(&self, record: &Record) -> Result<Content, Error>;
    /// Makes a volume with that content, `source`'s, which lies in another pool. A crash leaves all of it or none.
    fn fill(
        &self,
        record: &Record,
        source: &Record,
        content: Content,
        pause: &dyn Pause,
    ) -> Result<(), Error>;
    /// Gives a volume that is not attached the content of a snapshot, which stays, and then the given record. A crash leaves the volume
    /// with its record of before, and either content: the same call brings it to its end.
    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error>;
    /// Why a snapshot's content is lost; `None`: it is whole. Images never lose it.
    fn damage(&self, _snapshot: &Record) -> Result<Option<String>, Error> {
        Ok(None)
    }
    /// Whether what is written to a snapshot takes the place of what lay there, as far as nothing else shares that.
    fn overwrites_copies(&self) -> bool {
        true
    }
    /// Whether volumes are to keep the blocks that their filesystems no longer need.
    fn keeps_blocks(&self) -> bool {
        false
    }
    /// Makes image and device at least as large as the record says. Call it before the larger record is saved: an image that is shorter
    /// than its record counts as damaged.
    fn resize(&self, record: &Record) -> Result<(), Error>;
    /// Deletes a volume; `false`: there was none.
    fn delete(&self, id: &VolumeId) -> Result<bool, Error>;
    /// Whether space of deleted volumes is still to be freed.
    fn has_trash(&self) -> bool;
    /// Frees that space, for hours where it has to be zeroed: of how many, and what failed. When `goes_on` no longer holds it ends soon, and
    /// the next call goes on where it was.
    fn sweep(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>);
    /// Puts what interrupted creations left among what was deleted: how many, and what failed. Only while no creation runs.
    fn throw_unfinished(&self) -> (usize, Vec<String>);

    /// Whether no data was ever written to the image.
    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error>;
    /// Makes the image read as zeros again, where its filesystem can (else `false`). Only for an image that was never mounted.
    fn wipe(&self, record: &Record) -> Result<bool, Error>;

    /// Makes the volume a device, or finds the one it is.
    fn attach(&self, record: &Record) -> Result<Device, Error>;
    /// The device that a volume is.
    fn attached(&self, id: &VolumeId) -> Result<Option<Attached>, Error>;
    /// The same, held so that it stays. It never attaches: who only looks holds no lock.
    fn device(&self, record: &Record) -> Result<Option<Device>, Error>;
    /// Ends that; `false`: it was none.
    fn detach(&self, id: &VolumeId) -> Result<bool, Error>;
    /// Resumes devices of ours that a killed program left suspended: what failed.
    fn resume(&self) -> Vec<String> {
        Vec::new()
    }
    /// Detaches devices of ours that nothing can need any more: those whose image is gone, and those for which `is_stale` holds.
    fn free_stale(&self, is_stale: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>);
}
