//! Putting what an archive holds into a volume. Nothing outside of it is reached: every step of a path is taken by itself, and links are not
//! followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::File,
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    super::{
        error::is_full_disk,
        fail,
        left_out::{Kind as Left, LeftOut},
        metadata::Metadata,
        tree_descent::shown,
    },
    folders,
    reader::{Entry, Kind, Reader},
    refusal::{bad, of_entry},
    sparse::Layout,
    stripping::{Stripping, Tops},
    unsaid::{LONGEST_UNSAID, Unsaid},
};

/// Unpacks an archive into a folder, and returns what is to be told of it. An error comes with the bytes that were still to come.
pub(super) fn unpack(
    from: &mut dyn Read,
    to: &OwnedFd,
    stripping: Stripping,
    left_out: &LeftOut,
) -> Result<Vec<String>, (io::Error, u64)> {
    let fine = |error| (error, 0);
    let mut reader = Reader::new(from);
    let mut volume = Volume {
        top: to,
        stripping,
        left_out,
        tops: Tops::default(),
        is_empty: true,
        folders: BTreeMap::new(),
        unsaid: Unsaid::default(),
        later: BTreeMap::new(),
        missing: BTreeSet::new(),
        last: None,
    };
    let mut short = None::<(io::Error, u64)>;
    let mut is_empty = true;
    while let Some(entry) = reader.next().map_err(fine)? {
        is_empty = false;
        let stored = match &entry.kind {
            Kind::File(layout) => layout.stored(),
            _ => 0,
        };
        match &mut short {
            // Only an archive read to its end says how much is missing.
            Some((_, missing)) => *missing = missing.saturating_add(stored),
            None => match volume.place(entry, &mut reader) {
                Ok(()) => fail::point("import: file unpacked"),
                Err(error) if is_full_disk(&error) => short = Some((error, stored)),
                Err(error) => return Err(fine(error)),
            },
        }
    }
    if let Some(short) = short {
        return Err(short);
    }
    let told = match (is_empty, volume.is_empty) {
        (true, _) => Some("the archive holds no file".to_owned()),
        (false, true) => Some(format!("--strip-components {} leaves nothing of the archive", stripping.0)),
        (false, false) => volume.tops.in_words(),
    };
    let unsaid = volume.finish().map_err(fine)?;
    Ok(told.into_iter().chain(unsaid.in_words()).collect())
}

struct Volume<'a> {
    top: &'a OwnedFd,
    stripping: Stripping,
    left_out: &'a LeftOut,
    tops: Tops,
    /// Nothing of the archive came in yet.
    is_empty: bool,
    /// What folders get last.
    folders: BTreeMap<Vec<u8>, Metadata>,
    unsaid: Unsaid,
    /// Further names of files that did not come yet.
    later: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What could not be made, so that its further names can't be either.
    missing: BTreeSet<Vec<u8>>,
    /// The folder of the last entry: the next one mostly lies beside it.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Volume<'_> {
    fn place(&mut self, entry: Entry, reader: &mut Reader<'_>) -> io::Result<()> {
        let shown = entry.path.clone();
        self.put(entry, reader).map_err(|error| of_entry(&shown, &error))
    }

    fn put(&mut self, entry: Entry, reader: &mut Reader<'_>) -> io::Result<()> {
        let is_folder = entry.kind == Kind::Folder;
        let Some(path) = self.stripping.of(&entry.path, is_folder)? else {
            if !is_folder {
                self.left_out.note(Left::Stripped, &entry.path);
            }
            return Ok(());
        };
        self.tops.note(&entry.path, &path, is_folder, self.stripping);
        self.is_empty = false;
        // What comes later under the same name counts.
        self.later.remove(&path);
        self.missing.remove(&path);
        match entry.kind {
            Kind::Folder => self.folder(path, entry.metadata),
            _ if path.is_empty() => Err(bad("stands for the volume itself, and is no folder")),
            Kind::HardLink(target) => {
                let target = self.stripping.of_target(&target)?;
                if !self.link(&path, &target)? {
                    self.clear(&path)?;
                    self.later.insert(path, target);
                }
                Ok(())
            }
            kind => {
                self.clear(&path)?;
                let (parent, name) = self.parent(&path, true)?.ok_or(Errno::NOENT)?;
                match kind {
                    Kind::File(layout) => {
                        let file = file(&parent, name, &layout, reader)?;
                        return entry.metadata.give(&file, self.left_out, &path);
                    }
                    Kind::Symlink(target) if target.is_empty() => return Err(bad("is a link to nothing")),
                    Kind::Symlink(target) => fs::symlinkat(OsStr::from_bytes(&target), &parent, name)?,
                    kind => match node(&parent, name, &kind) {
                        Err(Errno::PERM) => {
                            self.left_out.note(Left::Device, &path);
                            self.missing.insert(path);
                            return Ok(());
                        }
                        made => made?,
                    },
                }
                entry.metadata.give(open(&parent, name, OFlags::PATH)?, self.left_out, &path)
            }
        }
    }

    fn folder(&mut self, path: Vec<u8>, metadata: Metadata) -> io::Result<()> {
        if !path.is_empty() {
            let (parent, name) = self.parent(&path, true)?.ok_or(Errno::NOENT)?;
            match fs::mkdirat(&parent, name, Mode::RWXU) {
                Err(Errno::EXIST) => {
                    let there = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if !FileType::from_raw_mode(there.st_mode).is_dir() {
                        fs::unlinkat(&parent, name, AtFlags::empty())?;
                        fs::mkdirat(&parent, name, Mode::RWXU)?;
                    }
                }
                made => made?,
            }
        }
        self.unsaid.remove(&path);
        self.folders.insert(path, metadata);
        Ok(())
    }

    /// Gives a file a further name; `false`: the file is not there yet.
    fn link(&mut self, path: &[u8], target: &[u8]) -> io::Result<bool> {
        if self.missing.contains(target) {
            self.left_out.note(Left::Device, path);
            self.missing.insert(path.to_vec());
            return Ok(true);
        }
        let Some((from, old)) = self.parent(target, false)? else { return Ok(false) };
        let old = old.to_owned();
        let there = match fs::statat(&from, &*old, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
        let (parent, name) = self.parent(path, true)?.ok_or(Errno::NOENT)?;
        let is_same = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|own| (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino));
        if !is_same {
            self.clear(path)?;
            let (parent, name) = self.parent(path, true)?.ok_or(Errno::NOENT)?;
            fs::linkat(&from, &*old, &parent, name, AtFlags::empty())?;
        }
        Ok(true)
    }

    /// Takes away what an earlier entry put there.
    fn clear(&mut self, path: &[u8]) -> io::Result<()> {
        let Some((parent, name)) = self.parent(path, false)? else { return Ok(()) };
        match fs::unlinkat(&parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => match fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY) => {
                    return Err(bad("is no folder, and an earlier entry of that name is one with content"));
                }
                removed => removed?,
            },
            Err(Errno::NOENT) => {}
            removed => removed?,
        }
        self.folders.remove(path);
        self.unsaid.remove(path);
        // It may have been that one.
        self.last = None;
        Ok(())
    }

    /// The folder that a path lies in, and the name in it. `make`: folders that are missing are made; else `None` where one is missing.
    fn parent<'p>(&mut self, path: &'p [u8], make: bool) -> io::Result<Option<(OwnedFd, &'p OsStr)>> {
        let cut = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = cut.map_or((&[][..], path), |cut| (&path[..cut], &path[cut + 1..]));
        let name = OsStr::from_bytes(name);
        if let Some((last, folder)) = &self.last
            && last == above
        {
            return Ok(Some((folder.try_clone()?, name)));
        }
        // Archives go down a tree step by step.
        let from = match &self.last {
            Some((last, folder))
                if above.strip_prefix(&**last).is_some_and(|rest| rest.first() == Some(&b'/')) =>
            {
                (folder.try_clone()?, last.len() + 1)
            }
            _ => (self.top.try_clone()?, 0),
        };
        let Some(folder) = self.walk(from, above, make)? else { return Ok(None) };
        self.last = Some((above.to_vec(), folder.try_clone()?));
        Ok(Some((folder, name)))
    }

    /// Goes on along a path from a folder on it, which is reached by so many bytes of it.
    fn walk(
        &mut self,
        (mut folder, mut done): (OwnedFd, usize),
        path: &[u8],
        make: bool,
    ) -> io::Result<Option<OwnedFd>> {
        for step in path[done..].split(|byte| *byte == b'/').filter(|step| !step.is_empty()) {
            done += step.len() + 1;
            let name = OsStr::from_bytes(step);
            let opened = open(&folder, name, OFlags::PATH | OFlags::DIRECTORY);
            folder = match opened {
                Err(Errno::NOENT) if make && path.len() > LONGEST_UNSAID => {
                    return Err(bad(
                        "has a path of more than 4095 bytes, with folders that the archive has no entries of",
                    ));
                }
                Err(Errno::NOENT) if make => {
                    fs::mkdirat(&folder, name, Mode::RWXU)?;
                    let (new, path) =
                        (open(&folder, name, OFlags::PATH | OFlags::DIRECTORY)?, &path[..done - 1]);
                    Metadata::of_new_folder().give(&new, self.left_out, path)?;
                    self.unsaid.add(path);
                    new
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let place = shown(&path[..done - 1]);
                    return Err(bad(&format!("leads through '{place}', which is a link or a file")));
                }
                other => other?,
            };
        }
        Ok(Some(folder))
    }

    /// Further names of what came after them, then what folders have beside their content. Returns those that the archive said nothing of.
    fn finish(mut self) -> io::Result<Unsaid> {
        loop {
            let waiting = std::mem::take(&mut self.later);
            let before = waiting.len();
            for (path, target) in waiting {
                if !self.link(&path, &target).map_err(|error| of_entry(&path, &error))? {
                    self.later.insert(path, target);
                }
            }
            if self.later.len() == before {
                break;
            }
        }
        if let Some((path, target)) = self.later.first_key_value() {
            let target = shown(target);
            return Err(of_entry(
                path,
                &bad(&format!("is a hard link to '{target}', which is not in the archive")),
            ));
        }
        folders::finish(self.top, self.folders, self.left_out)?;
        Ok(self.unsaid)
    }
}

fn open(folder: &OwnedFd, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    fs::openat(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn file(parent: &OwnedFd, name: &OsStr, layout: &Layout, reader: &mut Reader<'_>) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
    reader.content(layout, |at, bytes| file.write_all_at(bytes, at))?;
    // What is not written is a hole.
    file.set_len(layout.size)?;
    Ok(file)
}

fn node(parent: &OwnedFd, name: &OsStr, kind: &Kind) -> rustix::io::Result<()> {
    let (file_type, device) = match kind {
        Kind::CharacterDevice(major, minor) => (FileType::CharacterDevice, fs::makedev(*major, *minor)),
        Kind::BlockDevice(major, minor) => (FileType::BlockDevice, fs::makedev(*major, *minor)),
        _ => (FileType::Fifo, 0),
    };
    fs::mknodat(parent, name, file_type, Mode::RUSR | Mode::WUSR, device)
}
