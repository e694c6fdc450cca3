//! The two ids of a btrfs: the one it was made with, which every block of it carries, and the one that the
//! kernel tells mounted filesystems apart by. A copy gets another one of the second kind, as `btrfstune -M`
//! would give it; that program refuses to go on where it was interrupted, and a volume must not depend on
//! that.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

use uuid::Uuid;

/// Where the superblock and its copies lie, in bytes (`btrfs_sb_offset` of the kernel). A small device has
/// fewer.
const COPIES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const BYTES: usize = 4096;

// `struct btrfs_super_block` of linux/btrfs_tree.h, little endian.
const SUM: std::ops::Range<usize> = 0..32;
const FSID: std::ops::Range<usize> = 32..48;
const BYTENR: std::ops::Range<usize> = 48..56;
const MAGIC: std::ops::Range<usize> = 64..72;
const INCOMPAT: std::ops::Range<usize> = 188..196;
const SUM_TYPE: std::ops::Range<usize> = 196..198;
const METADATA_UUID: std::ops::Range<usize> = 571..587;

/// `BTRFS_FEATURE_INCOMPAT_METADATA_UUID`
const HAS_METADATA_UUID: u64 = 1 << 10;

/// The id that the filesystem was made with.
pub(crate) fn made_with(superblock: &[u8]) -> Option<Uuid> {
    let has_own = u64::from_le_bytes(superblock.get(INCOMPAT)?.try_into().ok()?) & HAS_METADATA_UUID != 0;
    Uuid::from_slice(superblock.get(if has_own { METADATA_UUID } else { FSID })?).ok()
}

/// Gives a filesystem that is not mounted an id of its own. The first superblock is written last, so that an
/// interrupted call is not taken for a finished one.
pub(crate) fn set(device: &mut File, bytes: u64, own: Uuid) -> io::Result<()> {
    let mut first = [0; BYTES];
    device.read_exact_at(&mut first, COPIES[0])?;
    if first[FSID] == *own.as_bytes() {
        return Ok(());
    }
    for at in COPIES.into_iter().rev() {
        if at.saturating_add(BYTES as u64) > bytes {
            continue;
        }
        let mut superblock = [0; BYTES];
        device.read_exact_at(&mut superblock, at)?;
        // A copy beyond the filesystem's own end is not one.
        if at != COPIES[0] && (superblock[MAGIC] != first[MAGIC] || superblock[BYTENR] != at.to_le_bytes()) {
            continue;
        }
        rename(&mut superblock, own)?;
        device.write_all_at(&superblock, at)?;
        device.sync_all()?;
    }
    Ok(())
}

fn rename(superblock: &mut [u8; BYTES], own: Uuid) -> io::Result<()> {
    // Tierce makes no others; the kernel knows four kinds of checksum.
    if superblock[SUM_TYPE] != [0, 0] {
        return Err(io::Error::new(ErrorKind::Unsupported, "its checksums are not crc32c"));
    }
    if superblock[SUM][..4] != crc32c::crc32c(&superblock[SUM.end..]).to_le_bytes() {
        return Err(io::Error::new(ErrorKind::InvalidData, "its superblock is damaged"));
    }
    let made_with = made_with(superblock).expect("the superblock is whole");
    let incompat = u64::from_le_bytes(superblock[INCOMPAT].try_into().expect("eight bytes"));
    superblock[INCOMPAT].copy_from_slice(&(incompat | HAS_METADATA_UUID).to_le_bytes());
    superblock[METADATA_UUID].copy_from_slice(made_with.as_bytes());
    superblock[FSID].copy_from_slice(own.as_bytes());
    let sum = crc32c::crc32c(&superblock[SUM.end..]);
    superblock[SUM].fill(0);
    superblock[SUM][..4].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;
    use crate::{
        Filesystem,
        filesystem::{
            make::{self, NewFilesystem},
            probe::{self, Probe},
        },
    };

    const LENGTH: u64 = 160 << 20;

    fn run(program: &str, arguments: &[&str]) -> Option<String> {
        let path =
            ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(program));
        let Some(path) = path.into_iter().find(|path| path.is_file()) else {
            println!("skipped: {program} is not installed");
            return None;
        };
        let output = Command::new(path).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn a_copy_gets_an_id_of_its_own_and_keeps_the_one_it_was_made_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let (made, own, again) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        File::create(&path).unwrap().set_len(LENGTH).unwrap();
        let new = NewFilesystem {
            filesystem: Filesystem::Btrfs,
            uuid: made,
            label: "label",
            bytes: LENGTH,
            zeroed: true,
        };
        let mkfs = make::program(&new, &make::Learned::default(), &path);
        let arguments: Vec<&str> = mkfs.arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        let Some(_) = run("mkfs.btrfs", &arguments) else { return };
        let mut file = File::options().read(true).write(true).open(&path).unwrap();
        for own in [own, own, again] {
            set(&mut file, LENGTH, own).unwrap();
            let Probe::Found(found) = probe::probe(&mut file, LENGTH).unwrap() else { panic!("not found") };
            assert_eq!((found.filesystem, found.uuid), (Filesystem::Btrfs, made));
            for copy in ["0", "1"] {
                let shown =
                    run("btrfs", &["inspect-internal", "dump-super", "-s", copy, path.to_str().unwrap()]);
                let shown = shown.unwrap();
                let line = |name: &str| {
                    let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
                    line.split_whitespace().nth(1).unwrap().to_owned()
                };
                assert!(shown.contains("[match]") && line("csum_type") == "0", "{shown}");
                assert_eq!(line("fsid"), own.to_string());
                assert_eq!(line("metadata_uuid"), made.to_string());
            }
            run("btrfs", &["check", path.to_str().unwrap()]).unwrap();
        }
    }

    #[test]
    fn a_damaged_superblock_is_left_as_it_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(LENGTH).unwrap();
        assert_eq!(set(&mut file, LENGTH, Uuid::from_u128(1)).unwrap_err().kind(), ErrorKind::InvalidData);
        let mut superblock = [0; BYTES];
        file.read_exact_at(&mut superblock, COPIES[0]).unwrap();
        assert_eq!(superblock, [0; BYTES]);
    }
}
