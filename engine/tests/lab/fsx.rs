//! Volumes under load: `fsx` writes, truncates and reads at random and compares each read with what it wrote, while the volume is
//! snapshotted and grows. In the lab; skipped by name elsewhere.

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::world::{BTRFS, EXT4, MIB, World, XFS, lvm, run, text};
use tierce_engine::{LvmKind, VolumeMode};

/// Operations of one run; some runs fit into the work beside them.
const OPERATIONS: &str = "400";

/// Runs the exerciser over a file; the seed says what it does.
fn exercise(file: &Path, seed: u32) {
    let program = std::env::var_os("TIERCE_FSX").expect("the lab says where fsx is");
    let output = Command::new(program)
        .args(["-q", "-N", OPERATIONS, "-S", &seed.to_string()])
        .arg("-P")
        .arg(std::env::temp_dir())
        .arg(file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "fsx, seed {seed}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Ends the exerciser with this value, also in a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn sum(file: &Path) -> Vec<u8> {
    run("sha256sum", &["--zero", text(file)]).stdout
}

/// A filesystem, its name, and how large in MiB its volume is.
type Case = (VolumeMode, &'static str, u64);

const ALL: [Case; 3] = [(EXT4, "ext4", 64), (XFS, "xfs", 320), (BTRFS, "btrfs", 256)];

/// Exercises a volume of each filesystem while it is snapshotted twice and grows between.
fn under_load(mut world: World, cases: &[Case]) {
    for &(mode, name, mib) in cases {
        let runs = one_filesystem(&mut world, mode, name, mib * MIB);
        println!("measured: {name}: {runs} runs of {OPERATIONS} operations, each read as it was written");
    }
    world.assert_clean();
}

fn one_filesystem(world: &mut World, mode: VolumeMode, name: &str, size: u64) -> u32 {
    let larger = size + 64 * MIB;
    let id = world.create(&format!("pvc-{name}"), mode, size);
    world.stage(&id, false).unwrap();
    let file = world.staging(&id).join("file");
    // There is something in the first snapshot.
    exercise(&file, 0);
    let over = AtomicBool::new(false);
    let runs = thread::scope(|scope| {
        let over = Over(&over);
        let exerciser = scope.spawn(|| {
            let mut runs = 1;
            while !over.0.load(Ordering::SeqCst) {
                exercise(&file, runs);
                runs += 1;
            }
            runs
        });
        world.snapshot(&format!("snap-1-{name}"), &id).unwrap();
        world.run(world.engine.grow(&id, larger)).unwrap();
        let grown = world.run(world.engine.expand(&id, &world.staging(&id))).unwrap();
        assert!(grown >= larger, "{name}: {grown}");
        world.snapshot(&format!("snap-2-{name}"), &id).unwrap();
        over.0.store(true, Ordering::SeqCst);
        exerciser.join().unwrap()
    });
    exercise(&file, runs);
    run("sync", &["--file-system", text(&file)]);
    let before = sum(&file);
    world.unstage(&id).unwrap();
    world.restart();
    world.stage(&id, false).unwrap();
    assert_eq!(sum(&file), before, "{name}: another content after a restart");
    exercise(&file, runs + 1);
    world.unstage(&id).unwrap();
    // What was taken in the middle of it is a sound filesystem with the file in it.
    for snapshot in [format!("snap-1-{name}"), format!("snap-2-{name}")] {
        let copy = world.create_from(&format!("of-{snapshot}"), mode, larger, &snapshot).unwrap();
        world.stage(&copy, false).unwrap();
        exercise(&world.staging(&copy).join("file"), runs);
        world.unstage(&copy).unwrap();
        assert!(world.delete(&copy).unwrap());
        assert!(world.run(world.engine.delete_snapshot(&snapshot.parse().unwrap())).unwrap().changed());
    }
    assert!(world.delete(&id).unwrap());
    runs + 4
}

#[test]
fn thin_volumes_under_load() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    under_load(world, &ALL);
}

#[test]
fn encrypted_thin_volumes_under_load() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    under_load(world.encrypted(), &ALL);
}

#[test]
fn encrypted_thick_volumes_under_load() {
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    // Its snapshots are full copies.
    under_load(world.encrypted(), &ALL[..1]);
}
