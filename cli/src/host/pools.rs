//! The pools of this host, as the engine is told of them: images below the root, and what the configuration names.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use tierce_engine::{Backend, LvmKind, PoolConfig, Provisioning, ThinPool, Uuid};

use super::{
    Error,
    error::Context,
    layout::{self, Root, STATE},
};
use crate::{
    config::{LOCAL_POOL, Pool, PoolPlace},
    privilege,
};

/// The folder of the local pool, below the root.
const LOCAL_FOLDER: &str = "pools/local";
/// What the engine keeps in each folder of images.
const MARK: &str = "pool.json";
/// What is remembered of pools.
const IDS: &str = "pools.json";
/// Either is there when the kernel has a device mapper, or loads it when it is needed.
const DEVICE_MAPPER: [&str; 2] = ["/sys/class/misc/device-mapper", "/dev/mapper/control"];

/// What pools are needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need<'a> {
    /// A volume that lies there.
    Volume(&'a str),
    /// Room there for something new: folders may share their disk, so what was promised in the others counts too.
    Room(&'a str),
    /// Whatever may be there.
    All,
}

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

    /// Whether we know where that pool is, and may look there.
    pub(super) fn can_be_opened(&self, name: &str) -> bool {
        let configured = self.configured.iter().any(|pool| pool.name == name);
        name == LOCAL_POOL || configured && privilege::is_root()
    }

    /// Where a pool is, for messages.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        match self.configured.iter().find(|pool| pool.name == name).map(|pool| &pool.place) {
            Some(PoolPlace::Directory(path)) => path.clone(),
            Some(PoolPlace::VolumeGroup { group, .. }) => Path::new("/dev").join(group),
            None => self.root.path().join(LOCAL_FOLDER),
        }
    }

    /// Whether a volume may be made in that pool, as far as that is known before the pool is opened.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
        let pool = self.configured.iter().find(|pool| pool.name == name);
        if pool.is_none() && name != LOCAL_POOL {
            let names = self.configured.iter().map(|pool| pool.name.as_str());
            let known = names.chain([LOCAL_POOL]).collect::<Vec<_>>().join(", ");
            return Err(Error::UnknownPool { pool: name.to_owned(), known });
        }
        if !privilege::is_root() {
            return Err(Error::NeedsRoot {
                what: "A volume with a size",
                instead: "make it without one, as a plain folder",
            });
        }
        if let Some(Pool { place: PoolPlace::VolumeGroup { group, .. }, .. }) = pool
            && !has_device_mapper()
        {
            return Err(Error::Refused(format!(
                "Pool '{name}' lies in volume group {group}, and this kernel has no device mapper: modprobe dm_mod, or leave --pool out"
            )));
        }
        Ok(())
    }

    /// Whether a volume was ever made in that pool.
    pub(super) fn is_known(&self, name: &str) -> Result<bool, Error> {
        if name == LOCAL_POOL {
            Ok(is_marked(&self.root.path().join(LOCAL_FOLDER)))
        } else {
            Ok(self.ids()?.contains_key(name))
        }
    }

    /// The names of those that are needed.
    pub(super) fn needed(&self, need: Need<'_>) -> BTreeSet<String> {
        let configured = self
            .configured
            .iter()
            .map(|pool| (pool.name.as_str(), matches!(pool.place, PoolPlace::Directory(_))));
        let all: Vec<(&str, bool)> = configured.chain([(LOCAL_POOL, true)]).collect();
        let is_needed = |(name, is_folder): (&str, bool)| match need {
            Need::Volume(needed) => name == needed,
            Need::Room(needed) => name == needed || is_folder && all.contains(&(needed, true)),
            Need::All => true,
        };
        all.iter().filter(|pool| is_needed(**pool)).map(|(name, _)| (*name).to_owned()).collect()
    }

    /// What the engine shall open: those of these names that may hold volumes, and `wanted`, which may be made.
    ///
    /// A folder of images that was never used, and is not wanted, is left out: the engine would make a pool of it. Pools that are
    /// configured are root's.
    pub(super) fn settings(
        &self,
        names: &BTreeSet<String>,
        wanted: Option<&str>,
    ) -> Result<Vec<PoolConfig>, Error> {
        let mut settings = Vec::new();
        let folder = self.root.path().join(LOCAL_FOLDER);
        let there = is_marked(&folder);
        if names.contains(LOCAL_POOL) && (there || wanted == Some(LOCAL_POOL)) {
            let backend =
                Backend::Directory { path: folder, provisioning: Provisioning::Thin, create_path: !there };
            settings.push(setting(LOCAL_POOL, backend, None));
        }
        let mut configured = self.configured.iter().filter(|pool| names.contains(&pool.name)).peekable();
        if configured.peek().is_none() || !privilege::is_root() {
            return Ok(settings);
        }
        let ids = self.ids()?;
        for Pool { name, place } in configured {
            let known = ids.get(name).copied();
            let backend = match place {
                // Only who stays watches a thin pool, and extends it.
                PoolPlace::VolumeGroup { group, thin_pool, devices } => {
                    let thin_pool = thin_pool.as_ref().map(|pool| (pool.name.as_str(), false));
                    volume_group(group, thin_pool, devices)
                }
                PoolPlace::Directory(path) => {
                    if known.is_none() && wanted != Some(name) && !is_marked(path) {
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

    /// Whether there are thin pools that shall grow when they fill up.
    pub(super) fn has_thin_pools(&self) -> bool {
        self.growing().next().is_some() && privilege::is_root()
    }

    /// The thin pools that shall grow when they fill up, as the engine watches them: those that have volumes, since of others nothing may be
    /// made here.
    pub(super) fn thin_pools(&self) -> Result<Vec<PoolConfig>, Error> {
        let ids = self.ids()?;
        let known = |name: &String| ids.get(name).copied();
        let setting = |(name, backend): (&String, Backend)| Some(setting(name, backend, Some(known(name)?)));
        Ok(self.growing().filter_map(setting).collect())
    }

    fn growing(&self) -> impl Iterator<Item = (&String, Backend)> {
        self.configured.iter().filter_map(|Pool { name, place }| match place {
            PoolPlace::VolumeGroup { group, thin_pool: Some(pool), devices } if pool.extend => {
                Some((name, volume_group(group, Some((&pool.name, true)), devices)))
            }
            _ => None,
        })
    }

    /// The folder of what is remembered of pools; it is made where it is missing.
    pub(super) fn state_folder(&self) -> Result<PathBuf, Error> {
        self.root.make_folder(STATE)?;
        Ok(self.root.path().join(STATE))
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

fn has_device_mapper() -> bool {
    DEVICE_MAPPER.iter().any(|place| Path::new(place).exists())
}

/// Whether this kernel can encrypt, as far as that is known before it is tried.
pub(super) fn check_encryption(volume: &str) -> Result<(), Error> {
    if has_device_mapper() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "Volume '{volume}' can't be encrypted: this kernel has no device mapper: modprobe dm_mod dm_crypt, or leave --encrypt out"
    )))
}

/// `thin_pool`: its name, and whether it is watched and extended.
fn volume_group(group: &str, thin_pool: Option<(&str, bool)>, devices: &[PathBuf]) -> Backend {
    let kind = thin_pool.map_or(LvmKind::Thick, |(name, extend)| {
        LvmKind::Thin(ThinPool { name: name.to_owned(), size_bytes: None, chunk_bytes: None, extend })
    });
    Backend::Lvm { volume_group: group.to_owned(), kind, devices: devices.to_vec() }
}

/// Whether the engine made a pool of that folder. One that can't be looked at may well be one, and the engine says what is wrong with it.
fn is_marked(folder: &Path) -> bool {
    folder.join(MARK).try_exists().unwrap_or(true)
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
        let all = pools.needed(Need::All);
        assert!(pools.settings(&all, None).unwrap().is_empty(), "never used, and not asked for");
        let id = Uuid::from_u128(7);
        for _ in 0..2 {
            pools.remember("big", id).unwrap();
        }
        assert_eq!(pools.ids().unwrap(), BTreeMap::from([("big".to_owned(), id)]));
        if privilege::is_root() {
            let settings = pools.settings(&all, None).unwrap();
            assert_eq!(settings.iter().map(|pool| pool.expected_id).collect::<Vec<_>>(), [Some(id)]);
        }
    }

    #[test]
    fn a_volume_needs_its_own_pool_and_room_those_that_may_share_its_disk() {
        let folder = |name: &str| Pool { name: name.to_owned(), place: PoolPlace::Directory("/d".into()) };
        let place = PoolPlace::VolumeGroup { group: "vg0".to_owned(), thin_pool: None, devices: Vec::new() };
        let group = Pool { name: "fast".to_owned(), place };
        let pools = Pools::new(&Root::new(Path::new("/r")), &[folder("big"), group, folder("old")]);
        for (need, expected) in [
            (Need::Volume("fast"), "fast"),
            (Need::Volume("local"), "local"),
            (Need::Volume("gone"), ""),
            (Need::Room("fast"), "fast"),
            (Need::Room("local"), "big local old"),
            (Need::Room("big"), "big local old"),
            (Need::All, "big fast local old"),
        ] {
            let names: Vec<String> = pools.needed(need).into_iter().collect();
            assert_eq!(names.join(" "), expected, "{need:?}");
        }
    }

    #[test]
    fn a_thin_pool_is_watched_from_its_first_volume_on_unless_it_shall_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let pool = |name: &str, extend| {
            let thin_pool = Some(crate::config::ThinPool { name: "thin".to_owned(), extend });
            let place = PoolPlace::VolumeGroup { group: "vg0".to_owned(), thin_pool, devices: Vec::new() };
            Pool { name: name.to_owned(), place }
        };
        let pools = Pools::new(&Root::new(folder.path()), &[pool("fast", true), pool("fixed", false)]);
        assert!(pools.thin_pools().unwrap().is_empty());
        for (name, id) in [("fast", 1), ("fixed", 2)] {
            pools.remember(name, Uuid::from_u128(id)).unwrap();
        }
        let watched: Vec<_> =
            pools.thin_pools().unwrap().into_iter().map(|pool| (pool.name, pool.expected_id)).collect();
        assert_eq!(watched, [("fast".to_owned(), Some(Uuid::from_u128(1)))]);
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
