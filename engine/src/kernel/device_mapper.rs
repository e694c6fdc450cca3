//! Device-mapper: which devices there are, what state they are in and what lies on them, without starting a
//! program.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    ioctl::{self, Opcode, Updater, opcode},
};

use crate::device::DeviceNumber;

/// Bytes of a sector, in which device-mapper counts.
pub(crate) const SECTOR: u64 = 512;

const CONTROL: &str = "/dev/mapper/control";
/// `DM_SUSPEND_FLAG`
const SUSPENDED: u32 = 1 << 1;
/// `DM_STATUS_TABLE_FLAG`
const TABLE: u32 = 1 << 4;
/// `DM_ACTIVE_PRESENT_FLAG`
const HAS_TABLE: u32 = 1 << 5;
/// `DM_NOFLUSH_FLAG`: do not wait for what is being written.
const NO_FLUSH: u32 = 1 << 11;
/// `DM_DEFERRED_REMOVE`
const DEFERRED_REMOVE: u32 = 1 << 17;

/// Bytes of `struct dm_ioctl`, which opcodes are made of; the room for the answer is not part of it.
const HEADER_BYTES: usize = 312;
/// Room for a call's answer, in bytes: the status of one device is a line or two.
const ANSWER_BYTES: usize = 16_384 - HEADER_BYTES;

/// `DM_DEV_REMOVE`
const REMOVE: Opcode = opcode::read_write::<[u8; HEADER_BYTES]>(0xfd, 4);
/// `DM_DEV_STATUS`
const STATUS: Opcode = opcode::read_write::<[u8; HEADER_BYTES]>(0xfd, 7);
/// `DM_TABLE_STATUS`
const TABLE_STATUS: Opcode = opcode::read_write::<[u8; HEADER_BYTES]>(0xfd, 12);
/// `DM_TARGET_MSG`
const TARGET_MESSAGE: Opcode = opcode::read_write::<[u8; HEADER_BYTES]>(0xfd, 14);
/// `DM_DEV_ARM_POLL`
const ARM_POLL: Opcode = opcode::read_write::<[u8; HEADER_BYTES]>(0xfd, 16);

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) number: DeviceNumber,
    pub(crate) suspended: bool,
}

impl Mapped {
    /// The device's node, which the kernel itself makes. The nodes in `/dev/mapper` are udev's or LVM's.
    pub(crate) fn node(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.number.minor))
    }
}

/// A device and how many hold it open: mounts, programs, devices above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) mapped: Mapped,
    pub(crate) open_count: u32,
    /// Whether the device has a table, so that it does I/O unless it is suspended.
    pub(crate) has_table: bool,
    /// Whether the kernel removes it when its last user closes it.
    pub(crate) deferred: bool,
}

/// The first target of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The target's kind, as `thin-pool`.
    pub(crate) kind: String,
    /// The target's status or table line.
    pub(crate) text: String,
}

/// Whether this kernel has a device mapper at all, loaded or built in.
pub(crate) fn is_present() -> bool {
    Path::new("/sys/class/misc/device-mapper").exists()
}

/// Opens the kernel's interface.
pub(crate) fn control() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(CONTROL, flags, Mode::empty()).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("open {CONTROL}: {error}: is the kernel's dm-mod loaded?"))
    })
}

/// Makes `control` poll readable as soon as an event happens on any device.
pub(crate) fn arm_poll(control: &OwnedFd) -> io::Result<()> {
    Call::new(0).run::<ARM_POLL>(control)
}

/// The device of that name; `None` where there is none.
pub(crate) fn state(name: &str) -> io::Result<Option<State>> {
    let mut call = Call::about(name, 0)?;
    match call.run::<STATUS>(control()?) {
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

/// Sends a message to the first target of the device, such as `delete 3` to a thin pool.
pub(crate) fn message(name: &str, words: &str) -> io::Result<()> {
    let mut call = Call::about(name, 0)?;
    // `struct dm_target_msg`: the sector, then the words.
    put(&mut call.answer[size_of::<u64>()..], words)?;
    call.run::<TARGET_MESSAGE>(control()?)
}

fn target(name: &str, flags: u32) -> io::Result<Option<Target>> {
    let mut call = Call::about(name, flags)?;
    match call.run::<TABLE_STATUS>(control()?) {
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(call.first_target()),
    }
}

/// Removes a device that is not open. Returns `false` if there is none, or if it is open.
pub(crate) fn remove(name: &str) -> io::Result<bool> {
    match Call::about(name, 0)?.run::<REMOVE>(control()?) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) || is_busy(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the device of that uuid: at once, or (`deferred`) when its last user closes it. Returns `false` if
/// it is open. A device that is gone counts as removed.
pub(crate) fn remove_by_uuid(uuid: &str, deferred: bool) -> io::Result<bool> {
    let mut call = Call::new(if deferred { DEFERRED_REMOVE } else { 0 });
    put(&mut call.uuid, uuid)?;
    match call.run::<REMOVE>(control()?) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(true),
        Err(error) if is_busy(&error) => Ok(false),
        Err(error) => Err(error),
    }
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
    Some(Mapped {
        name: line("dm/name")?,
        uuid: line("dm/uuid")?,
        number: number_in(&line("dev")?)?,
        suspended: line("dm/suspended")? == "1",
    })
}

/// The devices that a device lies on; none where the device is gone.
pub(crate) fn below(number: DeviceNumber) -> io::Result<Vec<DeviceNumber>> {
    let folder = folder_of(number).join("slaves");
    match names(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        // A device that went between the two looks is no device below any more.
        Ok(names) => Ok(names
            .iter()
            .filter_map(|name| number_in(&fs::read_to_string(folder.join(name).join("dev")).ok()?))
            .collect()),
    }
}

/// The names of the devices that lie on a device.
pub(crate) fn holders(number: DeviceNumber) -> io::Result<Vec<String>> {
    names(&folder_of(number).join("holders"))
}

/// Size of a device in bytes, as the kernel has it now.
pub(crate) fn bytes(number: DeviceNumber) -> io::Result<u64> {
    let text = fs::read_to_string(folder_of(number).join("size"))?;
    let sectors: u64 = text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(sectors.saturating_mul(SECTOR))
}

fn folder_of(number: DeviceNumber) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{number}"))
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn number_in(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn is_missing(error: &io::Error) -> bool {
    [Errno::NXIO, Errno::NODEV].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

/// The kernel gives its own `huge_encode_dev` number here: the same as user space's for the majors and minors
/// that exist.
fn number(dev: u64) -> DeviceNumber {
    DeviceNumber { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Puts a text that is not empty into a field, with a NUL behind it. One that was cut would name another
/// device.
fn put(field: &mut [u8], text: &str) -> io::Result<()> {
    if text.is_empty() || text.len() >= field.len() {
        return Err(Errno::NAMETOOLONG.into());
    }
    field[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

/// `struct dm_ioctl` of `linux/dm-ioctl.h`, with the room behind it that answers are written to.
#[repr(C)]
struct Call {
    version: [u32; 3],
    data_size: u32,
    /// Offset of the answer, in bytes from the start of this struct.
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    unused: [u8; 7],
    /// Of a message: what is sent.
    answer: [u8; ANSWER_BYTES],
}

const _: () = assert!(size_of::<Call>() == 16_384 && std::mem::offset_of!(Call, answer) == HEADER_BYTES);

impl Call {
    /// A call that names no device.
    fn new(flags: u32) -> Box<Self> {
        Box::new(Self {
            version: [4, 0, 0],
            data_size: 16_384,
            data_start: 312,
            target_count: 0,
            open_count: 0,
            flags,
            event_nr: 0,
            padding: 0,
            dev: 0,
            name: [0; 128],
            uuid: [0; 129],
            unused: [0; 7],
            answer: [0; ANSWER_BYTES],
        })
    }

    /// A call about the device of that name.
    fn about(name: &str, flags: u32) -> io::Result<Box<Self>> {
        let mut call = Self::new(flags);
        put(&mut call.name, name)?;
        Ok(call)
    }

    /// Hands it to the kernel, which answers in it.
    fn run<const OPCODE: Opcode>(&mut self, control: impl AsFd) -> io::Result<()> {
        // SAFETY: every command of device-mapper reads and writes one `struct dm_ioctl` and at most
        // `data_size` bytes from its start, which is the size of `Call` (checked above); it is alive and
        // exclusively ours during the call.
        Ok(unsafe { ioctl::ioctl(control, Updater::<OPCODE, Self>::new(self)) }?)
    }

    /// The answer to a question for a table: `struct dm_target_spec` (start, length, status, offset of the
    /// next, and 16 bytes of the kind's name), then the text.
    fn first_target(&self) -> Option<Target> {
        const KIND: std::ops::Range<usize> = 24..40;
        if self.target_count == 0 {
            return None;
        }
        let start = usize::try_from(self.data_start).ok()?.checked_sub(HEADER_BYTES)?;
        let answer = self.answer.get(start..)?;
        Some(Target { kind: text(answer.get(KIND)?), text: text(answer.get(KIND.end..)?).trim().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_cut() {
        assert!(Call::about(&"a".repeat(127), 0).is_ok());
        for name in ["a".repeat(128), String::new()] {
            let error = Call::about(&name, 0).err().unwrap();
            assert_eq!(error.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
            assert!(
                state(&name).is_err()
                    && remove(&name).is_err()
                    && remove_by_uuid(&name.repeat(2), true).is_err()
            );
        }
    }

    #[test]
    fn the_kernels_answer_is_understood() {
        let mut call = Call::new(0);
        assert_eq!(call.first_target(), None, "a device without a table");
        call.target_count = 1;
        call.answer[24..28].copy_from_slice(b"thin");
        call.answer[40..48].copy_from_slice(b"128 2047");
        let target = Target { kind: "thin".to_owned(), text: "128 2047".to_owned() };
        assert_eq!(call.first_target(), Some(target));
        call.data_start = 16_384;
        assert_eq!(call.first_target(), None, "an answer without room");
        assert_eq!(number_in("254:3\n"), Some(DeviceNumber { major: 254, minor: 3 }));
        assert_eq!(number_in("254"), None);
    }
}
