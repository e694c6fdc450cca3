//! Making devices read as zeros: before a thick volume is first shown, and before its space goes back to the
//! group.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use crate::{filesystem::probe::WINDOW, kernel, lasting::lasting};

/// Bytes that are zeroed by one call, which can't be interrupted.
const STEP: u64 = 64 << 20;

/// Zeroes both ends, which [`crate::filesystem::probe`] looks at.
pub(crate) fn ends(node: &Path, bytes: u64) -> io::Result<()> {
    let device = open(node)?;
    lasting("zero the ends of a volume", || {
        kernel::block_zero(&device, 0, bytes.min(WINDOW))?;
        kernel::block_zero(&device, bytes.saturating_sub(WINDOW), bytes.min(WINDOW))?;
        device.sync_all()
    })
}

/// Zeroes the whole device. A discard alone would promise nothing: the device chooses what it shows after
/// that.
pub(crate) fn all(node: &Path, bytes: u64) -> io::Result<()> {
    range(node, 0, bytes, &|| true).map(drop)
}

/// Zeroes a part of the device, as long as `goes_on` holds. Returns `true` once all the zeros are on the
/// disk.
pub(crate) fn range(node: &Path, from: u64, to: u64, goes_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let device = open(node)?;
    let mut at = from;
    while at < to {
        if !goes_on() {
            return Ok(false);
        }
        let length = STEP.min(to - at);
        lasting("zero a volume", || kernel::block_zero(&device, at, length))?;
        at += length;
    }
    device.sync_all()?;
    Ok(true)
}

/// Gives all chunks of a thin volume back to its pool.
pub(crate) fn discard(node: &Path, bytes: u64) -> io::Result<()> {
    let device = open(node)?;
    lasting("discard a volume", || kernel::block_discard(&device, 0, bytes).and_then(|()| device.sync_all()))
}

fn open(node: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(node)
}
