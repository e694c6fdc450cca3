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

/// The longest time for which a mounted filesystem is held still. A process of its own thaws it then, also
/// when we are gone.
pub(crate) const PAUSE_LIMIT: Duration = Duration::from_secs(2);

/// Holds a volume still while its content is copied.
pub(crate) trait Pause {
    /// The place where the volume is in use; `None` if nothing can write to it during the call.
    fn user(&self) -> Option<&str>;

    /// Whether the copy of a volume that is not in use may continue, or must give way to a call that wants to
    /// use it.
    fn goes_on(&self) -> bool {
        true
    }

    /// Writes out what was written before, which may take long, so that the hold is short.
    fn write_out(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Runs `work` with everything written before on the device, and the mounted filesystem frozen. Returns
    /// `false` if the volume may have been written to meanwhile, because `work` took longer than
    /// [`PAUSE_LIMIT`] or because it is a raw block device, which can't be held.
    fn hold(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error>;
}

/// The remaining work of a copy whose source may be used and changed again. It is given up when what it is
/// told no longer holds.
pub(crate) type Rest<'a> = Box<dyn FnOnce(&dyn Fn() -> bool) -> Result<(), Error> + 'a>;

/// The error of a copy that gave way to the use of its source.
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
    /// Bytes that the volume's image takes.
    pub(crate) allocated: u64,
    pub(crate) record: Result<Record, Broken>,
}

/// The sums of what a pool has promised, and of what its volumes take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Promised {
    pub(crate) volumes: u64,
    pub(crate) snapshots: u64,
    /// Sum of the sizes of both.
    pub(crate) bytes: u64,
    /// Sum of what images take, blocks that several share counted once at most.
    pub(crate) allocated: u64,
}

/// A pool of the node. Callers hold the volume's lock around everything that changes it.
///
/// What a pool can do stands in one trait for each topic, so that each kind of pool has it in a file of that
/// topic.
pub(crate) trait Pool: Space + Volumes + Copies + Release + Devices + Send + Sync {
    /// The configuration that the pool was opened with.
    fn config(&self) -> &PoolConfig;
    /// The pool's own id, which is kept on its disk.
    fn id(&self) -> Uuid;
    /// Checks that the pool can be used now.
    fn check(&self) -> Result<(), PoolError>;
    /// Asks the disk for something that the kernel does not have in memory. Returns when the disk answers.
    fn reach_disk(&self) -> io::Result<()>;
    /// Housekeeping; called each time the pools are inspected.
    fn tend(&self) {}
    /// The logical block size that a new volume gets, in bytes.
    fn sector_bytes(&self, mode: VolumeMode) -> u32;
    /// The logical block size that a volume of this record has in this pool, in bytes, whatever it was made
    /// with elsewhere: a loop device can have any.
    fn sector_bytes_of(&self, record: &Record) -> u32 {
        record.sector_bytes
    }
    /// Allocation unit: every volume's size is a multiple of it. The record says so where that is more than
    /// was asked for, since a copy must have room for all of it.
    fn grain_bytes(&self) -> u64 {
        GRAIN
    }
    /// Whether a new volume reads as zeros everywhere.
    fn is_zeroed(&self) -> bool {
        true
    }
    /// Whether volumes are to keep the blocks that their filesystems no longer need.
    fn keeps_blocks(&self) -> bool {
        false
    }
}

/// How much a pool has, and what its volumes take of it.
pub(crate) trait Space {
    /// Identifies the disk below the pool, without asking the disk for anything.
    fn disk_id(&self) -> Result<u64, PoolError>;
    /// Size and free space of the disk below the pool.
    fn disk(&self) -> Result<Disk, PoolError>;
    /// What the pool has promised, and what its volumes take.
    fn promised(&self) -> Promised;
    /// What of that it has promised to one volume or snapshot, in bytes.
    fn promised_to(&self, id: &VolumeId) -> u64;
    /// Bytes of the disk that a volume or snapshot takes while another process makes it: it is not among those that the pool has promised.
    fn begun(&self, _id: &VolumeId) -> u64 {
        0
    }
    /// Whether images bypass the page cache; `None` while that is unknown.
    fn direct_io(&self) -> Option<bool>;
    /// A fault that somebody has to mend although the pool can be used.
    fn warning(&self) -> Option<PoolError> {
        None
    }
    /// Fill level of an LVM thin pool.
    fn thin(&self) -> Option<ThinUsage> {
        None
    }
}

/// Volumes come, change and go.
pub(crate) trait Volumes {
    /// Reads every volume from the disk.
    fn scan(&self) -> Result<Vec<Scanned>, PoolError>;
    /// Whether the pool held the volume when it was last looked at. This is a hint from memory.
    fn held(&self, id: &VolumeId) -> bool;
    /// One volume's record; `None` where there is no such volume.
    fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error>;
    /// The record as the disk has it now, whatever is remembered of it.
    fn load_anew(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        self.load(id)
    }
    /// Replaces a volume's record.
    fn save(&self, record: &Record) -> Result<(), Error>;
    /// Bytes that a volume's image takes.
    fn allocated(&self, id: &VolumeId) -> u64;
    /// Makes a volume with its record.
    fn create(&self, record: &Record) -> Result<(), Error>;
    /// Makes image and device at least as large as the record says. Call it before the larger record is
    /// saved: an image that is shorter than its record counts as damaged.
    fn resize(&self, record: &Record) -> Result<(), Error>;
    /// Deletes a volume: its id is free at once, its space is freed by [`Release::sweep`]. Returns `false` if
    /// there was no such volume.
    fn delete(&self, id: &VolumeId) -> Result<bool, Error>;
}

/// Snapshots, clones, and the exchange of a volume's content.
pub(crate) trait Copies {
    /// Makes a snapshot, or a volume at least as large as `source`, with the content that `source`, which
    /// lies in this pool, has at one moment of the call. The copy is there when the rest has run too, if one
    /// is returned; until then the source must not be deleted, grown or rolled back. A crash leaves all of
    /// the copy or none.
    fn copy<'a>(
        &'a self,
        record: &'a Record,
        source: &'a Record,
        pause: &dyn Pause,
    ) -> Result<Option<Rest<'a>>, Error>;
    /// Bytes of the disk that such a copy takes while it is made. `in_use`: whether the source may be written
    /// to meanwhile.
    fn bytes_for_copy(&self, record: &Record, _source: &Record, _in_use: bool) -> u64 {
        record.size_bytes
    }
    /// The content of a volume or snapshot, for a copy into another pool.
    fn content(&self, record: &Record) -> Result<Content, Error>;
    /// Makes a volume with the content of `source`, which lies in another pool. A crash leaves all of it or
    /// none.
    fn fill(
        &self,
        record: &Record,
        source: &Record,
        content: Content,
        pause: &dyn Pause,
    ) -> Result<(), Error>;
    /// Gives a volume that is not attached the content of a snapshot, which stays, and then the given record.
    /// A crash leaves the volume with its record of before, and either content: the same call then completes
    /// it.
    fn roll_back(&self, volume: &Record, snapshot: &Record) -> Result<(), Error>;
    /// Bytes of the disk that this takes beside the content of before, where it shares nothing.
    fn bytes_to_roll_back(&self, _volume: &Record) -> u64 {
        0
    }
    /// Says why a snapshot's content is lost; `None` while it is whole. Images never lose it.
    fn damage(&self, _snapshot: &Record) -> Result<Option<String>, Error> {
        Ok(None)
    }
    /// Whether what is written to a snapshot takes the place of what lay there, as far as nothing else shares
    /// that.
    fn overwrites_copies(&self) -> bool {
        true
    }
}

/// Making space unreadable before another volume gets it, and giving it back.
pub(crate) trait Release {
    /// Whether space of deleted volumes is still to be freed.
    fn has_trash(&self) -> bool;
    /// Frees the space of deleted volumes, which takes hours where it has to be zeroed. Returns how many
    /// volumes are gone, and what failed. Ends soon when `goes_on` no longer holds; the next call continues
    /// from there.
    fn sweep(&self, goes_on: &dyn Fn() -> bool) -> (usize, Vec<String>);
    /// Puts the remains of interrupted creations among the deleted volumes. Returns how many there were, and
    /// what failed. Call it only while no creation runs.
    fn throw_unfinished(&self) -> (usize, Vec<String>);
    /// Whether no data was ever written to the image.
    fn is_empty(&self, id: &VolumeId) -> Result<bool, Error>;
    /// Makes an image that was never mounted read as zeros again. Returns `false` where the filesystem below
    /// can't, or where only both ends are zeroed.
    fn wipe(&self, record: &Record) -> Result<bool, Error>;
}

/// Volumes as devices.
pub(crate) trait Devices {
    /// Attaches the volume as a device of its full size, or finds the device that it already has.
    fn attach(&self, record: &Record) -> Result<Device, Error>;
    /// The device that the volume is attached as.
    fn attached(&self, id: &VolumeId) -> Result<Option<Attached>, Error>;
    /// The device that the volume is attached as, held so that it stays. This never attaches: callers that
    /// only look hold no lock.
    fn device(&self, record: &Record) -> Result<Option<Device>, Error>;
    /// Detaches the volume's device. Returns `false` if it was not attached.
    fn detach(&self, id: &VolumeId) -> Result<bool, Error>;
    /// Resumes devices of ours that a killed program left suspended. Returns what failed.
    fn resume(&self) -> Vec<String> {
        Vec::new()
    }
    /// Detaches devices of ours that nothing can need any more: those whose image is gone, and those for
    /// which `is_stale` holds. Returns the devices, and what failed.
    fn free_stale(&self, is_stale: &dyn Fn(&VolumeId, &Attached) -> bool) -> (Vec<String>, Vec<String>);
}
