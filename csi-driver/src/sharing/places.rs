//! Where shared volumes are mounted.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tierce_crds::names;
use tierce_engine::VolumeId;

use crate::handle::Handle;

/// Folders of ours below the kubelet's, which the host sees as well: what is mounted there outlives the plugin's container.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    exports: PathBuf,
    shared: PathBuf,
}

impl Places {
    pub(crate) fn below(kubelet_dir: &Path) -> Self {
        let ours = kubelet_dir.join("plugins").join(names::DRIVER);
        Self { exports: ours.join("exports"), shared: ours.join("shared") }
    }

    /// The folder of all exports.
    pub(crate) fn exports(&self) -> &Path {
        &self.exports
    }

    /// Where a volume of this node is mounted for those of others.
    pub(crate) fn export(&self, volume: &VolumeId) -> PathBuf {
        self.exports.join(volume.as_str())
    }

    /// Where a namespace's pods on this node get a volume from.
    pub(crate) fn share(&self, handle: &Handle) -> PathBuf {
        self.shared.join(handle.as_str())
    }

    /// Makes that place. Whatever is mounted there is not touched.
    pub(crate) fn make_share(&self, handle: &Handle) -> io::Result<PathBuf> {
        std::fs::create_dir_all(&self.shared)?;
        Ok(self.share(handle))
    }

    /// Whether a handle has a place here. What is mounted there is not asked: its server may be away.
    pub(crate) fn has_share(&self, handle: &Handle) -> io::Result<bool> {
        Ok(names_in(&self.shared)?.iter().any(|name| name == handle.as_str()))
    }

    /// The volumes that have a place for exports, and whether something is mounted there.
    pub(crate) fn exported(&self) -> io::Result<Vec<(VolumeId, bool)>> {
        let device = |path: &Path| std::fs::symlink_metadata(path).ok().map(|metadata| metadata.dev());
        let names = names_in(&self.exports)?;
        let volumes = names.iter().filter_map(|name| name.parse().ok());
        Ok(volumes
            .map(|volume: VolumeId| {
                let is_mounted = device(&self.export(&volume)) != device(&self.exports);
                (volume, is_mounted)
            })
            .collect())
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_a_place_when_its_folder_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::below(folder.path());
        let (home, other) = (Handle::parse("pvc-1").unwrap(), Handle::parse("pvc-1.01234567").unwrap());
        assert!(!places.has_share(&home).unwrap() && places.exported().unwrap().is_empty());
        std::fs::create_dir(places.make_share(&other).unwrap()).unwrap();
        assert!(places.has_share(&other).unwrap() && !places.has_share(&home).unwrap());
        for name in ["pvc-1", "lost+found"] {
            std::fs::create_dir_all(places.exports().join(name)).unwrap();
        }
        assert_eq!(places.exported().unwrap(), [(home.volume().clone(), false)]);
    }
}
