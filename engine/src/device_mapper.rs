//! Device-mapper as the kernel tells it: which devices there are and what state they are in, without starting a program.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{
    kernel::{self, DmCall, DmCommand},
    mount::table::DeviceNumber,
};

/// Bytes of a sector, in which device-mapper counts.
pub(crate) const SECTOR: u64 = 512;

const CONTROL: &str = "/dev/mapper/control";
/// `DM_SUSPEND_FLAG`
const SUSPENDED: u32 = 1 << 1;
/// `DM_ACTIVE_PRESENT_FLAG`
const HAS_TABLE: u32 = 1 << 5;
/// `DM_DEFERRED_REMOVE`
const DEFERRED_REMOVE: u32 = 1 << 17;
/// `DM_STATUS_TABLE_FLAG`
const TABLE: u32 = 1 << 4;
/// `DM_NOFLUSH_FLAG`: do not wait for what is being written.
const NO_FLUSH: u32 = 1 << 11;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) number: DeviceNumber,
    pub(crate) suspended: bool,
}

impl Mapped {
    /// Its node, which the kernel itself makes: those in `/dev/mapper` are udev's or LVM's.
    pub(crate) fn node(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.number.minor))
    }
}

/// A device and how many hold it open: mounts, programs, devices above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) mapped: Mapped,
    pub(crate) open_count: u32,
    /// Whether it has a table, so does I/O unless it is suspended.
    pub(crate) has_table: bool,
    /// Whether the kernel removes it when its last user closes it.
    pub(crate) deferred: bool,
}

/// What a device's first target says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// As `thin-pool`.
    pub(crate) kind: String,
    /// Its status or its table line.
    pub(crate) text: String,
}

/// Opens the kernel's interface.
pub(crate) fn control() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(CONTROL, flags, Mode::empty()).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("open {CONTROL}: {error}: is the kernel's dm-mod loaded?"))
    })
}

/// The device of that name; `None` where there is none.
pub(crate) fn state(name: &str) -> io::Result<Option<State>> {
    let mut call = DmCall::new(name, 0);
    match kernel::dm_call(control()?, DmCommand::Status, &mut call) {
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(Some(State {
            mapped: Mapped {
                name: text(&call.name),
                uuid: text(&call.uuid),
                number: number(call.dev),
                suspended: call.flags & SUSPENDED != 0,
            },
            open_count: u32::try_from(call.open_count).unwrap_or(0),
            has_table: call.flags & HAS_TABLE != 0,
            deferred: call.flags & DEFERRED_REMOVE != 0,
        })),
    }
}

/// The status of the device's first target. Does not wait for what is being written.
pub(crate) fn status(name: &str) -> io::Result<Option<Target>> {
    target(name, NO_FLUSH)
}

/// The table line of the device's first target.
pub(crate) fn table(name: &str) -> io::Result<Option<Target>> {
    target(name, TABLE | NO_FLUSH)
}

fn target(name: &str, flags: u32) -> io::Result<Option<Target>> {
    let mut call = DmCall::new(name, flags);
    match kernel::dm_call(control()?, DmCommand::TableStatus, &mut call) {
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(first_target(&call)),
    }
}

/// `struct dm_target_spec`: start, length, status, offset of the next, and 16 bytes of the kind's name; then the text.
fn first_target(call: &DmCall) -> Option<Target> {
    const SPEC_BYTES: usize = 40;
    if call.target_count == 0 {
        return None;
    }
    let kind = text(call.answer(24)?.get(..16)?);
    Some(Target { kind, text: text(call.answer(SPEC_BYTES)?).trim().to_owned() })
}

/// Removes a device that nobody has open; `false`: there was none, or somebody has.
pub(crate) fn remove(name: &str) -> io::Result<bool> {
    match kernel::dm_call(control()?, DmCommand::Remove, &mut DmCall::new(name, 0)) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) || error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Removes the device of that uuid: at once, or (`deferred`) when its last user closes it. `false`: somebody has it open. One that is gone
/// is removed already.
pub(crate) fn remove_by_uuid(uuid: &str, deferred: bool) -> io::Result<bool> {
    let mut call = DmCall::new("", if deferred { DEFERRED_REMOVE } else { 0 });
    if uuid.is_empty() || uuid.len() >= call.uuid.len() {
        return Err(Errno::NAMETOOLONG.into());
    }
    call.uuid[..uuid.len()].copy_from_slice(uuid.as_bytes());
    match kernel::dm_call(control()?, DmCommand::Remove, &mut call) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this kernel has a device mapper at all, loaded or built in.
pub(crate) fn is_present() -> bool {
    Path::new("/sys/class/misc/device-mapper").exists()
}

/// From now on `control` polls readable as soon as an event happens on any device.
pub(crate) fn arm_poll(control: &OwnedFd) -> io::Result<()> {
    kernel::dm_call(control, DmCommand::ArmPoll, &mut DmCall::new("", 0))
}

/// Every device-mapper device. Empty where the kernel has none.
pub(crate) fn all() -> io::Result<Vec<Mapped>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("dm-") {
            continue;
        }
        // One that goes away meanwhile is not there.
        found.extend(read(&entry.path()));
    }
    Ok(found)
}

fn read(folder: &Path) -> Option<Mapped> {
    let line = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
    let (major, minor) = line("dev")?.split_once(':').map(|(a, b)| (a.parse(), b.parse()))?;
    Some(Mapped {
        name: line("dm/name")?,
        uuid: line("dm/uuid")?,
        number: DeviceNumber { major: major.ok()?, minor: minor.ok()? },
        suspended: line("dm/suspended")? == "1",
    })
}

/// Size of a device in bytes, as the kernel has it now.
pub(crate) fn bytes(number: DeviceNumber) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/sys/dev/block/{number}/size"))?;
    let sectors: u64 = text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(sectors.saturating_mul(SECTOR))
}

fn is_missing(error: &io::Error) -> bool {
    [Errno::NXIO, Errno::NODEV].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The kernel gives its own `huge_encode_dev` number here: the same as user space's for the majors and minors that exist.
fn number(dev: u64) -> DeviceNumber {
    DeviceNumber { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
