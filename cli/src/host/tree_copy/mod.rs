//! Copying trees of files: owners, modes, times, extended attributes, hard links, holes and special files are kept; blocks are shared where
//! the filesystem can. Through descriptors, following no link, staying on the source's filesystem.

mod file;
mod temporary;

use std::{collections::HashMap, ffi::CStr, io, os::fd::OwnedFd};

use rustix::{
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::{
    left_out::{Kind, LeftOut},
    metadata::Metadata,
};
use temporary::temporary;

pub(super) struct Copier<'a> {
    /// Where copies of files with several names are, for their other names.
    links: HashMap<(u64, u64), OwnedFd>,
    /// Told the bytes of each file that is done.
    progress: &'a dyn Fn(u64),
    left_out: &'a LeftOut,
}

impl<'a> Copier<'a> {
    pub(super) fn new(progress: &'a dyn Fn(u64), left_out: &'a LeftOut) -> Self {
        Self { links: HashMap::new(), progress, left_out }
    }

    /// Copies what is in one folder into another, then the folder's own owner, mode and attributes. What is there with the same size and
    /// time is left: a copy that was interrupted goes on.
    pub(super) fn folder(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        self.folder_named(from, to, c".")
    }

    /// The same for a folder that was made for it just now. It has what its source has before anything is in it: a copy that was interrupted
    /// and goes on finds a folder that is there, and leaves that as it is.
    pub(super) fn new_folder(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        // What can't be kept is told at the end.
        Metadata::of(from, &fs::fstat(from)?)?.give(to, &LeftOut::default(), b".")?;
        self.folder(from, to)
    }

    /// Copies what is in one folder into another, which stays as it is itself.
    pub(super) fn content(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        let mode = Mode::from_raw_mode(fs::fstat(to)?.st_mode);
        let copied = self.entries(from, to);
        if Mode::from_raw_mode(fs::fstat(to)?.st_mode) != mode {
            fs::fchmod(to, mode)?;
        }
        copied
    }

    fn folder_named(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        self.entries(from, to)?;
        Metadata::of(from, &fs::fstat(from)?)?.give(to, self.left_out, name.to_bytes())
    }

    fn entries(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        let mode = Mode::from_raw_mode(fs::fstat(to)?.st_mode);
        if !mode.contains(Mode::RWXU) && !rustix::process::geteuid().is_root() {
            // An earlier copy of it is to be gone on with. It gets its mode back at the end.
            fs::fchmod(to, mode | Mode::RWXU)?;
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                self.entry(from, entry.file_name(), to, entry.file_name())?;
            }
        }
        Ok(())
    }

    /// Copies one file or folder, whatever it is. What vanishes meanwhile is left out.
    pub(super) fn entry(&mut self, from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> io::Result<()> {
        let stat = match fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.below(from, name, to, new);
        }
        let several = stat.st_nlink > 1;
        let key = (stat.st_dev, stat.st_ino);
        if several && let Some(copied) = self.links.get(&key) {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(copied));
            return Ok(replace(to, new, |temporary| {
                fs::linkat(CWD, &path, to, temporary, AtFlags::SYMLINK_FOLLOW)
            })?);
        }
        let metadata = match open(from, name, OFlags::PATH) {
            Err(Errno::NOENT) => return Ok(()),
            other => Metadata::of(other?, &stat)?,
        };
        match kind {
            // More than its content may have changed since.
            FileType::RegularFile if is_copied(&stat, to, new) => self.give(&metadata, to, new, name)?,
            FileType::RegularFile => {
                let source = match open(from, name, OFlags::RDONLY) {
                    Err(Errno::NOENT) => return Ok(()),
                    other => other?,
                };
                file::copy(&source, &stat, to, new, &|target| {
                    metadata.give(target, self.left_out, name.to_bytes())
                })?;
            }
            FileType::Symlink => {
                let target = fs::readlinkat(from, name, Vec::new())?;
                replace(to, new, |temporary| fs::symlinkat(&*target, to, temporary))?;
                self.give(&metadata, to, new, name)?;
            }
            kind => {
                let made = replace(to, new, |temporary| {
                    fs::mknodat(to, temporary, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)
                });
                if made == Err(Errno::PERM)
                    && matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
                {
                    self.left_out.note(Kind::Device, name.to_bytes());
                    return Ok(());
                }
                made?;
                self.give(&metadata, to, new, name)?;
            }
        }
        (self.progress)(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if several {
            self.links.insert(key, open(to, new, OFlags::PATH)?);
        }
        Ok(())
    }

    fn give(&self, metadata: &Metadata, to: &OwnedFd, new: &CStr, name: &CStr) -> io::Result<()> {
        metadata.give(open(to, new, OFlags::PATH)?, self.left_out, name.to_bytes())
    }

    fn below(&mut self, from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> io::Result<()> {
        let below = match open(from, name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => return Ok(()),
            // Another filesystem mounted below is not part of it.
            Err(Errno::XDEV) => {
                self.left_out.note(Kind::Mounted, name.to_bytes());
                return Ok(());
            }
            other => other?,
        };
        match fs::mkdirat(to, new, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.folder_named(&below, &open(to, new, OFlags::RDONLY | OFlags::DIRECTORY)?, name)
    }
}

/// Whether an earlier copy is whole: its time is set last.
fn is_copied(stat: &Stat, to: &OwnedFd, new: &CStr) -> bool {
    fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|there| {
        FileType::from_raw_mode(there.st_mode).is_file()
            && (there.st_size, there.st_mtime, there.st_mtime_nsec)
                == (stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
    })
}

/// Makes something under a temporary name, then puts it in the place of what is there.
fn replace(
    to: &OwnedFd,
    new: &CStr,
    make: impl Fn(&CStr) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let temporary = temporary(new);
    match fs::unlinkat(to, &*temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    make(&temporary)?;
    let renamed = fs::renameat(to, &*temporary, to, new);
    // Renaming one name of a file onto another of the same file does nothing, so the temporary one stays.
    let _ = fs::unlinkat(to, &*temporary, AtFlags::empty());
    renamed
}

fn open(folder: &OwnedFd, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    fs::openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use std::{
        fs as files,
        os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        path::Path,
    };

    use super::*;

    fn folder(path: &Path) -> OwnedFd {
        files::File::open(path).unwrap().into()
    }

    #[test]
    fn a_copy_has_everything_that_its_source_has() {
        let world = tempfile::tempdir().unwrap();
        let (from, to) = (world.path().join("from"), world.path().join("to"));
        files::create_dir_all(from.join("sub")).unwrap();
        files::create_dir(&to).unwrap();
        files::write(from.join("sub/script"), "#!/bin/sh\n").unwrap();
        files::set_permissions(from.join("sub/script"), files::Permissions::from_mode(0o4751)).unwrap();
        files::hard_link(from.join("sub/script"), from.join("second name")).unwrap();
        symlink("/nonesuch", from.join("link")).unwrap();
        let sparse = files::File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"in the middle", 8 << 20).unwrap();
        sparse.set_len(64 << 20).unwrap();
        let attribute = fs::fsetxattr(&sparse, "user.colour", b"blue", fs::XattrFlags::empty());
        files::set_permissions(from.join("sub"), files::Permissions::from_mode(0o1750)).unwrap();

        let copied = std::cell::Cell::new(0);
        let count = |bytes| copied.set(copied.get() + bytes);
        Copier::new(&count, &LeftOut::default()).folder(&folder(&from), &folder(&to)).unwrap();

        let meta = |path: &str| files::symlink_metadata(to.join(path)).unwrap();
        assert_eq!(meta("sub/script").mode() & 0o7777, 0o4751);
        assert_eq!(meta("sub").mode() & 0o7777, 0o1750);
        assert_eq!(meta("sub/script").ino(), meta("second name").ino());
        assert_eq!(meta("sub/script").nlink(), 2);
        assert_eq!(files::read_link(to.join("link")).unwrap(), Path::new("/nonesuch"));
        let (before, after) = (files::metadata(from.join("sparse")).unwrap(), meta("sparse"));
        assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
        assert!(after.blocks() * 512 < 1 << 20, "the holes were filled: {} blocks", after.blocks());
        assert_eq!(files::read(to.join("sparse")).unwrap(), files::read(from.join("sparse")).unwrap());
        if attribute.is_ok() {
            let mut value = [0; 16];
            let length = fs::getxattr(to.join("sparse"), "user.colour", &mut value).unwrap();
            assert_eq!(&value[..length], b"blue");
        }
        assert!(copied.get() > 0);

        // Again: nothing changes, and no temporary name is left.
        let inode = meta("sparse").ino();
        Copier::new(&|_| (), &LeftOut::default()).folder(&folder(&from), &folder(&to)).unwrap();
        assert_eq!(meta("sparse").ino(), inode);
        assert_eq!(files::read_dir(&to).unwrap().count(), 4);
    }

    #[test]
    fn bug_15_a_link_put_in_the_place_of_a_folder_is_not_followed() {
        let world = tempfile::tempdir().unwrap();
        let (from, to, other) =
            (world.path().join("from"), world.path().join("to"), world.path().join("other"));
        files::create_dir_all(from.join("sub")).unwrap();
        files::write(from.join("sub/file"), "from").unwrap();
        files::create_dir(&to).unwrap();
        files::create_dir(&other).unwrap();
        symlink(&other, to.join("sub")).unwrap();
        assert!(Copier::new(&|_| (), &LeftOut::default()).folder(&folder(&from), &folder(&to)).is_err());
        assert_eq!(files::read_dir(&other).unwrap().count(), 0);
        // A link in the place of a file is replaced, not written through.
        files::write(other.join("victim"), "safe").unwrap();
        files::remove_file(to.join("sub")).unwrap();
        files::create_dir(to.join("sub")).unwrap();
        symlink(other.join("victim"), to.join("sub/file")).unwrap();
        Copier::new(&|_| (), &LeftOut::default()).folder(&folder(&from), &folder(&to)).unwrap();
        assert_eq!(files::read_to_string(other.join("victim")).unwrap(), "safe");
        assert_eq!(files::read_to_string(to.join("sub/file")).unwrap(), "from");
    }
}
