//! The mount calls, all by file descriptor.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, CWD},
    io::Errno,
    mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use crate::{Error, Filesystem, error::Context, kernel, lasting::lasting, mount::place::Place};

/// Mounts a device's filesystem at a place, on top of whatever is there.
pub(crate) fn mount_device(
    device: &Path,
    filesystem: Filesystem,
    options: &[String],
    at: &Place,
) -> Result<(), Error> {
    let doing = || format!("mount {filesystem} {} at {}", device.display(), at.path().display());
    attach(&mounted(device, filesystem, options, doing)?, at).doing(doing)
}

/// Takes `lost+found` out of an ext4 that was just made: a volume is handed out empty, and e2fsck makes that
/// folder anew when it needs one. The mount is in no table and goes with its descriptor, so that nobody can
/// have put anything there.
pub(crate) fn remove_lost_and_found(device: &Path) -> Result<(), Error> {
    let doing = || format!("empty the new ext4 on {}", device.display());
    // The kernel shall not begin to write inode tables for a mount that lasts for a moment.
    let options = ["noinit_itable", "nodiscard"].map(str::to_owned);
    let mounted = mounted(device, Filesystem::Ext4, &options, doing)?;
    lasting("empty a new filesystem", || {
        match fs::unlinkat(&mounted, "lost+found", AtFlags::REMOVEDIR) {
            // An mke2fs that makes none.
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    })
    .doing(doing)
}

/// Mounts a device's filesystem where nobody sees it, as long as the descriptor is open.
fn mounted(
    device: &Path,
    filesystem: Filesystem,
    options: &[String],
    doing: impl Fn() -> String + Copy,
) -> Result<OwnedFd, Error> {
    let context = mount::fsopen(filesystem.name(), FsOpenFlags::FSOPEN_CLOEXEC).doing(doing)?;
    // The kernel says more than an error number, to a reader of the descriptor.
    let explain = |error: Errno| Error::Io { doing: with_log(doing(), &context), source: error.into() };
    mount::fsconfig_set_string(&context, "source", device).map_err(explain)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    for option in options {
        match attribute(option) {
            Some(attribute) => attributes |= attribute,
            None => set(&context, option).map_err(explain)?,
        }
    }
    mount::fsconfig_create(&context).map_err(explain)?;
    mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(explain)
}

/// Options that belong to the mount, not to the filesystem.
fn attribute(option: &str) -> Option<MountAttrFlags> {
    match option {
        "noatime" => Some(MountAttrFlags::MOUNT_ATTR_NOATIME),
        "relatime" => Some(MountAttrFlags::MOUNT_ATTR_RELATIME),
        "nodiratime" => Some(MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        "nosuid" => Some(MountAttrFlags::MOUNT_ATTR_NOSUID),
        "noexec" => Some(MountAttrFlags::MOUNT_ATTR_NOEXEC),
        _ => None,
    }
}

fn set(context: &OwnedFd, option: &str) -> rustix::io::Result<()> {
    match option.split_once('=') {
        Some((key, value)) => mount::fsconfig_set_string(context, key, value),
        None => mount::fsconfig_set_flag(context, option),
    }
}

fn with_log(doing: String, context: &OwnedFd) -> String {
    let mut text = doing;
    let mut buffer = [0; 1024];
    // Each read gives one message such as "e ext4: …"; ENODATA ends them.
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        text.push_str("; ");
        text.push_str(String::from_utf8_lossy(&buffer[..length]).trim());
    }
    text
}

/// Copies the mount at one place to another. `check` sees the copy before it becomes visible.
pub(crate) fn bind(
    from: &Place,
    to: &Place,
    readonly: bool,
    check: impl FnOnce(&OwnedFd) -> Result<(), Error>,
) -> Result<(), Error> {
    let doing = || format!("bind {} to {}", from.path().display(), to.path().display());
    let source = from.handle().doing(doing)?;
    let copy = clone(&source).doing(doing)?;
    check(&copy)?;
    if readonly {
        kernel::mount_set_readonly(&copy).doing(doing)?;
    }
    attach(&copy, to).doing(doing)
}

/// Binds a device node onto a file.
pub(crate) fn bind_node(node: &Path, to: &Place, readonly: bool) -> Result<(), Error> {
    let doing = || format!("bind {} to {}", node.display(), to.path().display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let copy = mount::open_tree(CWD, node, flags).doing(doing)?;
    if readonly {
        kernel::mount_set_readonly(&copy).doing(doing)?;
    }
    attach(&copy, to).doing(doing)
}

fn clone(source: &OwnedFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(mount::open_tree(source, "", flags)?)
}

fn attach(mounted: &OwnedFd, at: &Place) -> io::Result<()> {
    let target = at.handle()?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(lasting("mount", || mount::move_mount(mounted.as_fd(), "", target.as_fd(), "", flags))?)
}

/// Unmounts the uppermost mount at a place. Never lazily: a lazy unmount would hide users of the data from
/// us.
pub(crate) fn unmount(at: &Place) -> io::Result<()> {
    Ok(lasting("unmount", || mount::unmount(at.call_path(), UnmountFlags::NOFOLLOW))?)
}
