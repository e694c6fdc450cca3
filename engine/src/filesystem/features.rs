//! Which features of a filesystem the oldest kernel that we support can mount: a volume may be mounted by an
//! older kernel than that of the node which made it, and mkfs decides by its own age.

use crate::Filesystem;

/// A word of feature bits in a superblock. What it has beyond `known` keeps an older kernel from mounting it,
/// or from writing.
struct Word {
    name: &'static str,
    /// Offset of the field, in bytes from the start of the device.
    at: usize,
    big_endian: bool,
    /// The features that Linux 5.15 knows, or the few that we ask for.
    known: u32,
    /// The arguments by which mkfs leaves out a feature, by the feature's bit.
    left_out_by: &'static [(u32, &'static [&'static str])],
}

/// The start of an ext4's superblock, and of a btrfs's.
const EXT4: usize = 1024;
const BTRFS: usize = 64 << 10;

// Of ext4 exactly what [`super::make`] names. Layout: Documentation/filesystems/ext4/super.rst.
const EXT4_WORDS: [Word; 3] = [
    // has_journal, ext_attr, resize_inode, dir_index
    Word { name: "compat", at: EXT4 + 92, big_endian: false, known: 0x3c, left_out_by: &[] },
    // filetype, extent, 64bit, flex_bg
    Word { name: "incompat", at: EXT4 + 96, big_endian: false, known: 0x2c2, left_out_by: &[] },
    // sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum
    Word { name: "ro_compat", at: EXT4 + 100, big_endian: false, known: 0x46b, left_out_by: &[] },
];

// Layout: fs/xfs/libxfs/xfs_format.h, `struct xfs_dsb`.
const XFS_WORDS: [Word; 2] = [
    // finobt, rmapbt, reflink, inobtcount
    Word { name: "ro_compat", at: 212, big_endian: true, known: 0xf, left_out_by: &[] },
    // ftype, sparse inodes, meta_uuid, bigtime, needsrepair
    Word {
        name: "incompat",
        at: 216,
        big_endian: true,
        known: 0x1f,
        left_out_by: &[
            (0x20, &["-i", "nrext64=0"]),
            (0x40, &["-i", "exchange=0"]),
            (0x80, &["-n", "parent=0"]),
            (0x100, &["-m", "metadir=0"]),
        ],
    },
];

// Layout: include/uapi/linux/btrfs_tree.h, `struct btrfs_super_block`. The upper halves of the words are not
// in use.
const BTRFS_WORDS: [Word; 2] = [
    // free space tree and its mark, verity
    Word {
        name: "compat_ro",
        at: BTRFS + 180,
        big_endian: false,
        known: 0x7,
        left_out_by: &[(0x8, &["-O", "^block-group-tree"])],
    },
    // mixed backrefs up to zoned
    Word {
        name: "incompat",
        at: BTRFS + 188,
        big_endian: false,
        known: 0x1fff,
        left_out_by: &[(0x4000, &["-O", "^raid-stripe-tree"]), (0x1_0000, &["-O", "^squota"])],
    },
];

/// A feature that Linux 5.15 does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beyond {
    /// The feature's name, for messages.
    pub(crate) name: String,
    /// The arguments by which mkfs leaves it out, where we know them.
    pub(crate) left_out_by: Option<&'static [&'static str]>,
}

/// The features beyond what Linux 5.15 knows, from the first bytes of a device.
pub(crate) fn beyond(filesystem: Filesystem, head: &[u8]) -> Vec<Beyond> {
    let words: &[Word] = match filesystem {
        Filesystem::Ext4 => &EXT4_WORDS,
        Filesystem::Xfs => &XFS_WORDS,
        Filesystem::Btrfs => &BTRFS_WORDS,
    };
    let mut found = Vec::new();
    for word in words {
        let Some(bytes) = head.get(word.at..).and_then(|rest| rest.first_chunk()) else { continue };
        let bits = if word.big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) };
        let unknown = (0..u32::BITS).map(|bit| 1_u32 << bit).filter(|bit| bits & !word.known & bit != 0);
        found.extend(unknown.map(|bit| Beyond {
            name: format!("{} {bit:#x}", word.name),
            left_out_by: word.left_out_by.iter().find(|(of, _)| *of == bit).map(|(_, arguments)| *arguments),
        }));
    }
    found
}
