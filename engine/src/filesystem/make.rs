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

/// The mkfs call. `zeroed`: the image is known to read as zeros, so nothing needs to be zeroed again.
pub(crate) fn program(
    filesystem: Filesystem,
    uuid: Uuid,
    label: &str,
    device: &Path,
    zeroed: bool,
) -> Program {
    let uuid = uuid.to_string();
    let label = filesystem.label(label);
    let (name, mut arguments): (&'static str, Vec<&str>) = match filesystem {
        // -m 0: a user's volume needs no blocks kept for root. 4096-byte blocks always, as the device has 4096-byte sectors.
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
                "-E",
                // Without this the kernel zeroes inode tables after the first mount and so fills thin images.
                if zeroed { "nodiscard,assume_storage_prezeroed=1" } else { "nodiscard,lazy_itable_init=1" },
                "-U",
                &uuid,
            ],
        ),
        Filesystem::Xfs => ("mkfs.xfs", vec!["-q", "-f", "-K"]),
        Filesystem::Btrfs => ("mkfs.btrfs", vec!["-q", "-f", "-K", "-U", &uuid]),
    };
    let meta = format!("uuid={uuid}");
    if filesystem == Filesystem::Xfs {
        arguments.extend(["-m", &meta]);
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

/// The check that `resize2fs` demands before it grows an ext4 that is not mounted.
pub(crate) fn ext4_check(device: &Path) -> Program {
    // 1: errors were found and repaired.
    Program {
        name: "e2fsck",
        arguments: vec!["-f".into(), "-p".into(), device.into()],
        input: Input::default(),
        good: &[0, 1],
        limit: CHECK_LIMIT,
        environment: &[],
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
        outlives_us: false,
    }
}

/// How far a filesystem may be below its device and still count as grown: mkfs and the kernel drop a last group that is too small to hold
/// its own metadata.
pub(crate) const fn slack_bytes(filesystem: Filesystem) -> u64 {
    match filesystem {
        Filesystem::Ext4 => 4 << 20,
        Filesystem::Xfs | Filesystem::Btrfs => 1 << 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_devices_are_single_arguments() {
        let uuid = Uuid::from_u128(1);
        for (filesystem, name) in [
            (Filesystem::Ext4, "mkfs.ext4"),
            (Filesystem::Xfs, "mkfs.xfs"),
            (Filesystem::Btrfs, "mkfs.btrfs"),
        ] {
            let program = program(filesystem, uuid, "my data; rm", Path::new("/dev/loop9"), true);
            assert_eq!(program.name, name);
            let at = program.arguments.iter().position(|argument| argument == "-L").unwrap();
            assert_eq!(program.arguments[at + 1], filesystem.label("my-data--rm").as_str());
            assert_eq!(program.arguments.last().unwrap(), "/dev/loop9");
            assert!(program.line().contains(&uuid.to_string()), "{}", program.line());
        }
    }
}
