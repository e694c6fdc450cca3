//! Disks that stop answering after their pools were opened, simulated: what depends on them waits or is told, all else goes on.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{fs, future::Future, path::PathBuf, time::Duration};

use tierce_engine::{Error, PoolErrorKind, StageRequest, VolumeId};
use tokio::{runtime::Runtime, task::JoinHandle};
use world::{EXT4, MIB, World, spec};

/// More calls than one pool serves at a time, and than there are threads.
const CALLS: usize = 40;
const THREADS: usize = 32;

/// A pool's disk that does not answer, until this is dropped.
struct Hanging(PathBuf);

impl Hanging {
    fn pool(world: &World, name: &str) -> Self {
        Self::at(world, name, "hangs")
    }

    /// A filesystem that says it has errors, and whose repair takes so long.
    fn repair(world: &World, id: &VolumeId) -> Self {
        Self::at(world, id.as_str(), "hangs")
    }

    /// A filesystem that takes so long to mount.
    fn mount(world: &World, id: &VolumeId) -> Self {
        Self::at(world, id.as_str(), "mounts-slowly")
    }

    fn at(world: &World, name: &str, how: &str) -> Self {
        let file = world.path(&format!("sim/{name}-{how}"));
        fs::write(&file, "").unwrap();
        Self(file)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A world with a second pool, and few threads.
fn world() -> (World, Runtime) {
    let world = World::sim();
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(THREADS)
        .enable_all()
        .build()
        .unwrap();
    (world, runtime)
}

/// What must not wait for the disk that hangs.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_mins(2);
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("it waits for ever: {what}"))
}

fn stage(world: &World, id: &VolumeId) -> impl Future<Output = Result<(), Error>> + Send + 'static {
    let (engine, id, staging) = (world.engine.clone(), id.clone(), world.staging(id));
    async move {
        fs::create_dir_all(&staging).unwrap();
        engine.stage(&id, &staging, &StageRequest::default()).await.map(drop)
    }
}

fn is_silent(error: &Error) -> bool {
    matches!(error, Error::PoolUnavailable(trouble) if trouble.kind == PoolErrorKind::NotAnswering)
}

#[test]
fn a_disk_that_stops_answering_is_reported_and_takes_nothing_from_other_pools() {
    let (world, runtime) = world();
    let ids: Vec<VolumeId> =
        (0..CALLS).map(|at| world.create(&format!("pvc-{at}"), EXT4, 64 * MIB)).collect();
    let hanging = Hanging::pool(&world, "pool");
    let engine = &world.engine;
    runtime.block_on(async {
        let waiting: Vec<JoinHandle<_>> = ids.iter().map(|id| tokio::spawn(stage(&world, id))).collect();
        let creations: Vec<JoinHandle<_>> = (0..8)
            .map(|at| {
                let (engine, spec) = (engine.clone(), spec(&format!("new-{at}"), EXT4, 64 * MIB));
                tokio::spawn(async move { engine.create("pool", &spec).await.map(drop) })
            })
            .collect();

        let other = spec("other", EXT4, 64 * MIB);
        soon("a creation in the other pool", engine.create("second", &other)).await.unwrap();
        soon("a stage in the other pool", stage(&world, &other.id)).await.unwrap();
        // Whoever waits in vain lets a look ask the disk, which then has its time.
        let silent = async {
            loop {
                let reports = engine.reports().await;
                assert!(reports[1].result.is_ok(), "{:?}", reports[1]);
                if let Err(error) = &reports[0].result {
                    assert_eq!(error.kind, PoolErrorKind::NotAnswering, "{error}");
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        soon("the report", silent).await;
        assert!(!engine.answers("pool") && engine.answers("second"));
        let inventory = soon("the list", engine.list()).await;
        assert_eq!((inventory.volumes.len(), inventory.unread), (1, vec!["pool".to_owned()]));
        soon("a second creation", engine.create("second", &spec("more", EXT4, 64 * MIB))).await.unwrap();

        drop(hanging);
        let mut told = 0;
        for call in waiting.into_iter().chain(creations) {
            if let Err(error) = soon("a call when the disk answers", call).await.unwrap() {
                assert!(is_silent(&error), "{error:?}");
                told += 1;
            }
        }
        assert!((1..=CALLS - 16).contains(&told), "{told} were told that the disk does not answer");
        while soon("a look", engine.reports()).await[0].result.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for id in ids.iter().chain([&other.id]) {
            stage(&world, id).await.unwrap();
            engine.unstage(id, &world.staging(id)).await.unwrap();
        }
        assert_eq!(engine.list().await.volumes.len(), CALLS + 10);
    });
    world.assert_clean();
}

#[test]
fn lists_and_measurements_that_hang_take_no_more_threads_than_the_pool_has_places() {
    let (world, runtime) = world();
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let hanging = Hanging::pool(&world, "pool");
    let engine = &world.engine;
    runtime.block_on(async {
        let measured: Vec<JoinHandle<_>> = (0..CALLS)
            .map(|_| {
                let (engine, id, path) = (engine.clone(), id.clone(), world.staging(&id));
                tokio::spawn(async move { engine.stats(&id, &path).await.map(drop) })
            })
            .collect();
        for _ in 0..3 {
            let inventory = soon("the list", engine.list()).await;
            assert_eq!(inventory.unread, ["pool"]);
        }
        soon("a creation in the other pool", engine.create("second", &spec("other", EXT4, 64 * MIB)))
            .await
            .unwrap();
        drop(hanging);
        for call in measured {
            let error = soon("a measurement", call).await.unwrap().unwrap_err();
            assert!(is_silent(&error) || matches!(error, Error::NotStaged { .. }), "{error:?}");
        }
        // What hung comes to its end a moment after the disk, and the next look knows.
        while !soon("the list", engine.list()).await.unread.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            soon("a look", engine.reports()).await;
        }
    });
}

#[test]
fn a_start_over_a_disk_that_hangs_serves_the_other_pools() {
    let (mut world, _) = world();
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    let other = spec("other", EXT4, 64 * MIB);
    world.run(world.engine.create("second", &other)).unwrap();
    let left = world.path("pool/new/pvc-2.0123456789abcdef0123456789abcdef");
    fs::create_dir(&left).unwrap();
    world.forget();
    // It hangs when it was opened, and with it what is mounted from it.
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    let hanging = [Hanging::pool(&world, "pool"), Hanging::pool(&world, "pvc-1")];
    let start = async {
        let recovery = world.engine.recover().await;
        world.engine.start_sweeps().await;
        recovery
    };
    let recovery = world.run(async { tokio::time::timeout(Duration::from_secs(15), start).await });
    if recovery.is_ok() {
        world.run(stage(&world, &other.id)).unwrap();
        let silent = world.run(world.engine.create("pool", &spec("pvc-3", EXT4, 64 * MIB)));
        assert!(is_silent(&silent.unwrap_err()), "it is used before it is clean");
        assert!(left.exists());
    }
    drop(hanging);
    let problems = recovery.expect("the start waits for the disk").problems;
    assert!(problems.iter().any(|problem| problem.contains("pool pool does not answer")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("staging")), "{problems:?}");
    while world.run(world.engine.reports())[0].result.is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!left.exists(), "it is used before it is clean");
    for volume in [&id, &other.id] {
        world.unstage(volume).unwrap();
    }
    world.assert_clean();
}

#[test]
fn long_calls_on_a_disk_that_answers_keep_others_waiting_and_no_more() {
    let (world, runtime) = world();
    let ids: Vec<VolumeId> = (0..16).map(|at| world.create(&format!("pvc-{at}"), EXT4, 64 * MIB)).collect();
    let last = world.create("last", EXT4, 64 * MIB);
    world.stage(&last, false).unwrap();
    let mounts: Vec<Hanging> = ids.iter().map(|id| Hanging::mount(&world, id)).collect();
    let engine = &world.engine;
    runtime.block_on(async {
        let staged: Vec<JoinHandle<_>> = ids.iter().map(|id| tokio::spawn(stage(&world, id))).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let unstage = {
            let (engine, id, staging) = (engine.clone(), last.clone(), world.staging(&last));
            tokio::spawn(async move { engine.unstage(&id, &staging).await.map(drop) })
        };
        // Longer than any call is given before its disk is suspected.
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert!(!unstage.is_finished(), "it found a place: nothing is tested, or it was refused");
        drop(mounts);
        soon("the call that waited", unstage).await.unwrap().unwrap();
        for call in staged {
            soon("a long call", call).await.unwrap().unwrap();
        }
        for id in &ids {
            engine.unstage(id, &world.staging(id)).await.unwrap();
        }
    });
    world.assert_clean();
}

#[test]
fn repairs_keep_no_place_and_no_thread_while_they_wait_and_are_done_before_the_volume_is_there() {
    let (world, runtime) = world();
    let ids: Vec<VolumeId> =
        (0..CALLS).map(|at| world.create(&format!("pvc-{at}"), EXT4, 64 * MIB)).collect();
    let last = world.create("last", EXT4, 64 * MIB);
    let mut damaged: Vec<Hanging> = ids.iter().map(|id| Hanging::repair(&world, id)).collect();
    let engine = &world.engine;
    runtime.block_on(async {
        let staged: Vec<JoinHandle<_>> = ids.iter().map(|id| tokio::spawn(stage(&world, id))).collect();
        // As a caller does that gives up.
        tokio::time::sleep(Duration::from_secs(1)).await;
        staged[CALLS - 1].abort();
        for _ in 0..3 {
            soon("a stage", stage(&world, &last)).await.unwrap();
            soon("an unstage", engine.unstage(&last, &world.staging(&last))).await.unwrap();
        }
        assert!(!staged.iter().take(CALLS - 1).any(JoinHandle::is_finished), "one was mounted as it was");
        // Two at a time: whichever they are, each comes to its turn.
        drop(damaged.split_off(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!staged[0].is_finished());
        drop(damaged);
        for call in staged.into_iter().take(CALLS - 1) {
            soon("a stage with a repair", call).await.unwrap().unwrap();
        }
        soon("the one that was given up", stage(&world, &ids[CALLS - 1])).await.unwrap();
        for id in &ids {
            engine.unstage(id, &world.staging(id)).await.unwrap();
        }
    });
    world.assert_clean();
}
