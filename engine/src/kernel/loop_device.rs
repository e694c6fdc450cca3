//! Loop devices.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use rustix::ioctl::{self, Getter, Ioctl, IoctlOutput, NoArg, Opcode, Setter};

/// `LO_FLAGS_AUTOCLEAR`: the kernel detaches the device when its last user is gone.
pub(crate) const LOOP_AUTOCLEAR: u32 = 4;
/// `LO_FLAGS_DIRECT_IO`
pub(crate) const LOOP_DIRECT_IO: u32 = 16;

const LOOP_CLR_FD: Opcode = 0x4c01;
const LOOP_GET_STATUS64: Opcode = 0x4c05;
const LOOP_SET_CAPACITY: Opcode = 0x4c07;
const LOOP_CONFIGURE: Opcode = 0x4c0a;
const LOOP_CTL_GET_FREE: Opcode = 0x4c82;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

/// The status of a loop device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoopStatus {
    /// Device number of the filesystem that the backing file lies on, as in `stat`.
    pub(crate) device: u64,
    /// The backing file's inode.
    pub(crate) inode: u64,
    /// `LOOP_…` flags.
    pub(crate) flags: u32,
    /// The name given when it was attached, up to 63 bytes.
    pub(crate) name: String,
}

/// Opcode of a call whose result is the returned number itself.
struct ReturnsNumber;

// SAFETY: LOOP_CTL_GET_FREE takes no argument, touches no memory of ours and returns a device number or an
// error.
unsafe impl Ioctl for ReturnsNumber {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(out)
    }
}

/// The number of a free loop device; `control` is `/dev/loop-control`. Another program may take it before we
/// do.
pub(crate) fn loop_get_free(control: impl AsFd) -> io::Result<i32> {
    // SAFETY: see `ReturnsNumber`.
    Ok(unsafe { ioctl::ioctl(control, ReturnsNumber) }?)
}

/// Attaches an image to a loop device. `name` is cut to 63 bytes.
pub(crate) fn loop_configure(
    device: impl AsFd,
    image: BorrowedFd<'_>,
    block_size: u32,
    flags: u32,
    name: &str,
) -> io::Result<()> {
    let mut file_name = [0; 64];
    for (to, from) in file_name.iter_mut().take(63).zip(name.bytes()) {
        *to = from;
    }
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let fd = u32::try_from(image.as_raw_fd()).expect("an open descriptor is not negative");
    let config = LoopConfig { fd, block_size, info, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `LoopConfig` repeats (size checked
    // above).
    Ok(unsafe { ioctl::ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }?)
}

/// Asks what a loop device is attached to. Fails with `ENXIO` if it is not attached.
pub(crate) fn loop_status(device: impl AsFd) -> io::Result<LoopStatus> {
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, whose layout `LoopInfo` repeats (size
    // checked above).
    let info = unsafe { ioctl::ioctl(device, Getter::<LOOP_GET_STATUS64, LoopInfo>::new()) }?;
    let end = info.file_name.iter().position(|&byte| byte == 0).unwrap_or(info.file_name.len());
    let name = String::from_utf8_lossy(&info.file_name[..end]).into_owned();
    Ok(LoopStatus { device: info.device, inode: info.inode, flags: info.flags, name })
}

/// Detaches a loop device: at once, or when its last user closes it.
pub(crate) fn loop_clear(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    Ok(unsafe { ioctl::ioctl(device, NoArg::<LOOP_CLR_FD>::new()) }?)
}

/// Makes a loop device as large as its image is now.
pub(crate) fn loop_set_capacity(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_SET_CAPACITY takes no argument.
    Ok(unsafe { ioctl::ioctl(device, NoArg::<LOOP_SET_CAPACITY>::new()) }?)
}
