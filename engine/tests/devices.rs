//! Loop devices and images: none leaked, none mixed up, none shown to the next tenant, on the real kernel. Needs root; skipped by name
//! without.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt},
    path::PathBuf,
    time::Duration,
};

use rustix::mount::UnmountFlags;
use tierce_engine::{Error, StageRequest, VolumeId};
use world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, run, spec, text};

/// Size of the volume that changes hands, in bytes.
const VOLUME: u64 = 32 * MIB;

#[test]
fn bug_13_a_new_volume_shows_nothing_of_a_deleted_one() {
    let Some(world) = World::real() else { return };
    let world = world.thick();
    let marker = b"TIERCE-MARKER-OF-THE-FIRST-TENANT";
    let target = world.path("device");
    for round in 0..3 {
        let id = world.create("pvc-1", BLOCK, VOLUME);
        assert!(
            fs::metadata(world.image("pvc-1")).unwrap().blocks() * 512 >= VOLUME,
            "a thick volume has its blocks"
        );
        world.stage(&id, true).unwrap();
        world.publish(&id, &target, true).unwrap();
        let mut device = OpenOptions::new().read(true).write(true).open(&target).unwrap();
        let mut bytes = Vec::new();
        device.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), usize::try_from(VOLUME).unwrap());
        assert!(bytes.iter().all(|&byte| byte == 0), "round {round}");
        device.seek(SeekFrom::Start(0)).unwrap();
        for chunk in bytes.chunks_mut(4096) {
            chunk[..marker.len()].copy_from_slice(marker);
        }
        device.write_all(&bytes).unwrap();
        device.sync_all().unwrap();
        drop(device);
        world.unpublish(&id, &target).unwrap();
        world.unstage(&id).unwrap();
        world.delete(&id).unwrap();
    }
    world.assert_clean();
}

#[test]
fn bug_28_a_foreign_loop_survives_and_ours_without_an_image_is_freed() {
    let Some(mut world) = World::real() else { return };
    // Foreign loops: over a file of that name elsewhere, over a deleted one, and over our own image attached by somebody else.
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let make = |path: PathBuf| {
        File::create(&path).unwrap().set_len(8 * MIB).unwrap();
        String::from_utf8(run("losetup", &["--find", "--show", text(&path)]).stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    let kept = make(elsewhere.join("data.img"));
    fs::create_dir(elsewhere.join("deleted")).unwrap();
    let deleted = make(elsewhere.join("deleted/data.img"));
    fs::remove_file(elsewhere.join("deleted/data.img")).unwrap();

    // Ours: staged raw block, raw block that nobody staged, and one whose image was deleted behind our back.
    let staged = world.create("pvc-staged", BLOCK, MIB);
    world.stage(&staged, true).unwrap();
    let gone = world.create("pvc-gone", BLOCK, MIB);
    world.stage(&gone, true).unwrap();
    fs::remove_dir_all(world.path("pool/volumes/pvc-gone")).unwrap();
    let before = world.loops().len();
    world.restart();
    let recovery = world.run(world.engine.recover());
    assert_eq!(recovery.freed_loops.len(), 1, "{recovery:?}");
    assert_eq!(recovery.problems, Vec::<String>::new());
    let after = world.loops();
    assert_eq!(after.len(), before - 1);
    for device in [&kept, &deleted] {
        assert!(after.contains(device), "{device} is not ours");
    }
    assert!(!world.stage(&staged, true).unwrap(), "still staged");
    assert!(world.run(world.engine.recover()).freed_loops.is_empty());
    world.unstage(&staged).unwrap();
    run("losetup", &["-d", &kept, &deleted]);
    world.assert_clean();
}

#[test]
fn a_killed_plugin_leaks_no_loop_and_loses_no_mount() {
    let Some(mut world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    assert_eq!(world.loops().len(), 1);
    // What SIGKILL leaves of the engine: nothing; the kernel keeps the mount, and the mount its device.
    world.restart();
    fs::write(world.staging(&id).join("x"), b"x").unwrap();
    rustix::mount::unmount(world.staging(&id), UnmountFlags::empty()).unwrap();
    world.assert_clean();
    assert!(world.stage(&id, false).unwrap());
    world.unstage(&id).unwrap();
    world.assert_clean();
}

#[test]
fn images_are_thin_direct_and_labelled() {
    let Some(world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", XFS), ("pvc-3", BTRFS)] {
        let id = world.create(name, mode, 4096 * MIB);
        let allocated = || fs::metadata(world.image(name)).unwrap().blocks() * 512;
        assert_eq!(allocated(), 0);
        world.stage(&id, false).unwrap();
        assert!(allocated() < 80 * MIB, "{name}: {} MiB", allocated() / MIB);
        let device = world.loops().remove(0);
        let index = device.strip_prefix("/dev/").unwrap();
        let sys =
            |file: &str| fs::read_to_string(format!("/sys/block/{index}/{file}")).unwrap().trim().to_owned();
        assert_eq!(sys("loop/dio"), "1");
        assert_eq!(sys("queue/logical_block_size"), "4096");
        assert_eq!(world.run(world.engine.reports())[0].result.as_ref().unwrap().direct_io, Some(true));
        let label = run("blkid", &["-p", "-o", "value", "-s", "LABEL", &device]);
        assert_eq!(String::from_utf8(label.stdout).unwrap().trim(), "my-label");
        world.unstage(&id).unwrap();
        world.delete(&id).unwrap();
        world.assert_clean();
    }
    let block = world.create("pvc-4", BLOCK, 8 * MIB);
    world.stage(&block, true).unwrap();
    let device = world.loops().remove(0);
    let size = fs::read_to_string(format!("/sys/block/{}/queue/logical_block_size", &device[5..])).unwrap();
    assert_eq!(size.trim(), "512");
    world.unstage(&block).unwrap();
    world.assert_clean();
}

#[test]
fn a_raw_block_target_is_the_device_and_keeps_its_bytes() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", BLOCK, 8 * MIB);
    let target = world.path("device");
    world.stage(&id, true).unwrap();
    world.publish(&id, &target, true).unwrap();
    assert!(fs::metadata(&target).unwrap().file_type().is_block_device());
    let device = OpenOptions::new().read(true).write(true).open(&target).unwrap();
    device.write_all_at(b"precious", 4 * MIB).unwrap();
    device.sync_all().unwrap();
    // An open descriptor, as a pod has it, survives everything the kubelet may repeat.
    assert!(!world.stage(&id, true).unwrap());
    assert!(!world.publish(&id, &target, true).unwrap());
    assert!(matches!(world.unstage(&id), Err(Error::InUse { .. })));
    device.write_all_at(b"still", 5 * MIB).unwrap();
    device.sync_all().unwrap();
    drop(device);
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
    assert!(world.stage(&id, true).unwrap());
    world.publish(&id, &target, true).unwrap();
    let mut bytes = [0; 8];
    File::open(&target).unwrap().read_exact_at(&mut bytes, 4 * MIB).unwrap();
    assert_eq!(&bytes, b"precious");
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
}

#[test]
fn twenty_volumes_at_once_get_twenty_devices() {
    let Some(world) = World::real() else { return };
    let ids: Vec<VolumeId> = (0..20).map(|n| world.create(&format!("pvc-{n}"), EXT4, 32 * MIB)).collect();
    world.run(async {
        let mut tasks = tokio::task::JoinSet::new();
        for id in ids.clone() {
            let (engine, staging) = (world.engine.clone(), world.staging(&id));
            tasks.spawn(async move {
                // Twice at once: one of them does it.
                let request = StageRequest::default();
                let (one, two) = tokio::join!(
                    engine.stage(&id, &staging, &request),
                    engine.stage(&id, &staging, &request)
                );
                assert!(one.unwrap().changed() ^ two.unwrap().changed());
            });
        }
        tasks.join_all().await;
    });
    let mut loops = world.loops();
    loops.sort();
    loops.dedup();
    assert_eq!(loops.len(), 20);
    for id in &ids {
        fs::write(world.staging(id).join("me"), id.as_str()).unwrap();
    }
    for id in &ids {
        assert_eq!(fs::read_to_string(world.staging(id).join("me")).unwrap(), id.as_str());
        world.unstage(id).unwrap();
        assert!(world.delete(id).unwrap(), "a volume can be deleted right after it was unstaged");
    }
    world.assert_clean();
}

#[test]
fn deleting_a_large_volume_frees_its_space() {
    let Some(world) = World::real() else { return };
    let world = world.thick();
    let free = |world: &World| world.run(world.engine.reports()).remove(0).result.unwrap();
    let id = world.create("pvc-1", EXT4, 2048 * MIB);
    assert!(free(&world).used_bytes >= 2048 * MIB);
    assert!(world.delete(&id).unwrap());
    assert_eq!(free(&world).used_bytes, 0);
    for attempt in 0.. {
        if fs::read_dir(world.path("pool/trash")).unwrap().count() == 0 {
            break;
        }
        assert!(attempt < 500, "the trash is never emptied");
        world.run(async { tokio::time::sleep(Duration::from_millis(10)).await });
    }
}

#[test]
fn a_read_only_pool_is_reported_with_its_errno() {
    let Some(world) = World::real() else { return };
    let pool = world.path("pool");
    let (source, flags) = (pool.clone(), rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY);
    rustix::mount::mount_bind(&source, &pool).unwrap();
    rustix::mount::mount_remount(&pool, flags, "").unwrap();
    let mut other = world.pool("pool");
    other.overcommit = 2.0;
    world.run(world.engine.set_pools(vec![other]));
    let error = world.run(world.engine.reports()).remove(0).result.unwrap_err();
    assert_eq!(error.errno, Some(30), "{error}");
    assert!(error.to_string().contains("not writable"), "{error}");
    let error = world.run(world.engine.create("pool", &spec("pvc-1", EXT4, 64 * MIB))).unwrap_err();
    assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
    rustix::mount::unmount(&pool, UnmountFlags::empty()).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_ok());
}

#[test]
fn an_ext4_that_is_marked_as_damaged_is_repaired_before_it_is_mounted() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "kept");
    world.unstage(&id).unwrap();
    world.assert_no_loops();
    let checks = || world.spy.lines.lock().unwrap().iter().filter(|line| line.contains("e2fsck")).count();
    assert_eq!(checks(), 0);
    // As a program leaves it that was cut off while it changed the filesystem.
    run("debugfs", &["-w", "-R", "set_super_value state 2", text(&world.image("pvc-1"))]);
    world.stage(&id, false).unwrap();
    assert_eq!((world.read(&id).as_str(), checks()), ("kept", 1));
    world.unstage(&id).unwrap();
    world.stage(&id, false).unwrap();
    assert_eq!(checks(), 1, "it is no longer marked");
    world.unstage(&id).unwrap();
    world.assert_clean();
}
