//! A second process, or a changed configuration, that opens a pool while somebody works in it. In the lab; skipped by name elsewhere.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::world::{BLOCK, EXT4, MIB, World, lvm, lvm::group};
use tierce_engine::{
    CommandError, CommandOutput, Engine, Error, LinuxHost, LvmKind, PoolConfig, Program, Runner,
    StageRequest, SystemRunner, VolumeId,
};

/// Opens the pool anew before each of LVM's renames, as another process would.
struct Beside {
    pool: PoolConfig,
    renames: AtomicUsize,
}

impl Runner for Beside {
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        if program.line().contains("lvrename") {
            self.renames.fetch_add(1, Ordering::SeqCst);
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let other = Engine::new(Arc::new(LinuxHost::new()));
            let seen = runtime.block_on(async {
                other.set_pools(vec![self.pool.clone()]).await;
                other.get(&"pvc-1".parse().unwrap()).await
            });
            assert!(seen.unwrap().is_some(), "a volume never looks gone");
        }
        SystemRunner.run(program)
    }
}

#[test]
fn an_exchange_of_content_that_a_second_process_has_ended_is_no_failure() {
    for kind in [lvm::thin(), LvmKind::Thick] {
        let Some(mut world) = World::lvm(kind) else { return };
        let id = world.create("pvc-1", BLOCK, 16 * MIB);
        let node = group(&world).node("v-pvc-1");
        let write = |text: &[u8]| {
            let device = OpenOptions::new().write(true).open(&node).unwrap();
            device.write_all_at(text, 0).unwrap();
            device.sync_all().unwrap();
        };
        write(b"old");
        let snapshot = world.snapshot("snap-1", &id).unwrap();
        write(b"new");
        let beside = Arc::new(Beside { pool: world.pool("pool"), renames: AtomicUsize::new(0) });
        let runner: Arc<dyn Runner> = beside.clone();
        let engine = Engine::new(Arc::new(LinuxHost::with_runner(runner)));
        world.run(async {
            engine.set_pools(vec![beside.pool.clone()]).await;
            engine.restore(&id, &snapshot, &"before-1".parse().unwrap()).await.unwrap();
        });
        assert!(beside.renames.load(Ordering::SeqCst) >= 2);
        world.restart();
        let mut text = [0; 3];
        File::open(&node).unwrap().read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"old");
        assert!(world.delete(&id).unwrap());
    }
}

/// Does something once, right after a filesystem was made: its volume's record does not say so yet.
#[derive(Default)]
struct AfterMkfs(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Runner for AfterMkfs {
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        let output = SystemRunner.run(program);
        if program.line().contains("mkfs.")
            && let Some(then) = self.0.lock().unwrap().take()
        {
            then();
        }
        output
    }
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// An engine over the world's pool that does that in the middle of a first stage; the volume, staged for the first time, with a file
/// in it, and unstaged.
fn used_once(world: &World, then: impl FnOnce(Engine) + Send + 'static) -> (Engine, VolumeId) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let runner = Arc::new(AfterMkfs::default());
    let engine = Engine::new(Arc::new(LinuxHost::with_runner(runner.clone())));
    let staging = world.staging(&id);
    fs::create_dir(&staging).unwrap();
    world.run(engine.set_pools(vec![world.pool("pool")]));
    let own = engine.clone();
    *runner.0.lock().unwrap() = Some(Box::new(move || then(own)));
    world.run(engine.stage(&id, &staging, &StageRequest::default())).unwrap();
    assert!(runner.0.lock().unwrap().is_none(), "no filesystem was made");
    fs::write(staging.join("file"), b"kept").unwrap();
    world.run(engine.unstage(&id, &staging)).unwrap();
    (engine, id)
}

fn holds_its_file(world: &World, engine: &Engine, id: &VolumeId) {
    let staging = world.staging(id);
    world.run(engine.stage(id, &staging, &StageRequest::default())).unwrap();
    assert_eq!(fs::read(staging.join("file")).unwrap(), b"kept");
    world.run(engine.unstage(id, &staging)).unwrap();
}

#[test]
fn a_pool_that_is_opened_anew_during_a_first_stage_knows_what_came_of_it() {
    for kind in [lvm::thin(), LvmKind::Thick] {
        let Some(world) = World::lvm(kind) else { return };
        let changed = PoolConfig { overcommit: 2.0, ..world.pool("pool") };
        let (engine, id) = used_once(&world, move |engine| wait_for(engine.set_pools(vec![changed])));
        holds_its_file(&world, &engine, &id);
        assert!(world.run(engine.delete(&id, false)).unwrap().changed());
    }
}

#[test]
fn a_second_process_that_looked_during_a_first_stage_wipes_nothing() {
    for kind in [lvm::thin(), LvmKind::Thick] {
        let Some(world) = World::lvm(kind) else { return };
        let (pool, other) = (world.pool("pool"), Engine::new(Arc::new(LinuxHost::new())));
        let looks = other.clone();
        let (engine, id) = used_once(&world, move |_| wait_for(looks.set_pools(vec![pool])));
        let staging = world.staging(&id);
        let refused = world.run(other.stage(&id, &staging, &StageRequest::default())).unwrap_err();
        assert!(matches!(&refused, Error::InUse { by, .. } if by.contains("another process")), "{refused:?}");
        // It has looked again.
        holds_its_file(&world, &other, &id);
        holds_its_file(&world, &engine, &id);
        assert!(world.run(engine.delete(&id, false)).unwrap().changed());
    }
}
