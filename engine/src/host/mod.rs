//! The host: everything that needs the kernel's help or a privilege.

mod linux;

use std::{sync::Arc, time::Duration};

pub use linux::LinuxHost;
use uuid::Uuid;

use crate::{
    Error, Filesystem, PoolError, Stats, VolumeId,
    crypt::Crypt,
    device::{Attached, Device, DeviceNumber},
    filesystem::{grow::GrowError, make::NewFilesystem, probe::Probe},
    mount::{place::Place, table::Mount},
    pool::{Pool, PoolConfig},
};

/// A host: [`LinuxHost`], or the simulation [`crate::SimHost`].
#[allow(private_bounds)] // Sealed on purpose: what a host must do changes with the engine.
pub trait Host: Operations {}

/// What the engine needs from a host.
pub(crate) trait Operations: Send + Sync + 'static {
    /// How long a pool's disk may take to answer before it counts as one that hangs: to write a few bytes and
    /// wait for them takes long where much else is being written.
    fn disk_patience(&self) -> Duration {
        Duration::from_mins(1)
    }

    /// Opens a pool. `known`: its own id, where it was open before; another one is then refused, and nothing
    /// is written.
    fn open_pool(&self, config: &PoolConfig, known: Option<Uuid>) -> Result<Arc<dyn Pool>, PoolError>;

    /// Whether what a pool's settings name is one, so that opening it makes nothing.
    fn is_pool(&self, config: &PoolConfig) -> Result<bool, PoolError>;

    /// The devices that carry a volume's own mark (of these pools, or of any), asked of the kernel alone: the
    /// volume's pool may be gone.
    fn marked(&self, id: &VolumeId, pools: Option<&[Uuid]>) -> Result<Vec<Attached>, Error>;
    /// Detaches those of these pools; `false`: there was none.
    fn detach_marked(&self, id: &VolumeId, pools: &[Uuid]) -> Result<bool, Error>;

    /// The host's encrypted devices.
    fn crypt(&self) -> &dyn Crypt;

    /// Names the devices that lie on a device, as an LVM group or a RAID that the host found in a raw volume;
    /// `None` if there are none.
    fn lying_on(&self, _: &Attached) -> Option<String> {
        None
    }
    /// The table of mounts.
    fn mounts(&self) -> Result<Vec<Mount>, Error>;
    /// Reads what a device shows. A read error is an error.
    fn probe(&self, device: &Device) -> Result<Probe, Error>;
    /// Makes a filesystem.
    fn make_filesystem(&self, device: &Device, new: &NewFilesystem<'_>) -> Result<(), Error>;
    /// Whether a filesystem that is not mounted says itself that something is wrong with it, and can be
    /// repaired.
    fn wants_repair(&self, device: &Device, filesystem: Filesystem) -> Result<bool, Error>;
    /// Repairs it.
    fn repair(&self, device: &Device) -> Result<(), Error>;
    /// Grows a filesystem that is not mounted.
    fn grow_unmounted(&self, device: &Device, filesystem: Filesystem) -> Result<(), Error>;
    /// Grows a mounted filesystem to its device, unless it fills it already. Returns its size in bytes.
    fn grow_mounted(&self, device: &Device, filesystem: Filesystem, at: &Place) -> Result<u64, GrowError>;

    /// Gives a copied filesystem an id of its own, where two filesystems with the same id can't be mounted at
    /// once. The filesystem keeps the id that it was made with next to the new one, so a probe shows the same
    /// as before. May be repeated.
    fn distinguish(&self, device: &Device, filesystem: Filesystem, own: Uuid) -> Result<(), Error>;

    /// Writes out what was written to the filesystem mounted at a place.
    fn write_out(&self, at: &Place) -> Result<(), Error>;
    /// Runs a job while the filesystem mounted at a place takes no writes. Returns `false` if it thawed
    /// before the end.
    fn while_frozen(&self, at: &Place, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<bool, Error>;
    /// Ends a freeze that a killed process left. Returns `false` if there is none.
    fn thaw(&self, mount: &Mount) -> Result<bool, Error>;
    /// Writes out what a raw block device's users wrote.
    fn flush(&self, device: &Device) -> Result<(), Error>;
    /// The mounts whose devices are ours, one of each filesystem.
    fn ours<'a>(&self, mounts: &'a [Mount]) -> Vec<&'a Mount>;

    /// Mounts a device's filesystem at a place.
    fn mount(
        &self,
        device: &Device,
        filesystem: Filesystem,
        options: &[String],
        at: &Place,
    ) -> Result<(), Error>;
    /// Copies the mount of a device's filesystem from one place to another.
    fn bind(&self, device: DeviceNumber, from: &Place, to: &Place, readonly: bool) -> Result<(), Error>;
    /// Binds a device's node onto the file at a place.
    fn bind_node(&self, device: &Device, to: &Place, readonly: bool) -> Result<(), Error>;
    /// Unmounts the uppermost mount at a place. Returns `false` if it is busy.
    fn unmount(&self, at: &Place) -> Result<bool, Error>;

    /// Protects an empty mount point against writers while nothing is mounted there.
    fn seal(&self, at: &Place) -> Result<(), Error>;
    /// Undoes [`Self::seal`], so that the mount point can be removed by its owner.
    fn unseal(&self, at: &Place) -> Result<(), Error>;

    /// Gives the root of the filesystem mounted at a place to a group. Returns `false` if it was so already.
    fn give_to_group(&self, at: &Place, gid: u32) -> Result<bool, Error>;

    /// Fill level of the filesystem mounted at a place.
    fn stats(&self, filesystem: Filesystem, at: &Place) -> Result<Stats, Error>;
}
