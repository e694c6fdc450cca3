//! The folder of a pool: one folder per volume with its record (and image) in it.
//!
//! ```text
//! pool.json                     the pool's own id; written first, and only into a directory that has nothing else in it
//! look                          written now and then, to see whether the disk answers
//! volumes/<id>/record.json      one volume
//! volumes/<id>/data.img
//! new/<id>.<uuid>/              a volume being made; renamed into volumes/ when it is whole (or exchanged with the one that is there)
//! trash/<id>.<uuid>/            a deleted volume whose blocks are still being freed
//! ```
//! A volume appears and disappears by one rename, so a crash leaves either all of it or none; what lies in `new` and `trash` was never
//! promised to anybody, or no longer is. Everything is reached through descriptors beneath the pool's root.

mod aside;
mod beneath;
mod trash;
mod volumes;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Access, AtFlags, FlockOperation, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use beneath::open_beneath;
use beneath::{names, read_file, temporary, write_file};

use super::stored::Unreadable;
use crate::{Error, PoolError, PoolErrorKind, VolumeId, error::Context};

/// Name of the record's file.
pub(crate) const RECORD: &str = "record.json";
/// Name of the image's file.
pub(crate) const IMAGE: &str = "data.img";
const MARK: &str = "pool.json";
/// The form of `pool.json` that this code writes. Fields beside its own don't matter to it: the file is never written again.
const MARK_VERSION: u32 = 1;
/// What mkfs.ext4 makes in each new filesystem.
const LOST_AND_FOUND: &str = "lost+found";
/// Name of the file that is written to see whether the disk answers.
const LOOK: &str = "look";
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

/// A volume that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) file: PathBuf,
    pub(crate) why: Unreadable,
}

impl Broken {
    /// What is damaged, or gone.
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
        let read = || read_mark(&root).map_err(|error| failed("can't read pool.json", error));
        let mut found = read()?;
        let is_new = found == Seen::Nothing && known.is_none();
        if is_new {
            // Of two who make a pool here at the same time, the second finds the first one's. Given back below, or with the folder.
            fs::flock(&root, FlockOperation::LockExclusive)
                .map_err(|error| failed("can't lock the directory", error.into()))?;
            found = read()?;
        }
        if let Seen::Newer(version) = found {
            let reason = format!(
                "pool.json was written by a newer Tierce (form {version}, this one reads {MARK_VERSION}): update Tierce on this node"
            );
            return Err(bad(PoolErrorKind::NewerPool, reason, None));
        }
        if let Some(known) = known
            && found != Seen::Pool(known)
        {
            let reason = format!(
                "pool {known} was here, now it is not: is a disk not mounted? (Give an empty one another pool name)"
            );
            return Err(bad(PoolErrorKind::OtherDisk, reason, Some(Errno::STALE)));
        }
        let not_writable = |error| failed("the directory is not writable", error);
        let id = if let Seen::Pool(id) = found {
            id
        } else {
            let others = foreign(&root).map_err(|error| failed("can't look at the directory", error))?;
            if !others.is_empty() {
                return Err(bad(PoolErrorKind::ForeignContent, in_use(path, &others), None));
            }
            // Before anything else is made here: with it the directory is ours, also after a crash in the middle of what follows.
            let mark = Mark { version: MARK_VERSION, id: Uuid::new_v4() };
            let bytes = serde_json::to_vec_pretty(&mark).map_err(|error| not_writable(error.into()))?;
            write_file(&root, MARK, &bytes, durable).map_err(not_writable)?;
            mark.id
        };
        if is_new {
            fs::flock(&root, FlockOperation::Unlock)
                .map_err(|error| failed("can't unlock the directory", error.into()))?;
        }
        let folder = |name: &str| -> io::Result<OwnedFd> {
            match fs::mkdirat(&root, name, FOLDER_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(open_beneath(&root, name, OFlags::RDONLY | OFlags::DIRECTORY)?)
        };
        let volumes = folder("volumes").map_err(not_writable)?;
        let new = folder("new").map_err(not_writable)?;
        let trash = folder("trash").map_err(not_writable)?;
        let store =
            Self { pool: pool.to_owned(), path: path.to_owned(), root, volumes, new, trash, id, durable };
        store.check()?;
        Ok(store)
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

/// Whether a directory is one of a pool. One that is not there is none.
pub(crate) fn is_pool(pool: &str, path: &Path) -> Result<bool, PoolError> {
    let failed = |what: &str, error: io::Error| PoolError::of_system(pool, path, what, &error);
    match fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => {
            let found = read_mark(&root).map_err(|error| failed("can't read pool.json", error))?;
            Ok(found != Seen::Nothing)
        }
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(failed("can't open the directory", error.into())),
    }
}

/// What a directory has in it besides what a new filesystem has, and what a crash leaves while the mark is written.
fn foreign(root: &OwnedFd) -> io::Result<Vec<String>> {
    let ours = [LOST_AND_FOUND.to_owned(), temporary(MARK)];
    let mut names = names(root)?;
    names.retain(|name| !ours.contains(name));
    names.sort();
    Ok(names)
}

fn in_use(path: &Path, others: &[String]) -> String {
    /// So many names are told.
    const TOLD: usize = 3;
    let told = others.iter().take(TOLD).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let more = if others.len() > TOLD { format!(" and {} more", others.len() - TOLD) } else { String::new() };
    format!(
        "the directory is no pool and not empty, so it was not touched: it has {told}{more} in it. Name an empty one, as a new directory \
         {}",
        path.join("tierce").display()
    )
}

/// What `pool.json` says.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Pool(Uuid),
    /// It has this form, which only a later Tierce knows.
    Newer(u32),
}

fn read_mark(root: &OwnedFd) -> io::Result<Seen> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Some(bytes) = read_file(root, MARK)? else { return Ok(Seen::Nothing) };
    let Version { version } = serde_json::from_slice(&bytes)?;
    if version > MARK_VERSION {
        return Ok(Seen::Newer(version));
    }
    let mark: Mark = serde_json::from_slice(&bytes)?;
    Ok(Seen::Pool(mark.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        VolumeMode,
        pool::{examples, record::Record, stored},
    };

    fn record(id: &str) -> Record {
        examples::record(id, VolumeMode::Block, 4096)
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
        assert_eq!(store.sweep_trash(&|| true), (1, Vec::new()));
        assert_eq!(store.sweep_trash(&|| true), (0, Vec::new()));
    }

    #[test]
    fn a_folder_that_is_a_link_is_never_entered() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let store = open(folder.path(), None).unwrap();
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
    fn a_directory_that_has_anything_in_it_is_refused_untouched() {
        for file in
            ["new/a/precious", "trash/b/precious", "volumes/x", "precious", ".hidden", "pool.json.bak"]
        {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::create_dir_all(folder.path().join(LOST_AND_FOUND)).unwrap();
            std::fs::write(&path, "precious").unwrap();
            let before = names(&fs::open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap()).unwrap();
            let error = open(folder.path(), None).unwrap_err();
            assert_eq!(error.kind, PoolErrorKind::ForeignContent, "{error}");
            let first = file.split('/').next().unwrap();
            assert!(error.reason.contains(first) && error.reason.contains("Name an empty one"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), b"precious");
            assert_eq!(
                names(&fs::open(folder.path(), OFlags::RDONLY, Mode::empty()).unwrap()).unwrap(),
                before
            );
        }
    }

    #[test]
    fn two_pools_that_are_made_in_one_directory_at_the_same_time_are_one() {
        for round in 0..100 {
            let folder = tempfile::tempdir().unwrap();
            let (path, both) = (folder.path(), std::sync::Barrier::new(2));
            let make = || {
                both.wait();
                open(path, None).unwrap().id
            };
            let ids = std::thread::scope(|scope| {
                let two = [scope.spawn(make), scope.spawn(make)];
                two.map(|one| one.join().unwrap())
            });
            assert_eq!(ids[0], ids[1], "round {round}");
            assert_eq!(open(path, None).unwrap().id, ids[0], "round {round}");
        }
    }

    #[test]
    fn a_new_filesystem_and_what_a_crash_leaves_while_a_pool_is_made_become_a_pool() {
        let whole = tempfile::tempdir().unwrap();
        let id = open(whole.path(), None).unwrap().id;
        let mark = std::fs::read(whole.path().join(MARK)).unwrap();
        for (left, content) in [(temporary(MARK), mark[..5].to_vec()), (MARK.to_owned(), mark)] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join(LOST_AND_FOUND)).unwrap();
            std::fs::write(folder.path().join(&left), content).unwrap();
            let store = open(folder.path(), None).unwrap();
            assert_eq!(store.id == id, left == MARK, "the mark decides whose it is, as soon as it is whole");
            store.insert(&record("one"), |_| Ok(())).unwrap();
        }
    }

    #[test]
    fn what_a_pool_did_not_put_aside_is_told_and_never_swept() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), None).unwrap();
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
        assert_eq!(store.trash_bytes(), 0, "nothing that will be freed");
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

    #[test]
    fn the_mark_of_every_version_is_read_and_one_of_a_later_tierce_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join(MARK);
        std::fs::copy("golden/pools/171e5bb.json", &mark).unwrap();
        let id = open(folder.path(), None).unwrap().id;
        assert_eq!(id.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        let text = std::fs::read_to_string(&mark).unwrap().replace("{\n", "{\n  \"shade\": 1,\n");
        std::fs::write(&mark, &text).unwrap();
        assert_eq!(open(folder.path(), Some(id)).unwrap().id, id);
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), text, "a field of a later Tierce was lost");

        let newer = tempfile::tempdir().unwrap();
        std::fs::copy("golden/newer/pool.json", newer.path().join(MARK)).unwrap();
        for known in [None, Some(id)] {
            let error = open(newer.path(), known).unwrap_err();
            assert_eq!(error.kind, PoolErrorKind::NewerPool, "{error}");
            assert!(error.reason.contains("form 2") && error.reason.contains("update Tierce"), "{error}");
        }
        assert_eq!(std::fs::read_dir(newer.path()).unwrap().count(), 1, "it was not left alone");
    }
}
