//! Two calls of the device mapper: what a device is, and its removal. Tables are loaded by the programs that know their format.

use std::{fs::File, io, os::fd::AsFd};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{self, Opcode, Updater, opcode},
};

const CONTROL: &str = "/dev/mapper/control";
/// Exists when the kernel has a device mapper, whether or not its node is there.
const PRESENT: &str = "/sys/class/misc/device-mapper";

const NAME_BYTES: usize = 128;
const UUID_BYTES: usize = 129;

const DM_DEV_REMOVE: Opcode = opcode::read_write::<DmIoctl>(0xfd, 4);
const DM_DEV_STATUS: Opcode = opcode::read_write::<DmIoctl>(0xfd, 7);

const SUSPENDED: u32 = 1 << 1;
const TABLE_LIVE: u32 = 1 << 5;
const DEFERRED_REMOVE: u32 = 1 << 17;

/// `struct dm_ioctl` of `linux/dm-ioctl.h`.
#[repr(C)]
struct DmIoctl {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; NAME_BYTES],
    uuid: [u8; UUID_BYTES],
    data: [u8; 7],
}

const SIZE: u32 = 312;
const _: () = assert!(size_of::<DmIoctl>() == SIZE as usize);

impl DmIoctl {
    fn new(flags: u32) -> Self {
        Self {
            version: [4, 0, 0],
            data_size: SIZE,
            data_start: 0,
            target_count: 0,
            open_count: 0,
            flags,
            event: 0,
            padding: 0,
            device: 0,
            name: [0; NAME_BYTES],
            uuid: [0; UUID_BYTES],
            data: [0; 7],
        }
    }
}

/// What a device-mapper device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DmStatus {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Who made it for what; empty where its maker gave none.
    pub(crate) uuid: String,
    /// How many have it open or mounted.
    pub(crate) open_count: u32,
    /// It has a table and does I/O.
    pub(crate) live: bool,
    /// The kernel removes it when its last user closes it.
    pub(crate) deferred: bool,
}

/// What the device of that name is; `None`: there is none.
pub(crate) fn status(name: &str) -> io::Result<Option<DmStatus>> {
    let Some(control) = control()? else { return Ok(None) };
    let mut request = DmIoctl::new(0);
    fill(&mut request.name, name)?;
    // SAFETY: DM_DEV_STATUS reads and writes one `struct dm_ioctl`, whose layout `DmIoctl` repeats (size checked above) and whose
    // `data_size` is the size of that struct.
    match unsafe { ioctl::ioctl(control.as_fd(), Updater::<DM_DEV_STATUS, DmIoctl>::new(&mut request)) } {
        Ok(()) => {}
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let end = request.uuid.iter().position(|&byte| byte == 0).unwrap_or(UUID_BYTES);
    Ok(Some(DmStatus {
        major: rustix::fs::major(request.device),
        minor: rustix::fs::minor(request.device),
        uuid: String::from_utf8_lossy(&request.uuid[..end]).into_owned(),
        open_count: u32::try_from(request.open_count).unwrap_or(0),
        live: request.flags & TABLE_LIVE != 0 && request.flags & SUSPENDED == 0,
        deferred: request.flags & DEFERRED_REMOVE != 0,
    }))
}

/// Removes the device of that uuid: at once, or (`deferred`) when its last user closes it. One that is gone is removed already.
///
/// # Errors
/// `EBUSY` when somebody has it open and `deferred` is not set.
pub(crate) fn remove(uuid: &str, deferred: bool) -> io::Result<()> {
    let Some(control) = control()? else { return Ok(()) };
    let mut request = DmIoctl::new(if deferred { DEFERRED_REMOVE } else { 0 });
    fill(&mut request.uuid, uuid)?;
    // SAFETY: as for DM_DEV_STATUS above.
    match unsafe { ioctl::ioctl(control.as_fd(), Updater::<DM_DEV_REMOVE, DmIoctl>::new(&mut request)) } {
        Ok(()) | Err(Errno::NXIO) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `None`: this kernel has no device mapper (or its module is not loaded), so no device either.
fn control() -> io::Result<Option<File>> {
    match rustix::fs::open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd.into())),
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) if !std::path::Path::new(PRESENT).exists() => Ok(None),
        Err(error) => {
            let error = io::Error::from(error);
            Err(io::Error::new(
                error.kind(),
                format!("open {CONTROL}: {error}; is the host's /dev mounted here?"),
            ))
        }
    }
}

/// A name or uuid that is too long is none that we gave.
fn fill(field: &mut [u8], text: &str) -> io::Result<()> {
    if text.is_empty() || text.len() >= field.len() {
        return Err(Errno::NAMETOOLONG.into());
    }
    field[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}
