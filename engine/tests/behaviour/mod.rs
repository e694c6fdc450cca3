//! What every host must do: run over the simulation always, over directory pools as root.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::{fs, os::unix::fs::PermissionsExt};

use tierce_engine::{
    Backend, Change, Engine, Error, Filesystem, Owner, PublishRequest, StageRequest, VolumeId,
};

use super::world::{BLOCK, EXT4, MIB, World, XFS, spec};

/// Makes one test per behaviour, in the world that the expression gives.
macro_rules! behaviours {
    ($world:expr) => {
        behaviours! { $world =>
            a_creation_repeated_changes_nothing_and_another_one_conflicts
            a_thousand_creations_at_once_of_one_id_make_one_volume
            bad_arguments_are_refused_before_anything_is_made
            what_does_not_exist_is_told_precisely
            out_of_space_names_the_largest_size_that_fits
            creations_at_once_never_promise_more_than_there_is
            every_call_may_be_repeated
            every_call_works_after_a_restart
            calls_in_the_wrong_order_are_answered_and_can_be_made_good
            raw_block_lives_from_create_to_delete
            bug_08_publishing_again_never_touches_the_mount
            bug_10_publish_without_stage_is_refused
            a_target_that_is_not_ours_is_left_alone
            a_staging_path_that_is_not_ours_is_left_alone
            a_read_only_target_stays_read_only
            two_targets_of_one_volume_are_independent
            a_volume_in_use_is_not_deleted
            a_volume_that_was_ever_used_is_kept_if_asked
            a_volume_grows_and_never_shrinks
            mount_options_are_kept_and_checked
            a_broken_record_is_left_alone_and_the_others_go_on
            a_pool_that_is_missing_does_not_stop_the_others
            a_pool_whose_disk_went_away_is_refused_until_it_is_back
            pools_on_one_disk_share_its_space
            what_a_crash_left_is_removed_and_nothing_else
            bug_04_delete_touches_only_its_own_subtree
        }
    };
    ($world:expr => $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let Some(mut world) = $world else { return };
                behaviour::$name(&mut world);
                world.assert_clean();
            }
        )*
    };
}
pub(crate) use behaviours;

/// What befalls a record file.
type Damage = fn(&std::path::Path);

fn message(error: &Error) -> String {
    error.to_string()
}

pub fn a_creation_repeated_changes_nothing_and_another_one_conflicts(world: &mut World) {
    let owner = Owner { namespace: "ns".to_owned(), name: "data".to_owned(), uid: "u-1".to_owned() };
    let mut asked = spec("pvc-1", EXT4, 64 * MIB + 1);
    asked.owner = Some(owner.clone());
    let Change::Created(info) = world.run(world.engine.create("pool", &asked)).unwrap() else {
        panic!("not created")
    };
    assert_eq!(info.size_bytes, 64 * MIB + 4096, "rounded up to whole blocks");
    assert_eq!((info.pool.as_str(), info.mode, info.used), ("pool", EXT4, false));
    assert_eq!(info.owner, Some(owner));
    assert_eq!(world.run(world.engine.create("pool", &asked)).unwrap(), Change::Unchanged(info.clone()));
    asked.size_bytes = 20 * MIB;
    assert!(
        !world.run(world.engine.create("pool", &asked)).unwrap().changed(),
        "smaller than what exists is satisfied"
    );
    assert_eq!(world.run(world.engine.get(&asked.id)).unwrap(), Some(info.clone()));
    assert_eq!(world.run(world.engine.list()).volumes, [info]);

    for (field, other) in [
        ("mode", spec("pvc-1", BLOCK, 64 * MIB)),
        ("mode", spec("pvc-1", XFS, 300 * MIB)),
        ("size", spec("pvc-1", EXT4, 65 * MIB)),
    ] {
        let error = world.run(world.engine.create("pool", &other)).unwrap_err();
        assert!(matches!(&error, Error::Conflict { field: found, .. } if *found == field), "{error:?}");
    }
}

pub fn a_thousand_creations_at_once_of_one_id_make_one_volume(world: &mut World) {
    let created = world.run(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..1000 {
            let engine: Engine = world.engine.clone();
            // Some callers give up; what they started must not disturb the others.
            tasks.spawn(async move {
                let asked = spec("pvc-1", EXT4, 64 * MIB);
                let create = engine.create("pool", &asked);
                if number % 10 == 0 {
                    let _ = tokio::time::timeout(std::time::Duration::from_micros(50), create).await;
                    return 0;
                }
                u32::from(create.await.unwrap().changed())
            });
        }
        tasks.join_all().await.into_iter().sum::<u32>()
    });
    assert!(created <= 1, "created {created} times");
    assert_eq!(world.run(world.engine.list()).volumes.len(), 1);
}

pub fn bad_arguments_are_refused_before_anything_is_made(world: &mut World) {
    let mut with_option = spec("pvc-1", EXT4, 64 * MIB);
    with_option.mount_options = vec!["suid".to_owned()];
    for (asked, words) in [
        (spec("pvc-1", EXT4, 0), "4096 bytes and 1 PiB"),
        (spec("pvc-1", BLOCK, (1 << 50) + 1), "4096 bytes and 1 PiB"),
        (spec("pvc-1", EXT4, 15 * MIB), "ext4 needs a volume of at least 16 MiB"),
        (spec("pvc-1", XFS, 299 * MIB), "xfs needs a volume of at least 300 MiB"),
        (with_option, "mount option \"suid\" is not allowed for ext4"),
    ] {
        let error = world.run(world.engine.create("pool", &asked)).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
        assert!(message(&error).contains(words), "{error}");
    }
    let error = world.run(world.engine.create("other", &spec("pvc-1", EXT4, 64 * MIB))).unwrap_err();
    assert!(matches!(&error, Error::UnknownPool { pool } if pool == "other"), "{error:?}");
    assert!(world.run(world.engine.list()).volumes.is_empty());

    let id = world.create("pvc-1", EXT4, 64 * MIB);
    for path in ["relative", "/", "/tmp/../etc/x", ""] {
        let error = world.run(world.engine.stage(&id, path.as_ref(), &StageRequest::default())).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{path}: {error:?}");
        let error = world.run(world.engine.unstage(&id, path.as_ref())).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{path}: {error:?}");
        let error = world.run(world.engine.unpublish(&id, path.as_ref())).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{path}: {error:?}");
    }
    let error = world
        .run(world.engine.stage(&id, &world.path("no/such/folder"), &StageRequest::default()))
        .unwrap_err();
    assert!(message(&error).contains("does not exist"), "{error}");
    let bug_22 = StageRequest { mount_options: vec!["dev".to_owned()], ..StageRequest::default() };
    let error = world.run(world.engine.stage(&id, &world.staging(&id), &bug_22)).unwrap_err();
    assert!(message(&error).contains("\"dev\" is not allowed"), "{error}");
    let other = StageRequest { filesystem: Some(Filesystem::Xfs), ..StageRequest::default() };
    let error = world.run(world.engine.stage(&id, &world.staging(&id), &other)).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "filesystem", .. }), "{error:?}");
    let error = world.stage(&id, true).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "mode", .. }), "{error:?}");
    assert_eq!(world.mkfs_count(), 0);
}

pub fn what_does_not_exist_is_told_precisely(world: &mut World) {
    let id: VolumeId = "pvc-none".parse().unwrap();
    let path = world.path("target");
    let not_found =
        |result: Result<bool, Error>| assert!(matches!(result, Err(Error::NotFound { .. })), "{result:?}");
    not_found(world.stage(&id, false));
    not_found(world.publish(&id, &path, false));
    not_found(world.run(world.engine.grow(&id, MIB)).map(|_| true));
    not_found(world.run(world.engine.expand(&id, &path)).map(|_| true));
    not_found(world.run(world.engine.stats(&id, &path)).map(|_| true));
    not_found(world.run(world.engine.set_mount_options(&id, Vec::new())).map(|_| true));
    assert_eq!(world.run(world.engine.get(&id)).unwrap(), None);
    assert!(!world.delete(&id).unwrap());
    assert!(!world.unstage(&id).unwrap());
    assert!(!world.unpublish(&id, &path).unwrap());
    assert!(!world.unpublish(&id, &world.path("no/such/folder")).unwrap());
    assert!(!path.exists());
}

pub fn out_of_space_names_the_largest_size_that_fits(world: &mut World) {
    let error = world.run(world.engine.create("pool", &spec("pvc-1", BLOCK, 1 << 50))).unwrap_err();
    let Error::OutOfSpace { largest, requested, .. } = error else { panic!("{error:?}") };
    assert_eq!(requested, 1 << 50);
    assert!(largest > 0 && largest < 1 << 50);
    // Others use the disk below the real pool too, so stay a little under what it named.
    let fits = largest / 8192 * 4096;
    let id = world.create("pvc-1", BLOCK, fits);
    let report = world.run(world.engine.reports()).remove(0).result.unwrap();
    assert_eq!((report.volumes, report.promised_bytes), (1, fits));
    let second = world.run(world.engine.create("pool", &spec("pvc-2", BLOCK, largest))).unwrap_err();
    assert!(matches!(second, Error::OutOfSpace { .. }), "{second:?}");
    let grown = world.run(world.engine.grow(&id, 1 << 50)).unwrap_err();
    assert!(matches!(grown, Error::OutOfSpace { largest: now, .. } if now >= fits), "{grown:?}");
    assert!(world.delete(&id).unwrap());
    let report = world.run(world.engine.reports()).remove(0).result.unwrap();
    assert_eq!((report.volumes, report.promised_bytes), (0, 0));
    assert!(report.max_volume_bytes > fits);
}

pub fn creations_at_once_never_promise_more_than_there_is(world: &mut World) {
    let available = world.run(world.engine.reports()).remove(0).result.unwrap().available_bytes;
    let size = available / 10;
    let created = world.run(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..40 {
            let engine: Engine = world.engine.clone();
            tasks.spawn(async move {
                match engine.create("pool", &spec(&format!("pvc-{number}"), BLOCK, size)).await {
                    Ok(_) => 1,
                    Err(Error::OutOfSpace { .. }) => 0,
                    Err(other) => panic!("{other:?}"),
                }
            });
        }
        tasks.join_all().await.into_iter().sum::<u32>()
    });
    // Others write on the real disk meanwhile, so a little less may fit.
    assert!((8..=10).contains(&created), "{created} tenths were promised");
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
        world.restart();
        assert!(world.unpublish(&id, &target).unwrap());
        world.restart();
        assert!(world.unstage(&id).unwrap());
        world.restart();
        assert!(world.delete(&id).unwrap());
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
    let error = publish(world, &two).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.ends_with("one")), "{error:?}");
    world.unpublish(&id, &one).unwrap();
    assert!(!publish(world, &two).unwrap().changed(), "alone there now");
    assert!(matches!(publish(world, &one), Err(Error::InUse { .. })));
    assert!(!one.exists());
    assert!(!world.publish(&id, &two, false).unwrap());
    world.unpublish(&id, &two).unwrap();
    world.unstage(&id).unwrap();
}

pub fn a_volume_in_use_is_not_deleted(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    let error = world.delete(&id).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.contains("staging-pvc-1")), "{error:?}");
    assert!(!world.stage(&id, false).unwrap());
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
}

pub fn a_volume_that_was_ever_used_is_kept_if_asked(world: &mut World) {
    let unused = world.create("pvc-1", EXT4, 64 * MIB);
    assert!(world.run(world.engine.delete(&unused, true)).unwrap().changed());
    for block in [false, true] {
        let id = world.create("pvc-2", if block { BLOCK } else { EXT4 }, 64 * MIB);
        world.stage(&id, block).unwrap();
        world.unstage(&id).unwrap();
        let error = world.run(world.engine.delete(&id, true)).unwrap_err();
        assert!(matches!(error, Error::MayHoldData { .. }), "{error:?}");
        assert!(world.delete(&id).unwrap());
    }
}

pub fn a_volume_grows_and_never_shrinks(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let grown = world.run(world.engine.grow(&id, 128 * MIB)).unwrap();
    assert!(grown.changed());
    assert_eq!(grown.into_inner().size_bytes, 128 * MIB);
    assert!(!world.run(world.engine.grow(&id, 128 * MIB)).unwrap().changed());
    let error = world.run(world.engine.grow(&id, 64 * MIB)).unwrap_err();
    assert!(matches!(error, Error::Shrink { .. }), "{error:?}");
    assert!(message(&error).contains("can't shrink"), "{error}");
    assert!(!world.run(world.engine.create("pool", &spec("pvc-1", EXT4, 64 * MIB))).unwrap().changed());
    world.stage(&id, false).unwrap();
    let stats = world.run(world.engine.stats(&id, &world.staging(&id))).unwrap();
    assert!(stats.total_bytes > 96 * MIB, "{stats:?}");
    world.unstage(&id).unwrap();
    let block = world.create("pvc-2", BLOCK, 8 * MIB);
    world.stage(&block, true).unwrap();
    world.run(world.engine.grow(&block, 16 * MIB)).unwrap();
    assert_eq!(world.run(world.engine.expand(&block, &world.staging(&block))).unwrap(), 16 * MIB);
    world.unstage(&block).unwrap();
}

pub fn mount_options_are_kept_and_checked(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let options = vec!["noatime".to_owned(), "commit=30".to_owned()];
    assert!(world.run(world.engine.set_mount_options(&id, options.clone())).unwrap().changed());
    assert!(!world.run(world.engine.set_mount_options(&id, options.clone())).unwrap().changed());
    let error = world.run(world.engine.set_mount_options(&id, vec!["inode64".to_owned()])).unwrap_err();
    assert!(message(&error).contains("\"inode64\" is not allowed for ext4"), "{error}");
    assert_eq!(world.run(world.engine.get(&id)).unwrap().unwrap().mount_options, options);
    world.stage(&id, false).unwrap();
    if world.real {
        let line = world.mounts().remove(0);
        assert!(line.contains("noatime") && line.contains("nodev") && line.contains("commit=30"), "{line}");
    }
    world.unstage(&id).unwrap();
    let block = world.create("pvc-2", BLOCK, MIB);
    assert!(world.run(world.engine.set_mount_options(&block, options)).is_err());
    assert!(!world.run(world.engine.set_mount_options(&block, Vec::new())).unwrap().changed());
}

pub fn a_broken_record_is_left_alone_and_the_others_go_on(world: &mut World) {
    let good = world.create("pvc-good", EXT4, 64 * MIB);
    let damage: [(&str, Damage); 4] = [
        ("pvc-cut", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("pvc-edited", |file| {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, text.replace("\"size_bytes\": 67108864", "\"size_bytes\": 67108865")).unwrap();
        }),
        ("pvc-gone", |file| fs::remove_file(file).unwrap()),
        ("pvc-zeros", |file| fs::write(file, [0; 512]).unwrap()),
    ];
    for (id, break_it) in damage {
        world.create(id, EXT4, 64 * MIB);
        break_it(&world.path("pool/volumes").join(id).join("record.json"));
    }
    world.restart();
    let inventory = world.run(world.engine.list());
    assert_eq!(inventory.volumes.len(), 1);
    assert_eq!(inventory.broken.len(), 4);
    for (name, _) in damage {
        let id: VolumeId = name.parse().unwrap();
        let broken = inventory.broken.iter().find(|broken| broken.id.as_ref() == Some(&id)).unwrap();
        assert!(broken.file.starts_with(world.path("pool/volumes").join(name)), "{broken:?}");
        assert!(!broken.reason.is_empty());
        for result in [
            world.stage(&id, false),
            world.delete(&id),
            world.run(world.engine.grow(&id, 128 * MIB)).map(|_| true),
            world.run(world.engine.create("pool", &spec(name, EXT4, 64 * MIB))).map(|_| true),
            world.run(world.engine.get(&id)).map(|_| true),
        ] {
            assert!(matches!(result, Err(Error::BrokenRecord { .. })), "{name}: {result:?}");
        }
        assert!(world.path("pool/volumes").join(name).is_dir());
    }
    assert_eq!(world.run(world.engine.recover()).problems, Vec::<String>::new());
    assert_eq!(world.run(world.engine.list()).broken.len(), 4);
    world.stage(&good, false).unwrap();
    world.unstage(&good).unwrap();
    assert!(world.delete(&good).unwrap());
}

pub fn a_pool_that_is_missing_does_not_stop_the_others(world: &mut World) {
    let file = world.path("file");
    fs::write(&file, b"").unwrap();
    let mut made = world.pool("made");
    let Backend::Directory { create_path, .. } = &mut made.backend;
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
    assert!(world.delete(&"pvc-1".parse().unwrap()).unwrap());
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

pub fn what_a_crash_left_is_removed_and_nothing_else(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    for left in ["new/pvc-2.0123", "trash/pvc-3.4567"] {
        let folder = world.path("pool").join(left);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("data.img"), b"x").unwrap();
    }
    fs::write(world.path("pool/volumes/pvc-1/record.json.tmp"), b"half a rec").unwrap();
    let recovery = world.run(world.engine.recover());
    assert_eq!((recovery.removed_unfinished, recovery.emptied_trash), (1, 1));
    assert_eq!(recovery.problems, Vec::<String>::new());
    for folder in ["new", "trash"] {
        assert_eq!(fs::read_dir(world.path("pool").join(folder)).unwrap().count(), 0);
    }
    assert!(world.run(world.engine.get(&id)).unwrap().is_some());
    world.stage(&id, false).unwrap();
    world.unstage(&id).unwrap();
}

pub fn bug_04_delete_touches_only_its_own_subtree(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let neighbours = ["pvc-10", "pvc-2", "pvc"].map(|name| world.create(name, EXT4, 64 * MIB));
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("data.img"), b"precious").unwrap();
    fs::write(outside.join("record.json"), b"{}").unwrap();
    // A volume's folder that is a link, and one with a link and a folder in it.
    std::os::unix::fs::symlink(&outside, world.path("pool/volumes/pvc-link")).unwrap();
    std::os::unix::fs::symlink(&outside, world.path("pool/volumes/pvc-1/link")).unwrap();
    let _ = world.delete(&"pvc-link".parse().unwrap());
    assert!(world.delete(&id).unwrap());
    world.run(world.engine.recover());
    assert!(!world.path("pool/volumes/pvc-1").exists());
    assert_eq!(fs::read(outside.join("data.img")).unwrap(), b"precious");
    assert!(outside.join("record.json").exists());
    for neighbour in &neighbours {
        assert!(world.run(world.engine.get(neighbour)).unwrap().is_some(), "{neighbour}");
    }
    // Deleting the last volume leaves the pool as it was.
    for neighbour in &neighbours {
        assert!(world.delete(neighbour).unwrap());
    }
    assert!(world.path("pool/volumes").is_dir() && world.path("pool/pool.json").exists());
}
