//! Pools on other filesystems than the test machine's own, and full ones, on the real kernel. Needs root; skipped by name without.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, UnmountFlags};
use tierce_engine::{Backend, Error, Provisioning};
use world::{BLOCK, BTRFS, EXT4, MIB, World, run, spec, text};

/// A filesystem of 1 GiB mounted over the pool's folder for one test.
struct Below {
    pool: PathBuf,
}

impl Below {
    fn mount(world: &World, filesystem: &str) -> Self {
        let pool = world.path("pool");
        fs::remove_dir_all(&pool).unwrap();
        fs::create_dir(&pool).unwrap();
        if filesystem == "tmpfs" {
            rustix::mount::mount("none", &pool, "tmpfs", MountFlags::empty(), Some(c"size=1g")).unwrap();
        } else {
            let image = world.path("below");
            File::create(&image).unwrap().set_len(1024 * MIB).unwrap();
            run(&format!("mkfs.{filesystem}"), &["-q", text(&image)]);
            run("mount", &["-o", "loop", text(&image), text(&pool)]);
        }
        Self { pool }
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // Of a test that froze it and died: it would hang for ever.
        let _ = std::process::Command::new("fsfreeze").arg("-u").arg(&self.pool).output();
        let _ = rustix::mount::unmount(&self.pool, UnmountFlags::DETACH);
    }
}

/// A world whose pool lies on that filesystem.
fn world_on(filesystem: &str, provisioning: Provisioning) -> Option<(World, Below)> {
    let mut world = World::real()?;
    let below = Below::mount(&world, filesystem);
    world.provisioning = provisioning;
    world.restart();
    Some((world, below))
}

#[test]
fn a_volume_lives_on_pools_of_every_filesystem() {
    for filesystem in ["ext4", "xfs", "btrfs", "tmpfs"] {
        for provisioning in [Provisioning::Thin, Provisioning::Thick] {
            let Some((world, below)) = world_on(filesystem, provisioning) else { return };
            let id = world.create("pvc-1", EXT4, 200 * MIB);
            let allocated = fs::metadata(world.image("pvc-1")).unwrap().blocks() * 512;
            match provisioning {
                Provisioning::Thin => assert!(allocated < MIB, "{filesystem}: {allocated}"),
                Provisioning::Thick => assert!(allocated >= 200 * MIB, "{filesystem}: {allocated}"),
            }
            world.stage(&id, false).unwrap();
            fs::write(world.staging(&id).join("precious"), vec![7; 1 << 20]).unwrap();
            let report = world.run(world.engine.reports()).remove(0).result.unwrap();
            println!("{filesystem} {provisioning:?}: direct I/O {:?}", report.direct_io);
            assert!(report.direct_io.is_some());
            assert!(report.capacity_bytes <= 1024 * MIB, "{report:?}");
            world.unstage(&id).unwrap();
            world.run(world.engine.grow(&id, 300 * MIB)).unwrap();
            world.stage(&id, false).unwrap();
            assert_eq!(fs::read(world.staging(&id).join("precious")).unwrap(), vec![7; 1 << 20]);
            assert!(world.run(world.engine.stats(&id, &world.staging(&id))).unwrap().total_bytes > 260 * MIB);
            world.unstage(&id).unwrap();
            world.delete(&id).unwrap();
            // The trash must be empty before the filesystem below can go.
            world.run(world.engine.sweep());
            drop(below);
        }
    }
}

#[test]
fn a_thick_volume_keeps_its_blocks_and_gets_back_those_that_were_discarded() {
    for mode in [EXT4, BTRFS] {
        let Some((world, _below)) = world_on("xfs", Provisioning::Thick) else { return };
        let id = world.create("pvc-1", mode, 256 * MIB);
        let allocated = || fs::metadata(world.image("pvc-1")).unwrap().blocks() * 512;
        let staging = world.staging(&id);
        world.stage(&id, false).unwrap();
        fs::write(staging.join("data"), vec![7; 64 << 20]).unwrap();
        run("sync", &["-f", text(&staging)]);
        fs::remove_file(staging.join("data")).unwrap();
        run("sync", &["-f", text(&staging)]);
        assert!(allocated() >= 200 * MIB, "{mode}: {} after a deletion", allocated());
        // Whoever may is free to discard; the next stage makes it good.
        run("fstrim", &[text(&staging)]);
        let trimmed = allocated();
        assert!(trimmed < 190 * MIB, "{mode}: nothing was discarded, so nothing is tested: {trimmed}");
        world.unstage(&id).unwrap();
        world.assert_no_loops();
        world.stage(&id, false).unwrap();
        assert!(allocated() >= 200 * MIB, "{mode}: {} after a stage", allocated());
        let discards =
            || world.mounts().iter().any(|line| line.contains(text(&staging)) && line.contains(",discard"));
        assert!(!discards(), "{:#?}", world.mounts());
        world.unstage(&id).unwrap();
        // Asked for it is left on.
        world.run(world.engine.set_mount_options(&id, vec!["discard".to_owned()])).unwrap();
        world.stage(&id, false).unwrap();
        assert!(discards(), "{:#?}", world.mounts());
        world.unstage(&id).unwrap();
        world.assert_no_loops();
    }
}

#[test]
fn a_pool_that_cannot_be_listed_is_named_and_not_taken_for_empty() {
    let Some((world, _below)) = world_on("xfs", Provisioning::Thin) else { return };
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    world.create("pvc-1", BLOCK, MIB);
    world.run(world.engine.create("second", &spec("pvc-2", BLOCK, MIB))).unwrap();
    let inventory = world.run(world.engine.list());
    assert_eq!((inventory.volumes.len(), inventory.unread), (2, vec![]));
    // The disk fails between two looks at the pool: it is open, and every call below ends with an error.
    run("xfs_io", &["-x", "-c", "shutdown", text(&world.path("pool"))]);
    let inventory = world.run(world.engine.list());
    assert_eq!((inventory.volumes.len(), inventory.unread), (1, vec!["pool".to_owned()]));
    assert!(world.run(world.engine.get(&"pvc-1".parse().unwrap())).is_err(), "unknown is not gone");
}

#[test]
fn a_disk_that_does_not_answer_holds_up_nobody_else() {
    let Some((mut world, _below)) = world_on("ext4", Provisioning::Thin) else { return };
    let id = world.create("pvc-1", BLOCK, MIB);
    fs::create_dir(world.path("second")).unwrap();
    let pools = vec![world.pool("pool"), world.pool("second")];
    world.forget();
    // A frozen filesystem lets whoever opens a pool on it wait, as a disk does that hangs.
    run("fsfreeze", &["-f", text(&world.path("pool"))]);
    let start = Instant::now();
    world.run(world.engine.set_pools(pools));
    let reports = world.run(world.engine.reports());
    let second = world.run(world.engine.create("second", &spec("pvc-2", BLOCK, MIB)));
    let (hung, took) = (world.run(world.engine.get(&id)), start.elapsed());
    run("fsfreeze", &["-u", text(&world.path("pool"))]);
    let said = reports[0].result.as_ref().unwrap_err().to_string();
    assert!(said.contains("has not answered"), "{said}");
    assert!(reports[1].result.is_ok() && second.is_ok(), "{:?} {second:?}", reports[1]);
    assert!(matches!(hung, Err(Error::PoolUnavailable(_))), "{hung:?}");
    assert!(took < Duration::from_mins(1), "{took:?}");
    // It answers again: the look that hung is the one that counts.
    while world.run(world.engine.reports())[0].result.is_err() {
        assert!(start.elapsed() < Duration::from_mins(2), "the pool did not come back");
    }
    assert!(world.run(world.engine.get(&id)).unwrap().is_some());
}

#[test]
fn a_full_filesystem_says_so_and_heals() {
    let Some((world, _below)) = world_on("ext4", Provisioning::Thick) else { return };
    let room = |world: &World| world.run(world.engine.reports()).remove(0).result.unwrap().max_volume_bytes;
    // Somebody else fills the disk behind our back.
    let filler = world.path("pool/somebody-elses");
    let before = room(&world);
    let file = File::create(&filler).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, before - 64 * MIB).unwrap();
    assert!(room(&world) <= 64 * MIB);
    let error = world.run(world.engine.create("pool", &spec("pvc-1", BLOCK, 128 * MIB))).unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { largest, .. } if largest <= 64 * MIB), "{error:?}");
    assert_eq!(fs::read_dir(world.path("pool/new")).unwrap().count(), 0, "nothing half-made is left");
    let id = world.create("pvc-2", BLOCK, 32 * MIB);
    let error = world.run(world.engine.grow(&id, 256 * MIB)).unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { .. }), "{error:?}");
    assert_eq!(world.run(world.engine.get(&id)).unwrap().unwrap().size_bytes, 32 * MIB);
    fs::remove_file(&filler).unwrap();
    drop(file);
    world.run(world.engine.grow(&id, 256 * MIB)).unwrap();
    world.create("pvc-1", BLOCK, 128 * MIB);
}

#[test]
fn the_space_of_a_deleted_volume_can_be_given_out_at_once() {
    let Some((world, _below)) = world_on("ext4", Provisioning::Thick) else { return };
    let most = world.run(world.engine.reports()).remove(0).result.unwrap().max_volume_bytes / 4 * 3;
    for round in 0..5 {
        let id = world.create(&format!("pvc-{round}"), BLOCK, most);
        assert!(world.delete(&id).unwrap());
    }
}

#[test]
fn two_subvolumes_of_one_btrfs_are_one_disk() {
    let Some((world, _below)) = world_on("btrfs", Provisioning::Thin) else { return };
    let path = world.path("pool/second");
    run("btrfs", &["-q", "subvolume", "create", text(&path)]);
    let number = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(number(&path), number(&world.path("pool")));
    let mut second = world.pool("second");
    second.backend = Backend::Directory { path, provisioning: Provisioning::Thin, create_path: false };
    world.run(world.engine.set_pools(vec![world.pool("pool"), second]));
    let usages = || -> Vec<_> {
        world.run(world.engine.reports()).into_iter().map(|report| report.result.unwrap()).collect()
    };
    let before = usages();
    assert_eq!(before[0].disk, before[1].disk);
    world.create("pvc-1", EXT4, 400 * MIB);
    let left = before[1].available_bytes - usages()[1].available_bytes;
    assert!(left >= 400 * MIB, "what is promised in one can't be promised in the other: {left}");
}
