//! Which program makes, checks or grows a filesystem, and with which arguments.

use std::{ffi::OsString, path::Path, time::Duration};

use uuid::Uuid;

use crate::{
    Filesystem,
    command::{Input, Program},
};

/// mkfs of a huge disk takes seconds; this is the end of patience, not an estimate.
const MAKE_LIMIT: Duration = Duration::from_mins(5);

/// A check reads all metadata: many minutes on a large, slow disk.
const CHECK_LIMIT: Duration = Duration::from_hours(1);

/// The option by which mkfs takes an ext4's inode tables for zeros already. e2fsprogs before 1.47 do not know
/// it.
pub(crate) const PREZEROED: &str = "assume_storage_prezeroed";

/// The features of an ext4: what mke2fs makes of itself, and its configuration on the host, could be more
/// than an older kernel knows.
const EXT4_FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                             huge_file,dir_nlink,extra_isize,metadata_csum";

/// A filesystem to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewFilesystem<'a> {
    pub(crate) filesystem: Filesystem,
    pub(crate) uuid: Uuid,
    pub(crate) label: &'a str,
    /// The size of its device.
    pub(crate) bytes: u64,
    /// Whether the device is known to read as zeros.
    pub(crate) zeroed: bool,
}

/// What was learned of this host's mkfs programs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    /// mkfs.ext4 does not know [`PREZEROED`].
    pub(crate) no_prezeroed: bool,
    /// The arguments by which a mkfs leaves out what it would turn on by itself.
    pub(crate) left_out: Vec<(Filesystem, &'static [&'static str])>,
}

/// How many blocks of 4096 bytes a group of a small ext4 has; `None`: as many as a group can have, which are 128 MiB.
///
/// An ext4 has its inodes by the group, and never gets more of them within one. So that a growth by a quarter
/// brings some, there are four groups at least, of 8 MiB at least.
fn ext4_group_blocks(bytes: u64) -> Option<u64> {
    const LEAST: u64 = 2048;
    const MOST: u64 = 32_768;
    let blocks = (bytes / 4096 / 4).checked_next_power_of_two()? / 2;
    Some(blocks.max(LEAST)).filter(|blocks| *blocks < MOST)
}

/// The mkfs call.
pub(crate) fn program(new: &NewFilesystem<'_>, learned: &Learned, device: &Path) -> Program {
    let filesystem = new.filesystem;
    let uuid = new.uuid.to_string();
    let label = filesystem.label(new.label);
    let prezeroed = format!("nodiscard,{PREZEROED}=1");
    let group = ext4_group_blocks(new.bytes).map(|blocks| blocks.to_string());
    let (name, mut arguments): (&'static str, Vec<&str>) = match filesystem {
        // -m 0: a user's volume needs no blocks kept for root. 4096-byte blocks always, as the device has
        // 4096-byte sectors.
        Filesystem::Ext4 => (
            "mkfs.ext4",
            vec![
                "-q",
                "-F",
                "-b",
                "4096",
                "-m",
                "0",
                "-e",
                "remount-ro",
                "-O",
                EXT4_FEATURES,
                "-E",
                // Without this the kernel zeroes inode tables after the first mount and so fills thin images.
                if new.zeroed && !learned.no_prezeroed { &prezeroed } else { "nodiscard,lazy_itable_init=1" },
                "-U",
                &uuid,
            ],
        ),
        Filesystem::Xfs => ("mkfs.xfs", vec!["-q", "-f", "-K"]),
        Filesystem::Btrfs => ("mkfs.btrfs", vec!["-q", "-f", "-K", "-U", &uuid]),
    };
    if let (Filesystem::Ext4, Some(group)) = (filesystem, &group) {
        arguments.extend(["-g", group]);
    }
    let meta = format!("uuid={uuid}");
    if filesystem == Filesystem::Xfs {
        arguments.extend(["-m", &meta]);
    }
    for (of, words) in &learned.left_out {
        if *of == filesystem {
            arguments.extend(words.iter());
        }
    }
    if !label.is_empty() {
        arguments.extend(["-L", &label]);
    }
    let mut arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
    arguments.push(device.into());
    Program {
        name,
        arguments,
        input: Input::default(),
        good: &[0],
        limit: MAKE_LIMIT,
        environment: &[],
        outlives_us: false,
    }
}

/// What lets e2fsck take an ext4 without `lost+found` for sound (`PR_3_NO_LF_DIR` of its problem.h): ours have none, and where all
/// inodes are used it can't make one and would give the filesystem up. What it repairs by itself (`-p`) needs none.
const NO_LOST_AND_FOUND: &[u8] =
    b"[problems]\n\t0x030004 = {\n\t\tforce_no = true\n\t\tno_ok = true\n\t\tno_nomsg = true\n\t}\n";

/// The check that `resize2fs` demands before it grows an ext4 that is not mounted.
pub(crate) fn ext4_check(device: &Path) -> Program {
    // 1: errors were found and repaired.
    Program {
        name: "e2fsck",
        arguments: vec!["-f".into(), "-p".into(), device.into()],
        input: Input::of(&[NO_LOST_AND_FOUND]),
        good: &[0, 1],
        limit: CHECK_LIMIT,
        environment: &[("E2FSCK_CONFIG", "/proc/self/fd/0")],
        outlives_us: false,
    }
}

/// Grows an ext4 that is not mounted to the size of its device.
pub(crate) fn ext4_grow(device: &Path) -> Program {
    Program {
        name: "resize2fs",
        arguments: vec![device.into()],
        input: Input::default(),
        good: &[0],
        limit: CHECK_LIMIT,
        environment: &[],
        // Cut off in the middle it leaves a filesystem that must be repaired. It has the device for itself:
        // nothing mounts it meanwhile.
        outlives_us: true,
    }
}

/// How far a filesystem may be below its device and still count as grown: mkfs and the kernel drop a last
/// group that is too small to hold its own metadata.
pub(crate) const fn slack_bytes(filesystem: Filesystem) -> u64 {
    match filesystem {
        Filesystem::Ext4 => 4 << 20,
        Filesystem::Xfs | Filesystem::Btrfs => 1 << 20,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn labels_and_devices_are_single_arguments() {
        let uuid = Uuid::from_u128(1);
        for (filesystem, name) in [
            (Filesystem::Ext4, "mkfs.ext4"),
            (Filesystem::Xfs, "mkfs.xfs"),
            (Filesystem::Btrfs, "mkfs.btrfs"),
        ] {
            let new = NewFilesystem { filesystem, uuid, label: "my data; rm", bytes: 64 << 20, zeroed: true };
            let program = program(&new, &Learned::default(), Path::new("/dev/loop9"));
            assert_eq!(program.name, name);
            let at = program.arguments.iter().position(|argument| argument == "-L").unwrap();
            assert_eq!(program.arguments[at + 1], filesystem.label("my-data--rm").as_str());
            assert_eq!(program.arguments.last().unwrap(), "/dev/loop9");
            assert!(program.line().contains(&uuid.to_string()), "{}", program.line());
        }
    }

    #[test]
    fn an_ext4_has_four_groups_where_they_can_be_of_8_mib_and_no_small_ones_where_it_is_large() {
        const MIB: u64 = 1 << 20;
        for (size, group) in
            [(16, Some(8)), (64, Some(8)), (100, Some(16)), (511, Some(64)), (513, None), (1 << 20, None)]
        {
            assert_eq!(ext4_group_blocks(size * MIB), group.map(|group| group * MIB / 4096), "{size}");
        }
    }
}
