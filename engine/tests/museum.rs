//! Incidents of other storage systems, re-enacted on the real kernel. Needs root; skipped by name without.

mod world;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::mount::UnmountFlags;
use tierce_engine::{Error, StageRequest, VolumeId, VolumeMode};
use world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, spec};

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything that is in an image, to see that it was not touched.
fn contents(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// A volume with a file in it, unstaged again.
fn used_volume(world: &World, id: &str, mode: VolumeMode, size: u64) -> VolumeId {
    let id = world.create(id, mode, size);
    world.stage(&id, false).unwrap();
    fs::write(world.staging(&id).join("precious"), b"precious").unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
    id
}

fn assert_precious(world: &World, id: &VolumeId) {
    world.stage(id, false).unwrap();
    assert_eq!(fs::read(world.staging(id).join("precious")).unwrap(), b"precious");
    world.unstage(id).unwrap();
}

#[test]
fn bug_01_a_missing_image_is_never_made_anew() {
    let Some(world) = World::real() else { return };
    let id = used_volume(&world, "pvc-1", EXT4, 64 * MIB);
    let aside = world.path("aside");
    fs::rename(world.image("pvc-1"), &aside).unwrap();
    for _ in 0..3 {
        let error = world.stage(&id, false).unwrap_err();
        assert!(matches!(error, Error::BrokenRecord { .. }), "{error:?}");
    }
    assert!(!world.image("pvc-1").exists());
    assert_eq!(world.run(world.engine.list()).broken.len(), 1);
    fs::rename(&aside, world.image("pvc-1")).unwrap();
    assert_precious(&world, &id);
    assert_eq!(world.mkfs_count(), 1);
    world.assert_clean();
}

#[test]
fn bug_01_an_image_that_was_cut_off_is_never_formatted_or_mended() {
    let Some(world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", BTRFS)] {
        let id = used_volume(&world, name, mode, 128 * MIB);
        let image = OpenOptions::new().write(true).open(world.image(name)).unwrap();
        image.set_len(64 * MIB).unwrap();
        let error = world.stage(&id, false).unwrap_err();
        assert!(
            matches!(&error, Error::BrokenRecord { reason, .. } if reason.contains("cut off")),
            "{error:?}"
        );
        assert_eq!(image.metadata().unwrap().len(), 64 * MIB);
        let inventory = world.run(world.engine.list());
        assert!(inventory.broken.iter().any(|broken| broken.reason.contains("cut off")), "{inventory:?}");
        world.assert_clean();
    }
    assert_eq!(world.mkfs_count(), 2);
}

#[test]
fn bug_01_a_device_that_answers_with_errors_is_never_formatted() {
    let Some(world) = World::real() else { return };
    // A volume never staged, so that only the read error stands between it and mkfs; and one that was.
    let fresh = world.create("pvc-fresh", EXT4, 64 * MIB);
    let used = used_volume(&world, "pvc-used", EXT4, 64 * MIB);
    let before = world.mkfs_count();
    for id in [&fresh, &used] {
        let image = world.image(id.as_str());
        let whole = world.path("whole");
        fs::copy(&image, &whole).unwrap();
        // A loop device keeps its size when the file below shrinks: reads behind the end fail as a dying disk's do.
        let device = String::from_utf8(run("losetup", &["--find", "--show", text(&image)]).stdout).unwrap();
        let device = device.trim();
        OpenOptions::new().write(true).open(&image).unwrap().set_len(0).unwrap();
        let mut byte = [0];
        assert!(File::open(device).unwrap().read_exact(&mut byte).is_err(), "this device must fail");
        for _ in 0..3 {
            let error = world.stage(id, false).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
        }
        run("losetup", &["-d", device]);
        fs::write(&image, contents(&whole)).unwrap();
    }
    assert_eq!(world.mkfs_count(), before);
    assert_precious(&world, &used);
    world.assert_clean();
}

#[test]
fn bug_01_bug_02_zeros_under_a_record_that_says_formatted_are_never_formatted() {
    let Some(world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", XFS), ("pvc-3", BTRFS)] {
        let id = used_volume(&world, name, mode, 300 * MIB);
        let count = world.mkfs_count();
        let aside = world.path("aside");
        fs::rename(world.image(name), &aside).unwrap();
        File::create(world.image(name)).unwrap().set_len(300 * MIB).unwrap();
        for _ in 0..3 {
            let error = world.stage(&id, false).unwrap_err();
            assert!(
                matches!(&error, Error::FormatRefused { reason, .. } if reason.contains("only zeros")),
                "{error:?}"
            );
        }
        assert_eq!(fs::metadata(world.image(name)).unwrap().blocks(), 0, "nothing was written");
        assert_eq!(world.mkfs_count(), count);
        world.assert_clean();
        // The disk is well again: so is the volume.
        fs::rename(&aside, world.image(name)).unwrap();
        assert_precious(&world, &id);
    }
}

#[test]
fn bug_01_data_under_a_record_that_says_never_formatted_is_never_formatted() {
    let Some(world) = World::real() else { return };
    // Deep inside, where no probe looks; at the start; and a whole filesystem.
    let deep = world.create("pvc-deep", EXT4, 64 * MIB);
    OpenOptions::new()
        .write(true)
        .open(world.image("pvc-deep"))
        .unwrap()
        .write_all_at(b"x", 30 * MIB)
        .unwrap();
    let start = world.create("pvc-start", EXT4, 64 * MIB);
    OpenOptions::new().write(true).open(world.image("pvc-start")).unwrap().write_all_at(b"x", 0).unwrap();
    let filesystem = world.create("pvc-fs", EXT4, 64 * MIB);
    run("mkfs.ext4", &["-q", text(&world.image("pvc-fs"))]);
    for (id, words) in [(&deep, "holds data"), (&start, "unknown data"), (&filesystem, "carries ext4")] {
        let before = contents(&world.image(id.as_str()));
        let error = world.stage(id, false).unwrap_err();
        assert!(matches!(&error, Error::FormatRefused { reason, .. } if reason.contains(words)), "{error:?}");
        assert_eq!(contents(&world.image(id.as_str())), before);
        assert!(!world.run(world.engine.get(id)).unwrap().unwrap().used);
    }
    assert_eq!(world.mkfs_count(), 0);
    world.assert_clean();
}

#[test]
fn another_volumes_filesystem_under_the_record_is_refused() {
    let Some(world) = World::real() else { return };
    let one = used_volume(&world, "pvc-1", EXT4, 64 * MIB);
    let two = used_volume(&world, "pvc-2", EXT4, 64 * MIB);
    let aside = world.path("aside");
    fs::rename(world.image("pvc-1"), &aside).unwrap();
    fs::rename(world.image("pvc-2"), world.image("pvc-1")).unwrap();
    fs::rename(&aside, world.image("pvc-2")).unwrap();
    for id in [&one, &two] {
        let error = world.stage(id, false).unwrap_err();
        assert!(matches!(error, Error::FormatRefused { .. }), "{error:?}");
    }
    world.assert_clean();
}

#[test]
fn a_mkfs_that_was_killed_is_done_again_and_ends_well() {
    let Some(mut world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", XFS), ("pvc-3", BTRFS)] {
        let id = world.create(name, mode, 300 * MIB);
        world.spy.fail_next_mkfs.store(true, Ordering::SeqCst);
        let error = world.stage(&id, false).unwrap_err();
        assert!(matches!(error, Error::Command(_)), "{error:?}");
        world.restart();
        // What half a mkfs may have left.
        OpenOptions::new()
            .write(true)
            .open(world.image(name))
            .unwrap()
            .write_all_at(&[0xff; 4096], 65_536)
            .unwrap();
        assert!(world.stage(&id, false).unwrap());
        fs::write(world.staging(&id).join("precious"), b"precious").unwrap();
        world.unstage(&id).unwrap();
        assert_precious(&world, &id);
        world.assert_clean();
    }
    assert_eq!(world.mkfs_count(), 6);
}

#[test]
fn bug_08_a_writer_does_not_notice_ten_more_publishes() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    world.publish(&id, &target, false).unwrap();
    let before = fs::metadata(&target).unwrap();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut file = File::create(target.join("log")).unwrap();
    let writer = std::thread::spawn({
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        move || {
            while !stop.load(Ordering::SeqCst) {
                file.write_all(b"0123456789abcdef").unwrap();
                file.sync_data().unwrap();
                written.fetch_add(16, Ordering::SeqCst);
            }
        }
    });
    for _ in 0..10 {
        assert!(!world.publish(&id, &target, false).unwrap());
        assert!(!world.stage(&id, false).unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    let after = fs::metadata(&target).unwrap();
    assert_eq!((before.dev(), before.ino()), (after.dev(), after.ino()));
    assert_eq!(fs::metadata(target.join("log")).unwrap().len(), written.load(Ordering::SeqCst));
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
}

#[test]
fn bug_08_a_broken_mount_is_left_to_its_owner_and_can_be_taken_down() {
    let Some(world) = World::real() else { return };
    // A filesystem that the kernel shut down answers every question with an error.
    let id = world.create("pvc-1", XFS, 300 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    world.publish(&id, &target, false).unwrap();
    shut_down_xfs(&target);
    assert!(fs::metadata(target.join("x")).is_err());
    let mounts = world.mounts();
    assert!(!world.publish(&id, &target, false).unwrap());
    assert_eq!(world.mounts(), mounts);
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(world.unstage(&id).unwrap());
    world.assert_clean();
    assert!(world.stage(&id, false).unwrap());
    world.unstage(&id).unwrap();
}

/// `XFS_IOC_GOINGDOWN` without flushing the log, by xfs_io of xfsprogs.
fn shut_down_xfs(mounted: &Path) {
    run("xfs_io", &["-x", "-c", "shutdown", text(mounted)]);
}

#[test]
fn bug_10_a_staging_path_that_lost_its_mount_is_not_published() {
    let Some(world) = World::real() else { return };
    let target = world.path("target");
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", BTRFS)] {
        let id = world.create(name, mode, 128 * MIB);
        world.stage(&id, false).unwrap();
        rustix::mount::unmount(world.staging(&id), UnmountFlags::empty()).unwrap();
        let error = world.publish(&id, &target, false).unwrap_err();
        assert!(matches!(error, Error::NotStaged { .. }), "{error:?}");
        // A foreign filesystem there is no better.
        mount_tmpfs(&world.staging(&id));
        let error = world.publish(&id, &target, false).unwrap_err();
        assert!(matches!(error, Error::NotStaged { .. }), "{error:?}");
        let error = world.unstage(&id).unwrap_err();
        assert!(matches!(error, Error::ForeignTarget { .. }), "{error:?}");
        let error = world.stage(&id, false).unwrap_err();
        assert!(matches!(error, Error::ForeignTarget { .. }), "{error:?}");
        assert!(!target.exists());
        rustix::mount::unmount(world.staging(&id), UnmountFlags::empty()).unwrap();
        assert!(world.stage(&id, false).unwrap());
        assert!(world.unstage(&id).unwrap());
    }
    world.assert_clean();
}

fn mount_tmpfs(at: &Path) {
    rustix::mount::mount("none", at, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
}

#[test]
fn a_foreign_mount_at_the_target_is_left_alone() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    fs::create_dir(&target).unwrap();
    mount_tmpfs(&target);
    fs::write(target.join("precious"), b"x").unwrap();
    for result in [world.publish(&id, &target, false), world.unpublish(&id, &target)] {
        assert!(
            matches!(&result, Err(Error::ForeignTarget { found, .. }) if found.contains("tmpfs")),
            "{result:?}"
        );
    }
    assert_eq!(fs::read(target.join("precious")).unwrap(), b"x");
    rustix::mount::unmount(&target, UnmountFlags::empty()).unwrap();

    // A foreign mount that covers ours: neither is touched.
    assert!(world.publish(&id, &target, false).unwrap());
    mount_tmpfs(&target);
    let mounts = world.mounts();
    assert!(matches!(world.unpublish(&id, &target), Err(Error::ForeignTarget { .. })));
    assert_eq!(world.mounts(), mounts);
    rustix::mount::unmount(&target, UnmountFlags::empty()).unwrap();
    assert!(world.unpublish(&id, &target).unwrap());
    world.unstage(&id).unwrap();
    world.assert_clean();
}

#[test]
fn bug_11_a_mount_point_without_its_mount_takes_no_writes() {
    let Some(world) = World::real() else { return };
    let (id, block) = (world.create("pvc-1", EXT4, 64 * MIB), world.create("pvc-2", BLOCK, MIB));
    let (target, device) = (world.path("target"), world.path("device"));
    world.stage(&id, false).unwrap();
    world.publish(&id, &target, false).unwrap();
    world.stage(&block, true).unwrap();
    world.publish(&block, &device, true).unwrap();
    for path in [&target, &device, &world.staging(&id)] {
        rustix::mount::unmount(path, UnmountFlags::empty()).unwrap();
    }
    for path in [&target, &world.staging(&id)] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0);
        let error = fs::write(path.join("lost"), b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{path:?}");
    }
    assert!(OpenOptions::new().write(true).open(&device).is_err());
    // And they can be used again, and removed.
    assert!(world.stage(&id, false).unwrap());
    assert!(world.publish(&id, &target, false).unwrap());
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(world.unpublish(&block, &device).unwrap());
    assert!(world.unstage(&id).unwrap());
    assert!(world.unstage(&block).unwrap());
    fs::remove_dir(world.staging(&id)).unwrap();
    assert!(!target.exists() && !device.exists());
    world.assert_clean();
}

#[test]
fn bug_12_a_grown_volume_shows_its_new_size() {
    let Some(world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", XFS), ("pvc-3", BTRFS)] {
        let id = used_volume(&world, name, mode, 320 * MIB);
        let total = |world: &World, id: &VolumeId| {
            world.run(world.engine.stats(id, &world.staging(id))).unwrap().total_bytes
        };
        // Grown while it is not staged: the next stage sees to it.
        world.run(world.engine.grow(&id, 640 * MIB)).unwrap();
        world.stage(&id, false).unwrap();
        assert!(total(&world, &id) > 540 * MIB, "{name}: {}", total(&world, &id));
        // Grown while it is staged: at once, or at the next stage where the kernel says so.
        world.run(world.engine.grow(&id, 1280 * MIB)).unwrap();
        match world.run(world.engine.expand(&id, &world.staging(&id))) {
            Ok(bytes) => {
                assert_eq!(bytes, 1280 * MIB);
                assert!(total(&world, &id) > 1100 * MIB, "{name}: {}", total(&world, &id));
            }
            Err(Error::GrowOffline { reason, .. }) => {
                assert_eq!(mode, EXT4, "{reason}");
                println!("ext4 grows at its next mount here: {reason}");
            }
            Err(other) => panic!("{other:?}"),
        }
        world.unstage(&id).unwrap();
        world.stage(&id, false).unwrap();
        assert!(total(&world, &id) > 1100 * MIB, "{name}: {}", total(&world, &id));
        assert_eq!(fs::read(world.staging(&id).join("precious")).unwrap(), b"precious");
        assert_eq!(world.run(world.engine.expand(&id, &world.staging(&id))).unwrap(), 1280 * MIB);
        world.unstage(&id).unwrap();
    }
    assert_eq!(world.mkfs_count(), 3);
    world.assert_clean();
}

#[test]
fn bug_13_a_new_volume_shows_nothing_of_a_deleted_one() {
    let Some(world) = World::real() else { return };
    let world = world.thick();
    const SIZE: u64 = 32 * MIB;
    let marker = b"TIERCE-MARKER-OF-THE-FIRST-TENANT";
    let target = world.path("device");
    for round in 0..3 {
        let id = world.create("pvc-1", BLOCK, SIZE);
        assert!(
            fs::metadata(world.image("pvc-1")).unwrap().blocks() * 512 >= SIZE,
            "a thick volume has its blocks"
        );
        world.stage(&id, true).unwrap();
        world.publish(&id, &target, true).unwrap();
        let mut device = OpenOptions::new().read(true).write(true).open(&target).unwrap();
        let mut bytes = Vec::new();
        device.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), usize::try_from(SIZE).unwrap());
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
fn a_file_in_use_keeps_the_mount_and_says_so() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    world.publish(&id, &target, false).unwrap();
    let open = File::create(target.join("open")).unwrap();
    let error = world.unpublish(&id, &target).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error:?}");
    rustix::fs::fsync(open.as_fd()).unwrap();
    drop(open);
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
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
