//! Reading superblocks ourselves: what a device shows. A read error is an error, never "blank".

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use uuid::Uuid;

use crate::{Error, Filesystem, are_zeros, device::Device, error::Context, filesystem::btrfs_id};

/// How much is read from the start and from the end of a device, in bytes: every signature we know lies in
/// the first 68 KiB, partition tables and RAID marks lie at either end.
pub(crate) const WINDOW: u64 = 1 << 20;

/// A superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) filesystem: Filesystem,
    /// The one it was made with: a copy shows its source's.
    pub(crate) uuid: Uuid,
    pub(crate) label: String,
    /// Size of the filesystem in bytes.
    pub(crate) bytes: u64,
}

/// What a device shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// One of our filesystems.
    Found(Superblock),
    /// Some data that is none of our filesystems.
    Unknown,
    /// Only zeros at both ends. Proves nothing: a broken device can read as zeros too.
    Zeros,
}

/// Reads what a device shows. A read error is an error.
pub(crate) fn of(device: &Device) -> Result<Probe, Error> {
    let doing = || format!("read {}", device.node.display());
    let mut file = File::open(&device.node).doing(doing)?;
    probe(&mut file, device.bytes).doing(doing)
}

/// Reads both ends of a device or image of `length` bytes.
pub(crate) fn probe(device: &mut File, length: u64) -> io::Result<Probe> {
    let head = read_at(device, 0, length.min(WINDOW))?;
    let tail_start = length.saturating_sub(WINDOW).max(length.min(WINDOW));
    let tail = read_at(device, tail_start, length - tail_start)?;
    if let Some(superblock) = parse(&head) {
        return Ok(Probe::Found(superblock));
    }
    let zero = are_zeros(&head) && are_zeros(&tail);
    Ok(if zero { Probe::Zeros } else { Probe::Unknown })
}

fn read_at(device: &mut File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).expect("at most one window")];
    device.seek(SeekFrom::Start(start))?;
    // A short read is an error here: the device is smaller than it says, and what is missing is not "zeros".
    device.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whether an ext4 is marked as damaged: by a kernel that found something wrong, or by a program that changed
/// it and was cut off.
pub(crate) fn ext4_has_errors(device: &File) -> io::Result<bool> {
    const STATE: u64 = 1024 + 58;
    const ERRORS: u16 = 2;
    let mut state = [0; 2];
    device.read_exact_at(&mut state, STATE)?;
    Ok(u16::from_le_bytes(state) & ERRORS != 0)
}

/// Looks for a superblock in the first bytes of a device.
pub(crate) fn parse(head: &[u8]) -> Option<Superblock> {
    parse_xfs(head).or_else(|| parse_btrfs(head)).or_else(|| parse_ext4(head))
}

// Layout: Documentation/filesystems/ext4/super.rst. Little endian, 1024 bytes into the device.
fn parse_ext4(head: &[u8]) -> Option<Superblock> {
    let sb = head.get(1024..2048)?;
    if sb.get(56..58)? != [0x53, 0xef] {
        return None;
    }
    let log_block_size = le32(sb, 24)?;
    let incompat = le32(sb, 96)?;
    let has_64bit = incompat & 0x80 != 0;
    let high = if has_64bit { u64::from(le32(sb, 0x150)?) } else { 0 };
    let blocks = high << 32 | u64::from(le32(sb, 4)?);
    let block_size = 1024_u64.checked_shl(log_block_size).filter(|size| *size <= 65_536)?;
    Some(Superblock {
        filesystem: Filesystem::Ext4,
        uuid: uuid_at(sb, 104)?,
        label: text(sb.get(120..136)?),
        bytes: blocks.checked_mul(block_size)?,
    })
}

// Layout: xfs_format.h, `struct xfs_dsb`. Big endian, at the start of the device.
fn parse_xfs(head: &[u8]) -> Option<Superblock> {
    if head.get(..4)? != b"XFSB" {
        return None;
    }
    let block_size = u32::from_be_bytes(head.get(4..8)?.try_into().ok()?);
    let blocks = u64::from_be_bytes(head.get(8..16)?.try_into().ok()?);
    Some(Superblock {
        filesystem: Filesystem::Xfs,
        uuid: uuid_at(head, 32)?,
        label: text(head.get(108..120)?),
        bytes: blocks.checked_mul(u64::from(block_size))?,
    })
}

// Layout: linux/btrfs_tree.h, `struct btrfs_super_block`. Little endian, 64 KiB into the device.
fn parse_btrfs(head: &[u8]) -> Option<Superblock> {
    let sb = head.get(65_536..65_536 + 4096)?;
    if sb.get(64..72)? != b"_BHRfS_M" {
        return None;
    }
    Some(Superblock {
        filesystem: Filesystem::Btrfs,
        // A copy has an id of its own, and next to it the one of the mkfs.
        uuid: btrfs_id::made_with(sb)?,
        label: text(sb.get(299..299 + 256)?),
        bytes: u64::from_le_bytes(sb.get(112..120)?.try_into().ok()?),
    })
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn uuid_at(bytes: &[u8], at: usize) -> Option<Uuid> {
    Uuid::from_slice(bytes.get(at..at + 16)?).ok()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::filesystem::make::{self, NewFilesystem};

    fn file_with(length: u64, pieces: &[(u64, &[u8])]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        for (at, bytes) in pieces {
            file.seek(SeekFrom::Start(*at)).unwrap();
            file.write_all(bytes).unwrap();
        }
        file
    }

    #[test]
    fn data_at_either_end_is_seen_and_zeros_are_only_called_zeros() {
        const LENGTH: u64 = 8 << 20;
        for (pieces, expected) in [
            (vec![], Probe::Zeros),
            (vec![(0, b"x".as_slice())], Probe::Unknown),
            (vec![(WINDOW - 1, b"x".as_slice())], Probe::Unknown),
            (vec![(LENGTH - 1, b"x".as_slice())], Probe::Unknown),
        ] {
            assert_eq!(probe(&mut file_with(LENGTH, &pieces), LENGTH).unwrap(), expected, "{pieces:?}");
        }
        assert_eq!(probe(&mut file_with(100, &[]), 100).unwrap(), Probe::Zeros);
    }

    #[test]
    fn a_device_that_ends_too_early_is_an_error() {
        let error = probe(&mut file_with(1000, &[]), 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_mkfs_wrote_is_read_back() {
        let uuid = Uuid::new_v4();
        let folder = tempfile::tempdir().unwrap();
        for filesystem in Filesystem::ALL {
            let path = folder.path().join(filesystem.name());
            let length = filesystem.min_volume_bytes();
            File::create(&path).unwrap().set_len(length).unwrap();
            let new = NewFilesystem { filesystem, uuid, label: "my-label", bytes: length, zeroed: true };
            let mut program = make::program(&new, &make::Learned::default(), &path);
            program.arguments.retain(|argument| argument != "-q");
            let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
                .iter()
                .map(|folder| std::path::Path::new(folder).join(program.name))
                .find(|path| path.is_file());
            let Some(found) = found else {
                println!("skipped: {} is not installed", program.name);
                continue;
            };
            let output = std::process::Command::new(found).args(&program.arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let probed = probe(&mut File::open(&path).unwrap(), length).unwrap();
            let Probe::Found(superblock) = probed else { panic!("{filesystem}: {probed:?}") };
            assert_eq!(superblock.filesystem, filesystem);
            assert_eq!(superblock.uuid, uuid);
            assert_eq!(superblock.label, "my-label");
            assert!(
                superblock.bytes <= length && superblock.bytes > length - (4 << 20),
                "{filesystem}: {}",
                superblock.bytes
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(
            mut head in proptest::collection::vec(any::<u8>(), 0..70_000),
            magic in 0_usize..4,
        ) {
            let (at, bytes): (usize, &[u8]) = [(0, b"XFSB".as_slice()), (1080, &[0x53, 0xef]), (65_600, b"_BHRfS_M"), (0, b"")][magic];
            if let Some(place) = head.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            let _ = parse(&head);
        }
    }
}
