//! Copying trees of files: owners, modes, times, extended attributes, hard links, holes and special files are kept; blocks are shared where
//! the filesystem can. Through descriptors, following no link, staying on the source's filesystem.

mod file;
mod first_names;

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::OwnedFd,
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    fail,
    left_out::{Kind, LeftOut},
    metadata::{Metadata, handle},
    tree_descent::{Descent, each_name, identity, open, open_folder},
    unfinished_copies::{Note, hidden_name},
};
use first_names::{FirstNames, Place, TOP};

pub(super) struct Copier<'a> {
    /// Told the bytes of each file that is done.
    progress: &'a dyn Fn(u64),
    left_out: &'a LeftOut,
    /// What each thing is called until it is whole.
    hidden: CString,
    /// Says where such a thing is.
    note: Option<&'a Note>,
}

/// A folder whose content is being copied.
struct Folder {
    name: CString,
    /// Folders in it that were not entered yet.
    waiting: Vec<CString>,
    place: Place,
}

impl<'a> Copier<'a> {
    pub(super) fn new(progress: &'a dyn Fn(u64), left_out: &'a LeftOut) -> Self {
        Self { progress, left_out, hidden: hidden_name(), note: None }
    }

    /// The same to where others have files too: what is left when this process is killed can be told from these.
    pub(super) fn noted(progress: &'a dyn Fn(u64), left_out: &'a LeftOut, note: &'a Note) -> Self {
        Self { progress, left_out, hidden: note.hidden_name(), note: Some(note) }
    }

    /// Copies what is in one folder into another, then the folder's own owner, mode and attributes. What is there with the same size, time
    /// and content is left: a copy that was interrupted goes on.
    pub(super) fn folder(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        self.folder_named(from, to, c".")
    }

    /// The same for a folder that was made for it just now. It has what its source has before anything is in it: a copy that was interrupted
    /// and goes on finds a folder that is there, and leaves that as it is.
    pub(super) fn new_folder(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        // What can't be kept is told at the end.
        Metadata::of(from, &fs::fstat(from)?)?.give(to, &LeftOut::default(), b".")?;
        self.folder(from, to)
    }

    /// Copies what is in one folder into another, which stays as it is itself.
    pub(super) fn content(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        let mode = Mode::from_raw_mode(fs::fstat(to)?.st_mode);
        let copied = self.entries(from, to);
        if Mode::from_raw_mode(fs::fstat(to)?.st_mode) != mode {
            fs::fchmod(to, mode)?;
        }
        copied
    }

    /// Copies one file or folder, whatever it is. What vanishes meanwhile is left out.
    pub(super) fn entry(&self, from: &OwnedFd, name: &CStr, to: &OwnedFd, new: &CStr) -> io::Result<()> {
        let stat = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT);
        if !stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir()) {
            self.works_in(to)?;
            let kind = self.file((from, name), (to, new), (&mut FirstNames::below(to)?, TOP))?;
            if kind == FileType::Directory {
                self.left_out.note(Kind::Mounted, name.to_bytes());
            }
            return Ok(());
        }
        match self.entered(from, name)? {
            Some(below) => self.folder_named(&below, &made(to, new)?, name),
            None => Ok(()),
        }
    }

    fn folder_named(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        self.entries(from, to)?;
        self.finish(from, to, name)
    }

    /// Copies all that is in a folder.
    fn entries(&self, from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
        let target_top = identity(&fs::fstat(to)?);
        let refuse_target = |folder: &OwnedFd| match identity(&fs::fstat(folder)?) {
            // It would have no end.
            copied if copied == target_top => Err(io::Error::other("a folder can't be copied into itself")),
            _ => Ok(()),
        };
        refuse_target(from)?;
        let mut links = FirstNames::below(to)?;
        let waiting = self.files(from, to, (&mut links, TOP))?;
        let mut source = Descent::new(from, Folder { name: c".".to_owned(), waiting, place: TOP })?;
        let mut target = Descent::new(to, ())?;
        loop {
            let (here, folder) = source.here();
            let Some(name) = folder.waiting.pop() else {
                match (source.leave().map_err(moved)?, target.leave().map_err(moved)?) {
                    (Some((from, folder)), Some((to, ()))) => {
                        self.finish(&from, &to, &folder.name)?;
                        links.leave(folder.place);
                    }
                    _ => return Ok(()),
                }
                continue;
            };
            let within = folder.place;
            let Some(below) = self.entered(here, &name)? else { continue };
            refuse_target(&below)?;
            let copy = made(target.here().0, &name)?;
            let place = links.enter(within, name.clone());
            let waiting = self.files(&below, &copy, (&mut links, place))?;
            source.enter(below, Folder { name, waiting, place })?;
            target.enter(copy, ())?;
        }
    }

    /// Opens a folder that is to be copied; `None`: there is nothing to copy.
    fn entered(&self, from: &OwnedFd, name: &CStr) -> io::Result<Option<OwnedFd>> {
        match open_folder(from, name) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            // Another filesystem mounted below is not part of it.
            Err(Errno::XDEV) => {
                self.left_out.note(Kind::Mounted, name.to_bytes());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Copies all but the folders in a folder, and returns these.
    fn files(
        &self,
        from: &OwnedFd,
        to: &OwnedFd,
        (links, place): (&mut FirstNames, Place),
    ) -> io::Result<Vec<CString>> {
        self.works_in(to)?;
        let mode = Mode::from_raw_mode(fs::fstat(to)?.st_mode);
        if !mode.contains(Mode::RWXU) && !rustix::process::geteuid().is_root() {
            // An earlier copy of it is to be gone on with. It gets its mode back at the end.
            fs::fchmod(to, mode | Mode::RWXU)?;
        }
        let mut folders = Vec::new();
        each_name(from, |name| {
            if self.file((from, name), (to, name), (&mut *links, place))? == FileType::Directory {
                folders.push(name.to_owned());
            }
            io::Result::Ok(())
        })?;
        Ok(folders)
    }

    /// Gives a folder what it has beside its content.
    fn finish(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        Metadata::of(from, &fs::fstat(from)?)?.give(to, self.left_out, name.to_bytes())
    }

    /// Copies what is no folder. Returns what it is.
    fn file(
        &self,
        (from, name): (&OwnedFd, &CStr),
        (to, new): (&OwnedFd, &CStr),
        (links, place): (&mut FirstNames, Place),
    ) -> io::Result<FileType> {
        // Whoever writes to the volume may put something else in its place at any time: what is looked at is what is copied, and a pipe or a
        // device is never opened.
        let found = match open(from, name, OFlags::PATH) {
            Err(Errno::NOENT) => return Ok(FileType::Unknown),
            // Something is mounted there: who enters it says so.
            Err(Errno::XDEV) => return Ok(FileType::Directory),
            other => other?,
        };
        let stat = fs::fstat(&found)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return Ok(kind);
        }
        let several = stat.st_nlink > 1;
        let key = identity(&stat);
        if several && let Some(copied) = links.copy_of(key)? {
            let path = handle(&copied);
            self.replace(to, new, |temporary| {
                fs::linkat(CWD, &*path, to, temporary, AtFlags::SYMLINK_FOLLOW)
            })?;
            return Ok(kind);
        }
        let metadata = Metadata::of(&found, &stat)?;
        match kind {
            FileType::RegularFile => {
                let source = fs::open(handle(&found), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                if file::is_copied((&source, &stat), to, new) {
                    // More than its content may have changed since.
                    self.give(&metadata, to, new, name)?;
                } else {
                    file::copy((&source, &stat), to, (&self.hidden, new), &|target| {
                        metadata.give(target, self.left_out, name.to_bytes())
                    })?;
                }
            }
            FileType::Symlink => {
                let target = fs::readlinkat(&found, c"", Vec::new())?;
                self.replace(to, new, |temporary| fs::symlinkat(&*target, to, temporary))?;
                self.give(&metadata, to, new, name)?;
            }
            kind => {
                let made = self.replace(to, new, |temporary| {
                    fs::mknodat(to, temporary, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)
                });
                if made == Err(Errno::PERM)
                    && matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
                {
                    self.left_out.note(Kind::Device, name.to_bytes());
                    return Ok(kind);
                }
                made?;
                self.give(&metadata, to, new, name)?;
            }
        }
        (self.progress)(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if several {
            let copy = identity(&fs::fstat(open(to, new, OFlags::PATH)?)?);
            links.note(key, place, new.to_owned(), copy);
        }
        Ok(kind)
    }

    fn works_in(&self, folder: &OwnedFd) -> io::Result<()> {
        self.note.map_or(Ok(()), |note| note.works_in(folder))
    }

    /// Makes something under the hidden name, then puts it in the place of what is there.
    fn replace(
        &self,
        to: &OwnedFd,
        new: &CStr,
        make: impl Fn(&CStr) -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        make(&self.hidden)?;
        fail::point("copy: entry made");
        let renamed = fs::renameat(to, &*self.hidden, to, new);
        // Renaming one name of a file onto another of the same file does nothing, so the hidden one stays.
        let _ = fs::unlinkat(to, &*self.hidden, AtFlags::empty());
        renamed
    }

    fn give(&self, metadata: &Metadata, to: &OwnedFd, new: &CStr, name: &CStr) -> io::Result<()> {
        metadata.give(open(to, new, OFlags::PATH)?, self.left_out, name.to_bytes())
    }
}

/// The folder that a copy goes into, which is made where it is missing.
fn made(to: &OwnedFd, new: &CStr) -> rustix::io::Result<OwnedFd> {
    match fs::mkdirat(to, new, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    open_folder(to, new)
}

fn moved(error: Errno) -> io::Error {
    match error {
        Errno::STALE => io::Error::other("a folder of it was moved meanwhile"),
        error => error.into(),
    }
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
