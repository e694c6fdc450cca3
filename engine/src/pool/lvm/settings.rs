//! The few settings that LVM takes from its configuration file alone.
//!
//! LVM reserves memory for the time while it suspends devices, 8 MiB that it touches page by page, before it
//! reads `--config`. Where a page costs much that is a good part of a command's time: 0.1 of 0.27 s of an
//! `lvcreate` in a user-mode Linux guest. Nothing swaps to our volumes, so a file says that none is needed.
//! It lies in a filesystem in memory that is mounted nowhere and ends with this process.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{AsRawFd as _, IntoRawFd as _},
    sync::LazyLock,
};

use rustix::{
    fs::{Mode, OFlags},
    mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags},
};

const NAME: &str = "lvm.conf";
const TEXT: &str = "activation { reserved_memory=0 reserved_stack=0 }\n";

/// The variables in an LVM command's environment.
pub(super) type Environment = &'static [(&'static str, &'static str)];

/// A folder for `LVM_SYSTEM_DIR`. The empty text, with which LVM reads no file at all, where none can be
/// made: then it is slower.
static FOLDER: LazyLock<String> = LazyLock::new(|| {
    folder().unwrap_or_else(|error| {
        tracing::debug!(%error, "LVM gets no configuration file");
        String::new()
    })
});

static WITH_UDEV: LazyLock<[(&str, &str); 2]> =
    LazyLock::new(|| [("LVM_SYSTEM_DIR", FOLDER.as_str()), ("LVM_SUPPRESS_FD_WARNINGS", "1")]);

static WITHOUT_UDEV: LazyLock<[(&str, &str); 3]> = LazyLock::new(|| {
    let [folder, warnings] = *WITH_UDEV;
    [folder, warnings, ("DM_DISABLE_UDEV", "1")]
});

pub(super) fn environment(udev: bool) -> Environment {
    if udev { &*WITH_UDEV } else { &*WITHOUT_UDEV }
}

/// Makes the folder; its path is valid in every process that sees this one.
fn folder() -> io::Result<String> {
    let context = mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(&context, "size", "64k")?;
    mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mounted = mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&mounted, NAME, flags, Mode::RUSR)?);
    file.write_all(TEXT.as_bytes())?;
    // `/proc` may be that of other process ids than ours.
    let path = format!("/proc/{}/fd/{}", std::process::id(), mounted.as_raw_fd());
    if fs::read_to_string(format!("{path}/{NAME}"))? != TEXT {
        return Err(io::ErrorKind::NotFound.into());
    }
    // Held until this process ends.
    let _ = mounted.into_raw_fd();
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_has_the_file_and_is_mounted_nowhere() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: the_folder_has_the_file needs root");
            return;
        }
        let path = folder().unwrap();
        assert_eq!(fs::read_to_string(format!("{path}/{NAME}")).unwrap(), TEXT);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        let output = std::process::Command::new("cat").arg(format!("{path}/{NAME}")).output().unwrap();
        assert_eq!(output.stdout, TEXT.as_bytes(), "a program that we start reads it too");
        let names = environment(false).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names, ["LVM_SYSTEM_DIR", "LVM_SUPPRESS_FD_WARNINGS", "DM_DISABLE_UDEV"]);
        assert_eq!(environment(true), &environment(false)[..2]);
    }
}
