//! Pools that are missing, lost, shared or named twice.

use super::*;

pub fn a_pool_that_is_missing_does_not_stop_the_others(world: &mut World) {
    let file = world.path("file");
    fs::write(&file, b"").unwrap();
    let mut made = world.pool("made");
    let Backend::Directory { create_path, .. } = &mut made.backend else { unreachable!() };
    *create_path = true;
    let pools = vec![world.pool("missing"), world.pool("file"), world.pool("pool"), made];
    world.run(world.engine.set_pools(pools));
    let reports = world.run(world.engine.reports());
    let errno = |at: usize| reports[at].result.as_ref().unwrap_err().errno;
    assert_eq!(errno(0), Some(2), "{:?}", reports[0]);
    assert_eq!(errno(1), Some(20), "{:?}", reports[1]);
    let error = reports[0].result.as_ref().unwrap_err().to_string();
    assert!(
        error.contains(world.path("missing").to_str().unwrap()) && error.contains("os error 2"),
        "{error}"
    );
    assert!(reports[2].result.is_ok() && reports[3].result.is_ok());
    assert!(!world.path("missing").exists(), "a missing mount must show");
    world.create("pvc-1", EXT4, 64 * MIB);
    let error = world.run(world.engine.create("missing", &spec("pvc-2", EXT4, 64 * MIB))).unwrap_err();
    assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
    // It may lie in the pool that is down: "not found" would let a caller forget it.
    let error = world.delete(&"pvc-3".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
    let volume = "pvc-1".parse().unwrap();
    let snapshot = world.snapshot("snapshot-1", &volume).unwrap();
    assert!(world.delete(&volume).unwrap());
    // Its volume is nowhere any more, which the pool that is down has nothing to do with.
    assert!(world.run(world.engine.delete_snapshot(&snapshot)).unwrap().changed());
    // It heals by itself.
    fs::create_dir(world.path("missing")).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_ok());
    world.run(world.engine.create("missing", &spec("pvc-2", EXT4, 64 * MIB))).unwrap();
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(world.path("missing/volumes"), fs::Permissions::from_mode(0o500)).unwrap();
        let reports = world.run(world.engine.reports());
        assert_eq!(reports[0].result.as_ref().unwrap_err().errno, Some(13));
        fs::set_permissions(world.path("missing/volumes"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

pub fn a_pool_that_opens_late_is_cleaned_up_then_and_only_once(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let (pool, away) = (world.path("pool"), world.path("away"));
    fs::create_dir(pool.join("new/pvc-2.0123456789abcdef0123456789abcdef")).unwrap();
    fs::rename(&pool, &away).unwrap();
    world.forget();
    world.run(world.engine.set_pools(vec![world.pool("pool")]));
    assert_eq!(world.run(world.engine.recover()).thrown_unfinished, 0);
    fs::rename(&away, &pool).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_ok());
    assert!(
        !pool.join("new/pvc-2.0123456789abcdef0123456789abcdef").exists(),
        "the pool's leftovers are still there"
    );
    assert!(world.run(world.engine.get(&id)).unwrap().is_some());
    // It goes and comes again while somebody makes a volume in it.
    fs::create_dir(pool.join("new/pvc-3.fedcba9876543210fedcba9876543210")).unwrap();
    fs::rename(&pool, &away).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_err());
    fs::rename(&away, &pool).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_ok());
    assert!(
        pool.join("new/pvc-3.fedcba9876543210fedcba9876543210").exists(),
        "what may be under way was removed"
    );
}

pub fn a_pool_that_returns_is_asked_before_a_volume_counts_as_gone(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    fs::create_dir(world.path("other")).unwrap();
    fs::rename(world.path("pool"), world.path("unmounted")).unwrap();
    world.forget();
    world.run(world.engine.set_pools(vec![world.pool("other"), world.pool("pool")]));
    let error = world.run(world.engine.get_in("pool", &id)).unwrap_err();
    assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
    assert_eq!(world.run(world.engine.get_in("other", &id)).unwrap(), None);
    let error = world.run(world.engine.get_in("nonesuch", &id)).unwrap_err();
    assert!(matches!(error, Error::UnknownPool { .. }), "{error:?}");
    // The disk is back: the first question already finds what is on it.
    fs::rename(world.path("unmounted"), world.path("pool")).unwrap();
    assert_eq!(world.run(world.engine.get_in("pool", &id)).unwrap().unwrap().id, id);
    // Nobody but a pod asks (the API server may be away): that opens it too.
    world.forget();
    fs::rename(world.path("pool"), world.path("unmounted")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool")]));
    fs::rename(world.path("unmounted"), world.path("pool")).unwrap();
    assert!(world.stage(&id, false).unwrap());
    assert!(world.unstage(&id).unwrap());
    // And it stays open for everybody, but no twin gets in by the same way.
    assert!(world.run(world.engine.get(&id)).unwrap().is_some());
    let mut twin = world.pool("pool");
    "twin".clone_into(&mut twin.name);
    world.run(world.engine.set_pools(vec![world.pool("pool"), twin]));
    let error = world.run(world.engine.create("twin", &spec("pvc-2", EXT4, 64 * MIB))).unwrap_err();
    assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
}

pub fn a_disk_that_is_missing_at_the_start_is_not_replaced_by_an_empty_pool(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let ids = world.run(world.engine.pool_ids());
    assert_eq!(ids.len(), 1);
    let mut config = world.pool("pool");
    config.expected_id = Some(ids[0].1);
    let Backend::Directory { create_path, .. } = &mut config.backend else { unreachable!() };
    *create_path = true;
    fs::rename(world.path("pool"), world.path("unmounted")).unwrap();
    for empty in [false, true] {
        if empty {
            fs::create_dir(world.path("pool")).unwrap();
        }
        world.forget();
        world.run(world.engine.set_pools(vec![config.clone()]));
        assert!(world.run(world.engine.reports())[0].result.is_err());
        let error = world.run(world.engine.create("pool", &spec("pvc-2", EXT4, 64 * MIB))).unwrap_err();
        assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
        assert_eq!(world.run(world.engine.pool_ids()), ids, "still known");
    }
    assert_eq!(fs::read_dir(world.path("pool")).unwrap().count(), 0);
    fs::remove_dir(world.path("pool")).unwrap();
    fs::rename(world.path("unmounted"), world.path("pool")).unwrap();
    assert!(world.run(world.engine.get_in("pool", &id)).unwrap().is_some());
    // Whether its directory may be made is nothing that makes it another pool.
    world.run(world.engine.set_pools(vec![world.pool("pool")]));
    assert_eq!(world.run(world.engine.pool_ids()), ids);
}

pub fn a_pool_whose_disk_went_away_is_refused_until_it_is_back(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    fs::rename(world.path("pool"), world.path("unmounted")).unwrap();
    fs::create_dir(world.path("pool")).unwrap();
    let error = world.run(world.engine.reports()).remove(0).result.unwrap_err();
    assert!(error.to_string().contains("is a disk not mounted?"), "{error}");
    let error = world.run(world.engine.create("pool", &spec("pvc-2", EXT4, 64 * MIB))).unwrap_err();
    assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
    assert_eq!(
        fs::read_dir(world.path("pool")).unwrap().count(),
        0,
        "nothing is written where the disk should be"
    );
    fs::remove_dir(world.path("pool")).unwrap();
    fs::rename(world.path("unmounted"), world.path("pool")).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_ok());
    assert!(world.run(world.engine.get(&id)).unwrap().is_some());
}

pub fn pools_on_one_disk_share_its_space(world: &mut World) {
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    let available = |world: &World| -> Vec<u64> {
        let reports = world.run(world.engine.reports());
        reports.into_iter().map(|report| report.result.unwrap().available_bytes).collect()
    };
    let usage = |at: usize| world.run(world.engine.reports()).remove(at).result.unwrap();
    assert_eq!(usage(0).disk, usage(1).disk);
    assert!(usage(0).free_bytes > 0 && usage(0).free_bytes <= usage(0).capacity_bytes);
    let before = available(world);
    let size = before[0] / 2;
    world.run(world.engine.create("pool", &spec("pvc-1", BLOCK, size))).unwrap();
    let after = available(world);
    // Other users of the real disk write meanwhile.
    let near = |a: u64, b: u64| a.abs_diff(b) < before[0] / 4;
    assert!(near(after[0], before[0] - size), "{before:?} {after:?}");
    assert!(
        near(after[1], before[1] - size),
        "a promise of one pool counts for the other: {before:?} {after:?}"
    );
    let error = world.run(world.engine.create("second", &spec("pvc-2", BLOCK, before[1]))).unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { .. }), "{error:?}");
    let error = world.run(world.engine.create("second", &spec("pvc-1", BLOCK, MIB))).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "pool", .. }), "{error:?}");
}

pub fn two_pools_over_one_directory_are_told_apart(world: &mut World) {
    let mut twin = world.pool("pool");
    "twin".clone_into(&mut twin.name);
    world.run(world.engine.set_pools(vec![world.pool("pool"), twin]));
    world.create("pvc-1", EXT4, 64 * MIB);
    let reports = world.run(world.engine.reports());
    assert!(reports[0].result.is_ok());
    let error = reports[1].result.as_ref().unwrap_err();
    assert!(error.to_string().contains("pool pool uses this directory already"), "{error}");
    assert_eq!(world.run(world.engine.list()).volumes.len(), 1);
    // Another reserve is the same pool: it goes on, and still knows its disk.
    let mut changed = world.pool("pool");
    changed.reserve_percent = 10;
    world.run(world.engine.set_pools(vec![changed]));
    assert_eq!(world.run(world.engine.reports())[0].result.as_ref().unwrap().volumes, 1);
}
