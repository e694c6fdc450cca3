//! Which pools this node serves: a pure decision from the `StoragePools`, the node's labels, and what lies on its disks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tierce_crds::{Provisioning as ApiProvisioning, StoragePoolSpec, parse_bytes};
use tierce_engine::{Backend, LvmKind, PoolConfig, Provisioning, ThinPool, Uuid};

/// A pool that the engine is to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Known {
    /// What the `StoragePool` says, or said last.
    pub(crate) spec: StoragePoolSpec,
    /// Whether it takes new volumes and is reported.
    pub(crate) offered: bool,
    /// Why it takes no new volumes although a `StoragePool` selects this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
    /// The pool's own id on its disk, once seen: an empty directory where that disk should be mounted is then no new pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Uuid>,
}

pub(crate) type Pools = BTreeMap<String, Known>;

/// Whether a pool takes new volumes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A `StoragePool` selects this node.
    Offered,
    /// None does any more, but volumes still lie in it: they are served, grown and deleted.
    Retired,
    /// We don't know where it is.
    Unknown,
}

/// The `StoragePools` as the API server has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wanted {
    /// Those that select this node.
    pub(crate) selected: BTreeMap<String, StoragePoolSpec>,
    /// Those that can't be read: what was known of them stays in force.
    pub(crate) unreadable: BTreeSet<String>,
}

/// The pools to serve from now on. `holds` tells whether volumes lie in a known pool, or may.
pub(crate) fn choose(wanted: Wanted, known: &Pools, holds: impl Fn(&str) -> bool) -> Pools {
    let mut pools = Pools::new();
    for (name, spec) in wanted.selected {
        let pool = match known.get(&name) {
            Some(old) if elsewhere(&old.spec, &spec) && holds(&name) => Known {
                trouble: Some(format!(
                    "the StoragePool was made again with {}, but its volumes lie in {}; give the new pool another name, or \
                     move the volumes away first",
                    place(&spec),
                    place(&old.spec)
                )),
                spec: old.spec.clone(),
                offered: false,
                id: old.id,
            },
            old => Known {
                id: old.filter(|old| !elsewhere(&old.spec, &spec)).and_then(|old| old.id),
                spec,
                offered: true,
                trouble: None,
            },
        };
        pools.insert(name, pool);
    }
    for (name, old) in known {
        if pools.contains_key(name) {
            continue;
        }
        if wanted.unreadable.contains(name) {
            pools.insert(name.clone(), old.clone());
        } else if holds(name) {
            pools.insert(name.clone(), Known { offered: false, trouble: None, ..old.clone() });
        }
    }
    pools
}

/// Adds what an earlier list knows of the pools: those that are not in this one, and the ids of those that are at the same place.
pub(super) fn remember(pools: &mut Pools, earlier: Pools) {
    for (name, old) in earlier {
        match pools.get_mut(&name) {
            None => drop(pools.insert(name, old)),
            Some(pool) if !elsewhere(&old.spec, &pool.spec) => pool.id = pool.id.or(old.id),
            Some(_) => {}
        }
    }
}

/// Where the pool lies, in words.
fn place(spec: &StoragePoolSpec) -> String {
    match (&spec.directory, &spec.lvm) {
        (Some(directory), _) => format!("directory {}", directory.path),
        (None, Some(lvm)) => match &lvm.thin {
            Some(thin) => format!("thin pool {}/{}", lvm.volume_group, thin.pool),
            None => format!("volume group {}", lvm.volume_group),
        },
        (None, None) => "neither a directory nor a volume group".to_owned(),
    }
}

/// Whether what lies in the one would not be found in the other. Whether and from what it may be made does not matter for that.
pub(super) fn elsewhere(one: &StoragePoolSpec, other: &StoragePoolSpec) -> bool {
    let provisioning =
        |spec: &StoragePoolSpec| spec.directory.as_ref().map(|directory| directory.provisioning);
    place(one) != place(other) || provisioning(one) != provisioning(other)
}

/// The engine's words for the pools.
pub(crate) fn configs(pools: &Pools) -> Vec<PoolConfig> {
    pools.iter().filter_map(|(name, pool)| config(name, pool)).collect()
}

/// `None` for a pool that is nowhere: the API server lets none in.
fn config(name: &str, pool: &Known) -> Option<PoolConfig> {
    let spec = &pool.spec;
    let backend = match (&spec.directory, &spec.lvm) {
        (Some(directory), _) => Backend::Directory {
            path: PathBuf::from(&directory.path),
            provisioning: match directory.provisioning {
                ApiProvisioning::Thin => Provisioning::Thin,
                ApiProvisioning::Thick => Provisioning::Thick,
            },
            create_path: directory.create_path,
        },
        (None, Some(lvm)) => Backend::Lvm {
            volume_group: lvm.volume_group.clone(),
            kind: lvm.thin.as_ref().map_or(LvmKind::Thick, |thin| LvmKind::Thin(thin_pool(thin))),
            devices: lvm.devices.iter().map(PathBuf::from).collect(),
        },
        (None, None) => return None,
    };
    Some(PoolConfig {
        name: name.to_owned(),
        tier: spec.tier.clone(),
        backend,
        reserve_bytes: 0,
        reserve_percent: u8::try_from(spec.reserve_percent).unwrap_or(u8::MAX).min(90),
        overcommit: f64::from(spec.overcommit_percent) / 100.0,
        expected_id: pool.id,
    })
}

fn thin_pool(thin: &tierce_crds::ThinPool) -> ThinPool {
    // The API server has checked the quantities.
    let bytes = |quantity: &Option<String>| quantity.as_ref().and_then(|text| parse_bytes(text).ok());
    ThinPool {
        name: thin.pool.clone(),
        size_bytes: bytes(&thin.size),
        chunk_bytes: bytes(&thin.chunk_size),
        extend: thin.auto_extend,
    }
}

#[cfg(test)]
mod tests {
    use tierce_crds::DirectoryBackend;

    use super::*;

    fn spec(path: &str, selector: &[(&str, &str)]) -> StoragePoolSpec {
        StoragePoolSpec {
            tier: "fast".into(),
            node_selector: selector.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            directory: Some(DirectoryBackend {
                path: path.into(),
                provisioning: ApiProvisioning::Thin,
                create_path: true,
            }),
            lvm: None,
            encrypt_by_default: false,
            overcommit_percent: 150,
            reserve_percent: 5,
        }
    }

    fn selected(pools: &[(&str, &str)]) -> Wanted {
        let selected = pools.iter().map(|(name, path)| ((*name).into(), spec(path, &[]))).collect();
        Wanted { selected, ..Wanted::default() }
    }

    fn offers(pools: &Pools) -> Vec<(&str, bool, &str)> {
        pools
            .iter()
            .map(|(n, p)| (n.as_str(), p.offered, p.spec.directory.as_ref().unwrap().path.as_str()))
            .collect()
    }

    #[test]
    fn a_pool_selects_a_node_by_all_its_labels() {
        let labels: BTreeMap<_, _> =
            [("disk", "nvme"), ("zone", "a")].map(|(k, v)| (k.into(), v.into())).into();
        for (selector, expected) in [
            (&[][..], true),
            (&[("disk", "nvme")][..], true),
            (&[("disk", "nvme"), ("zone", "a")][..], true),
            (&[("disk", "hdd")][..], false),
            (&[("disk", "nvme"), ("rack", "1")][..], false),
        ] {
            assert_eq!(spec("/p", selector).selects(&labels), expected, "{selector:?}");
        }
    }

    #[test]
    fn a_pool_that_is_no_longer_selected_stays_while_volumes_lie_in_it() {
        let known = choose(selected(&[("a", "/a"), ("b", "/b")]), &Pools::new(), |_| false);
        assert_eq!(offers(&known), [("a", true, "/a"), ("b", true, "/b")]);
        let retired = choose(selected(&[("a", "/a")]), &known, |name| name == "b");
        assert_eq!(offers(&retired), [("a", true, "/a"), ("b", false, "/b")]);
        let emptied = choose(selected(&[("a", "/a")]), &retired, |_| false);
        assert_eq!(offers(&emptied), [("a", true, "/a")]);
        let again = choose(selected(&[("a", "/a"), ("b", "/b")]), &retired, |_| true);
        assert_eq!(offers(&again), [("a", true, "/a"), ("b", true, "/b")]);
    }

    #[test]
    fn a_pool_made_again_elsewhere_does_not_lose_its_volumes() {
        let known = choose(selected(&[("a", "/old")]), &Pools::new(), |_| false);
        let kept = choose(selected(&[("a", "/new")]), &known, |_| true);
        assert_eq!(offers(&kept), [("a", false, "/old")]);
        assert!(kept["a"].trouble.as_ref().unwrap().contains("volumes lie in directory /old"));
        let moved = choose(selected(&[("a", "/new")]), &kept, |_| false);
        assert_eq!((offers(&moved), moved["a"].trouble.clone()), (vec![("a", true, "/new")], None));
    }

    #[test]
    fn whether_the_directory_may_be_made_does_not_take_the_pool_out_of_service() {
        let known = choose(selected(&[("a", "/a")]), &Pools::new(), |_| false);
        let mut wanted = selected(&[("a", "/a")]);
        wanted.selected.get_mut("a").unwrap().directory.as_mut().unwrap().create_path = false;
        let next = choose(wanted, &known, |_| true);
        assert_eq!((offers(&next), next["a"].trouble.clone()), (vec![("a", true, "/a")], None));
        assert!(!next["a"].spec.directory.as_ref().unwrap().create_path);
    }

    #[test]
    fn a_pools_id_stays_with_its_directory() {
        let mut known = choose(selected(&[("a", "/a")]), &Pools::new(), |_| false);
        known.get_mut("a").unwrap().id = Some(Uuid::max());
        for (path, holds, expected) in
            [("/a", true, Some(Uuid::max())), ("/b", true, Some(Uuid::max())), ("/b", false, None)]
        {
            let next = choose(selected(&[("a", path)]), &known, |_| holds);
            assert_eq!(next["a"].id, expected, "{path} {holds}");
            assert_eq!(configs(&next)[0].expected_id, expected);
        }
        let retired = choose(Wanted::default(), &known, |_| true);
        assert_eq!(retired["a"].id, Some(Uuid::max()));
    }

    #[test]
    fn bug_24_an_unreadable_storage_pool_changes_nothing() {
        let known = choose(selected(&[("a", "/a"), ("b", "/b")]), &Pools::new(), |_| false);
        let wanted = Wanted { unreadable: ["b".to_owned()].into(), ..selected(&[("a", "/a")]) };
        assert_eq!(choose(wanted, &known, |_| false), known);
    }

    #[test]
    fn the_engine_gets_the_same_figures() {
        let pools = choose(selected(&[("a", "/a")]), &Pools::new(), |_| false);
        let [config] = configs(&pools).try_into().unwrap();
        assert_eq!((config.tier.as_str(), config.reserve_percent), ("fast", 5));
        assert!((config.overcommit - 1.5).abs() < f64::EPSILON);
    }

    #[test]
    fn a_volume_group_is_given_to_the_engine_as_it_stands() {
        let lvm = |thin: Option<tierce_crds::ThinPool>| {
            let thick = thin.is_none().then(tierce_crds::ThickVolumes::default);
            let devices = vec!["/dev/sdb".to_owned()];
            let lvm = tierce_crds::LvmBackend { volume_group: "fast".into(), thin, thick, devices };
            StoragePoolSpec { directory: None, lvm: Some(lvm), ..spec("/unused", &[]) }
        };
        let thin = tierce_crds::ThinPool {
            pool: "pool".into(),
            size: Some("10Gi".into()),
            chunk_size: Some("128Ki".into()),
            auto_extend: true,
        };
        let wanted = |spec| Wanted { selected: [("a".to_owned(), spec)].into(), ..Wanted::default() };
        let known = choose(wanted(lvm(Some(thin))), &Pools::new(), |_| false);
        let Backend::Lvm { volume_group, kind: LvmKind::Thin(thin), devices } = &configs(&known)[0].backend
        else {
            panic!("{known:?}")
        };
        assert_eq!((volume_group.as_str(), devices.len()), ("fast", 1));
        assert_eq!((thin.size_bytes, thin.chunk_bytes, thin.extend), (Some(10 << 30), Some(128 << 10), true));
        // Thick volumes beside the thin pool are another pool: what lies there is not found here.
        let moved = choose(wanted(lvm(None)), &known, |_| true);
        assert!(
            !moved["a"].offered
                && moved["a"].trouble.as_ref().unwrap().contains("lie in thin pool fast/pool")
        );
        let free = choose(wanted(lvm(None)), &known, |_| false);
        assert!(matches!(&configs(&free)[0].backend, Backend::Lvm { kind: LvmKind::Thick, .. }));
    }
}
