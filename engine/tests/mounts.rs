//! Mounts that are lost, broken, foreign, in use or too small, on the real kernel. Needs root; skipped by name without.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::mount::UnmountFlags;
use tierce_engine::{
    Error, Filesystem, PublishRequest, VolumeId,
    mount_options::{ALLOWED, Value},
};
use world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, run, text};

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

#[test]
fn a_new_ext4_has_no_lost_and_found_is_sound_and_keeps_one_that_comes_later() {
    let Some(world) = World::real() else { return };
    for size in [16 * MIB, 320 * MIB] {
        let id = world.create("pvc-1", EXT4, size);
        let lost_and_found = world.staging(&id).join("lost+found");
        world.stage(&id, false).unwrap();
        assert!(!lost_and_found.exists());
        world.unstage(&id).unwrap();
        run("e2fsck", &["-fn", text(&world.image("pvc-1"))]);
        // A check of everything makes one where it is missing.
        let check = std::process::Command::new("e2fsck").args(["-fp", text(&world.image("pvc-1"))]).output();
        assert_eq!(check.unwrap().status.code(), Some(1));
        world.stage(&id, false).unwrap();
        fs::write(lost_and_found.join("#12"), b"found").unwrap();
        world.unstage(&id).unwrap();
        world.stage(&id, false).unwrap();
        assert_eq!(fs::read(lost_and_found.join("#12")).unwrap(), b"found");
        world.unstage(&id).unwrap();
        world.delete(&id).unwrap();
    }
    assert_eq!(world.mkfs_count(), 2);
    world.assert_clean();
}

/// `XFS_IOC_GOINGDOWN` without flushing the log, by `xfs_io` of xfsprogs.
fn shut_down_xfs(mounted: &Path) {
    run("xfs_io", &["-x", "-c", "shutdown", text(mounted)]);
}

#[test]
fn bug_10_a_staging_path_that_lost_its_mount_is_not_published() {
    let Some(world) = World::real() else { return };
    let target = world.path("target");
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", BTRFS)] {
        let id = world.create(name, mode, 256 * MIB);
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
        let id = world.create(name, mode, 320 * MIB);
        world.stage(&id, false).unwrap();
        fs::write(world.staging(&id).join("precious"), b"precious").unwrap();
        world.unstage(&id).unwrap();
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
fn an_ext4_whose_inodes_are_all_used_is_checked_and_grows() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 16 * MIB);
    world.stage(&id, false).unwrap();
    let file = |number: usize| world.staging(&id).join(format!("file-{number}"));
    let error = (0..1 << 20).find_map(|number| fs::write(file(number), "").err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    let used = world.run(world.engine.stats(&id, &world.staging(&id))).unwrap();
    assert!(used.available_bytes > 8 * MIB, "the inodes are used, and not the space: {used:?}");
    world.unstage(&id).unwrap();
    world.run(world.engine.grow(&id, 64 * MIB)).unwrap();
    world.stage(&id, false).unwrap();
    let grown = world.run(world.engine.stats(&id, &world.staging(&id))).unwrap();
    assert!(grown.total_bytes > 48 * MIB, "{grown:?}");
    assert!(!world.staging(&id).join("lost+found").exists() && file(0).exists());
    // Smaller groups than those of 128 MiB bring inodes with them.
    for number in 1 << 20..(1 << 20) + 4096 {
        fs::write(file(number), "").unwrap();
    }
    world.unstage(&id).unwrap();
    world.assert_clean();
}

#[test]
fn an_exclusive_target_with_a_pods_sub_path_may_be_published_again() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let (target, sub_path) = (world.path("target"), world.path("sub-path"));
    world.stage(&id, false).unwrap();
    let exclusive = PublishRequest { exclusive: true, ..PublishRequest::default() };
    let publish = |target: &Path| {
        world
            .run(world.engine.publish(&id, &world.staging(&id), target, &exclusive))
            .map(|done| done.changed())
    };
    assert!(publish(&target).unwrap());
    fs::create_dir(target.join("folder")).unwrap();
    fs::create_dir(&sub_path).unwrap();
    rustix::mount::mount_bind(target.join("folder"), &sub_path).unwrap();
    assert!(!publish(&target).unwrap(), "as a kubelet does after its restart");
    assert!(matches!(publish(&world.path("other")), Err(Error::InUse { .. })));
    rustix::mount::unmount(&target, UnmountFlags::empty()).unwrap();
    assert!(publish(&target).unwrap(), "the pod's own sub-path is no other pod");
    rustix::mount::unmount(&sub_path, UnmountFlags::empty()).unwrap();
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
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
fn every_allowed_mount_option_is_one_that_the_kernel_takes() {
    let Some(world) = World::real() else { return };
    for (name, mode, filesystem) in [
        ("pvc-1", EXT4, Filesystem::Ext4),
        ("pvc-2", XFS, Filesystem::Xfs),
        ("pvc-3", BTRFS, Filesystem::Btrfs),
    ] {
        let id = world.create(name, mode, 320 * MIB);
        let mut seen = 0;
        for allowed in ALLOWED {
            if !allowed.filesystems.is_empty() && !allowed.filesystems.contains(&filesystem) {
                continue;
            }
            let values: Vec<String> = match allowed.value {
                Value::None => vec![allowed.name.to_owned()],
                Value::Number(low, high) => [low, high].map(|n| format!("{}={n}", allowed.name)).to_vec(),
                Value::Word(words) => words.iter().map(|word| format!("{}={word}", allowed.name)).collect(),
                Value::WordWithLevel(words) => words
                    .iter()
                    .flat_map(|(word, level)| match level {
                        0 => vec![format!("{}={word}", allowed.name)],
                        level => vec![
                            format!("{}={word}", allowed.name),
                            format!("{}={word}:{level}", allowed.name),
                        ],
                    })
                    .collect(),
            };
            for option in values {
                world.run(world.engine.set_mount_options(&id, vec![option.clone()])).unwrap();
                if let Err(error) = world.stage(&id, false) {
                    panic!("{filesystem} {option}: {error:?}");
                }
                world.unstage(&id).unwrap();
                seen += 1;
            }
        }
        assert!(seen > 10);
    }
    world.assert_clean();
}

#[test]
fn a_mount_the_kernel_refuses_is_explained_and_leaves_the_folder_as_it_was() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.unstage(&id).unwrap();
    let image = world.image("pvc-1");
    // An incompatible feature that no kernel knows.
    let file = OpenOptions::new().read(true).write(true).open(&image).unwrap();
    let mut bits = [0; 4];
    file.read_exact_at(&mut bits, 1024 + 96).unwrap();
    file.write_all_at(&(u32::from_le_bytes(bits) | 0x4000_0000).to_le_bytes(), 1024 + 96).unwrap();
    let error = world.stage(&id, false).unwrap_err();
    println!("{error}");
    assert!(matches!(&error, Error::Io { doing, .. } if doing.contains("mount ext4 /dev/loop")), "{error:?}");
    assert_eq!(world.mkfs_count(), 1);
    world.assert_clean();
    fs::remove_dir(world.staging(&id)).unwrap();
}

#[test]
fn a_btrfs_that_names_a_subvolume_to_be_mounted_is_mounted_whole() {
    let Some(world) = World::real() else { return };
    let id = world.create("pvc-1", BTRFS, 256 * MIB);
    let (staging, target) = (world.staging(&id), world.path("target"));
    world.stage(&id, false).unwrap();
    world.write(&id, "above it");
    run("btrfs", &["subvolume", "create", text(&staging.join("below"))]);
    run("btrfs", &["subvolume", "set-default", text(&staging.join("below"))]);
    world.unstage(&id).unwrap();
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "above it");
    assert!(!world.stage(&id, false).unwrap(), "it is known for what it is");
    world.publish(&id, &target, false).unwrap();
    assert!(target.join("below").is_dir());
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
    world.assert_clean();
}
