//! Block devices of any kind: size, discarding, zeroing.

use std::{io, os::fd::AsFd};

use rustix::ioctl::{self, Getter, Opcode, Setter, opcode};

const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKZEROOUT: Opcode = opcode::none(0x12, 127);
const BLKGETSIZE64: Opcode = opcode::read::<u64>(0x12, 114);

/// Size of a block device in bytes.
pub(crate) fn block_device_bytes(device: impl AsFd) -> io::Result<u64> {
    // SAFETY: BLKGETSIZE64 writes one u64.
    Ok(unsafe { ioctl::ioctl(device, Getter::<BLKGETSIZE64, u64>::new()) }?)
}

/// Discards a range of a block device, in bytes.
pub(crate) fn block_discard(device: impl AsFd, start: u64, length: u64) -> io::Result<()> {
    // SAFETY: BLKDISCARD reads two u64.
    Ok(unsafe { ioctl::ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new([start, length])) }?)
}

/// Makes a range of a block device read as zeros, in bytes; the kernel writes them where the device has no
/// faster way.
pub(crate) fn block_zero(device: impl AsFd, start: u64, length: u64) -> io::Result<()> {
    // SAFETY: BLKZEROOUT reads two u64.
    Ok(unsafe { ioctl::ioctl(device, Setter::<BLKZEROOUT, [u64; 2]>::new([start, length])) }?)
}
