//! Volumes in the folder of a pool: each appears, changes and disappears by one rename.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, AtFlags, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    Broken, FOLDER_MODE, IMAGE, RECORD, Store,
    aside::{remove_folder, say_it_is_made, unique},
    beneath::{names, open_beneath, read_file},
};
use crate::{
    Error, VolumeId,
    error::Context,
    lasting::lasting,
    pool::{ledger::ImageSize, record::Record, stored},
};

impl Store {
    /// Reads a volume's record; `None` if there is no such volume.
    pub(crate) fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        let Some(folder) = self.folder(id)? else { return Ok(None) };
        let file = self.path_of(id, RECORD);
        let broken = |reason: String| Some(Err(Broken::damaged(file.clone(), reason)));
        Ok(match read_file(&folder, RECORD) {
            Ok(Some(bytes)) => {
                Some(stored::decode(id, &bytes).map_err(|why| Broken { file: file.clone(), why }))
            }
            Ok(None) => broken("the record is missing".to_owned()),
            Err(error) => broken(format!("the record can't be read: {error}")),
        })
    }

    /// Replaces a volume's record.
    pub(crate) fn save(&self, record: &Record) -> Result<(), Error> {
        let folder = self.folder(&record.id)?.ok_or_else(|| Error::NotFound { id: record.id.clone() })?;
        self.write_file(&folder, RECORD, &stored::encode(record))
            .doing(|| format!("write {}", self.path_of(&record.id, RECORD).display()))
    }

    /// Adds a volume: its folder is made aside, `fill` puts the content into it, the record follows, and one
    /// rename makes the volume appear. A crash before the rename leaves a folder in `new`, which the recovery
    /// removes.
    pub(crate) fn insert(
        &self,
        record: &Record,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let doing = || format!("make {}", self.path_of(&record.id, "").display());
        self.make_aside(record, doing, fill, |name| {
            lasting("let a volume appear", || {
                fs::renameat_with(&self.new, name, &self.volumes, record.id.as_str(), RenameFlags::NOREPLACE)
            })
            .doing(doing)?;
            self.sync(&self.volumes).doing(doing)
        })
        .map(drop)
    }

    /// Replaces a volume's record and all the rest by one rename; the old goes to the trash. A crash leaves
    /// the old or the new.
    pub(crate) fn exchange(
        &self,
        record: &Record,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let doing = || format!("replace {}", self.path_of(&record.id, "").display());
        let name = self.make_aside(record, doing, fill, |name| {
            let flags = RenameFlags::EXCHANGE;
            lasting("exchange a volume", || {
                fs::renameat_with(&self.new, name, &self.volumes, record.id.as_str(), flags)
            })
            .doing(doing)
        })?;
        self.sync(&self.volumes).doing(doing)?;
        self.sync(&self.new).doing(doing)?;
        // A crash before this leaves the old one in `new`, where the next sweep finds it too.
        lasting("throw the old volume away", || {
            fs::renameat_with(&self.new, &name, &self.trash, &name, RenameFlags::NOREPLACE)
        })
        .doing(doing)
    }

    /// Makes a volume's folder in `new`, fills it, and lets `place` give it its place by its name there,
    /// which is returned. What fails is removed; what can't be removed now the next sweep removes.
    fn make_aside(
        &self,
        record: &Record,
        doing: impl FnOnce() -> String,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Error>,
        place: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<String, Error> {
        let name = unique(&record.id);
        lasting("make a folder in new", || fs::mkdirat(&self.new, &name, FOLDER_MODE)).doing(doing)?;
        let filled = self.fill_folder(&name, record, fill);
        // Closed only when it has its place.
        let placed = filled.and_then(|_folder| place(&name));
        if placed.is_err() {
            let _ = remove_folder(&self.new, &name);
        }
        placed.map(|()| name)
    }

    fn fill_folder(
        &self,
        name: &str,
        record: &Record,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Error>,
    ) -> Result<OwnedFd, Error> {
        let doing = || format!("make {}", self.path.join("new").join(name).display());
        let folder = open_beneath(&self.new, name, OFlags::RDONLY | OFlags::DIRECTORY).doing(doing)?;
        say_it_is_made(&folder);
        fill(&folder)?;
        self.write_file(&folder, RECORD, &stored::encode(record)).doing(doing)?;
        Ok(folder)
    }

    /// Deletes a volume: it is gone when this returns, and the next [`Self::sweep_trash`] frees its blocks.
    /// Returns `false` if there was none.
    pub(crate) fn remove(&self, id: &VolumeId) -> Result<bool, Error> {
        let doing = || format!("delete {}", self.path_of(id, "").display());
        let thrown = lasting("throw a volume away", || {
            fs::renameat_with(&self.volumes, id.as_str(), &self.trash, unique(id), RenameFlags::NOREPLACE)
        });
        match thrown {
            Err(Errno::NOENT) => return Ok(false),
            other => other.doing(doing)?,
        }
        self.sync(&self.volumes).doing(doing)?;
        self.sync(&self.trash).doing(doing)?;
        Ok(true)
    }

    /// The ids of all volumes, and the names in the folder that are no ids.
    pub(crate) fn ids(&self) -> io::Result<(Vec<VolumeId>, Vec<String>)> {
        let (mut ids, mut others) = (Vec::new(), Vec::new());
        for name in names(&self.volumes)? {
            match name.parse() {
                Ok(id) => ids.push(id),
                Err(_) => others.push(name),
            }
        }
        ids.sort();
        Ok((ids, others))
    }

    /// The size of a volume's image; `None` where it is missing.
    pub(crate) fn image_size(&self, id: &VolumeId) -> Option<ImageSize> {
        let path = Path::new(id.as_str()).join(IMAGE);
        fs::statat(&self.volumes, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| ImageSize::of(&stat))
    }
}
