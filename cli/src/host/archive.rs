//! `volume export` and `volume import`: a volume as a tar archive compressed with Zstandard.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, BufReader, IsTerminal, Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Dir, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{
    Error,
    attachments::Holder,
    error::{Context, full_disk, is_full_disk},
    fail,
    names::Name,
    tree_copy::meta,
    volumes::{NewVolume, Volumes},
};

/// How each Zstandard stream begins.
const ZSTANDARD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

impl Volumes {
    /// Writes a volume to standard output.
    pub(super) fn export(&self, full: &str) -> Result<(), Error> {
        let out = io::stdout().lock();
        if out.is_terminal() {
            return Err(Error::InvalidArgument(format!(
                "An archive is nothing for a terminal: write it to a file, as tierce --host volume export {full} > {full}.tar.zst"
            )));
        }
        let volume = self.mount_named(full)?;
        let folder = self.open_data(&volume)?;
        let doing = || format!("export volume '{full}'");
        // Level 3 is the library's own default.
        let encoder = zstd::Encoder::new(out, 3).doing(doing)?;
        let mut writer = Writer { tar: tar::Builder::new(encoder), links: HashMap::new() };
        writer.tar.follow_symlinks(false);
        writer.folder(&folder, Path::new("")).doing(doing)?;
        writer.tar.into_inner().and_then(zstd::Encoder::finish).and_then(|mut out| out.flush()).doing(doing)
    }

    /// Makes a volume from an archive: tar, plain or compressed with Zstandard. A volume that could not be filled is not left behind.
    ///
    /// Its record says who fills it, until it is whole: after a crash the next import of that name, or `system prune`, removes what is there.
    pub(super) fn import(&self, name: &Name, new: &NewVolume, from: impl Read) -> Result<(), Error> {
        let full = name.full();
        let exists = || Error::Exists { what: format!("Volume '{full}'") };
        if let Some(existing) = self.find(&full)?
            && !existing.is_half_made()?
        {
            return Err(exists());
        }
        let doing = || format!("import volume '{full}'");
        let mut from = BufReader::new(from);
        let compressed = io::BufRead::fill_buf(&mut from).doing(doing)?.starts_with(&ZSTANDARD);
        let us = Holder::process(std::process::id())?;
        self.create(name, &NewVolume { filling: Some(us.clone()), ..new.clone() })?;
        // Of two imports at once the other may have made it.
        if self.get(&full)?.record.and_then(|record| record.filling).as_ref() != Some(&us) {
            return Err(exists());
        }
        fail::point("import: made");
        let path = self.root.data_path(name);
        let filled = if compressed {
            match zstd::Decoder::with_buffer(from) {
                Ok(decoder) => unpack(decoder, &path),
                Err(error) => Err((error, 0)),
            }
        } else {
            unpack(from, &path)
        };
        if let Err((error, missing)) = filled {
            self.remove(&full, true)?;
            return Err(full_disk(error, missing, doing()));
        }
        let folder = self.open_data(&self.get(&full)?)?;
        fs::syncfs(&folder).doing(doing)?;
        fail::point("import: filled");
        self.is_whole(&full)
    }
}

/// Unpacks an archive. An error comes with the bytes that were still to come.
fn unpack(from: impl Read, to: &Path) -> Result<(), (io::Error, u64)> {
    let fine = |error| (error, 0);
    let mut archive = tar::Archive::new(from);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    let (mut entries, mut short) = (0_u64, None::<(io::Error, u64)>);
    for entry in archive.entries().map_err(fine)? {
        let mut entry = entry.map_err(fine)?;
        entries += 1;
        match &mut short {
            // Only an archive read to its end says how much is missing.
            Some((_, missing)) => *missing = missing.saturating_add(entry.size()),
            None => match entry.unpack_in(to) {
                Ok(true) => fail::point("import: file unpacked"),
                // The library leaves it out and says no more.
                Ok(false) => {
                    let name = String::from_utf8_lossy(&entry.path_bytes()).escape_debug().to_string();
                    return Err(fine(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "the archive's entry '{name}' leads out of the volume; pack it anew with tar -C FOLDER ."
                        ),
                    )));
                }
                Err(error) if is_full_disk(&error) => short = Some((error, entry.size())),
                Err(error) => return Err(fine(error)),
            },
        }
    }
    if let Some(short) = short {
        return Err(short);
    }
    if entries == 0 {
        return Err(fine(io::Error::new(
            io::ErrorKind::InvalidData,
            "the archive is empty or no tar archive",
        )));
    }
    Ok(())
}

struct Writer<W: Write> {
    tar: tar::Builder<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Writer<W> {
    fn folder(&mut self, folder: &OwnedFd, path: &Path) -> io::Result<()> {
        let own = File::from(folder.try_clone()?);
        let archived = if path.as_os_str().is_empty() { Path::new("./") } else { path };
        self.attributes(&own)?;
        self.header_only(&own, archived, None)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        // The same volume gives the same archive.
        names.sort();
        names
            .iter()
            .try_for_each(|name| self.entry(folder, name, &path.join(OsStr::from_bytes(name.to_bytes()))))
    }

    fn entry(&mut self, folder: &OwnedFd, name: &CStr, path: &Path) -> io::Result<()> {
        let open = |flags: OFlags| {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            fs::openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
        };
        let handle = match fs::openat(
            folder,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Err(Errno::NOENT) => return Ok(()),
            other => File::from(other?),
        };
        let metadata = handle.metadata()?;
        if metadata.is_dir() {
            return match open(OFlags::RDONLY | OFlags::DIRECTORY) {
                Err(Errno::XDEV | Errno::NOENT) => Ok(()),
                other => self.folder(&other?, path),
            };
        }
        if metadata.is_symlink() {
            let target = fs::readlinkat(folder, name, Vec::new())?;
            return self.header_only(&handle, path, Some(Path::new(OsStr::from_bytes(target.to_bytes()))));
        }
        let stat = fs::fstat(&handle)?;
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let mut header = tar::Header::new_gnu();
                header.set_metadata(&metadata);
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                return self.tar.append_link(&mut header, path, first);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        if !metadata.is_file() {
            return self.header_only(&handle, path, None);
        }
        let mut file = File::from(open(OFlags::RDONLY)?);
        self.attributes(&file)?;
        self.tar.append_file(path, &mut file)
    }

    fn header_only(&mut self, file: &File, path: &Path, target: Option<&Path>) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&file.metadata()?);
        header.set_size(0);
        match target {
            Some(target) => self.tar.append_link(&mut header, path, target),
            None => self.tar.append_data(&mut header, path, io::empty()),
        }
    }

    fn attributes(&mut self, file: &File) -> io::Result<()> {
        let mut found = Vec::new();
        for name in meta::names(file)? {
            let key = format!("SCHILY.xattr.{}", name.to_string_lossy());
            found.push((key, meta::value(file, &name)?));
        }
        if found.is_empty() {
            return Ok(());
        }
        self.tar.append_pax_extensions(found.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }
}
