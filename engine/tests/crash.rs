//! A process that dies at any moment leaves volumes that are whole or not there (over the simulation without root), and what it staged
//! goes on (skipped by name without root).

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{fs, path::Path, sync::Arc, time::Duration};

use tierce_engine::{Error, Host, LinuxHost, VolumeSpec};
use world::{BLOCK, EXT4, MIB, World, is_root, sim_host, spec, victim};

const ROUNDS: u64 = 60;
const STAGING_ROUNDS: u64 = 40;

/// The real host as root, else the simulated one: looking for loop devices is root's.
fn host(folder: &Path) -> Arc<dyn Host> {
    if is_root() { Arc::new(LinuxHost::new()) } else { Arc::new(sim_host(folder)) }
}

/// The process that is killed: makes, copies, grows, restores and deletes volumes until then.
#[test]
#[ignore = "started by the test below"]
fn victim() {
    let folder = victim::folder();
    let world = World::over(&folder, host);
    println!("ready");
    for round in 0_u64.. {
        for number in 0..8 {
            let id = world.create(&format!("pvc-{number}"), BLOCK, MIB);
            let snapshot = world.snapshot(&format!("snap-{number}"), &id).unwrap();
            world.run(world.engine.grow(&id, (2 + round % 3) * MIB)).ok();
            let safety = format!("safety-{number}-{round}").parse().unwrap();
            world.run(world.engine.restore(&id, &snapshot, &safety)).unwrap();
            let clone = world.create_from(&format!("clone-{number}"), BLOCK, 8 * MIB, id.as_str()).unwrap();
            world.run(world.engine.delete_snapshot(&safety)).unwrap();
            if round % 3 == 0 {
                world.run(world.engine.delete_snapshot(&snapshot)).unwrap();
                world.delete(&clone).unwrap();
            }
            if (round + number) % 2 == 0 {
                world.delete(&id).unwrap();
            }
        }
    }
}

#[test]
fn bug_26_a_process_killed_at_any_moment_leaves_whole_volumes_or_none() {
    let mut world = World::with(host);
    let (mut seen, mut copies, mut under_way) = (0, 0, 0);
    for round in 0..ROUNDS {
        victim::kill_one(&world, "victim", Duration::from_micros(round * 997 % 40_000));

        // A new process finds only whole volumes, and can go on with each of them.
        world.restart();
        let engine = &world.engine;
        let recovery = world.run(engine.recover());
        assert_eq!(recovery.problems, Vec::<String>::new());
        world.run(engine.sweep());
        let inventory = world.run(engine.list());
        assert_eq!(inventory.broken, [], "round {round}");
        seen += inventory.volumes.len();
        for volume in &inventory.volumes {
            if is_root() {
                let length = fs::metadata(world.image(volume.id.as_str())).unwrap().len();
                assert!(length >= volume.size_bytes, "round {round}: {volume:?} has {length} bytes");
            }
            let spec = VolumeSpec { source: volume.source.clone(), ..spec(volume.id.as_str(), BLOCK, MIB) };
            world.run(engine.create("pool", &spec)).unwrap();
        }
        for folder in ["new", "trash"] {
            assert_eq!(fs::read_dir(world.path("pool").join(folder)).unwrap().count(), 0, "round {round}");
        }
        copies += inventory.snapshots.len();
        for snapshot in &inventory.snapshots {
            // One that a restore under way needs stays; the restore ends first.
            let deleted = world.run(engine.delete_snapshot(&snapshot.id));
            if let Err(Error::InUse { .. }) = deleted {
                under_way += 1;
                world.run(engine.grow(&snapshot.source, 16 * MIB)).unwrap();
                assert!(world.run(engine.delete_snapshot(&snapshot.id)).unwrap().changed(), "round {round}");
            }
        }
    }
    assert!(seen > 0 && copies > 0, "no volume or snapshot ever survived: the victim did nothing");
    println!(
        "{seen} volumes and {copies} snapshots survived, {under_way} restores were carried to their end"
    );
}

/// The process that is killed while it stages: what it acknowledged is noted outside, with the data.
#[test]
#[ignore = "started by the test below"]
fn stager() {
    let folder = victim::folder();
    let world = World::over(&folder, |_| Arc::new(LinuxHost::new()));
    println!("ready");
    for round in 0_u32.. {
        for number in 0..6 {
            let id = world.create(&format!("pvc-{number}"), EXT4, 32 * MIB);
            world.stage(&id, false).unwrap();
            let file = world.staging(&id).join("precious");
            if !file.exists() {
                fs::write(&file, id.as_str()).unwrap();
                fs::File::open(&file).unwrap().sync_all().unwrap();
                fs::write(world.path(&format!("acknowledged-{id}")), b"").unwrap();
            }
            world.publish(&id, &world.path(&format!("target-{id}")), false).unwrap();
            if round % 2 == 0 {
                world.unpublish(&id, &world.path(&format!("target-{id}"))).unwrap();
                world.unstage(&id).unwrap();
            }
        }
    }
}

#[test]
fn a_process_killed_while_it_stages_loses_no_data_and_leaks_no_device() {
    let Some(mut world) = World::real() else { return };
    let mut acknowledged = 0;
    for round in 0..STAGING_ROUNDS * 10 {
        // A machine with other work to do gets less done before each kill: it gets more rounds.
        if round >= STAGING_ROUNDS && acknowledged > 20 {
            break;
        }
        victim::kill_one(&world, "stager", Duration::from_micros(round * 3_301 % 90_000));
        world.restart();
        let recovery = world.run(world.engine.recover());
        assert_eq!(recovery.problems, Vec::<String>::new());
        let inventory = world.run(world.engine.list());
        assert_eq!(inventory.broken, [], "round {round}");
        for volume in &inventory.volumes {
            let (id, target) = (&volume.id, world.path(&format!("target-{}", volume.id)));
            world.stage(id, false).unwrap();
            world.publish(id, &target, false).unwrap();
            if world.path(&format!("acknowledged-{id}")).exists() {
                acknowledged += 1;
                assert_eq!(
                    fs::read_to_string(target.join("precious")).unwrap(),
                    id.as_str(),
                    "round {round}"
                );
            }
            world.unpublish(id, &target).unwrap();
            world.unstage(id).unwrap();
        }
        world.assert_clean();
        if round % 8 == 7 {
            for volume in &inventory.volumes {
                world.delete(&volume.id).unwrap();
                let _ = fs::remove_file(world.path(&format!("acknowledged-{}", volume.id)));
            }
        }
    }
    assert!(acknowledged > 20, "the victim got nothing done: {acknowledged}");
}
