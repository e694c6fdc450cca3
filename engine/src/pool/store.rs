//! The folder of a pool: one folder per volume with its record (and image) in it.
//!
//! ```text
//! pool.json                     the pool's own id
//! volumes/<id>/record.json      one volume
//! volumes/<id>/data.img
//! new/<id>.<n>/                 a volume being made; renamed into volumes/ when it is whole (or exchanged with the one that is there)
//! trash/<id>.<n>/               a deleted volume whose blocks are still being freed
//! ```
//! A volume appears and disappears by one rename, so a crash leaves either all of it or none; what lies in `new` and `trash` was never
//! promised to anybody, or no longer is. Everything is reached through descriptors beneath the pool's root.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Access, AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Error, PoolError, PoolErrorKind, VolumeId,
    error::Context,
    lasting::lasting,
    pool::{
        ledger::ImageSize,
        record::{self, Record},
    },
};

/// Name of the record's file.
pub(crate) const RECORD: &str = "record.json";
/// Name of the image's file.
pub(crate) const IMAGE: &str = "data.img";
const MARK: &str = "pool.json";
const FOLDER_MODE: Mode = Mode::RWXU;

#[derive(Serialize, Deserialize)]
struct Mark {
    version: u32,
    id: Uuid,
}

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
}

/// A volume that can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) file: PathBuf,
    pub(crate) reason: String,
}

impl Broken {
    pub(crate) fn into_error(self, id: &VolumeId) -> Error {
        let reason = format!("{}: {}", self.file.display(), self.reason);
        Error::BrokenRecord { id: id.clone(), reason }
    }
}

impl Store {
    /// Opens the folder, and makes what is missing below it (and itself, where `create_path` allows). `known`: the id it must have, if it
    /// was seen before; what has another id or none is left untouched, since then a disk is missing that belongs there.
    pub(crate) fn open(
        pool: &str,
        path: &Path,
        create_path: bool,
        known: Option<Uuid>,
        durable: bool,
    ) -> Result<Self, PoolError> {
        let bad = |kind: PoolErrorKind, reason: String, errno: Option<Errno>| PoolError {
            pool: pool.to_owned(),
            path: path.to_owned(),
            kind,
            reason,
            errno: errno.map(Errno::raw_os_error),
        };
        let failed = |what: &str, error: io::Error| PoolError::of_system(pool, path, what, &error);
        if !path.is_absolute() {
            return Err(bad(PoolErrorKind::InvalidSettings, "the path is not absolute".to_owned(), None));
        }
        if create_path && known.is_none() {
            std::fs::create_dir_all(path).map_err(|error| failed("can't make the directory", error))?;
        }
        let root = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed("can't open the directory", error.into()))?;
        if let Some(known) = known {
            let found = read_mark(&root).map_err(|error| failed("can't read pool.json", error))?;
            if found != Some(known) {
                let reason = format!(
                    "pool {known} was here, now it is not: is a disk not mounted? (Give an empty one another pool name)"
                );
                return Err(bad(PoolErrorKind::OtherDisk, reason, Some(Errno::STALE)));
            }
        }
        let folder = |name: &str| -> io::Result<OwnedFd> {
            match fs::mkdirat(&root, name, FOLDER_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(open_beneath(&root, name, OFlags::RDONLY | OFlags::DIRECTORY)?)
        };
        let not_writable = |error| failed("the directory is not writable", error);
        let volumes = folder("volumes").map_err(not_writable)?;
        let new = folder("new").map_err(not_writable)?;
        let trash = folder("trash").map_err(not_writable)?;
        let mut store = Self {
            pool: pool.to_owned(),
            path: path.to_owned(),
            root,
            volumes,
            new,
            trash,
            id: Uuid::nil(),
            durable,
        };
        store.id = store.mark().map_err(|error| failed("can't read or write pool.json", error))?;
        store.check()?;
        Ok(store)
    }

    fn mark(&self) -> io::Result<Uuid> {
        if let Some(id) = read_mark(&self.root)? {
            return Ok(id);
        }
        let mark = Mark { version: 1, id: Uuid::new_v4() };
        self.write_file(&self.root, MARK, &serde_json::to_vec_pretty(&mark)?)?;
        Ok(mark.id)
    }

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

    /// Reads a volume's record: `None` where there is no such volume.
    pub(crate) fn load(&self, id: &VolumeId) -> Result<Option<Result<Record, Broken>>, Error> {
        let Some(folder) = self.folder(id)? else { return Ok(None) };
        let file = self.path_of(id, RECORD);
        let broken = |reason: String| Some(Err(Broken { file: file.clone(), reason }));
        Ok(match read_file(&folder, RECORD) {
            Ok(Some(bytes)) => match record::decode(id, &bytes) {
                Ok(record) => Some(Ok(record)),
                Err(reason) => broken(reason),
            },
            Ok(None) => broken("the record is missing".to_owned()),
            Err(error) => broken(format!("the record can't be read: {error}")),
        })
    }

    /// Replaces a volume's record.
    pub(crate) fn save(&self, record: &Record) -> Result<(), Error> {
        let folder = self.folder(&record.id)?.ok_or_else(|| Error::NotFound { id: record.id.clone() })?;
        self.write_file(&folder, RECORD, &record::encode(record))
            .doing(|| format!("write {}", self.path_of(&record.id, RECORD).display()))
    }

    /// Adds a volume: its folder is made aside with its record, `fill` adds the rest, and one rename makes it appear.
    pub(crate) fn insert(
        &self,
        record: &Record,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let name = unique(&record.id);
        let doing = || format!("make {}", self.path_of(&record.id, "").display());
        lasting("make a folder in new", || fs::mkdirat(&self.new, &name, FOLDER_MODE)).doing(doing)?;
        let made = self.fill_folder(&name, record, fill).and_then(|()| {
            lasting("let a volume appear", || {
                fs::renameat_with(&self.new, &name, &self.volumes, record.id.as_str(), RenameFlags::NOREPLACE)
            })
            .doing(doing)?;
            self.sync(&self.volumes).doing(doing)
        });
        if made.is_err() {
            // Whatever of it can't be removed now is removed by the next sweep.
            let _ = remove_folder(&self.new, &name);
        }
        made
    }

    /// Replaces a volume's record and all the rest by one rename; the old goes to the trash. A crash leaves the old or the new.
    pub(crate) fn exchange(
        &self,
        record: &Record,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let name = unique(&record.id);
        let doing = || format!("replace {}", self.path_of(&record.id, "").display());
        lasting("make a folder in new", || fs::mkdirat(&self.new, &name, FOLDER_MODE)).doing(doing)?;
        let exchanged = self.fill_folder(&name, record, fill).and_then(|()| {
            let flags = RenameFlags::EXCHANGE;
            lasting("exchange a volume", || {
                fs::renameat_with(&self.new, &name, &self.volumes, record.id.as_str(), flags)
            })
            .doing(doing)
        });
        if exchanged.is_err() {
            let _ = remove_folder(&self.new, &name);
            return exchanged;
        }
        self.sync(&self.volumes).doing(doing)?;
        self.sync(&self.new).doing(doing)?;
        // A crash before this leaves the old one in `new`, where the next sweep finds it too.
        lasting("throw the old volume away", || {
            fs::renameat_with(&self.new, &name, &self.trash, &name, RenameFlags::NOREPLACE)
        })
        .doing(doing)
    }

    fn fill_folder(
        &self,
        name: &str,
        record: &Record,
        fill: impl FnOnce(&OwnedFd) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let doing = || format!("make {}", self.path.join("new").join(name).display());
        let folder = open_beneath(&self.new, name, OFlags::RDONLY | OFlags::DIRECTORY).doing(doing)?;
        fill(&folder)?;
        self.write_file(&folder, RECORD, &record::encode(record)).doing(doing)
    }

    /// Takes a volume away: it is gone when this returns, its blocks are freed by the next [`Self::sweep`]. `false`: there was none.
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
        fs::statat(&self.volumes, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| sizes(&stat))
    }

    /// Bytes that deleted volumes still take.
    pub(crate) fn trash_bytes(&self) -> u64 {
        let of =
            |name: &String| fs::statat(&self.trash, Path::new(name).join(IMAGE), AtFlags::SYMLINK_NOFOLLOW);
        names(&self.trash)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| of(name).ok())
            .map(|stat| sizes(&stat).allocated)
            .sum()
    }

    /// Frees what deleted volumes still take. Returns how many are gone, and what could not be removed.
    pub(crate) fn sweep_trash(&self) -> (usize, Vec<String>) {
        self.sweep(&self.trash, "trash")
    }

    /// Removes what interrupted creations left. Only when none is running.
    pub(crate) fn sweep_new(&self) -> (usize, Vec<String>) {
        self.sweep(&self.new, "new")
    }

    fn sweep(&self, folder: &OwnedFd, called: &str) -> (usize, Vec<String>) {
        let (mut removed, mut problems) = (0, Vec::new());
        let problem = |name: &str, error: io::Error| {
            format!("remove {}: {error}", self.path.join(called).join(name).display())
        };
        match names(folder) {
            Err(error) => problems.push(problem("", error)),
            Ok(names) => {
                for name in names {
                    match remove_folder(folder, &name) {
                        Ok(()) => removed += 1,
                        Err(error) => problems.push(problem(&name, error)),
                    }
                }
            }
        }
        (removed, problems)
    }

    fn sync(&self, fd: &OwnedFd) -> io::Result<()> {
        if self.durable { Ok(fs::fsync(fd)?) } else { Ok(()) }
    }

    /// Replaces a file so that a crash leaves the old or the new one, whole.
    fn write_file(&self, folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        lasting("write a file aside", || {
            let fd = fs::openat(folder, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(fd);
            file.write_all(bytes)?;
            if self.durable { file.sync_all() } else { Ok(()) }
        })?;
        lasting("replace a file", || fs::renameat(folder, temporary.as_str(), folder, name))?;
        self.sync(folder)
    }
}

fn sizes(stat: &fs::Stat) -> ImageSize {
    let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
    ImageSize { allocated: bytes(stat.st_blocks).saturating_mul(512), length: bytes(stat.st_size) }
}

fn unique(id: &VolumeId) -> String {
    format!("{id}.{}", Uuid::new_v4().simple())
}

/// Opens one name below a folder: no symbolic links, no other filesystem.
pub(crate) fn open_beneath(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    fs::openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn read_mark(root: &OwnedFd) -> io::Result<Option<Uuid>> {
    let Some(bytes) = read_file(root, MARK)? else { return Ok(None) };
    let mark: Mark = serde_json::from_slice(&bytes)?;
    Ok(Some(mark.id))
}

fn read_file(folder: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    /// No record is larger; a file that is, is not one.
    const LIMIT: u64 = 1 << 20;
    let fd = match open_beneath(folder, name, OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    File::from(fd).take(LIMIT).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a volume's folder of `new` or `trash`: the files in it, then itself. It has no folders below it; one that does is not ours, and
/// stays.
fn remove_folder(within: &OwnedFd, name: &str) -> io::Result<()> {
    let folder = match open_beneath(within, name, OFlags::RDONLY | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    // Emptied before its name goes, so that what is still to be freed can be seen meanwhile.
    if let Ok(image) = open_beneath(&folder, IMAGE, OFlags::WRONLY) {
        let _ = lasting("empty a thrown image", || fs::ftruncate(&image, 0));
    }
    for file in names(&folder)? {
        match lasting("unlink a file", || fs::unlinkat(&folder, file.as_str(), AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match lasting("remove a folder", || fs::unlinkat(within, name, AtFlags::REMOVEDIR)) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{VolumeMode, pool::record::Format};

    fn record(id: &str) -> Record {
        Record {
            id: id.parse().unwrap(),
            size_bytes: 4096,
            mode: VolumeMode::Block,
            sector_bytes: 512,
            format: Format::Never,
            used: false,
            staged_at: None,
            label: String::new(),
            owner: None,
            mount_options: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            role: None,
            origin: None,
            restore: None,
            encryption: None,
            asked_bytes: None,
        }
    }

    fn open(path: &Path, known: Option<Uuid>) -> Result<Store, PoolError> {
        Store::open("p", path, false, known, false)
    }

    #[test]
    fn a_volume_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), None).unwrap();
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
        assert_eq!(store.sweep_trash(), (1, Vec::new()));
        assert_eq!(store.sweep_trash(), (0, Vec::new()));
    }

    #[test]
    fn a_folder_that_is_a_link_is_never_entered() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let store = open(folder.path(), None).unwrap();
        std::fs::write(elsewhere.path().join(RECORD), record::encode(&record("link"))).unwrap();
        for within in ["volumes", "trash", "new"] {
            std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(within).join("link")).unwrap();
        }
        assert!(store.load(&"link".parse().unwrap()).is_err());
        assert!(store.save(&record("link")).is_err());
        let (swept, problems) = store.sweep_trash();
        assert_eq!((swept, problems.len()), (0, 1), "what is not a folder is left and told");
        assert!(elsewhere.path().join(RECORD).exists());
    }

    #[test]
    fn a_pool_keeps_its_id_and_another_one_is_refused_untouched() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = open(folder.path(), None).unwrap().id;
        assert_eq!(open(folder.path(), None).unwrap().id, id);
        assert_eq!(open(folder.path(), Some(id)).unwrap().id, id);
        let error = open(other.path(), Some(id)).unwrap_err();
        assert!(error.to_string().contains("is a disk not mounted?"), "{error}");
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
        std::fs::write(folder.path().join(MARK), "{").unwrap();
        assert!(open(folder.path(), None).unwrap_err().reason.contains("pool.json"));
        assert!(open(Path::new("relative"), None).unwrap_err().reason.contains("not absolute"));
    }
}
