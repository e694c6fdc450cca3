//! Freeing what deleted volumes take holds nobody up, however long it takes. On the simulated host: needs no privilege.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use tierce_engine::{Error, SnapshotSpec, StageRequest};
use world::{EXT4, MIB, World, run, spec, text};

/// No call that waits for a sweep comes back by then: it would wait for ever.
const LIMIT: Duration = Duration::from_mins(1);

/// Something in the trash of a pool that keeps whoever frees it until this is told to let go: a pipe that nobody reads, in the image's place.
struct Stuck(PathBuf);

impl Stuck {
    fn within(world: &World, pool: &str) -> Self {
        let folder = world.path(pool).join("trash/pvc-stuck.0123456789abcdef0123456789abcdef");
        fs::create_dir(&folder).unwrap();
        let pipe = folder.join("data.img");
        run("mkfifo", &[text(&pipe)]);
        Self(pipe)
    }

    /// Waits until somebody frees it, and lets that end.
    fn let_go(self) {
        drop(File::open(&self.0).unwrap());
    }
}

fn with_second_pool() -> World {
    let world = World::sim();
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    world
}

#[test]
fn deletions_during_a_long_sweep_take_no_thread_from_other_calls() {
    let world = with_second_pool();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let stuck = Stuck::within(&world, "pool");
    let staging = world.path("staging");
    fs::create_dir(&staging).unwrap();
    let calls = async {
        let other = spec("pvc-other", EXT4, 64 * MIB);
        world.engine.create("second", &other).await.unwrap();
        for number in 0..8 {
            let volume = spec(&format!("pvc-{number}"), EXT4, 64 * MIB);
            world.engine.create("pool", &volume).await.unwrap();
            assert!(world.engine.delete(&volume.id, false).await.unwrap().changed());
        }
        world.engine.stage(&other.id, &staging, &StageRequest::default()).await.unwrap();
    };
    let result = runtime.block_on(async { tokio::time::timeout(LIMIT, calls).await });
    stuck.let_go();
    assert!(result.is_ok(), "calls waited for the sweep");
    // What was deleted while the first sweep went on is freed too.
    runtime.block_on(world.engine.sweep());
    assert_eq!(fs::read_dir(world.path("pool/trash")).unwrap().count(), 0);
}

#[test]
fn a_creation_that_deleted_volumes_make_no_room_for_is_refused_at_once() {
    let world = with_second_pool();
    let stuck = Stuck::within(&world, "pool");
    let small = world.create("pvc-1", EXT4, 64 * MIB);
    assert!(world.delete(&small).unwrap());
    let large = spec("pvc-2", EXT4, 1 << 49);
    let result =
        world.run(async { tokio::time::timeout(LIMIT, world.engine.create("second", &large)).await });
    stuck.let_go();
    assert!(matches!(result, Ok(Err(Error::OutOfSpace { .. }))), "{result:?}");
}

#[test]
fn a_start_waits_for_no_space_to_be_freed() {
    let mut world = with_second_pool();
    let stuck = Stuck::within(&world, "pool");
    world.restart();
    let recovery = world.run(async { tokio::time::timeout(LIMIT, world.engine.recover()).await });
    world.run(world.engine.start_sweeps());
    stuck.let_go();
    assert_eq!(recovery.map(|recovery| recovery.problems), Ok(Vec::new()));
}

#[test]
fn a_stopped_engine_frees_nothing_more_and_the_next_one_does() {
    let mut world = with_second_pool();
    world.run(world.engine.stop_sweeps(LIMIT));
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    assert!(world.delete(&id).unwrap());
    world.run(world.engine.sweep());
    let left = || fs::read_dir(world.path("pool/trash")).unwrap().count();
    assert_eq!(left(), 1);
    world.restart();
    world.run(world.engine.sweep());
    assert_eq!(fs::read_dir(world.path("pool/trash")).unwrap().count(), 0);
}

#[test]
fn an_engine_stops_though_a_sweep_hangs_and_gives_copies_up() {
    let mut world = with_second_pool();
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    let stuck = Stuck::within(&world, "second");
    world.run(world.engine.start_sweeps());
    let slow = world.path("sim/pool-copies-slowly");
    fs::write(&slow, "").unwrap();
    let spec = SnapshotSpec { id: "snapshot-1".parse().unwrap(), source: id.clone(), owner: None };
    let engine = world.engine.clone();
    let copy = world.runtime.spawn(async move { engine.snapshot(&spec).await.map(drop) });
    // As soon as somebody reads it, it is refused for that.
    while !matches!(world.run(world.engine.delete(&id, false)), Err(Error::InUse { by, .. }) if by.contains("snapshot-1"))
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let stop = world.engine.stop_sweeps(Duration::from_millis(300));
    let stopped = world.run(async { tokio::time::timeout(LIMIT, stop).await });
    let copied = world.run(async { tokio::time::timeout(LIMIT, copy).await });
    fs::remove_file(slow).unwrap();
    stuck.let_go();
    assert!(stopped.is_ok(), "it waits for the disk");
    let error = copied.expect("it waits for the copy").unwrap().unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.contains("a process that ends")), "{error:?}");
    world.restart();
    world.snapshot("snapshot-1", &id).unwrap();
}
