//! What lies in an image: whether it is empty, and how one is copied.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
};

use rustix::{
    fs::{self, SeekFrom},
    io::Errno,
};

use crate::are_zeros;

/// Limit for the data of an image that is read to see whether it is all zeros, in bytes.
const EMPTY_CHECK_LIMIT: u64 = 64 << 20;

/// How much is read at once, in bytes.
const PIECE: u64 = 1 << 20;

/// Unit in which zeros are left out of a copy, in bytes: a block of the filesystem below.
const BLOCK: usize = 4096;

/// Makes an empty file share all blocks of another one, at one moment: writers wait meanwhile. `false`: the
/// filesystem can't.
pub(crate) fn share(source: &File, target: &File) -> io::Result<bool> {
    match fs::ioctl_ficlone(target, source) {
        Ok(()) => Ok(true),
        // XDEV: a folder below is another filesystem or subvolume; INVAL: one of the two files can't (a swap
        // file, another checksum mode).
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies what is not zero into a file or device that reads as zeros, as long as `goes_on` holds. `false`: it
/// was given up.
pub(crate) fn copy_data(
    source: &File,
    bytes: u64,
    target: &File,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<bool> {
    let mut buffer = vec![0; length(PIECE)];
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at, bytes)? {
        at = start;
        while at < end {
            if !goes_on() {
                return Ok(false);
            }
            let piece = &mut buffer[..length((end - at).min(PIECE))];
            source.read_exact_at(piece, at)?;
            write_nonzero(target, piece, at)?;
            at += u64::try_from(piece.len()).expect("a piece's length fits");
        }
    }
    Ok(true)
}

fn write_nonzero(target: &File, piece: &[u8], at: u64) -> io::Result<()> {
    let mut blocks = piece.chunks(BLOCK).enumerate().peekable();
    while let Some((first, block)) = blocks.next() {
        if are_zeros(block) {
            continue;
        }
        let mut end = first * BLOCK + block.len();
        while let Some((_, block)) = blocks.next_if(|(_, block)| !are_zeros(block)) {
            end += block.len();
        }
        let start = first * BLOCK;
        target.write_all_at(&piece[start..end], at + u64::try_from(start).expect("a piece's length fits"))?;
    }
    Ok(())
}

/// Whether a file holds nothing but zeros. Its holes are skipped; more data than [`EMPTY_CHECK_LIMIT`] counts
/// as data unread.
pub(crate) fn all_zeros(file: &File) -> io::Result<bool> {
    let bytes = file.metadata()?.len();
    let mut buffer = vec![0; length(PIECE)];
    let (mut at, mut read) = (0, 0);
    while let Some((start, end)) = next_data(file, at, bytes)? {
        at = start;
        while at < end {
            let piece = &mut buffer[..length((end - at).min(PIECE))];
            file.read_exact_at(piece, at)?;
            if !are_zeros(piece) {
                return Ok(false);
            }
            let got = u64::try_from(piece.len()).expect("a piece's length fits");
            at += got;
            read += got;
            if read > EMPTY_CHECK_LIMIT {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The next range that may hold data, between `at` and `bytes`. A device has no map, so all of it may.
fn next_data(file: &File, at: u64, bytes: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= bytes {
        return Ok(None);
    }
    let start = match fs::seek(file.as_fd(), SeekFrom::Data(at)) {
        Ok(start) => start,
        // No data after this.
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL) => return Ok(Some((at, bytes))),
        Err(error) => return Err(error.into()),
    };
    let end = fs::seek(file.as_fd(), SeekFrom::Hole(start))?;
    Ok((start < bytes).then_some((start, end.min(bytes))))
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("at most one piece")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    fn read(file: &File, bytes: u64) -> Vec<u8> {
        let mut content = vec![0; length(bytes)];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }

    fn with(bytes: u64, pieces: &[(u64, usize, u8)]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        for &(at, length, byte) in pieces {
            let fits = usize::try_from(bytes.saturating_sub(at)).unwrap().min(length);
            file.write_all_at(&vec![byte; fits], at.min(bytes)).unwrap();
        }
        file
    }

    #[test]
    fn an_image_of_holes_and_zeros_is_empty_and_one_byte_makes_it_not() {
        assert!(all_zeros(&with(8 << 20, &[])).unwrap());
        assert!(all_zeros(&with(8 << 20, &[(5 << 20, 4096, 0)])).unwrap());
        assert!(!all_zeros(&with(8 << 20, &[((8 << 20) - 1, 1, 7)])).unwrap());
    }

    #[test]
    fn a_copy_that_is_given_up_says_so() {
        let (source, target) = (with(4 << 20, &[(0, 4 << 20, 1)]), with(4 << 20, &[]));
        let pieces = Cell::new(0);
        let two_pieces = || pieces.replace(pieces.get() + 1) < 2;
        assert!(!copy_data(&source, 4 << 20, &target, &two_pieces).unwrap());
        assert_ne!(read(&source, 4 << 20), read(&target, 4 << 20));
        assert!(copy_data(&source, 4 << 20, &target, &|| true).unwrap());
        assert_eq!(read(&source, 4 << 20), read(&target, 4 << 20));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_copy_is_equal_and_has_no_more_blocks(
            pieces in proptest::collection::vec((0_u64..3 << 20, 1_usize..300_000, 0_u8..3), 0..6),
        ) {
            const BYTES: u64 = 3 << 20;
            let (source, target) = (with(BYTES, &pieces), with(BYTES, &[]));
            prop_assert!(copy_data(&source, BYTES, &target, &|| true).unwrap());
            prop_assert_eq!(read(&source, BYTES), read(&target, BYTES));
            let blocks = |file: &File| fs::fstat(file).unwrap().st_blocks;
            prop_assert!(blocks(&target) <= blocks(&source) + 8);
        }
    }
}
