//! Disks that fail below a pool's filesystem, on the kernel of a guest: nothing is formatted, and what was there is there
//! again when the disk is.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::device_mapper::{Conduct, Mapped, disks};
use crate::world::{EXT4, MIB, World, XFS, private_mounts, run, text};

/// Past the page cache; `None` when the disk answers with an error.
fn first_byte(device: &Path) -> Option<u8> {
    let input = format!("if={}", device.display());
    let output = Command::new("dd")
        .args([&input, "bs=4096", "count=1", "iflag=direct", "status=none"])
        .output()
        .unwrap();
    output.status.success().then(|| output.stdout[0])
}

fn write_byte(device: &Path, byte: u8, folder: &Path) -> bool {
    let block = folder.join("block");
    fs::write(&block, vec![byte; 4096]).unwrap();
    let (input, output) = (format!("if={}", block.display()), format!("of={}", device.display()));
    let line = [&input, &output, "bs=4096", "count=1", "oflag=direct", "conv=notrunc,fsync", "status=none"];
    Command::new("dd").args(line).output().unwrap().status.success()
}

#[test]
fn a_disk_conducts_itself_as_it_is_told() {
    let Some(disks) = disks() else { return };
    let folder = tempfile::tempdir().unwrap();
    let disk = Mapped::over(&disks[1], "conduct");
    let path = disk.path();
    assert!(write_byte(&path, b'a', folder.path()) && first_byte(&path) == Some(b'a'));
    disk.behave(Conduct::Errors);
    assert!(!write_byte(&path, b'b', folder.path()) && first_byte(&path).is_none());
    disk.behave(Conduct::FailsWrites);
    assert!(!write_byte(&path, b'b', folder.path()) && first_byte(&path) == Some(b'a'));
    disk.behave(Conduct::DropsWrites);
    assert!(write_byte(&path, b'b', folder.path()) && first_byte(&path) == Some(b'a'));
    disk.behave(Conduct::Zeros);
    assert!(write_byte(&path, b'b', folder.path()) && first_byte(&path) == Some(0));
    disk.behave(Conduct::Slow(300));
    let started = Instant::now();
    assert_eq!(first_byte(&path), Some(b'a'));
    assert!(started.elapsed() >= Duration::from_millis(300));
    disk.behave(Conduct::Good);
    assert!(write_byte(&path, b'b', folder.path()) && first_byte(&path) == Some(b'b'));
    disk.remove();
    assert!(!path.exists());
}

#[test]
fn bug_01_a_pool_whose_disk_answers_with_errors_formats_nothing() {
    let Some(disks) = disks() else { return };
    private_mounts();
    let folder = tempfile::tempdir().unwrap();
    let disk = Mapped::over(&disks[0], "bad");
    run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard", text(&disk.path()), "1024M"]);
    let mount = || run("mount", &["-o", "noatime", text(&disk.path()), text(folder.path())]);
    mount();
    let own = folder.path().join("world");
    fs::create_dir_all(own.join("pool")).unwrap();
    let world = World::real_over(&own);
    let mut volumes = Vec::new();
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", XFS)] {
        let used = world.create(name, mode, 320 * MIB);
        world.stage(&used, false).unwrap();
        world.write(&used, name);
        world.unstage(&used).unwrap();
        volumes.push(used);
    }
    // Never staged: only the read error stands between it and mkfs.
    let fresh = world.create("pvc-fresh", EXT4, 64 * MIB);
    run("sync", &[]);
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let before = world.mkfs_count();
    disk.behave(Conduct::Errors);
    for volume in volumes.iter().chain([&fresh]) {
        for _ in 0..2 {
            let error = world.stage(volume, false).unwrap_err();
            assert!(!error.to_string().is_empty(), "{error:?}");
        }
    }
    assert_eq!(world.mkfs_count(), before, "something was formatted");
    drop(world);
    run("umount", &["--lazy", text(folder.path())]);

    disk.behave(Conduct::Good);
    let mended = Command::new("e2fsck").args(["-fp", text(&disk.path())]).output().unwrap();
    assert!(mended.status.code().is_some_and(|code| code <= 1), "{mended:?}");
    mount();
    let world = World::real_over(&own);
    for volume in &volumes {
        world.stage(volume, false).unwrap();
        assert_eq!(world.read(volume), volume.as_str());
        world.unstage(volume).unwrap();
    }
    world.stage(&fresh, false).unwrap();
    world.unstage(&fresh).unwrap();
    assert_eq!(world.mkfs_count(), 1, "only the fresh one is formatted");
    world.assert_clean();
    drop(world);
    run("umount", &[text(folder.path())]);
    disk.remove();
}
