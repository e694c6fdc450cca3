//! Staging and publishing, repeated, reordered and aimed at what is not ours.

use super::*;

pub fn a_volume_of_every_filesystem_lives_from_create_to_delete(world: &mut World) {
    for mode in [EXT4, XFS, BTRFS] {
        let id = world.create("pvc-1", mode, 320 * MIB);
        assert!(world.stage(&id, false).unwrap());
        let target = world.path("target");
        assert!(world.publish(&id, &target, false).unwrap());
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{mode:?}: a new volume is empty");
        fs::write(target.join("file"), b"hello").unwrap();
        assert!(world.unpublish(&id, &target).unwrap());
        assert!(!target.exists());
        assert!(world.unstage(&id).unwrap());
        world.assert_clean();
        assert!(world.stage(&id, false).unwrap());
        assert_eq!(fs::read(world.staging(&id).join("file")).unwrap(), b"hello");
        assert!(world.unstage(&id).unwrap());
        assert!(world.delete(&id).unwrap());
        assert!(!world.delete(&id).unwrap());
        world.assert_clean();
    }
    assert_eq!(world.mkfs_count(), 3);
}

pub fn every_call_may_be_repeated(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    assert!(world.stage(&id, false).unwrap());
    assert!(!world.stage(&id, false).unwrap());
    assert!(world.run(world.engine.get(&id)).unwrap().unwrap().used);
    assert!(world.publish(&id, &target, false).unwrap());
    assert!(!world.publish(&id, &target, false).unwrap());
    let stats = world.run(world.engine.stats(&id, &target)).unwrap();
    assert!(stats.total_bytes > 50 * MIB && stats.total_bytes <= 64 * MIB, "{stats:?}");
    assert!(stats.inodes.unwrap().total > 100);
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(!world.unpublish(&id, &target).unwrap());
    assert!(!target.exists());
    assert!(world.unstage(&id).unwrap());
    assert!(!world.unstage(&id).unwrap());
    fs::remove_dir(world.staging(&id)).unwrap();
    assert!(!world.unstage(&id).unwrap());
    assert!(world.delete(&id).unwrap());
    assert!(!world.delete(&id).unwrap());
}

pub fn every_call_works_after_a_restart(world: &mut World) {
    let target = world.path("target");
    for block in [false, true] {
        let id = world.create("pvc-1", if block { BLOCK } else { EXT4 }, 64 * MIB);
        world.restart();
        assert!(world.stage(&id, block).unwrap());
        world.restart();
        let recovery = world.run(world.engine.recover());
        assert_eq!(
            (recovery.freed_loops, recovery.problems),
            (Vec::new(), Vec::new()),
            "a staged device is not stale"
        );
        assert!(!world.stage(&id, block).unwrap());
        world.restart();
        assert!(world.publish(&id, &target, block).unwrap());
        world.restart();
        assert!(!world.publish(&id, &target, block).unwrap());
        world.end_over_restarts(&id, &target);
    }
}

pub fn calls_in_the_wrong_order_are_answered_and_can_be_made_good(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    world.publish(&id, &target, false).unwrap();
    // The kubelet forgot the publish: the target keeps the filesystem, and staging again finds it.
    assert!(world.unstage(&id).unwrap());
    assert!(matches!(world.delete(&id), Err(Error::InUse { .. })));
    assert!(!world.unstage(&id).unwrap());
    assert!(world.stage(&id, false).unwrap());
    assert!(!world.publish(&id, &target, false).unwrap());
    assert!(world.unstage(&id).unwrap());
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(world.delete(&id).unwrap());
}

pub fn raw_block_lives_from_create_to_delete(world: &mut World) {
    let id = world.create("pvc-1", BLOCK, 8 * MIB);
    let target = world.path("device");
    assert!(matches!(world.publish(&id, &target, true), Err(Error::NotStaged { .. })));
    assert!(!target.exists());
    assert!(world.stage(&id, true).unwrap());
    assert!(!world.stage(&id, true).unwrap());
    assert!(world.publish(&id, &target, true).unwrap());
    assert!(!world.publish(&id, &target, true).unwrap());
    let stats = world.run(world.engine.stats(&id, &target)).unwrap();
    assert_eq!((stats.total_bytes, stats.inodes), (8 * MIB, None));
    let elsewhere = world.path("elsewhere");
    let request = StageRequest { block: true, ..StageRequest::default() };
    let error = world.run(world.engine.stage(&id, &elsewhere, &request)).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error:?}");
    let error = world.unstage(&id).unwrap_err();
    assert!(
        matches!(&error, Error::InUse { by, .. } if by.contains("device")),
        "a published device stays: {error:?}"
    );
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(!target.exists());
    assert!(matches!(world.delete(&id), Err(Error::InUse { .. })));
    assert!(world.unstage(&id).unwrap());
    assert!(!world.unstage(&id).unwrap());
    assert!(world.delete(&id).unwrap());
}

pub fn what_is_mounted_comes_down_while_its_pool_is_away(world: &mut World) {
    let (id, block) = (world.create("pvc-1", EXT4, 64 * MIB), world.create("pvc-2", BLOCK, 8 * MIB));
    let (target, device) = (world.path("target"), world.path("device"));
    world.stage(&id, false).unwrap();
    world.publish(&id, &target, false).unwrap();
    world.stage(&block, true).unwrap();
    world.publish(&block, &device, true).unwrap();
    fs::rename(world.path("pool"), world.path("unmounted")).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_err());
    // Another volume's mount is still another's.
    let nobody: VolumeId = "pvc-11".parse().unwrap();
    assert!(world.unpublish(&nobody, &target).is_err());
    assert!(matches!(world.unpublish(&block, &target), Err(Error::NotFound { .. })));
    assert!(matches!(world.unstage(&block), Err(Error::InUse { .. })), "still published");
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(world.unpublish(&block, &device).unwrap());
    assert!(!target.exists() && !device.exists());
    assert!(world.unstage(&id).unwrap());
    assert!(world.unstage(&block).unwrap());
    assert!(!world.unstage(&id).unwrap());
    assert!(!world.unstage(&block).unwrap());
    world.assert_clean();
    for id in [&id, &block] {
        fs::remove_dir(world.staging(id)).unwrap();
    }
    // The pool is back: nothing keeps its volumes from being used or deleted.
    fs::rename(world.path("unmounted"), world.path("pool")).unwrap();
    world.set_pool();
    assert!(world.stage(&block, true).unwrap());
    assert!(world.unstage(&block).unwrap());
    assert!(world.stage(&id, false).unwrap());
    assert!(world.unstage(&id).unwrap());
    assert!(world.delete(&id).unwrap());
    assert!(world.delete(&block).unwrap());
}

pub fn what_is_mounted_comes_down_after_its_folder_was_removed(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    world.publish(&id, &target, false).unwrap();
    fs::remove_dir_all(world.path("pool/volumes/pvc-1")).unwrap();
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(world.unstage(&id).unwrap());
    world.assert_clean();
    // The same for a raw block volume that its pool's outage left staged in its record only.
    let block = world.create("pvc-2", BLOCK, 8 * MIB);
    world.stage(&block, true).unwrap();
    assert!(matches!(world.delete(&block), Err(Error::InUse { .. })));
    fs::remove_dir(world.staging(&block)).unwrap();
    assert!(world.delete(&block).unwrap(), "its owner removed the staging path, so it is not staged");
}

pub fn bug_08_publishing_again_never_touches_the_mount(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    assert!(world.publish(&id, &target, false).unwrap());
    let before = world.mounts();
    for _ in 0..10 {
        assert!(!world.publish(&id, &target, false).unwrap());
    }
    assert_eq!(world.mounts(), before);
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
}

pub fn bug_10_publish_without_stage_is_refused(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let other = world.create("pvc-2", EXT4, 64 * MIB);
    let target = world.path("target");
    fs::create_dir(world.staging(&id)).unwrap();
    assert!(matches!(world.publish(&id, &target, false), Err(Error::NotStaged { .. })));
    // Another volume at the staging path is not this one.
    world.stage(&other, false).unwrap();
    let result =
        world.run(world.engine.publish(&id, &world.staging(&other), &target, &PublishRequest::default()));
    assert!(matches!(result, Err(Error::NotStaged { .. })), "{result:?}");
    world.stage(&id, false).unwrap();
    let result =
        world.run(world.engine.publish(&id, &world.staging(&other), &target, &PublishRequest::default()));
    assert!(matches!(result, Err(Error::NotStaged { .. })), "{result:?}");
    assert!(!target.exists());
    assert!(matches!(
        world.run(world.engine.stats(&id, &world.staging(&other))),
        Err(Error::NotStaged { .. })
    ));
    assert!(matches!(world.run(world.engine.expand(&id, &target)), Err(Error::NotStaged { .. })));
    world.unstage(&id).unwrap();
    world.unstage(&other).unwrap();
}

pub fn a_target_that_is_not_ours_is_left_alone(world: &mut World) {
    let (id, other) = (world.create("pvc-1", EXT4, 64 * MIB), world.create("pvc-2", EXT4, 64 * MIB));
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    world.stage(&other, false).unwrap();

    // Somebody's files.
    fs::create_dir(&target).unwrap();
    fs::write(target.join("precious"), b"x").unwrap();
    for result in [world.publish(&id, &target, false), world.unpublish(&id, &target)] {
        assert!(matches!(result, Err(Error::ForeignTarget { .. })), "{result:?}");
    }
    assert_eq!(fs::read(target.join("precious")).unwrap(), b"x");
    fs::remove_dir_all(&target).unwrap();

    // A file, and a link to somewhere else.
    fs::write(&target, b"x").unwrap();
    for result in [world.publish(&id, &target, false), world.unpublish(&id, &target)] {
        assert!(matches!(result, Err(Error::ForeignTarget { .. })), "{result:?}");
    }
    fs::remove_file(&target).unwrap();
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &target).unwrap();
    for result in [world.publish(&id, &target, false), world.unpublish(&id, &target)] {
        assert!(matches!(result, Err(Error::ForeignTarget { .. })), "{result:?}");
    }
    assert!(target.is_symlink());
    fs::remove_file(&target).unwrap();

    // Another volume.
    assert!(world.publish(&other, &target, false).unwrap());
    let mounts = world.mounts();
    for result in [world.publish(&id, &target, false), world.unpublish(&id, &target)] {
        assert!(matches!(result, Err(Error::ForeignTarget { .. })), "{result:?}");
    }
    let nobody: VolumeId = "pvc-none".parse().unwrap();
    assert!(matches!(world.unpublish(&nobody, &target), Err(Error::NotFound { .. })));
    assert_eq!(world.mounts(), mounts);
    assert!(!world.publish(&other, &target, false).unwrap(), "still there");
    world.unpublish(&other, &target).unwrap();
    world.unstage(&other).unwrap();
    world.unstage(&id).unwrap();
}

pub fn a_staging_path_that_is_not_ours_is_left_alone(world: &mut World) {
    let (id, other) = (world.create("pvc-1", EXT4, 64 * MIB), world.create("pvc-2", EXT4, 64 * MIB));
    let staging = world.staging(&id);
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("precious"), b"x").unwrap();
    assert!(matches!(world.stage(&id, false), Err(Error::ForeignTarget { .. })));
    assert_eq!(fs::read(staging.join("precious")).unwrap(), b"x");
    fs::remove_dir_all(&staging).unwrap();
    world.stage(&id, false).unwrap();
    let request = StageRequest::default();
    let result = world.run(world.engine.stage(&other, &staging, &request));
    assert!(matches!(result, Err(Error::ForeignTarget { .. })), "{result:?}");
    let result = world.run(world.engine.unstage(&other, &staging));
    assert!(matches!(result, Err(Error::ForeignTarget { .. })), "{result:?}");
    assert!(!world.stage(&id, false).unwrap(), "still staged");
    world.unstage(&id).unwrap();
}

pub fn a_read_only_target_stays_read_only(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&id, false).unwrap();
    let readonly = PublishRequest { readonly: true, ..PublishRequest::default() };
    assert!(world.run(world.engine.publish(&id, &world.staging(&id), &target, &readonly)).unwrap().changed());
    assert!(
        !world.run(world.engine.publish(&id, &world.staging(&id), &target, &readonly)).unwrap().changed()
    );
    let error = world.publish(&id, &target, false).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "access", .. }), "{error:?}");
    if world.real {
        assert_eq!(
            fs::write(target.join("x"), b"").unwrap_err().kind(),
            std::io::ErrorKind::ReadOnlyFilesystem
        );
        fs::write(world.staging(&id).join("x"), b"").unwrap();
    }
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
}

pub fn two_targets_of_one_volume_are_independent(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let (one, two) = (world.path("one"), world.path("two"));
    world.stage(&id, false).unwrap();
    world.publish(&id, &one, false).unwrap();
    world.publish(&id, &two, false).unwrap();
    let exclusive = PublishRequest { exclusive: true, ..PublishRequest::default() };
    let publish =
        |world: &World, target| world.run(world.engine.publish(&id, &world.staging(&id), target, &exclusive));
    let three = world.path("three");
    let error = publish(world, &three).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.ends_with("one")), "{error:?}");
    assert!(!publish(world, &two).unwrap().changed(), "what is there already is not asked for again");
    world.unpublish(&id, &one).unwrap();
    assert!(!publish(world, &two).unwrap().changed(), "alone there now");
    assert!(matches!(publish(world, &one), Err(Error::InUse { .. })));
    assert!(!one.exists());
    assert!(!world.publish(&id, &two, false).unwrap());
    world.unpublish(&id, &two).unwrap();
    world.unstage(&id).unwrap();
}
