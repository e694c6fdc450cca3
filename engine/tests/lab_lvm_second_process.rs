//! A second process that opens a pool while the first works in it, as two commands on one host do. In the lab; skipped by name elsewhere.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tierce_engine::{
    CommandError, CommandOutput, Engine, LinuxHost, LvmKind, PoolConfig, Program, Runner, SystemRunner,
};
use world::{BLOCK, MIB, World, lvm, lvm::group};

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
