//! Snapshots and clones of real filesystems, in pools that share blocks (XFS, btrfs) and in one that can't (ext4). Needs root; skipped by
//! name without.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{Error, Filesystem, VolumeId, VolumeMode};
use world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, below::world_on, run, text};

/// Unstages everything; then nothing but the filesystem below the pool may be left.
fn end(world: &World) {
    for volume in world.run(world.engine.list()).volumes {
        world.unstage(&volume.id).unwrap();
    }
    assert_eq!(world.mounts().len(), 1, "mounts left behind: {:#?}", world.mounts());
    world.assert_no_loops();
}

fn total_bytes(world: &World, id: &VolumeId) -> u64 {
    world.run(world.engine.stats(id, &world.staging(id))).unwrap().total_bytes
}

fn copies_live_side_by_side(below: Filesystem) {
    let Some((world, _below)) = world_on(below) else { return };
    for (number, mode) in [EXT4, XFS, BTRFS].into_iter().enumerate() {
        let name = |what: &str| format!("{what}-{number}");
        let source = world.create(&name("source"), mode, 320 * MIB);
        world.stage(&source, false).unwrap();
        world.write(&source, "precious");
        let snapshot = world.snapshot(&name("snapshot"), &source).unwrap();
        let clone = world.create_from(&name("clone"), mode, 320 * MIB, snapshot.as_str()).unwrap();
        world.stage(&clone, false).unwrap();
        let second = world.create_from(&name("second"), mode, 320 * MIB, clone.as_str()).unwrap();
        let unstaged = world.create_from(&name("unstaged"), mode, 320 * MIB, snapshot.as_str()).unwrap();
        // A clone of one that was never mounted.
        let third = world.create_from(&name("third"), mode, 320 * MIB, unstaged.as_str()).unwrap();
        let all = [&source, &clone, &second, &unstaged, &third];
        for id in &all[2..] {
            world.stage(id, false).unwrap();
        }
        for id in all {
            assert_eq!(world.read(id), "precious", "{id}");
            world.write(id, id.as_str());
        }
        for id in all {
            world.unstage(id).unwrap();
        }
        // The other way round: a clone first.
        for id in all.into_iter().rev() {
            world.stage(id, false).unwrap();
            assert_eq!(world.read(id), id.as_str());
        }
        for id in all {
            world.unstage(id).unwrap();
            world.delete(id).unwrap();
        }
    }
    assert_eq!(world.mkfs_count(), 3, "a copy was formatted");
    end(&world);
}

#[test]
fn bug_07_source_clone_and_clone_of_a_clone_are_mounted_at_once_on_xfs() {
    copies_live_side_by_side(Filesystem::Xfs);
}

#[test]
fn bug_07_source_clone_and_clone_of_a_clone_are_mounted_at_once_on_btrfs() {
    copies_live_side_by_side(Filesystem::Btrfs);
}

#[test]
fn bug_07_source_clone_and_clone_of_a_clone_are_mounted_at_once_on_ext4() {
    copies_live_side_by_side(Filesystem::Ext4);
}

#[test]
fn bug_12_a_clone_that_is_larger_gets_a_larger_filesystem() {
    let Some((world, _below)) = world_on(Filesystem::Xfs) else { return };
    for mode in [EXT4, XFS, BTRFS] {
        let source = world.create("source", mode, 512 * MIB);
        world.stage(&source, false).unwrap();
        world.write(&source, "precious");
        let snapshot = world.snapshot("snapshot", &source).unwrap();
        let clone = world.create_from("clone", mode, 1024 * MIB, "snapshot").unwrap();
        world.stage(&clone, false).unwrap();
        assert_eq!(world.read(&clone), "precious");
        assert!(total_bytes(&world, &clone) > 900 * MIB, "{mode}: {}", total_bytes(&world, &clone));
        // In place the volume keeps the size it was given after the snapshot.
        world.unstage(&source).unwrap();
        world.run(world.engine.grow(&source, 1024 * MIB)).unwrap();
        world.run(world.engine.restore(&source, &snapshot, &"safety".parse().unwrap())).unwrap();
        world.stage(&source, false).unwrap();
        assert!(total_bytes(&world, &source) > 900 * MIB, "{mode}: {}", total_bytes(&world, &source));
        for id in [&source, &clone] {
            world.unstage(id).unwrap();
            world.delete(id).unwrap();
        }
        for id in ["snapshot", "safety"] {
            world.run(world.engine.delete_snapshot(&id.parse().unwrap())).unwrap();
        }
    }
    assert_eq!(world.mkfs_count(), 3);
    end(&world);
}

/// Bytes free below the pool.
fn free_bytes(world: &World) -> u64 {
    let pool = fs::File::open(world.path("pool")).unwrap();
    rustix::fs::syncfs(&pool).unwrap();
    let stat = rustix::fs::fstatvfs(&pool).unwrap();
    stat.f_bavail * stat.f_frsize
}

#[test]
fn a_snapshot_shares_its_blocks_where_the_filesystem_below_can() {
    for (below, shares) in [(Filesystem::Xfs, true), (Filesystem::Btrfs, true), (Filesystem::Ext4, false)] {
        let Some((world, _below)) = world_on(below) else { return };
        let source = world.create("source", EXT4, 1024 * MIB);
        world.stage(&source, false).unwrap();
        // Not of the kind that anything compresses or leaves out.
        fs::write(world.staging(&source).join("data"), vec![0xa5; 96 << 20]).unwrap();
        fs::File::open(world.staging(&source).join("data")).unwrap().sync_all().unwrap();
        let before = free_bytes(&world);
        let start = Instant::now();
        world.snapshot("snapshot", &source).unwrap();
        println!("{below}: a snapshot of 96 MiB data took {:?}", start.elapsed());
        let taken = before.saturating_sub(free_bytes(&world));
        assert_eq!(taken < 32 * MIB, shares, "{below}: {taken} bytes");
        // What it shares is not offered a second time, what it promised not at all.
        let usage = world.run(world.engine.reports()).remove(0).result.unwrap();
        assert!(usage.available_bytes < usage.capacity_bytes - 2048 * MIB, "{below}: {usage:?}");
        end(&world);
    }
}

#[test]
fn bug_31_a_snapshot_of_a_mounted_filesystem_is_clean_and_has_what_was_acknowledged() {
    let Some((world, _below)) = world_on(Filesystem::Xfs) else { return };
    let source = world.create("source", EXT4, 128 * MIB);
    world.stage(&source, false).unwrap();
    world.write(&source, "0");
    let (staging, stop, acknowledged) = (world.staging(&source), AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for count in 1_u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let mut file = fs::File::create(staging.join("new")).unwrap();
                write!(file, "{count}").unwrap();
                file.sync_all().unwrap();
                fs::rename(staging.join("new"), staging.join("content")).unwrap();
                fs::File::open(&staging).unwrap().sync_all().unwrap();
                acknowledged.store(count, Ordering::SeqCst);
            }
        });
        let taken: Vec<u64> = (0..10)
            .map(|number| {
                thread::sleep(Duration::from_millis(20));
                let before = acknowledged.load(Ordering::SeqCst);
                world.snapshot(&format!("snapshot-{number}"), &source).unwrap();
                before
            })
            .collect();
        stop.store(true, Ordering::SeqCst);
        assert!(*taken.last().unwrap() > 10, "the writer wrote nothing: {taken:?}");
        for (number, before) in taken.into_iter().enumerate() {
            let image = world.image(&format!("snapshot-{number}"));
            // Its journal is empty. (What was unlinked and still open is there, as after any crash, and goes at the next mount.)
            let shown = run("dumpe2fs", &["-h", text(&image)]);
            let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(shown.contains("has_journal") && !shown.contains("needs_recovery"), "{shown}");
            let clone = format!("clone-{number}");
            let clone = world.create_from(&clone, EXT4, 128 * MIB, &format!("snapshot-{number}")).unwrap();
            world.stage(&clone, false).unwrap();
            let has: u64 = world.read(&clone).parse().unwrap();
            assert!(has >= before, "snapshot {number} has {has}, {before} was acknowledged");
            world.unstage(&clone).unwrap();
        }
    });
    end(&world);
}

fn device(world: &World, volume: &VolumeId) -> PathBuf {
    let target = world.path("target");
    world.publish(volume, &target, true).unwrap();
    target
}

fn marker(device: &std::path::Path) -> [u8; 8] {
    let mut bytes = [0; 8];
    let mut file = fs::File::open(device).unwrap();
    file.seek(SeekFrom::Start(MIB)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_raw_block_volume_in_use_is_written_out_before_it_is_copied_or_refused() {
    for (below, shares) in [(Filesystem::Xfs, true), (Filesystem::Ext4, false)] {
        let Some((world, _below)) = world_on(below) else { return };
        let source = world.create("source", BLOCK, 64 * MIB);
        world.stage(&source, true).unwrap();
        let target = device(&world, &source);
        let mut file = fs::OpenOptions::new().write(true).open(&target).unwrap();
        file.seek(SeekFrom::Start(MIB)).unwrap();
        // Without a sync of its own.
        file.write_all(b"precious").unwrap();
        let taken = world.snapshot("snapshot", &source);
        if shares {
            taken.unwrap();
        } else {
            let error = taken.unwrap_err();
            assert!(matches!(&error, Error::CopyNeedsPause { by, .. } if by.contains("target")), "{error:?}");
            assert!(error.to_string().contains("stop the pods that use it"), "{error}");
        }
        drop(file);
        world.unpublish(&source, &target).unwrap();
        world.unstage(&source).unwrap();
        world.snapshot("snapshot", &source).unwrap();
        let clone = world.create_from("clone", BLOCK, 128 * MIB, "snapshot").unwrap();
        world.stage(&clone, true).unwrap();
        let target = device(&world, &clone);
        assert_eq!(&marker(&target), b"precious");
        world.unpublish(&clone, &target).unwrap();
        end(&world);
    }
}

#[test]
fn a_device_that_lost_its_filesystem_is_not_mounted_for_its_copy() {
    let Some((world, _below)) = world_on(Filesystem::Xfs) else { return };
    for (number, mode) in [EXT4, XFS, BTRFS].into_iter().enumerate() {
        let source = world.create(&format!("source-{number}"), mode, 320 * MIB);
        world.stage(&source, false).unwrap();
        world.unstage(&source).unwrap();
        world.assert_no_loops();
        let clone = format!("clone-{number}");
        let clone = world.create_from(&clone, mode, 320 * MIB, source.as_str()).unwrap();
        let image = fs::OpenOptions::new().write(true).open(world.image(clone.as_str())).unwrap();
        image.set_len(0).unwrap();
        image.set_len(320 * MIB).unwrap();
        let error = world.stage(&clone, false).unwrap_err();
        assert!(matches!(error, Error::FormatRefused { .. }), "{error:?}");
    }
    assert_eq!(world.mkfs_count(), 3);
    end(&world);
}

#[test]
fn a_volume_mode_is_kept_by_every_copy() {
    let Some((world, _below)) = world_on(Filesystem::Btrfs) else { return };
    let source = world.create("source", VolumeMode::Filesystem(Filesystem::Xfs), 320 * MIB);
    world.snapshot("snapshot", &source).unwrap();
    // A copy of what was never formatted is formatted once, by itself.
    let clone = world.create_from("clone", XFS, 320 * MIB, "snapshot").unwrap();
    world.stage(&clone, false).unwrap();
    world.stage(&source, false).unwrap();
    assert_eq!(world.mkfs_count(), 2);
    end(&world);
}
