//! Making, growing and deleting volumes.

use super::*;

pub fn a_creation_repeated_changes_nothing_and_another_one_conflicts(world: &mut World) {
    let owner = Owner { namespace: "ns".to_owned(), name: "data".to_owned(), uid: "u-1".to_owned() };
    let mut asked = spec("pvc-1", EXT4, 64 * MIB + 1);
    asked.owner = Some(owner.clone());
    let Change::Changed(info) = world.run(world.engine.create("pool", &asked)).unwrap() else {
        panic!("not created")
    };
    assert_eq!(info.size_bytes, (64 * MIB + 1).next_multiple_of(world.grain()), "rounded up to whole blocks");
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
        ("size", spec("pvc-1", EXT4, 72 * MIB)),
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
    let fits = largest / 2 / world.grain() * world.grain();
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
