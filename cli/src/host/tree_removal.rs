//! Removing a folder with everything in it, and nothing else: through descriptors, on one filesystem, following no link.

use std::{io, os::fd::OwnedFd};

use rustix::{
    fs::{self, AtFlags, Dir, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Removes `name` from a folder, whatever it is; what is gone already is fine.
///
/// # Errors
/// `EXDEV` where something is mounted below: that is never emptied.
pub(super) fn remove_tree(within: &OwnedFd, name: &std::ffi::CStr) -> io::Result<()> {
    match fs::unlinkat(within, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(folder) = open(within, name)? else { return Ok(()) };
    // Names first: a folder that changes while it is read may skip entries, and is then read again.
    loop {
        let mut found = false;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                found = true;
                remove_tree(&folder, entry.file_name())?;
            }
        }
        if !found {
            break;
        }
    }
    match fs::unlinkat(within, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn open(within: &OwnedFd, name: &std::ffi::CStr) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let attempt = || fs::openat2(within, name, flags, Mode::empty(), resolve);
    let open = match attempt() {
        // An ordinary user's own folder may be closed even to its owner.
        Err(Errno::ACCESS) => {
            fs::chmodat(within, name, Mode::RWXU, AtFlags::empty())?;
            attempt()
        }
        other => other,
    };
    match open {
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(folder) => {
            // Its entries can only be removed by who may write to it.
            let mode = Mode::from_raw_mode(fs::fstat(&folder)?.st_mode);
            if !mode.contains(Mode::RWXU) {
                let _ = fs::fchmod(&folder, mode | Mode::RWXU);
            }
            Ok(Some(folder))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs as files, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn bug_04_only_the_folder_itself_goes_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        files::create_dir_all(at("victim/a/b/c")).unwrap();
        files::write(at("victim/a/file"), "x").unwrap();
        files::create_dir(at("other")).unwrap();
        files::write(at("other/keep"), "x").unwrap();
        std::os::unix::fs::symlink(at("other"), at("victim/a/link")).unwrap();
        std::os::unix::fs::symlink("..", at("victim/up")).unwrap();
        files::hard_link(at("other/keep"), at("victim/hard")).unwrap();
        files::set_permissions(at("victim/a/b"), files::Permissions::from_mode(0o500)).unwrap();
        let within = OwnedFd::from(files::File::open(folder.path()).unwrap());
        remove_tree(&within, c"victim").unwrap();
        remove_tree(&within, c"victim").unwrap();
        assert!(!at("victim").exists());
        assert_eq!(files::read(at("other/keep")).unwrap(), b"x");
        assert_eq!(files::read_dir(folder.path()).unwrap().count(), 1);
    }
}
