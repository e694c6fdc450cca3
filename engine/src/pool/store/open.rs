//! Opening the folder of a pool: whose it is, and making one of an empty directory.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{self, FlockOperation, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    FOLDER_MODE, Store,
    beneath::{names, open_beneath, read_file, temporary, write_file},
    removal::Removal,
};
use crate::{PoolError, PoolErrorKind};

const MARK: &str = "pool.json";
/// The form of `pool.json` that this code writes. It ignores fields that it does not know, since it never
/// writes the file again.
const MARK_VERSION: u32 = 1;
/// The folder that mkfs.ext4 makes in each new filesystem.
const LOST_AND_FOUND: &str = "lost+found";

#[derive(Serialize, Deserialize)]
struct Mark {
    version: u32,
    id: Uuid,
}

impl Store {
    /// Opens the folder, and makes what is missing below it (and itself, where `create_path` allows).
    /// `known`: the id it must have, if it was seen before; what has another id or none is left untouched,
    /// since then a disk is missing that belongs there.
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
            // Of two who make a pool here at the same time, the second finds the first one's. Given back
            // below, or with the folder.
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
            // Before anything else is made here: with it the directory is ours, also after a crash in the
            // middle of what follows.
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
        let store = Self {
            pool: pool.to_owned(),
            path: path.to_owned(),
            root,
            volumes,
            new,
            trash,
            id,
            durable,
            removal: Removal::default(),
        };
        store.check()?;
        Ok(store)
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

/// What a directory has in it besides what a new filesystem has, and what a crash leaves while the mark is
/// written.
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
        pool::{examples, record::Record},
    };

    fn record(id: &str) -> Record {
        examples::record(id, VolumeMode::Block, 4096)
    }

    fn open(path: &Path, known: Option<Uuid>) -> Result<Store, PoolError> {
        Store::open("p", path, false, known, false)
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
}
