//! Which pools this node serves: a pure decision from the `StoragePools`, the node's labels, and what lies on its disks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tierce_crds::{Provisioning as ApiProvisioning, StoragePoolSpec};
use tierce_engine::{Backend, PoolConfig, Provisioning, Uuid};

/// A pool that the engine is to have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// What the `StoragePool` says, or said last.
    pub spec: StoragePoolSpec,
    /// Whether it takes new volumes and is reported.
    pub offered: bool,
    /// Why it takes no new volumes although a `StoragePool` selects this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The pool's own id on its disk, once seen: an empty directory where that disk should be mounted is then no new pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
}

/// Pools by name.
pub type Pools = BTreeMap<String, Known>;

/// Whether a pool takes new volumes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// A `StoragePool` selects this node.
    Offered,
    /// None does any more, but volumes still lie in it: they are served, grown and deleted.
    Retired,
    /// We don't know where it is.
    Unknown,
}

/// The `StoragePools` as the API server has them.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Those that select this node.
    pub selected: BTreeMap<String, StoragePoolSpec>,
    /// Those that can't be read: what was known of them stays in force.
    pub unreadable: BTreeSet<String>,
}

/// Whether a node with these labels offers the pool.
pub fn selects(spec: &StoragePoolSpec, labels: &BTreeMap<String, String>) -> bool {
    spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The pools to serve from now on. `holds` tells whether volumes lie in a known pool, or may.
pub fn choose(wanted: Wanted, known: &Pools, holds: impl Fn(&str) -> bool) -> Pools {
    let mut pools = Pools::new();
    for (name, spec) in wanted.selected {
        let pool = match known.get(&name) {
            Some(old) if elsewhere(&old.spec, &spec) && holds(&name) => Known {
                trouble: Some(format!(
                    "the StoragePool was made again with directory {}, but its volumes lie in {}; give the new pool another \
                     name, or move the volumes away first",
                    spec.directory.path, old.spec.directory.path
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

/// Whether what lies in the one would not be found in the other. Whether the directory may be made does not matter for that.
pub(super) fn elsewhere(one: &StoragePoolSpec, other: &StoragePoolSpec) -> bool {
    (&one.directory.path, one.directory.provisioning) != (&other.directory.path, other.directory.provisioning)
}

/// The engine's words for the pools.
pub fn configs(pools: &Pools) -> Vec<PoolConfig> {
    pools.iter().map(|(name, pool)| config(name, pool)).collect()
}

fn config(name: &str, pool: &Known) -> PoolConfig {
    let spec = &pool.spec;
    let directory = &spec.directory;
    PoolConfig {
        name: name.to_owned(),
        tier: spec.tier.clone(),
        backend: Backend::Directory {
            path: PathBuf::from(&directory.path),
            provisioning: match directory.provisioning {
                ApiProvisioning::Thin => Provisioning::Thin,
                ApiProvisioning::Thick => Provisioning::Thick,
            },
            create_path: directory.create_path,
        },
        reserve_bytes: 0,
        reserve_percent: u8::try_from(spec.reserve_percent).unwrap_or(u8::MAX).min(90),
        overcommit: f64::from(spec.overcommit_percent) / 100.0,
        expected_id: pool.id,
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
            directory: DirectoryBackend {
                path: path.into(),
                provisioning: ApiProvisioning::Thin,
                create_path: true,
            },
            overcommit_percent: 150,
            reserve_percent: 5,
        }
    }

    fn selected(pools: &[(&str, &str)]) -> Wanted {
        let selected = pools.iter().map(|(name, path)| ((*name).into(), spec(path, &[]))).collect();
        Wanted { selected, ..Wanted::default() }
    }

    fn offers(pools: &Pools) -> Vec<(&str, bool, &str)> {
        pools.iter().map(|(n, p)| (n.as_str(), p.offered, p.spec.directory.path.as_str())).collect()
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
            assert_eq!(selects(&spec("/p", selector), &labels), expected, "{selector:?}");
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
        assert!(kept["a"].trouble.as_ref().unwrap().contains("volumes lie in /old"));
        let moved = choose(selected(&[("a", "/new")]), &kept, |_| false);
        assert_eq!((offers(&moved), moved["a"].trouble.clone()), (vec![("a", true, "/new")], None));
    }

    #[test]
    fn whether_the_directory_may_be_made_does_not_take_the_pool_out_of_service() {
        let known = choose(selected(&[("a", "/a")]), &Pools::new(), |_| false);
        let mut wanted = selected(&[("a", "/a")]);
        wanted.selected.get_mut("a").unwrap().directory.create_path = false;
        let next = choose(wanted, &known, |_| true);
        assert_eq!((offers(&next), next["a"].trouble.clone()), (vec![("a", true, "/a")], None));
        assert!(!next["a"].spec.directory.create_path);
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
}
