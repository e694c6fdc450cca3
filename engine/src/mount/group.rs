//! A folder whose content belongs to a group, whoever makes it.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{self, Gid, Mode, Uid, XattrFlags},
    io::Errno,
};

use crate::{Error, error::Context, lasting::lasting};

const DEFAULT_ACL: &str = "system.posix_acl_default";
/// The group of the folder is that of everything made in it.
const MODE: u32 = 0o2770;

/// Gives a folder (and nothing in it) to root and a group, and lets everything that is made in it be the group's to read and to write,
/// whatever the umask of who makes it. `false`: it was so already.
pub(crate) fn give(folder: &OwnedFd, gid: u32, what: &str) -> Result<bool, Error> {
    let doing = || format!("give the folder {what} to the group {gid}");
    let stat = fs::fstat(folder).doing(doing)?;
    let mut changed = false;
    if (stat.st_uid, stat.st_gid) != (0, gid) {
        lasting("give a folder to a group", || fs::fchown(folder, Some(Uid::ROOT), Some(Gid::from_raw(gid))))
            .doing(doing)?;
        changed = true;
    }
    // After the owner: the kernel takes the group's bit away when that changes.
    if changed || stat.st_mode & 0o7777 != MODE {
        lasting("open a folder to a group", || fs::fchmod(folder, Mode::from_raw_mode(MODE))).doing(doing)?;
        changed = true;
    }
    let wanted = acl(gid);
    let mut found = vec![0; 4096];
    let same = match fs::fgetxattr(folder, DEFAULT_ACL, &mut found[..]) {
        Ok(length) => found[..length] == wanted,
        Err(Errno::NODATA | Errno::RANGE) => false,
        Err(error) => return Err(error).doing(doing),
    };
    if !same {
        lasting("set the rights of what is made in a folder", || {
            fs::fsetxattr(folder, DEFAULT_ACL, &wanted, XattrFlags::empty())
        })
        .doing(doing)?;
        changed = true;
    }
    Ok(changed)
}

/// `u::rwx,g::rwx,g:GID:rwx,m::rwx,o::---`, as the kernel reads it (`linux/posix_acl_xattr.h`): version 2, then tag, rights and id of each.
fn acl(gid: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    const ALL: u16 = 7;
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (0x01_u16, ALL, NOBODY),
        (0x04, ALL, NOBODY),
        (0x08, ALL, gid),
        (0x10, ALL, NOBODY),
        (0x20, 0, NOBODY),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_the_kernels_form() {
        let acl = acl(0x0102_0304);
        assert_eq!(acl.len(), 4 + 5 * 8);
        assert_eq!(acl[..4], [2, 0, 0, 0]);
        assert_eq!(acl[20..28], [8, 0, 7, 0, 4, 3, 2, 1]);
        assert_eq!(acl[36..], [0x20, 0, 0, 0, 255, 255, 255, 255]);
    }
}
