//! Incidents of other storage systems, replayed over LVM pools, plain and encrypted, in the lab. Skipped by name elsewhere.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::world::{BTRFS, EXT4, MIB, World, XFS, lvm, text};
use tierce_engine::{VolumeId, VolumeMode};

fn total_bytes(world: &World, id: &VolumeId) -> u64 {
    world.run(world.engine.stats(id, &world.staging(id))).unwrap().total_bytes
}

/// Source, clone, and clone of the clone are mounted at once, and each has its own content from then on.
fn copies_live_side_by_side(world: &World) {
    for mode in [EXT4, XFS, BTRFS] {
        let source = world.create("source", mode, 320 * MIB);
        world.stage(&source, false).unwrap();
        world.write(&source, "precious");
        let clone = world.create_from("clone", mode, 320 * MIB, "source").unwrap();
        world.stage(&clone, false).unwrap();
        let again = world.create_from("again", mode, 320 * MIB, "clone").unwrap();
        let made = world.mkfs_count();
        world.stage(&again, false).unwrap();
        let all = [&source, &clone, &again];
        for id in all {
            assert_eq!(world.read(id), "precious", "{mode} {id}");
            world.write(id, id.as_str());
        }
        for id in all {
            world.unstage(id).unwrap();
            world.stage(id, false).unwrap();
            assert_eq!(world.read(id), id.as_str(), "{mode}");
            world.unstage(id).unwrap();
        }
        assert_eq!(world.mkfs_count(), made, "a copy was formatted");
        for id in all {
            world.delete(id).unwrap();
        }
    }
    world.assert_clean();
}

#[test]
fn bug_07_source_clone_and_clone_of_a_clone_are_mounted_at_once_over_lvm() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    copies_live_side_by_side(&world);
}

#[test]
fn bug_07_source_clone_and_clone_of_a_clone_are_mounted_at_once_over_luks() {
    let Some(world) = World::lvm(lvm::thin()).map(World::encrypted) else { return };
    copies_live_side_by_side(&world);
}

/// A snapshot of 1 GiB becomes a volume of 2 GiB, whose filesystem has that size as well.
fn a_larger_copy_has_a_larger_filesystem(world: &World, modes: &[VolumeMode]) {
    for &mode in modes {
        let source = world.create("source", mode, 1024 * MIB);
        world.stage(&source, false).unwrap();
        world.write(&source, "precious");
        world.unstage(&source).unwrap();
        let snapshot = world.snapshot("snapshot", &source).unwrap();
        world.delete(&source).unwrap();
        let copy = world.create_from("copy", mode, 2048 * MIB, "snapshot").unwrap();
        world.stage(&copy, false).unwrap();
        assert_eq!(world.read(&copy), "precious");
        let total = total_bytes(world, &copy);
        assert!(total > 1900 * MIB, "{mode}: {total}");
        world.unstage(&copy).unwrap();
        world.delete(&copy).unwrap();
        world.run(world.engine.delete_snapshot(&snapshot)).unwrap();
    }
    world.assert_clean();
}

#[test]
fn bug_12_a_larger_copy_has_a_larger_filesystem_over_lvm() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    a_larger_copy_has_a_larger_filesystem(&world, &[EXT4, XFS, BTRFS]);
}

#[test]
fn bug_12_a_larger_copy_has_a_larger_filesystem_over_luks() {
    let Some(world) = World::lvm(lvm::thin()).map(World::encrypted) else { return };
    a_larger_copy_has_a_larger_filesystem(&world, &[EXT4, XFS]);
}

const GROUP: &str = "TIERCE_CONTAINER_GROUP";
const DEVICES: &str = "TIERCE_CONTAINER_DEVICES";
const FOLDER: &str = "TIERCE_CONTAINER_FOLDER";
/// What udevd listens on.
const UDEV: &str = "/run/udev/control";
/// Far more than the process needs, far less than a wait that never ends.
const PATIENCE: Duration = Duration::from_mins(2);

/// The process in a container: it sees the host's `/run/udev`, but its semaphores are its own.
#[test]
#[ignore = "started by the test below"]
fn contained() {
    let variable = |name| std::env::var(name).unwrap();
    let devices: Vec<PathBuf> = variable(DEVICES).split(' ').map(PathBuf::from).collect();
    let group = lvm::TestGroup::lasting(&variable(GROUP), lvm::thin(), &devices);
    let world = World::lvm_over(Path::new(&variable(FOLDER)), group);
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "here");
    world.snapshot("snap-1", &id).unwrap();
    world.unstage(&id).unwrap();
    world.run(world.engine.delete_snapshot(&"snap-1".parse().unwrap())).unwrap();
    world.delete(&id).unwrap();
    world.assert_clean();
    let deadline = Instant::now() + PATIENCE;
    // Space is freed in the background.
    while world.group.as_ref().unwrap().volumes() != ["thin"] {
        assert!(Instant::now() < deadline, "{:?}", world.group.as_ref().unwrap().volumes());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn bug_33_in_a_container_nothing_waits_for_udev() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    let group = world.group.as_ref().unwrap();
    std::fs::create_dir_all("/run/udev").unwrap();
    std::fs::write(UDEV, b"").unwrap();
    let devices: Vec<&str> = group.devices.iter().map(|device| text(device)).collect();
    let folder = world.path("contained");
    std::fs::create_dir(&folder).unwrap();
    let mut child = Command::new("unshare")
        .arg("--ipc")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "lvm_incidents::contained", "--ignored", "--nocapture"])
        .envs([(GROUP, group.name.as_str()), (DEVICES, &devices.join(" "))])
        .env(FOLDER, &folder)
        // What it prints would be taken for this process's own.
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it still waits after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    std::fs::remove_file(UDEV).unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(group.volumes(), ["thin"]);
}
