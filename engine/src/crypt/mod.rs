//! Encryption at rest: LUKS2 between a pool's device and what lies on it.
//!
//! ```text
//! pool's device   [ LUKS2 header, 1 MiB: two copies of its metadata, three key slots ][ encrypted data ]
//! mapper          /dev/dm-N, named tierce-crypt-<volume id>:                          [ data          ]
//! ```
//! A filesystem's mapper goes with its last mount, as its loop device does (the kernel's deferred removal); a
//! raw block volume's stays until it is unstaged.

pub(crate) mod cryptsetup;
pub(crate) mod header;
pub(crate) mod key;
pub(crate) mod mapper;

use uuid::Uuid;

use crate::{
    Error, VolumeId,
    device::{Content, Device},
};
pub use key::Key;

use header::Header;
pub(crate) use header::{HEADER_BYTES, SECTOR_BYTES, SLOTS};
use mapper::Mapper;

/// Outcome of opening an encrypted device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    Done,
    WrongKey,
    /// Another device still lies on the pool's device: the kernel takes a mapper's name away a moment before
    /// the mapper itself.
    Busy,
}

/// Operations on encrypted devices that the engine needs from a host. `below`: the pool's device.
pub(crate) trait Crypt: Send + Sync {
    /// Reads what the beginning of a device shows. A read error is an error.
    fn header(&self, below: &Device) -> Result<Header, Error>;
    /// Writes a new header with the key in slot 0. Everything on the device is lost.
    fn format(&self, below: &Device, header: Uuid, key: &Key) -> Result<(), Error>;
    /// Overwrites the header with the one that a copy of the volume has. `kept`: the copy's id, `content`:
    /// its bytes.
    fn put_back_header(&self, kept: &VolumeId, content: &Content, below: &Device) -> Result<(), Error>;
    /// Overwrites the header with all key slots, so that no key opens the data any more.
    fn erase(&self, below: &Device) -> Result<(), Error>;

    /// Finds whatever device has the name of that volume's mapper.
    fn mapper(&self, id: &VolumeId) -> Result<Option<Mapper>, Error>;
    /// All devices whose names are those of mappers, with the volumes' ids.
    fn mappers(&self) -> Result<Vec<(VolumeId, Mapper)>, Error>;
    /// Makes the mapper. `discards`: whether freed blocks are passed on to the pool.
    fn open(&self, id: &VolumeId, below: &Device, key: &Key, discards: bool) -> Result<Opened, Error>;
    /// The mapper as a device, held open; `None` if it is gone meanwhile.
    fn device(&self, mapper: &Mapper) -> Result<Option<Device>, Error>;
    /// Makes the mapper as large as the pool's device allows. Needs no key.
    fn resize(&self, mapper: &Mapper) -> Result<(), Error>;
    /// Lets the kernel remove the mapper when its last user closes it.
    fn close_after_use(&self, mapper: &Mapper) -> Result<(), Error>;
    /// Removes the mapper now. Returns `false` if it is in use.
    fn close(&self, mapper: &Mapper) -> Result<bool, Error>;
    /// Names the users of a mapper, for messages.
    fn users(&self, mapper: &Mapper) -> String;
    /// Names what lies on the pool's device, for messages; `None` if nothing does.
    fn holders(&self, below: &Device) -> Option<String>;

    /// The key slots in use, in order.
    fn slots(&self, below: &Device) -> Result<Vec<u32>, Error>;
    /// Whether the key opens that slot, or any.
    fn opens(&self, below: &Device, key: &Key, slot: Option<u32>) -> Result<bool, Error>;
    /// Puts a further key into a free slot.
    fn add_key(&self, below: &Device, key: &Key, further: &Key, slot: u32) -> Result<(), Error>;
    /// Empties a slot; `key` must open another one.
    fn remove_key(&self, below: &Device, key: &Key, slot: u32) -> Result<(), Error>;
}
