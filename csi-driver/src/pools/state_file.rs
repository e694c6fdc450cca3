//! The last pool configuration on the node's own disk: after a reboot pods start from it while the API server is away.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::choice::Pools;

const VERSION: u32 = 1;

/// Why the file could not be read or written.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// The system refused.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What we tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is not what we wrote.
    #[error("{path:?} can't be understood")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A later Tierce wrote it.
    #[error(
        "{path:?} was written by a newer Tierce (form {version}, this one reads {VERSION}): update the node plugin"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Unknown fields are not kept: what they say comes from the API server again.
#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    pools: Pools,
}

/// The pools of the last time; none if there was none.
pub(super) fn read(path: &Path) -> Result<Pools, StateFileError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pools::new()),
        Err(source) => return Err(StateFileError::Io { action: "read", path: path.to_owned(), source }),
    };
    let malformed = |source| StateFileError::Malformed { path: path.to_owned(), source };
    // What a later form has in place of the pools can't be known.
    let Version { version } = serde_json::from_slice(&text).map_err(malformed)?;
    if version > VERSION {
        return Err(StateFileError::Version { path: path.to_owned(), version });
    }
    let content: Content = serde_json::from_slice(&text).map_err(malformed)?;
    Ok(content.pools)
}

/// Replaces the file as a whole, durably.
pub(super) fn write(path: &Path, pools: &Pools) -> Result<(), StateFileError> {
    let failed = |action| move |source| StateFileError::Io { action, path: path.to_owned(), source };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let content = Content { version: VERSION, pools: pools.clone() };
    let text = serde_json::to_vec_pretty(&content)
        .map_err(|source| StateFileError::Malformed { path: path.to_owned(), source })?;
    fs::create_dir_all(parent).map_err(failed("make the folder of"))?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(failed("make the successor of"))?;
    file.write_all(&text).map_err(failed("write the successor of"))?;
    file.sync_all().map_err(failed("sync the successor of"))?;
    fs::rename(&temporary, path).map_err(failed("replace"))?;
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::choice::Known;
    use tierce_crds::{DirectoryBackend, Provisioning, StoragePoolSpec};

    fn pools() -> Pools {
        let spec = StoragePoolSpec {
            tier: "fast".into(),
            node_selector: [("disk".to_owned(), "nvme".to_owned())].into(),
            directory: Some(DirectoryBackend {
                path: "/p".into(),
                provisioning: Provisioning::Thick,
                create_path: false,
            }),
            lvm: None,
            encrypt_by_default: false,
            overcommit_percent: 100,
            reserve_percent: 5,
        };
        [(
            "a".to_owned(),
            Known { spec, offered: false, trouble: Some("why".into()), id: Some(tierce_engine::Uuid::max()) },
        )]
        .into()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node/pools.json");
        assert_eq!(read(&path).unwrap(), Pools::new());
        write(&path, &pools()).unwrap();
        write(&path, &pools()).unwrap();
        assert_eq!(read(&path).unwrap(), pools());
    }

    #[test]
    fn every_form_that_was_ever_written_is_read() {
        for (name, pools, ids) in [
            ("36055fc", 2, 0),
            ("dfcf8e7", 1, 1),
            ("65271b6", 2, 2),
            ("8573390", 1, 1),
            ("newer-field", 1, 1),
        ] {
            let read = read(Path::new(&format!("golden/pools/{name}.json"))).unwrap();
            let known = read.values().filter(|pool| pool.id.is_some()).count();
            assert_eq!((read.len(), known), (pools, ids), "{name}: {read:?}");
        }
        let newer = read(Path::new("golden/pools/newer-form.json")).unwrap_err();
        assert!(newer.to_string().contains("update the node plugin"), "{newer}");
    }

    #[test]
    fn a_file_that_is_not_ours_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pools.json");
        fs::write(&path, "{\"version\":1,\"pools\":{").unwrap();
        assert!(matches!(read(&path), Err(StateFileError::Malformed { .. })));
        fs::write(&path, "{\"version\":2,\"pools\":{}}").unwrap();
        assert!(matches!(read(&path), Err(StateFileError::Version { version: 2, .. })));
    }
}
