//! The pools of this host, as the engine is told of them: images below the root, and what the configuration names.

use std::{collections::BTreeMap, path::Path};

use tierce_engine::{Backend, LvmKind, PoolConfig, Provisioning, ThinPool, Uuid};

use super::{Error, error::Context, layout, layout::Root};
use crate::config::{LOCAL_POOL, Pool, PoolPlace};

/// The folder of the local pool, below the root.
const LOCAL_FOLDER: &str = "pools/local";
/// What the engine keeps in each folder of images.
const MARK: &str = "pool.json";
/// What is remembered of pools: the folder, and the file in it.
const STATE: &str = "state";
const IDS: &str = "pools.json";
/// There when the kernel has a device mapper.
const DEVICE_MAPPER: &str = "/sys/class/misc/device-mapper";

/// The pools of this host.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    root: Root,
    configured: Vec<Pool>,
}

impl Pools {
    pub(super) fn new(root: &Root, configured: &[Pool]) -> Self {
        Self { root: root.clone(), configured: configured.to_vec() }
    }

    /// The names of those that the configuration adds.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.configured.iter().map(|pool| pool.name.as_str())
    }

    /// Whether the configuration names that pool, and we may open it.
    pub(super) fn are_set(&self, name: &str) -> bool {
        self.names().any(|known| known == name) && rustix::process::geteuid().is_root()
    }

    /// Whether a volume may be made in that pool, as far as that is known before the pool is opened.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        let pool = self.configured.iter().find(|pool| pool.name == name);
        if pool.is_none() && name != LOCAL_POOL {
            let known = self.names().chain([LOCAL_POOL]).collect::<Vec<_>>().join(", ");
            return Err(Error::UnknownPool { pool: name.to_owned(), known });
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NeedsRoot { what: "A volume with a size".to_owned() });
        }
        if let Some(Pool { place: PoolPlace::VolumeGroup { group, .. }, .. }) = pool
            && !Path::new(DEVICE_MAPPER).exists()
        {
            return Err(Error::Refused(format!(
                "Pool '{name}' lies in volume group {group}, and this kernel has no device mapper: modprobe dm_mod, or leave --pool out"
            )));
        }
        Ok(())
    }

    /// What the engine shall open: every pool that may hold volumes, and `wanted`, which may be made.
    ///
    /// A folder of images that was never used, and is not asked for, is left out: the engine would make a pool of it. Pools that are
    /// configured are root's.
    pub(super) fn settings(&self, wanted: Option<&str>) -> Result<Vec<PoolConfig>, Error> {
        let mut settings = Vec::new();
        let folder = self.root.path().join(LOCAL_FOLDER);
        let there = folder.join(MARK).exists();
        if there || wanted == Some(LOCAL_POOL) {
            let backend =
                Backend::Directory { path: folder, provisioning: Provisioning::Thin, create_path: !there };
            settings.push(setting(LOCAL_POOL, backend, None));
        }
        if self.configured.is_empty() || !rustix::process::geteuid().is_root() {
            return Ok(settings);
        }
        let ids = self.ids()?;
        for Pool { name, place } in &self.configured {
            let known = ids.get(name).copied();
            let backend = match place {
                PoolPlace::VolumeGroup { group, thin_pool, devices } => Backend::Lvm {
                    volume_group: group.clone(),
                    kind: thin_pool.as_ref().map_or(LvmKind::Thick, |thin_pool| {
                        // Nobody of ours stays to watch it; LVM's own daemon can.
                        let (size_bytes, chunk_bytes, extend) = (None, None, false);
                        LvmKind::Thin(ThinPool { name: thin_pool.clone(), size_bytes, chunk_bytes, extend })
                    }),
                    devices: devices.clone(),
                },
                PoolPlace::Directory(path) => {
                    if known.is_none() && wanted != Some(name) && !path.join(MARK).exists() {
                        continue;
                    }
                    // Never made: the folder is on a disk, and a disk that is not mounted must show.
                    Backend::Directory {
                        path: path.clone(),
                        provisioning: Provisioning::Thin,
                        create_path: false,
                    }
                }
            };
            settings.push(setting(name, backend, known));
        }
        Ok(settings)
    }

    /// The pools' own ids, so that another disk under an old name is noticed. A pool is known from its first volume on.
    fn ids(&self) -> Result<BTreeMap<String, Uuid>, Error> {
        let doing = || format!("read {}", self.root.path().join(STATE).join(IDS).display());
        let Some(folder) = self.root.folder(STATE)? else { return Ok(BTreeMap::new()) };
        let Some(bytes) = layout::read_file(&folder, IDS).doing(doing)? else { return Ok(BTreeMap::new()) };
        let texts: BTreeMap<String, String> = serde_json::from_slice(&bytes).doing(doing)?;
        let id = |(name, text): (String, String)| {
            let id = Uuid::parse_str(&text).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((name, id))
        };
        texts.into_iter().map(id).collect::<Result<_, _>>().doing(doing)
    }

    /// Notes the id of a pool that a volume is made in. Nobody else may note one meanwhile.
    pub(super) fn remember(&self, name: &str, id: Uuid) -> Result<(), Error> {
        let mut ids = self.ids()?;
        if name == LOCAL_POOL || ids.insert(name.to_owned(), id) == Some(id) {
            return Ok(());
        }
        let doing = || format!("write {}", self.root.path().join(STATE).join(IDS).display());
        let texts: BTreeMap<_, _> = ids.into_iter().map(|(name, id)| (name, id.to_string())).collect();
        let mut bytes = serde_json::to_vec_pretty(&texts).doing(doing)?;
        bytes.push(b'\n');
        layout::write_file(&self.root.make_folder(STATE)?, IDS, &bytes).doing(doing)
    }
}

fn setting(name: &str, backend: Backend, expected_id: Option<Uuid>) -> PoolConfig {
    PoolConfig {
        name: name.to_owned(),
        tier: name.to_owned(),
        backend,
        reserve_bytes: 0,
        reserve_percent: 0,
        // A limit is a promise: all volumes together never promise more than the disk has.
        overcommit: 1.0,
        expected_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_pool_is_told_with_the_known_ones_and_ids_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let pool = Pool { name: "big".to_owned(), place: PoolPlace::Directory(folder.path().join("disk")) };
        let pools = Pools::new(&root, &[pool]);
        let message = pools.check("fast").unwrap_err().to_string();
        assert!(message.contains("'fast'") && message.contains("big, local"), "{message}");
        assert!(pools.settings(None).unwrap().is_empty(), "never used, and not asked for");
        let id = Uuid::from_u128(7);
        for _ in 0..2 {
            pools.remember("big", id).unwrap();
        }
        assert_eq!(pools.ids().unwrap(), BTreeMap::from([("big".to_owned(), id)]));
        if rustix::process::geteuid().is_root() {
            let settings = pools.settings(None).unwrap();
            assert_eq!(settings.iter().map(|pool| pool.expected_id).collect::<Vec<_>>(), [Some(id)]);
        }
    }

    #[test]
    fn ids_that_can_not_be_read_are_no_reason_to_take_any_disk() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let state = root.make_folder(STATE).unwrap();
        for text in ["", "{\"a\": \"x\"}", "[]"] {
            layout::write_file(&state, IDS, text.as_bytes()).unwrap();
            let message = Pools::new(&root, &[]).ids().unwrap_err().to_string();
            assert!(message.contains(IDS), "{message}");
        }
    }
}
