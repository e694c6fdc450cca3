//! A process that dies at any moment leaves volumes that are whole or not there. Needs no privilege.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use tierce_engine::{Engine, LinuxHost};
use world::{BLOCK, MIB, World, spec};

const FOLDER: &str = "TIERCE_CRASH_FOLDER";
const ROUNDS: u64 = 60;

/// The process that is killed: makes, grows and deletes volumes until then.
#[test]
#[ignore = "started by the test below"]
fn victim() {
    let folder = std::env::var(FOLDER).unwrap();
    let world = World::over(Path::new(&folder), |_| Arc::new(LinuxHost::new()));
    println!("ready");
    for round in 0_u64.. {
        for number in 0..8 {
            let id = world.create(&format!("pvc-{number}"), BLOCK, MIB);
            world.run(world.engine.grow(&id, (2 + round % 3) * MIB)).ok();
            if (round + number) % 2 == 0 {
                world.delete(&id).unwrap();
            }
        }
    }
}

#[test]
fn bug_26_a_process_killed_at_any_moment_leaves_whole_volumes_or_none() {
    let world = World::with(|_| Arc::new(LinuxHost::new()));
    let mut seen = 0;
    for round in 0..ROUNDS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture"])
            .env(FOLDER, world.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("ready"))), "the victim did not start");
        thread::sleep(Duration::from_micros(round * 997 % 40_000));
        victim.kill().unwrap();
        victim.wait().unwrap();

        // A new process finds only whole volumes, and can go on with each of them.
        let engine = Engine::new(Arc::new(LinuxHost::new()));
        world.run(engine.set_pools(vec![world.pool("pool")]));
        let recovery = world.run(engine.recover());
        assert_eq!(recovery.problems, Vec::<String>::new());
        let inventory = world.run(engine.list());
        assert_eq!(inventory.broken, [], "round {round}");
        seen += inventory.volumes.len();
        for volume in &inventory.volumes {
            let length = fs::metadata(world.image(volume.id.as_str())).unwrap().len();
            assert!(length >= volume.size_bytes, "round {round}: {volume:?} has {length} bytes");
            world.run(engine.create("pool", &spec(volume.id.as_str(), BLOCK, MIB))).unwrap();
        }
        for folder in ["new", "trash"] {
            assert_eq!(fs::read_dir(world.path("pool").join(folder)).unwrap().count(), 0, "round {round}");
        }
    }
    assert!(seen > 0, "no volume ever survived: the victim did nothing");
}
