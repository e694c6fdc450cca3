//! The folder of a pool: one folder per volume with its record (and image) in it.
//!
//! ```text
//! pool.json                     the pool's own id; written first, only into a directory without anything else
//! look                          written now and then, to see whether the disk answers
//! volumes/<id>/record.json      one volume
//! volumes/<id>/data.img
//! new/<id>.<uuid>/              a volume being made; renamed into volumes/ (or exchanged there) when it is whole
//! trash/<id>.<uuid>/            a deleted volume whose blocks are still being freed
//! ```
//! A volume appears and disappears by one rename, so a crash leaves either all of it or none; what lies in
//! `new` and `trash` was never promised, or no longer is. Everything is reached through descriptors beneath
//! the pool's root.

mod aside;
mod beneath;
mod open;
mod removal;
mod trash;
mod volumes;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Access, AtFlags, Mode, OFlags},
    io::Errno,
};
use uuid::Uuid;

pub(crate) use beneath::open_beneath;
use beneath::write_file;
pub(crate) use open::is_pool;
use removal::Removal;
pub(crate) use removal::free;

use super::stored::Unreadable;
use crate::{Error, PoolError, VolumeId, error::Context};

/// Name of the record's file.
pub(crate) const RECORD: &str = "record.json";
/// Name of the image's file.
pub(crate) const IMAGE: &str = "data.img";
/// Name of the file that is written to see whether the disk answers.
const LOOK: &str = "look";
const FOLDER_MODE: Mode = Mode::RWXU;

/// The folder of a pool.
#[derive(Debug)]
pub(crate) struct Store {
    pool: String,
    path: PathBuf,
    root: OwnedFd,
    volumes: OwnedFd,
    new: OwnedFd,
    trash: OwnedFd,
    /// The pool's own id.
    pub(crate) id: Uuid,
    /// Whether to wait for the disk. A simulation need not.
    durable: bool,
    removal: Removal,
}

/// A volume that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) file: PathBuf,
    pub(crate) why: Unreadable,
}

impl Broken {
    /// A volume that is damaged, or whose image is gone.
    pub(crate) fn damaged(file: PathBuf, reason: impl Into<String>) -> Self {
        Self { file, why: Unreadable::Damaged(reason.into()) }
    }

    pub(crate) fn into_error(self, id: &VolumeId) -> Error {
        let (id, reason) = (id.clone(), format!("{}: {}", self.file.display(), self.why));
        match self.why {
            Unreadable::Damaged(_) => Error::BrokenRecord { id, reason },
            Unreadable::Newer(_) => Error::NewerRecord { id, reason },
        }
    }
}

impl Store {
    /// Whether the folder is still the one we opened and can be written.
    pub(crate) fn check(&self) -> Result<(), PoolError> {
        let bad = |what: &str, error: io::Error| PoolError::of_system(&self.pool, &self.path, what, &error);
        let now = fs::stat(&self.path).map_err(|error| bad("can't look at the directory", error.into()))?;
        let ours = fs::fstat(&self.root).map_err(|error| bad("can't look at the directory", error.into()))?;
        if (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino) {
            let error = io::Error::from(Errno::STALE);
            return Err(bad("another filesystem or directory is there since the pool was opened", error));
        }
        fs::accessat(&self.root, "volumes", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
            .map_err(|error| bad("the directory is not writable", error.into()))
    }

    /// Writes a small file and waits for the disk.
    pub(crate) fn reach_disk(&self) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&self.root, LOOK, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::io::pwrite(&file, b"Tierce writes this to see whether the disk answers.\n", 0)?;
        self.sync(&file)
    }

    /// The pool's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The pool's root.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// A volume's folder.
    pub(crate) fn folder(&self, id: &VolumeId) -> Result<Option<OwnedFd>, Error> {
        match open_beneath(&self.volumes, id.as_str(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).doing(|| format!("open {}", self.path_of(id, "").display())),
        }
    }

    /// The path of a file of a volume, for messages.
    pub(crate) fn path_of(&self, id: &VolumeId, file: &str) -> PathBuf {
        self.path.join("volumes").join(id.as_str()).join(file)
    }

    fn sync(&self, fd: &OwnedFd) -> io::Result<()> {
        if self.durable { Ok(fs::fsync(fd)?) } else { Ok(()) }
    }

    fn write_file(&self, folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_file(folder, name, bytes, self.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::{beneath::names, *};
    use crate::{
        VolumeMode,
        pool::{examples, record::Record, stored},
    };

    fn record(id: &str) -> Record {
        examples::record(id, VolumeMode::Block, 4096)
    }

    fn open(path: &Path) -> Store {
        Store::open("p", path, false, None, false).unwrap()
    }

    #[test]
    fn a_volume_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let one = record("one");
        let error = store.insert(&one, |_| Err(Error::Unsupported("no".to_owned()))).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)));
        assert!(store.load(&one.id).unwrap().is_none());
        assert_eq!(names(&store.new).unwrap(), Vec::<String>::new(), "nothing half-made stays");
        store.insert(&one, |_| Ok(())).unwrap();
        assert_eq!(store.load(&one.id).unwrap().unwrap().unwrap(), one);
        let mut other = one.clone();
        other.size_bytes = 8192;
        assert!(store.insert(&other, |_| Ok(())).is_err(), "an existing volume is never replaced");
        assert_eq!(store.load(&one.id).unwrap().unwrap().unwrap(), one);
        assert!(store.remove(&one.id).unwrap());
        assert!(!store.remove(&one.id).unwrap());
        assert!(store.load(&one.id).unwrap().is_none());
        assert_eq!(store.sweep_trash(&|| true), (1, Vec::new()));
        assert_eq!(store.sweep_trash(&|| true), (0, Vec::new()));
    }

    #[test]
    fn a_folder_that_is_a_link_is_never_entered() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        std::fs::write(elsewhere.path().join(RECORD), stored::encode(&record("link"))).unwrap();
        for within in ["volumes", "trash", "new"] {
            std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(within).join("link")).unwrap();
        }
        assert!(store.load(&"link".parse().unwrap()).is_err());
        assert!(store.save(&record("link")).is_err());
        let (swept, problems) = store.sweep_trash(&|| true);
        assert_eq!((swept, problems.len()), (0, 1), "what is not a folder is left and told");
        assert!(elsewhere.path().join(RECORD).exists());
    }

    #[test]
    fn what_a_pool_did_not_put_aside_is_told_and_never_swept() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.insert(&record("one"), |_| Ok(())).unwrap();
        store.remove(&record("one").id).unwrap();
        let others = ["2024", "one", "one.1", "one.2024-01-01", "ONE.0123456789abcdef0123456789abcdef"];
        for other in others {
            for within in ["trash", "new"] {
                let path = folder.path().join(within).join(other);
                std::fs::create_dir(&path).unwrap();
                std::fs::write(path.join(IMAGE), "precious").unwrap();
            }
        }
        assert_eq!(store.space().unwrap().1, 0, "nothing that will be freed");
        let ((swept, problems), (unfinished, more)) = (store.sweep_trash(&|| true), store.throw_unfinished());
        assert_eq!((swept, problems.len(), unfinished, more.len()), (1, others.len(), 0, others.len()));
        assert!(problems[0].contains("it was not touched"), "{problems:?}");
        for other in others {
            for within in ["trash", "new"] {
                let path = folder.path().join(within).join(other).join(IMAGE);
                assert_eq!(std::fs::read(path).unwrap(), b"precious");
            }
        }
    }

    #[test]
    fn what_a_living_process_makes_is_told_from_what_a_killed_one_left() {
        let folder = tempfile::tempdir().unwrap();
        let (store, other) = (open(folder.path()), open(folder.path()));
        let one = record("one");
        let write = |folder: &OwnedFd| {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            let image = fs::openat(folder, IMAGE, flags, Mode::RUSR | Mode::WUSR).unwrap();
            fs::fallocate(&image, fs::FallocateFlags::empty(), 0, 1 << 20).unwrap();
        };
        // As a killed one leaves it.
        let left = folder.path().join("new/one.0123456789abcdef0123456789abcdef");
        std::fs::create_dir(&left).unwrap();
        write(&std::fs::File::open(&left).unwrap().into());
        assert_eq!(other.bytes_begun(&one.id), 0);
        let begun = |folder: &OwnedFd| {
            write(folder);
            assert!((1 << 20..2 << 20).contains(&other.bytes_begun(&one.id)));
            assert_eq!(other.bytes_begun(&record("on").id), 0);
            Ok(())
        };
        store.insert(&one, begun).unwrap();
        assert_eq!(other.bytes_begun(&one.id), 0);
    }
}
