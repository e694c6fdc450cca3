//! What a file has beside its content: owner, mode, times, extended attributes (access control lists are such).

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags},
    io::Errno,
};

use super::{
    left_out::{Kind, LeftOut},
    tree_descent::shown,
};

/// What holds a file's access control list, and the one that a folder's new files get.
pub(super) const ACCESS_LIST: &CStr = c"system.posix_acl_access";
pub(super) const DEFAULT_LIST: &CStr = c"system.posix_acl_default";

/// The greatest that the kernel has, of a list of names and of a value.
const LIMIT: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// User and group; `None`: whoever makes the file.
    pub(super) owner: Option<(u32, u32)>,
    /// The twelve bits.
    pub(super) mode: u32,
    /// `None`: as it comes.
    pub(super) accessed: Option<Timespec>,
    pub(super) modified: Option<Timespec>,
    pub(super) attributes: BTreeMap<CString, Vec<u8>>,
}

impl Metadata {
    /// What a folder has that nobody said anything of.
    pub(super) fn of_new_folder() -> Self {
        Self { owner: None, mode: 0o755, accessed: None, modified: None, attributes: BTreeMap::new() }
    }

    /// What a file has. It may have been opened as a mere path, whatever its type.
    pub(super) fn of(file: impl AsFd, stat: &Stat) -> io::Result<Self> {
        let time = |seconds, nanoseconds: u64| {
            Some(Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanoseconds).unwrap_or(0) })
        };
        Ok(Self {
            owner: Some((stat.st_uid, stat.st_gid)),
            mode: stat.st_mode & 0o7777,
            accessed: time(stat.st_atime, stat.st_atime_nsec),
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            attributes: attributes(&handle(&file))?,
        })
    }

    /// Gives it to a file, the time last; what the caller has no right to set is noted. What the filesystem makes something else of is an
    /// error.
    pub(super) fn give(&self, file: impl AsFd, left_out: &LeftOut, path: &[u8]) -> io::Result<()> {
        let handle = handle(&file);
        let before = fs::fstat(&file)?;
        let is_link = FileType::from_raw_mode(before.st_mode).is_symlink();
        let owned = self.give_owner(&file, &before, left_out, path)?;
        self.give_attributes(&handle, left_out, path)?;
        let mut mode = self.mode;
        if !owned && mode & 0o6000 != 0 && !is_link {
            // A program that ran as its owner must not run as whoever copied it.
            left_out.note(Kind::SpecialBits, path);
            mode &= 0o1777;
        }
        // After the owner, whose change takes such bits away, and the list, whose change does the same.
        if !is_link {
            fs::chmodat(CWD, &handle, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps {
            last_access: self.accessed.unwrap_or(omitted),
            last_modification: self.modified.unwrap_or(omitted),
        };
        fs::utimensat(CWD, &handle, &times, AtFlags::empty())?;
        let after = fs::fstat(&file)?;
        let is = (after.st_mtime, i64::try_from(after.st_mtime_nsec).unwrap_or(0));
        if let Some(wanted) = self.modified.filter(|wanted| (wanted.tv_sec, wanted.tv_nsec) != is) {
            return Err(not_kept(path, &format!("time {}.{:09}", wanted.tv_sec, wanted.tv_nsec)));
        }
        if !is_link && after.st_mode & 0o7777 != mode {
            return Err(not_kept(path, &format!("mode {mode:04o}")));
        }
        Ok(())
    }

    /// Whether it has that owner now.
    fn give_owner(
        &self,
        file: impl AsFd,
        before: &Stat,
        left_out: &LeftOut,
        path: &[u8],
    ) -> io::Result<bool> {
        let Some((user, group)) = self.owner else { return Ok(true) };
        if (before.st_uid, before.st_gid) == (user, group) {
            return Ok(true);
        }
        let own = |user: Option<u32>| {
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            fs::chownat(&file, c"", user.map(Uid::from_raw), Some(Gid::from_raw(group)), flags)
        };
        match own(Some(user)) {
            Ok(()) => return Ok(true),
            // The second: the number means nobody in this user namespace.
            Err(Errno::PERM | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        // A user may give files to the user's other groups.
        if own(None).is_ok() && before.st_uid == user {
            return Ok(true);
        }
        left_out.note(Kind::Owner, path);
        Ok(false)
    }

    fn give_attributes(&self, handle: &CStr, left_out: &LeftOut, path: &[u8]) -> io::Result<()> {
        for list in [ACCESS_LIST, DEFAULT_LIST] {
            // A new file may have got one from its folder.
            if !self.attributes.contains_key(list) {
                match fs::removexattr(handle, list) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        for (name, value) in &self.attributes {
            let error = match fs::setxattr(handle, &**name, value, XattrFlags::empty()) {
                Ok(()) => continue,
                Err(error) => error,
            };
            match refused(name, error) {
                Some(kind @ Kind::Unknown) => {
                    let path = if path.is_empty() { b"." } else { path };
                    left_out.note(kind, &[name.to_bytes(), b" of ", path].concat());
                }
                Some(kind) => left_out.note(kind, path),
                None => return Err(attribute_not_kept(handle, name, error, path)),
            }
        }
        Ok(())
    }
}

/// What was left out where an attribute is refused by that error; `None`: it must not be.
fn refused(name: &CStr, error: Errno) -> Option<Kind> {
    let is_in = |namespace: &&str| name.to_bytes().starts_with(namespace.as_bytes());
    match (["trusted.", "security."].into_iter().find(is_in), error) {
        // A label that the host's policy does not know, or lets nobody set, belongs to the host that it comes from.
        (Some(namespace), Errno::PERM) | (Some(namespace @ "security."), Errno::INVAL | Errno::ACCESS) => {
            Some(Kind::Attribute(namespace))
        }
        // A property of btrfs, a list of NFS, a mark of macOS: nothing that is asked for by that name here.
        (_, Errno::OPNOTSUPP) if !is_of_every_filesystem(name) => Some(Kind::Unknown),
        _ => None,
    }
}

fn not_kept(path: &[u8], what: &str) -> io::Error {
    let path = shown(path);
    io::Error::new(io::ErrorKind::Unsupported, format!("the filesystem does not keep the {what} of '{path}'"))
}

fn is_of_every_filesystem(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"user.") || name == ACCESS_LIST || name == DEFAULT_LIST
}

fn attribute_not_kept(handle: &CStr, name: &CStr, error: Errno, path: &[u8]) -> io::Error {
    let name = name.to_string_lossy();
    // A filesystem says so, too, of what is more than its place for the attributes of one file.
    if error == Errno::NOSPC && has_room(handle) {
        let path = shown(path);
        return io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the filesystem has no room for the extended attribute {name} of '{path}', though the disk is not full"
            ),
        );
    }
    let text = format!("{}: {error}", not_kept(path, &format!("extended attribute {name}")));
    io::Error::new(io::Error::from(error).kind(), text)
}

/// Whether the filesystem of a file has room for the largest attribute, and for what it needs itself to keep it.
fn has_room(handle: &CStr) -> bool {
    let needed = 4 * u64::try_from(LIMIT).unwrap_or(u64::MAX);
    fs::statvfs(handle).is_ok_and(|there| there.f_bavail.saturating_mul(there.f_frsize) > needed)
}

/// A path that means just this open file: it works for links and pipes too, which can't be opened otherwise.
pub(super) fn handle(file: impl AsFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())).expect("digits have no NUL")
}

fn attributes(handle: &CStr) -> io::Result<BTreeMap<CString, Vec<u8>>> {
    let mut names = vec![0; LIMIT];
    let length = match fs::listxattr(handle, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if is_a_list_again(handle, name) {
            continue;
        }
        let mut value = vec![0; LIMIT];
        match fs::getxattr(handle, name, &mut value) {
            // Removed just now.
            Err(Errno::NODATA) => {}
            other => {
                value.truncate(other?);
                found.insert(name.to_owned(), value);
            }
        }
    }
    Ok(found)
}

const XFS_MAGIC: fs::FsWord = 0x5846_5342;

/// XFS shows each access control list a second time, in its own form, to whoever may see `trusted.*`. Anywhere else that would become an attribute.
fn is_a_list_again(handle: &CStr, name: &CStr) -> bool {
    name.to_bytes().starts_with(b"trusted.SGI_ACL_")
        && fs::statfs(handle).is_ok_and(|found| found.f_type == XFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_policy_of_a_host_refuses_is_left_out_and_what_anybody_may_set_is_not() {
        let of_host = Some(Kind::Attribute("security."));
        for (name, error, expected) in [
            (c"security.selinux", Errno::INVAL, of_host),
            (c"security.selinux", Errno::ACCESS, of_host),
            (c"security.selinux", Errno::PERM, of_host),
            (c"security.capability", Errno::INVAL, of_host),
            (c"security.capability", Errno::NOSPC, None),
            (c"security.selinux", Errno::OPNOTSUPP, Some(Kind::Unknown)),
            (c"trusted.overlay.opaque", Errno::PERM, Some(Kind::Attribute("trusted."))),
            (c"trusted.overlay.opaque", Errno::INVAL, None),
            (c"user.a", Errno::PERM, None),
            (c"user.a", Errno::OPNOTSUPP, None),
            (ACCESS_LIST, Errno::INVAL, None),
            (c"btrfs.compression", Errno::OPNOTSUPP, Some(Kind::Unknown)),
        ] {
            assert_eq!(refused(name, error), expected, "{name:?} {error}");
        }
    }
}
