//! Making devices read as zeros: before a thick volume is first shown, and before its space goes back to the group.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use crate::{filesystem::probe::WINDOW, kernel, lasting::lasting};

/// How much is zeroed by one call, in bytes: a call can't be interrupted.
const STEP: u64 = 64 << 20;

/// Zeroes what [`crate::filesystem::probe`] looks at.
pub(crate) fn ends(node: &Path, bytes: u64) -> io::Result<()> {
    let device = open(node)?;
    lasting("zero the ends of a volume", || {
        kernel::block_zero(&device, 0, bytes.min(WINDOW))?;
        kernel::block_zero(&device, bytes.saturating_sub(WINDOW), bytes.min(WINDOW))?;
        device.sync_all()
    })
}

/// Zeroes all of it. A discard alone would promise nothing: what a device shows after it is the device's choice.
pub(crate) fn all(node: &Path, bytes: u64) -> io::Result<()> {
    range(node, 0, bytes, &|| true).map(drop)
}

/// Zeroes a part of it, as long as `goes_on` holds. `true`: to its end, and the zeros are on the disk.
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
