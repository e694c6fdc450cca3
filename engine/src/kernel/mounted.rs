//! Mounted filesystems: growing, freezing and thawing them, and one attribute of their mounts.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use rustix::{
    ioctl::{self, Getter, NoArg, Opcode, Setter, opcode},
    process::Pid,
};

const XFS_IOC_FSGEOMETRY_V1: Opcode = opcode::read::<XfsGeometry>(b'X', 100);
const XFS_IOC_FSGROWFSDATA: Opcode = opcode::write::<XfsGrow>(b'X', 110);
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);
const BTRFS_IOC_RESIZE: Opcode = opcode::write::<BtrfsResize>(0x94, 3);
const BTRFS_IOC_FS_INFO: Opcode = opcode::read::<BtrfsInfo>(0x94, 31);

/// `struct xfs_fsop_geom_v1` of `xfs_fs.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct XfsGeometry {
    block_size: u32,
    rt_extent_size: u32,
    ag_blocks: u32,
    ag_count: u32,
    log_blocks: u32,
    sector_size: u32,
    inode_size: u32,
    inode_max_percent: u32,
    data_blocks: u64,
    rt_blocks: u64,
    rt_extents: u64,
    log_start: u64,
    uuid: [u8; 16],
    stripe_unit: u32,
    stripe_width: u32,
    version: i32,
    flags: u32,
    log_sector_size: u32,
    rt_sector_size: u32,
    dir_block_size: u32,
}

/// `struct xfs_growfs_data` of `xfs_fs.h`.
#[repr(C)]
struct XfsGrow {
    new_blocks: u64,
    inode_max_percent: u32,
}

const _: () = assert!(size_of::<XfsGeometry>() == 112 && size_of::<XfsGrow>() == 16);

/// `struct btrfs_ioctl_vol_args` of `linux/btrfs.h`.
#[repr(C)]
struct BtrfsResize {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_fs_info_args` of `linux/btrfs.h`, of which nothing else is used.
#[repr(C)]
#[derive(Clone, Copy)]
struct BtrfsInfo {
    highest_device: u64,
    devices: u64,
    id: [u8; 16],
    further: [u64; 124],
}

const _: () = assert!(size_of::<BtrfsResize>() == 4096 && size_of::<BtrfsInfo>() == 1024);

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Size of a mounted XFS in bytes, as the kernel has it in memory (the superblock on disk lags behind).
pub(crate) fn xfs_bytes(mounted: impl AsFd) -> io::Result<u64> {
    let geometry = xfs_geometry(mounted)?;
    Ok(geometry.data_blocks.saturating_mul(u64::from(geometry.block_size)))
}

fn xfs_geometry(mounted: impl AsFd) -> io::Result<XfsGeometry> {
    // SAFETY: XFS_IOC_FSGEOMETRY_V1 writes one `struct xfs_fsop_geom_v1`, whose layout `XfsGeometry` repeats
    // (size checked above).
    Ok(unsafe { ioctl::ioctl(mounted, Getter::<XFS_IOC_FSGEOMETRY_V1, XfsGeometry>::new()) }?)
}

/// Grows a mounted XFS to that many bytes.
pub(crate) fn xfs_grow(mounted: impl AsFd, bytes: u64) -> io::Result<()> {
    let geometry = xfs_geometry(&mounted)?;
    let grow = XfsGrow {
        new_blocks: bytes / u64::from(geometry.block_size).max(1),
        inode_max_percent: geometry.inode_max_percent,
    };
    // SAFETY: XFS_IOC_FSGROWFSDATA reads one `struct xfs_growfs_data`, whose layout `XfsGrow` repeats (size
    // checked above).
    Ok(unsafe { ioctl::ioctl(mounted, Setter::<XFS_IOC_FSGROWFSDATA, XfsGrow>::new(grow)) }?)
}

/// Grows a mounted btrfs of one device to the device's size.
pub(crate) fn btrfs_grow(mounted: impl AsFd) -> io::Result<()> {
    let mut name = [0; 4088];
    name[..3].copy_from_slice(b"max");
    let resize = BtrfsResize { fd: 0, name };
    // SAFETY: BTRFS_IOC_RESIZE reads one `struct btrfs_ioctl_vol_args`, whose layout `BtrfsResize` repeats
    // (size checked above).
    Ok(unsafe { ioctl::ioctl(mounted, Setter::<BTRFS_IOC_RESIZE, BtrfsResize>::new(resize)) }?)
}

/// The id of a mounted btrfs, which all of its subvolumes share.
pub(crate) fn btrfs_id(mounted: impl AsFd) -> io::Result<[u8; 16]> {
    // SAFETY: BTRFS_IOC_FS_INFO writes one `struct btrfs_ioctl_fs_info_args`, whose layout `BtrfsInfo`
    // repeats (size checked above).
    Ok(unsafe { ioctl::ioctl(mounted, Getter::<BTRFS_IOC_FS_INFO, BtrfsInfo>::new()) }?.id)
}

/// Makes a mount read-only before it is attached to the tree, so that it is never seen writable.
pub(crate) fn mount_set_readonly(mount: impl AsFd) -> io::Result<()> {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: mount_setattr(2) reads an empty path and one `struct mount_attr` of the given size, both alive
    // during the call. rustix has no wrapper, and remounting by path is refused for a mount that is not in
    // the tree yet.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Freezes a mounted filesystem: everything is written out, and writers wait.
pub(crate) fn freeze(mounted: impl AsFd) -> io::Result<()> {
    // SAFETY: FIFREEZE ignores its argument.
    Ok(unsafe { ioctl::ioctl(mounted, NoArg::<FIFREEZE>::new()) }?)
}

/// Ends a freeze. Fails with `EINVAL` if there is none.
pub(crate) fn thaw(mounted: impl AsFd) -> io::Result<()> {
    // SAFETY: FITHAW ignores its argument.
    Ok(unsafe { ioctl::ioctl(mounted, NoArg::<FITHAW>::new()) }?)
}

/// Starts a process that thaws a mounted filesystem after the limit, or once the other end of `listening` is
/// closed. The process ends without a thaw if a byte arrives there before. The caller waits for the process.
pub(crate) fn thaw_unless_told(
    mounted: BorrowedFd<'_>,
    listening: BorrowedFd<'_>,
    limit: Duration,
) -> io::Result<Pid> {
    let limit_ms = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    let (mounted, listening) = (mounted.as_raw_fd(), listening.as_raw_fd());
    // SAFETY: other threads do not exist in the child, so whatever lock one of them held is held there for
    // ever; the child therefore makes system calls only, on memory that was laid out before, and never
    // returns.
    let child = unsafe { libc::fork() };
    match child {
        0 => thaw_unless_told_child(mounted, listening, limit_ms),
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid).expect("fork gives a child's positive number to its parent")),
    }
}

fn thaw_unless_told_child(mounted: libc::c_int, listening: libc::c_int, limit_ms: libc::c_int) -> ! {
    /// Between two tries, where the freeze is still being made when its time is over.
    const AGAIN_MS: libc::c_int = 50;
    // SAFETY: only calls that signal-safety(7) lists, and close_range(2), each on values of this frame. Every
    // other descriptor is closed, as loop devices and sockets of the parent must not live longer through us;
    // signals are blocked, as the parent's handlers are not ours.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        libc::setsid();
        let (low, high) = (mounted.min(listening), mounted.max(listening));
        for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, libc::c_int::MAX)] {
            if first <= last {
                libc::syscall(libc::SYS_close_range, first, last, 0);
            }
        }
        let mut wait_ms = limit_ms;
        loop {
            let mut poll = libc::pollfd { fd: listening, events: libc::POLLIN, revents: 0 };
            let ready = libc::poll(&raw mut poll, 1, wait_ms);
            let mut word = 0_u8;
            if ready > 0 && libc::read(listening, (&raw mut word).cast(), 1) == 1 {
                libc::_exit(0);
            }
            let thawed = libc::ioctl(mounted, libc::Ioctl::from(FITHAW), 0);
            if ready > 0 || thawed == 0 {
                libc::_exit(0);
            }
            wait_ms = AGAIN_MS;
        }
    }
}
