//! Copies that take long, simulated: who uses the volume meanwhile, or wants to, does not wait for them.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{fs, future::Future, path::PathBuf, time::Duration};

use tierce_engine::{Error, PublishRequest, SnapshotSpec, StageRequest, VolumeId, VolumeSpec};
use world::{EXT4, MIB, World, spec};

/// No copy in the pool comes to its end, until this is dropped.
struct Slow(PathBuf);

impl Slow {
    fn pool(world: &World, name: &str) -> Self {
        let file = world.path(&format!("sim/{name}-copies-slowly"));
        fs::write(&file, "").unwrap();
        Self(file)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What must not wait for the copy.
fn soon<T>(world: &World, what: &str, future: impl Future<Output = T>) -> T {
    let limited = async { tokio::time::timeout(Duration::from_mins(1), future).await };
    world.run(limited).unwrap_or_else(|_| panic!("it waits for the copy: {what}"))
}

fn id(name: &str) -> VolumeId {
    name.parse().unwrap()
}

fn snapshot(world: &World, name: &str, source: &VolumeId) -> tokio::task::JoinHandle<Result<(), Error>> {
    let spec = SnapshotSpec { id: id(name), source: source.clone(), owner: None };
    let engine = world.engine.clone();
    world.runtime.spawn(async move { engine.snapshot(&spec).await.map(drop) })
}

fn clone(
    world: &World,
    pool: &str,
    name: &str,
    source: &VolumeId,
) -> tokio::task::JoinHandle<Result<(), Error>> {
    let spec = VolumeSpec { source: Some(source.clone()), ..spec(name, EXT4, 64 * MIB) };
    let (engine, pool) = (world.engine.clone(), pool.to_owned());
    world.runtime.spawn(async move { engine.create(&pool, &spec).await.map(drop) })
}

/// Waits until a volume is being read: its deletion is refused for that without waiting.
fn until_read(world: &World, source: &VolumeId) {
    loop {
        // Of a volume that is in use, and so is never deleted by this.
        match soon(world, "a deletion", world.engine.delete_snapshot(source)) {
            Err(Error::InUse { by, .. }) if by.contains("the making of") => return,
            Err(Error::Conflict { .. }) => std::thread::sleep(Duration::from_millis(5)),
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until something is being made in a pool.
fn until_begun(world: &World, pool: &str) {
    while fs::read_dir(world.path(pool).join("new")).unwrap().next().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_volume_in_use_goes_on_while_a_long_copy_of_it_is_made() {
    let world = World::sim();
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    let target = world.path("target");
    world.stage(&volume, false).unwrap();
    world.publish(&volume, &target, false).unwrap();
    world.write(&volume, "before");
    let kept = world.snapshot("kept", &volume).unwrap();
    let slow = Slow::pool(&world, "pool");
    let copy = snapshot(&world, "snapshot-1", &volume);
    until_read(&world, &volume);

    let (engine, staging) = (&world.engine, world.staging(&volume));
    soon(&world, "unpublish", engine.unpublish(&volume, &target)).unwrap();
    soon(&world, "unstage", engine.unstage(&volume, &staging)).unwrap();
    soon(&world, "stage", engine.stage(&volume, &staging, &StageRequest::default())).unwrap();
    soon(&world, "publish", engine.publish(&volume, &staging, &target, &PublishRequest::default())).unwrap();
    soon(&world, "expand", engine.expand(&volume, &target)).unwrap();
    world.write(&volume, "after");
    soon(&world, "unpublish", engine.unpublish(&volume, &target)).unwrap();
    soon(&world, "unstage", engine.unstage(&volume, &staging)).unwrap();
    for (what, refused) in [
        ("delete", soon(&world, "delete", engine.delete(&volume, false)).map(drop)),
        ("grow", soon(&world, "grow", engine.grow(&volume, 128 * MIB)).map(drop)),
        ("restore", soon(&world, "restore", engine.restore(&volume, &kept, &id("safety"))).map(drop)),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, Error::InUse { by, .. } if by.contains("snapshot-1")), "{what}: {error}");
    }
    assert!(!copy.is_finished());
    drop(slow);
    world.run(copy).unwrap().unwrap();
    let restored = world.create_from("pvc-2", EXT4, 64 * MIB, "snapshot-1").unwrap();
    assert_eq!((world.read(&restored), world.read(&volume)), ("before".to_owned(), "after".to_owned()));
    world.run(engine.grow(&volume, 128 * MIB)).unwrap();
    assert!(world.delete(&volume).unwrap());
    world.assert_clean();
}

#[test]
fn a_copy_of_a_volume_that_nobody_uses_gives_way_to_a_pod() {
    let world = World::sim();
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    let staging = world.staging(&volume);
    fs::create_dir(&staging).unwrap();
    let begin: [(&str, &dyn Fn() -> _); 3] = [
        ("pool", &|| snapshot(&world, "snapshot-1", &volume)),
        ("pool", &|| clone(&world, "pool", "pvc-2", &volume)),
        ("second", &|| clone(&world, "second", "pvc-3", &volume)),
    ];
    for (pool, begin) in begin {
        let slow = Slow::pool(&world, pool);
        let copy = begin();
        until_begun(&world, pool);
        let request = StageRequest::default();
        soon(&world, "stage", world.engine.stage(&volume, &staging, &request)).unwrap();
        let error = world.run(copy).unwrap().unwrap_err();
        assert!(matches!(&error, Error::InUse { by, .. } if by.contains("begins anew")), "{error}");
        drop(slow);
        world.unstage(&volume).unwrap();
        world.run(begin()).unwrap().unwrap();
    }
    let inventory = world.run(world.engine.list());
    assert_eq!((inventory.volumes.len(), inventory.snapshots.len()), (3, 1));
    world.assert_clean();
}

#[test]
fn several_volumes_are_made_of_one_snapshot_at_once_and_it_is_kept_for_them() {
    let world = World::sim();
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    let volume = world.create("pvc-1", EXT4, 64 * MIB);
    let source = world.snapshot("snapshot-1", &volume).unwrap();
    let slow = [Slow::pool(&world, "pool"), Slow::pool(&world, "second")];
    let copies = [clone(&world, "pool", "pvc-2", &source), clone(&world, "second", "pvc-3", &source)];
    // None waits for the other.
    for pool in ["pool", "second"] {
        until_begun(&world, pool);
        let error = soon(&world, "deletion", world.engine.delete_snapshot(&source)).unwrap_err();
        assert!(matches!(&error, Error::InUse { by, .. } if by.contains("the making of")), "{error}");
    }
    drop(slow);
    for copy in copies {
        world.run(copy).unwrap().unwrap();
    }
    assert!(world.run(world.engine.delete_snapshot(&source)).unwrap().changed());
    world.assert_clean();
}

/// A restore of the volume from its snapshot, with a safety of its own.
fn restore(world: &World, volume: &VolumeId) -> tokio::task::JoinHandle<Result<(), Error>> {
    let (engine, volume) = (world.engine.clone(), volume.clone());
    let (snapshot, safety) = (id(&format!("of-{volume}")), id(&format!("before-{volume}")));
    world.runtime.spawn(async move { engine.restore(&volume, &snapshot, &safety).await.map(drop) })
}

#[test]
fn two_restores_at_once_are_not_promised_the_same_room() {
    const GIB: u64 = 1 << 30;
    let world = World::sim().thick();
    let available = || world.run(world.engine.reports()).remove(0).result.unwrap().available_bytes;
    let volumes = ["pvc-1", "pvc-2"].map(|name| world.create(name, EXT4, 8 * GIB));
    for volume in &volumes {
        world.snapshot(&format!("of-{volume}"), volume).unwrap();
    }
    // A restore takes what its safety takes, and the volume once more while both contents are there.
    world.create("filler", EXT4, available() - 30 * GIB);
    let slow = Slow::pool(&world, "pool");
    let first = restore(&world, &volumes[0]);
    until_begun(&world, "pool");
    assert_eq!(available(), 14 * GIB);
    let refused = soon(&world, "the second restore", restore(&world, &volumes[1])).unwrap().unwrap_err();
    assert!(matches!(refused, Error::OutOfSpace { .. }), "{refused:?}");
    // Nothing has happened to it.
    let safety = id("before-pvc-2");
    assert!(soon(&world, "its safety", world.engine.get_snapshot(&safety)).unwrap().is_none());
    let request = StageRequest::default();
    soon(&world, "a stage", world.engine.stage(&volumes[1], &world.staging(&volumes[1]), &request)).unwrap();
    world.unstage(&volumes[1]).unwrap();

    drop(slow);
    soon(&world, "the first restore", first).unwrap().unwrap();
    assert_eq!(available(), 22 * GIB, "the volume has its room, and its safety");
    soon(&world, "the second restore", restore(&world, &volumes[1])).unwrap().unwrap();
    assert_eq!(available(), 14 * GIB);
    world.assert_clean();
}
