//! Snapshots, clones and restores in place.

use tierce_engine::SnapshotInfo;

use super::*;

fn id(name: &str) -> VolumeId {
    name.parse().unwrap()
}

#[allow(clippy::needless_pass_by_value)] // So that a call stands alone in its line.
fn kind(result: Result<bool, Error>) {
    assert!(matches!(&result, Err(Error::Conflict { field: "kind", .. })), "{result:?}");
}

fn listed(world: &World) -> Vec<SnapshotInfo> {
    let inventory = world.run(world.engine.list());
    assert_eq!(inventory.broken, []);
    inventory.snapshots
}

pub fn a_snapshot_keeps_what_was_there_and_outlives_its_volume(world: &mut World) {
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&volume, false).unwrap();
    world.write(&volume, "one");
    let owner = Owner { namespace: "ns".to_owned(), name: "snap".to_owned(), uid: "u-1".to_owned() };
    let asked = SnapshotSpec { id: id("snap-1"), source: volume.clone(), owner: Some(owner.clone()) };
    let Change::Changed(info) = world.run(world.engine.snapshot(&asked)).unwrap() else {
        panic!("not taken")
    };
    assert_eq!((info.pool.as_str(), &info.source, info.size_bytes), ("pool", &volume, 64 * MIB));
    assert_eq!((info.mode, info.owner.as_ref(), info.valid), (EXT4, Some(&owner), true));
    world.write(&volume, "two");

    world.restart();
    assert!(!world.run(world.engine.snapshot(&asked)).unwrap().changed());
    let found = world.run(world.engine.get_snapshot(&asked.id)).unwrap().unwrap();
    assert_eq!((found.taken_at, &found.owner), (info.taken_at, &info.owner));
    assert_eq!(listed(world), [found]);
    assert_eq!(world.run(world.engine.list()).volumes.len(), 1);

    let clone = world.create_from("pvc-2", EXT4, 64 * MIB, "snap-1").unwrap();
    world.stage(&clone, false).unwrap();
    assert_eq!((world.read(&clone).as_str(), world.read(&volume).as_str()), ("one", "two"));
    world.write(&clone, "three");
    world.unstage(&clone).unwrap();
    world.unstage(&volume).unwrap();
    assert!(world.delete(&volume).unwrap());
    assert!(!world.run(world.engine.snapshot(&asked)).unwrap().changed(), "it exists without its volume");

    let other = world.create_from("pvc-3", EXT4, 64 * MIB, "snap-1").unwrap();
    world.stage(&other, false).unwrap();
    assert_eq!(world.read(&other), "one");
    world.unstage(&other).unwrap();
    assert!(world.run(world.engine.delete_snapshot(&asked.id)).unwrap().changed());
    assert!(!world.run(world.engine.delete_snapshot(&asked.id)).unwrap().changed());
    assert_eq!(world.run(world.engine.get_snapshot(&asked.id)).unwrap(), None);
    world.stage(&clone, false).unwrap();
    assert_eq!(world.read(&clone), "three");
    world.unstage(&clone).unwrap();
    assert_eq!(listed(world), []);
    assert!(world.mkfs_count() <= 1, "a copy was formatted");
}

pub fn a_snapshot_is_no_volume_and_a_volume_no_snapshot(world: &mut World) {
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    let snapshot = world.snapshot("snap-1", &volume).unwrap();
    kind(world.stage(&snapshot, false));
    kind(world.publish(&snapshot, &world.path("target"), false));
    kind(world.delete(&snapshot));
    kind(world.run(world.engine.grow(&snapshot, 128 * MIB)).map(|_| true));
    kind(world.run(world.engine.get(&snapshot)).map(|_| true));
    kind(world.run(world.engine.get_in("pool", &snapshot)).map(|_| true));
    kind(world.run(world.engine.set_mount_options(&snapshot, vec!["noatime".to_owned()])).map(|_| true));
    kind(world.run(world.engine.create("pool", &spec("snap-1", EXT4, 64 * MIB))).map(|_| true));
    kind(world.run(world.engine.delete_snapshot(&volume)).map(|_| true));
    kind(world.run(world.engine.get_snapshot(&volume)).map(|_| true));
    kind(world.snapshot("pvc-1", &snapshot).map(|_| true));
    kind(world.snapshot("snap-2", &snapshot).map(|_| true));
    let other = world.create("pvc-2", EXT4, 64 * MIB);
    let error = world.snapshot("snap-1", &other).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "source", .. }), "{error:?}");
    assert!(matches!(world.snapshot("pvc-2", &other), Err(Error::InvalidArgument(_))));
    assert_eq!(listed(world).len(), 1);
    assert!(!world.path("target").exists());
}

pub fn a_source_that_does_not_fit_is_refused_and_nothing_is_made(world: &mut World) {
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    world.snapshot("snap-1", &volume).unwrap();
    for from in ["snap-1", "pvc-1"] {
        let error = world.create_from("pvc-2", EXT4, 60 * MIB, from).unwrap_err();
        assert!(matches!(error, Error::SourceTooLarge { existing, .. } if existing == 64 * MIB), "{error:?}");
        for mode in [BLOCK, XFS] {
            let error = world.create_from("pvc-2", mode, 320 * MIB, from).unwrap_err();
            assert!(matches!(error, Error::SourceMismatch { field: "mode", .. }), "{error:?}");
        }
    }
    for from in ["snap-none", "pvc-2"] {
        let error = world.create_from("pvc-2", EXT4, 64 * MIB, from).unwrap_err();
        assert!(matches!(error, Error::SourceNotFound { .. } | Error::InvalidArgument(_)), "{error:?}");
    }
    let error = world.snapshot("snap-2", &id("pvc-none")).unwrap_err();
    assert!(matches!(error, Error::SourceNotFound { .. }), "{error:?}");
    let inventory = world.run(world.engine.list());
    assert_eq!((inventory.volumes.len(), inventory.snapshots.len()), (1, 1));

    let clone = world.create_from("pvc-2", EXT4, 64 * MIB, "snap-1").unwrap();
    let info = world.run(world.engine.get(&clone)).unwrap().unwrap();
    assert_eq!((info.source, info.used), (Some(id("snap-1")), false));
    assert_eq!(world.create_from("pvc-2", EXT4, 64 * MIB, "snap-1").unwrap(), clone);
    for other in
        [world.create_from("pvc-2", EXT4, 64 * MIB, "pvc-1"), world.create_from("pvc-1", EXT4, 1, "snap-1")]
    {
        assert!(
            matches!(other, Err(Error::Conflict { field: "source", .. } | Error::InvalidArgument(_))),
            "{other:?}"
        );
    }
    let plain = world.run(world.engine.create("pool", &spec("pvc-2", EXT4, 64 * MIB))).unwrap_err();
    assert!(matches!(plain, Error::Conflict { field: "source", .. }), "{plain:?}");
}

pub fn bug_18_a_snapshot_changes_its_mode_only_where_that_was_permitted(world: &mut World) {
    let files = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&files, false).unwrap();
    world.write(&files, "one");
    world.unstage(&files).unwrap();
    world.snapshot("snap-1", &files).unwrap();
    let refused = [
        world.create_from("pvc-2", BLOCK, 64 * MIB, "snap-1"),
        // Of a volume nobody has seen what it will carry.
        world.convert("pvc-2", BLOCK, 64 * MIB, "pvc-1"),
        // Another filesystem is no other mode.
        world.convert("pvc-2", XFS, 320 * MIB, "snap-1"),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert!(matches!(error, Error::SourceMismatch { field: "mode", .. }), "{error:?}");
    }
    let device = world.convert("pvc-2", BLOCK, 64 * MIB, "snap-1").unwrap();
    world.stage(&device, true).unwrap();
    world.unstage(&device).unwrap();

    // And back, from the device.
    world.snapshot("snap-2", &device).unwrap();
    let error = world.create_from("pvc-3", EXT4, 64 * MIB, "snap-2").unwrap_err();
    assert!(matches!(error, Error::SourceMismatch { field: "mode", .. }), "{error:?}");
    let back = world.convert("pvc-3", EXT4, 64 * MIB, "snap-2").unwrap();
    world.restart();
    assert_eq!(world.convert("pvc-3", EXT4, 64 * MIB, "snap-2").unwrap(), back, "the same call again");
    world.stage(&back, false).unwrap();
    assert_eq!(world.read(&back), "one");
    world.write(&back, "two");
    world.unstage(&back).unwrap();
    world.stage(&back, false).unwrap();
    assert_eq!(world.read(&back), "two");
    world.unstage(&back).unwrap();
    // What the device carries is not what is asked for; where only its first stage can tell, that says so.
    match world.convert("pvc-4", XFS, 320 * MIB, "snap-2") {
        Err(error) => assert!(matches!(error, Error::SourceMismatch { field: "content", .. }), "{error:?}"),
        Ok(other) => {
            let error = world.stage(&other, false).unwrap_err();
            assert!(matches!(error, Error::FormatRefused { .. }), "{error:?}");
            assert!(message(&error).contains("shows ext4"), "{error}");
            assert!(world.delete(&other).unwrap());
        }
    }
    assert!(world.mkfs_count() <= 1, "a copy was formatted");
}

pub fn bug_18_a_snapshot_of_a_raw_block_volume_is_never_mounted(world: &mut World) {
    let volume = world.create("pvc-1", BLOCK, 320 * MIB);
    world.snapshot("snap-1", &volume).unwrap();
    for mode in [EXT4, XFS] {
        let error = world.create_from("pvc-2", mode, 320 * MIB, "snap-1").unwrap_err();
        assert!(matches!(error, Error::SourceMismatch { field: "mode", .. }), "{error:?}");
        assert!(message(&error).contains("its mode is block, not filesystem"), "{error}");
    }
    let clone = world.create_from("pvc-2", BLOCK, 320 * MIB, "snap-1").unwrap();
    assert!(matches!(world.stage(&clone, false), Err(Error::Conflict { field: "mode", .. })));
    world.stage(&clone, true).unwrap();
    world.unstage(&clone).unwrap();
}

pub fn snapshots_and_clones_promise_their_whole_size(world: &mut World) {
    let available = |world: &World| world.run(world.engine.reports()).remove(0).result.unwrap();
    let size = available(world).available_bytes / 5 / world.grain() * world.grain();
    let volume = world.create("pvc-1", BLOCK, size);
    world.snapshot("snap-1", &volume).unwrap();
    world.create_from("pvc-2", BLOCK, size, "snap-1").unwrap();
    let usage = available(world);
    assert_eq!((usage.volumes, usage.snapshots, usage.promised_bytes), (2, 1, 3 * size));
    world.restart();
    let again = available(world);
    assert_eq!((again.volumes, again.snapshots, again.promised_bytes), (2, 1, 3 * size));
    world.create("pvc-3", BLOCK, usage.max_volume_bytes / 4 * 3 / 4096 * 4096);
    let error = world.snapshot("snap-2", &volume).unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { requested, .. } if requested == size), "{error:?}");
    let error = world.create_from("pvc-4", BLOCK, size, "snap-1").unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { .. }), "{error:?}");
    world.run(world.engine.delete_snapshot(&id("snap-1"))).unwrap();
    world.snapshot("snap-2", &volume).unwrap();
}

/// A staged volume with "two" in it, and its snapshot with "one".
fn changed_since_its_snapshot(world: &World) -> (VolumeId, VolumeId) {
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&volume, false).unwrap();
    world.write(&volume, "one");
    let snapshot = world.snapshot("snap-1", &volume).unwrap();
    world.write(&volume, "two");
    (volume, snapshot)
}

pub fn a_restore_in_place_brings_the_content_back_and_keeps_what_was_before(world: &mut World) {
    let (volume, snapshot) = changed_since_its_snapshot(world);
    let safety = id("safety-1");
    let restore = |world: &World| world.run(world.engine.restore(&volume, &snapshot, &safety));
    let error = restore(world).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.contains("staging-pvc-1")), "{error:?}");
    world.unstage(&volume).unwrap();
    assert_eq!(listed(world).len(), 1, "a refused restore took its safety snapshot");

    assert!(restore(world).unwrap().changed());
    world.stage(&volume, false).unwrap();
    assert_eq!(world.read(&volume), "one");
    world.write(&volume, "three");
    assert!(!restore(world).unwrap().changed(), "done once, also while the volume is in use");
    world.unstage(&volume).unwrap();
    world.restart();
    assert!(!restore(world).unwrap().changed());
    world.stage(&volume, false).unwrap();
    assert_eq!(world.read(&volume), "three");
    world.unstage(&volume).unwrap();

    // Another restore, back to what the first one kept; the first is still known as done.
    assert!(world.run(world.engine.restore(&volume, &safety, &id("safety-2"))).unwrap().changed());
    assert!(!restore(world).unwrap().changed());
    world.stage(&volume, false).unwrap();
    assert_eq!(world.read(&volume), "two");
    world.unstage(&volume).unwrap();
    let kept = world.create_from("pvc-2", EXT4, 64 * MIB, "safety-2").unwrap();
    world.stage(&kept, false).unwrap();
    assert_eq!(world.read(&kept), "three");
    world.unstage(&kept).unwrap();
    assert!(world.mkfs_count() <= 1);
}

pub fn a_restore_that_does_not_fit_is_refused_and_nothing_is_touched(world: &mut World) {
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    let other = world.create("pvc-2", EXT4, 64 * MIB);
    let (snapshot, safety) = (world.snapshot("snap-2", &other).unwrap(), id("safety-1"));
    let restore = |volume: &VolumeId, snapshot: &VolumeId, safety: &VolumeId| {
        world.run(world.engine.restore(volume, snapshot, safety)).unwrap_err()
    };
    let error = restore(&volume, &snapshot, &safety);
    assert!(matches!(error, Error::SourceMismatch { field: "volume", .. }), "{error:?}");
    let error = restore(&volume, &other, &safety);
    assert!(matches!(error, Error::SourceMismatch { field: "kind", .. }), "{error:?}");
    let error = restore(&volume, &id("snap-none"), &safety);
    assert!(matches!(error, Error::SourceNotFound { .. }), "{error:?}");
    let error = restore(&id("pvc-none"), &snapshot, &safety);
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let error = restore(&other, &snapshot, &snapshot);
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    let error = restore(&other, &snapshot, &volume);
    assert!(matches!(error, Error::Conflict { field: "kind", .. }), "{error:?}");
    assert_eq!(listed(world).len(), 1);

    // The volume has grown since: it keeps its size.
    world.run(world.engine.grow(&other, 128 * MIB)).unwrap();
    assert!(world.run(world.engine.restore(&other, &snapshot, &safety)).unwrap().changed());
    let info = world.run(world.engine.get(&other)).unwrap().unwrap();
    assert_eq!(info.size_bytes, 128 * MIB);
    world.stage(&other, false).unwrap();
    let stats = world.run(world.engine.stats(&other, &world.staging(&other))).unwrap();
    assert!(stats.total_bytes > 96 * MIB, "{stats:?}");
    world.unstage(&other).unwrap();
    // A safety of now 128 MiB does not fit what it never was.
    let error = world.create_from("pvc-3", EXT4, 64 * MIB, "safety-1").unwrap_err();
    assert!(matches!(error, Error::SourceTooLarge { .. }), "{error:?}");
}

pub fn a_restore_is_called_off_before_it_begins_and_not_after(world: &mut World) {
    let (volume, snapshot) = changed_since_its_snapshot(world);
    let safety = id("safety-1");
    let call_off = |world: &World| world.run(world.engine.call_off_restore(&volume, &safety)).unwrap();
    assert!(call_off(world), "it was never asked for");
    world.run(world.engine.restore(&volume, &snapshot, &safety)).unwrap_err();
    assert!(call_off(world) && call_off(world), "it was refused: a pod uses the volume");
    world.unstage(&volume).unwrap();
    world.run(world.engine.restore(&volume, &snapshot, &safety)).unwrap();
    assert!(!call_off(world), "it is over");
    world.run(world.engine.restore(&volume, &safety, &id("safety-2"))).unwrap();
    assert!(!call_off(world), "another one is over as well");
    world.stage(&volume, false).unwrap();
    assert_eq!(world.read(&volume), "two");
    world.unstage(&volume).unwrap();

    // What has the safety's name is no safety of this volume.
    let other = world.create("pvc-2", EXT4, 64 * MIB);
    let error = world.run(world.engine.call_off_restore(&other, &safety)).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "volume", .. }), "{error:?}");
    kind(world.run(world.engine.call_off_restore(&other, &volume)));
    let error = world.run(world.engine.call_off_restore(&id("pvc-none"), &safety)).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

pub fn a_volume_is_copied_into_another_pool_of_the_node(world: &mut World) {
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&volume, false).unwrap();
    world.write(&volume, "one");
    let into_second = |world: &World, from: &str| {
        let asked = VolumeSpec { source: Some(id(from)), ..spec("pvc-2", EXT4, 96 * MIB) };
        world.run(world.engine.create("second", &asked))
    };
    let error = into_second(world, "pvc-1").unwrap_err();
    assert!(matches!(&error, Error::CopyNeedsPause { by, .. } if by.contains("staging-pvc-1")), "{error:?}");
    assert!(message(&error).contains("take a snapshot"), "{error}");
    world.snapshot("snap-1", &volume).unwrap();
    world.write(&volume, "two");
    let info = into_second(world, "snap-1").unwrap().into_inner();
    assert_eq!((info.pool.as_str(), info.size_bytes), ("second", 96 * MIB));
    let clone = info.id;
    world.stage(&clone, false).unwrap();
    assert_eq!((world.read(&clone).as_str(), world.read(&volume).as_str()), ("one", "two"));
    let stats = world.run(world.engine.stats(&clone, &world.staging(&clone))).unwrap();
    assert!(stats.total_bytes > 80 * MIB, "{stats:?}");
    world.unstage(&clone).unwrap();
    world.unstage(&volume).unwrap();
    let error = world.run(world.engine.restore(&clone, &id("snap-1"), &id("safety-1"))).unwrap_err();
    assert!(matches!(error, Error::SourceMismatch { field: "volume", .. }), "{error:?}");
}

pub fn snapshots_and_clones_at_once_are_each_made_once(world: &mut World) {
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    world.snapshot("snap-1", &volume).unwrap();
    let changed = world.run(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..40 {
            let (engine, volume): (Engine, _) = (world.engine.clone(), volume.clone());
            tasks.spawn(async move {
                // Two of each, both ways round.
                let number = number / 2;
                if number % 2 == 0 {
                    let asked =
                        SnapshotSpec { id: id(&format!("snap-{}", number + 2)), source: volume, owner: None };
                    u32::from(engine.snapshot(&asked).await.unwrap().changed())
                } else {
                    let source = Some(id(if number % 4 == 1 { "snap-1" } else { "pvc-1" }));
                    let asked = VolumeSpec { source, ..spec(&format!("pvc-{}", number + 2), EXT4, 64 * MIB) };
                    u32::from(engine.create("pool", &asked).await.unwrap().changed())
                }
            });
        }
        tasks.join_all().await.into_iter().sum::<u32>()
    });
    assert_eq!(changed, 20);
    let inventory = world.run(world.engine.list());
    assert_eq!((inventory.volumes.len(), inventory.snapshots.len()), (11, 11));
}
