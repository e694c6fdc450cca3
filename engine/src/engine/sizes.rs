//! Which sizes a volume can have, and what it takes of its pool.

use crate::{
    Error, VolumeMode,
    pool::{Pool, record::overhead_bytes, space::GRAIN},
};

/// The largest volume, in bytes: 1 PiB.
const MAX_VOLUME_BYTES: u64 = 1 << 50;

/// A size as volumes have it: a whole number of [`GRAIN`], within bounds.
pub(super) fn whole(size_bytes: u64) -> Result<u64, Error> {
    let rounded =
        size_bytes.checked_next_multiple_of(GRAIN).filter(|size| (GRAIN..=MAX_VOLUME_BYTES).contains(size));
    rounded.ok_or_else(|| {
        Error::InvalidArgument(format!(
            "a volume has between {GRAIN} bytes and 1 PiB, not {size_bytes} bytes"
        ))
    })
}

/// An error for a size that the volume's filesystem can't have.
pub(super) fn large_enough(mode: VolumeMode, size_bytes: u64) -> Result<(), Error> {
    match mode {
        VolumeMode::Filesystem(filesystem) if size_bytes < filesystem.min_volume_bytes() => {
            Err(Error::InvalidArgument(format!(
                "{filesystem} needs a volume of at least {} MiB, not {size_bytes} bytes",
                filesystem.min_volume_bytes() >> 20
            )))
        }
        _ => Ok(()),
    }
}

/// What a volume of that size takes of its pool, in bytes.
pub(super) fn on_device(pool: &dyn Pool, size_bytes: u64, encrypted: bool) -> u64 {
    (size_bytes + overhead_bytes(encrypted)).next_multiple_of(pool.grain_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_blocks_within_bounds() {
        for (asked, expected) in [
            (0, None),
            (1, Some(4096)),
            (4096, Some(4096)),
            (4097, Some(8192)),
            (1 << 50, Some(1 << 50)),
            ((1 << 50) + 1, None),
            (u64::MAX, None),
        ] {
            assert_eq!(whole(asked).ok(), expected, "{asked}");
        }
        let message = whole(0).unwrap_err().to_string();
        assert!(message.contains("4096 bytes and 1 PiB"), "{message}");
    }
}
