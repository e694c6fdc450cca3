//! One life of a volume in a directory pool, with every write below the pool's filesystem recorded, and the power cut at
//! each moment at which something was on the disk for sure: filesystems, records and content are sound each time.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::device_mapper::write_log::{Recorder, Replay, WriteLog};
use crate::device_mapper::{Mapped, disks, sectors};
use crate::world::{EXT4, MIB, World, private_mounts, run, text};
use tierce_engine::VolumeId;

/// Size of the pool's filesystem.
const POOL: u64 = 512 * MIB;
const SIZE: u64 = 48 * MIB;
/// Lines in the volume when the snapshot is taken, and at its end.
const SNAPSHOT: usize = 6;
const LAST: usize = 10;

fn id(name: &str) -> VolumeId {
    name.parse().unwrap()
}

/// Each step, and after it the word that it was acknowledged with.
fn live(world: &World, done: impl Fn(&str)) {
    let volume = world.create("pvc-1", EXT4, SIZE);
    done("made");
    world.stage(&volume, false).unwrap();
    done("staged");
    let write = |number: usize| {
        let path = world.staging(&volume).join("lines");
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{number}").unwrap();
        file.sync_all().unwrap();
        done(&format!("lines-{number}"));
    };
    (1..=SNAPSHOT).for_each(write);
    world.snapshot("snap-1", &volume).unwrap();
    done("snapshot");
    world.run(world.engine.grow(&volume, 2 * SIZE)).unwrap();
    world.run(world.engine.expand(&volume, &world.staging(&volume))).unwrap();
    done("grown");
    (SNAPSHOT + 1..=LAST).for_each(write);
    world.unstage(&volume).unwrap();
    done("unstaged");
    world.run(world.engine.restore(&volume, &id("snap-1"), &id("safety-1"))).unwrap();
    done("restored");
    world.delete(&volume).unwrap();
    done("deleted");
}

/// What must be there after a power cut: every step in `done`, and perhaps a part of `next`.
fn check(world: &World, done: &[&str], next: Option<&str>) {
    let is_done = |word: &str| done.contains(&word);
    let inventory = world.run(world.engine.list());
    assert!(inventory.broken.is_empty() && inventory.unread.is_empty(), "{inventory:?}");
    let snapshots: BTreeMap<String, bool> =
        inventory.snapshots.iter().map(|snapshot| (snapshot.id.to_string(), snapshot.valid)).collect();
    assert!(!is_done("snapshot") || snapshots.get("snap-1") == Some(&true), "{snapshots:?}");
    assert!(!is_done("restored") || snapshots.get("safety-1") == Some(&true), "{snapshots:?}");
    let volume = id("pvc-1");
    let there = inventory.volumes.iter().any(|found| found.id == volume);
    if is_done("deleted") {
        assert!(!there, "a deleted volume came back");
        return;
    }
    if !there {
        assert!(!is_done("made") || next == Some("deleted"), "an acknowledged volume is gone");
        if next == Some("deleted") {
            return;
        }
    }
    // What was begun is asked for again, as its caller would.
    if !is_done("made") {
        world.create("pvc-1", EXT4, SIZE);
    }
    if next == Some("restored") {
        world.run(world.engine.restore(&volume, &id("snap-1"), &id("safety-1"))).unwrap();
    }
    world.stage(&volume, false).unwrap();
    assert!(!is_done("staged") || world.mkfs_count() == 0, "formatted a second time");
    let lines = fs::read_to_string(world.staging(&volume).join("lines")).unwrap_or_default();
    let lines: Vec<usize> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert!(lines.iter().copied().eq(1..=lines.len()), "{lines:?}");
    let acknowledged = done.iter().filter(|word| word.starts_with("lines")).count();
    if is_done("restored") || next == Some("restored") {
        assert_eq!(lines.len(), SNAPSHOT);
    } else {
        assert!(
            (acknowledged..=acknowledged + 1).contains(&lines.len()),
            "{lines:?}, acknowledged {acknowledged}"
        );
    }
    world.unstage(&volume).unwrap();
    world.assert_clean();
    run("e2fsck", &["-fn", text(&world.image("pvc-1"))]);
}

/// A mounted ext4, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(device: &Path, place: &Path) -> Self {
        fs::create_dir_all(place).unwrap();
        run("mount", &[text(device), text(place)]);
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[text(&self.0)]);
    }
}

fn record(disks: &[PathBuf], folder: &Path) -> WriteLog {
    let recorder = Recorder::new(&disks[0], &disks[1], "recorded");
    let place = folder.join("recorded");
    let mounted = Mounted::new(&recorder.path(), &place);
    fs::create_dir_all(place.join("world/pool")).unwrap();
    run("sync", &["-f", text(&place)]);
    recorder.mark("begin");
    let world = World::real_over(&place.join("world"));
    live(&world, |word| recorder.mark(word));
    world.assert_clean();
    drop(world);
    drop(mounted);
    recorder.finish()
}

/// Looks at the disk as it is after the first `count` entries, without changing it.
fn look(log: &WriteLog, count: usize, origin: &Path, changes: &Path, folder: &Path) {
    let table = |origin: &Path, sectors| {
        format!("0 {sectors} snapshot {} {} N 16", origin.display(), changes.display())
    };
    let copy = Mapped::with_table(origin, "look", table);
    let fsck = std::process::Command::new("e2fsck").args(["-fp", text(&copy.path())]).output().unwrap();
    // 1: mended without a question, which is the journal.
    assert!(fsck.status.code().is_some_and(|code| code <= 1), "{fsck:?}");
    let mounted = Mounted::new(&copy.path(), &folder.join("look"));
    let marks: Vec<&str> = log.entries[..count].iter().filter_map(|entry| entry.mark.as_deref()).collect();
    let next = log.entries[count..].iter().find_map(|entry| entry.mark.as_deref());
    let world = World::real_over(&mounted.0.join("world"));
    check(&world, &marks, next);
    drop(world);
    drop(mounted);
    copy.remove();
}

#[test]
fn a_power_cut_at_any_flush_of_a_volumes_life_loses_nothing_that_was_acknowledged() {
    let Some(disks) = disks() else { return };
    let started = Instant::now();
    private_mounts();
    let folder = tempfile::tempdir().unwrap();
    run("mkfs.ext4", &["-q", "-E", "nodiscard", text(&disks[0]), &format!("{}M", POOL / MIB)]);
    // The replay begins with the disk that the recording began with.
    let (from, to) = (format!("if={}", disks[0].display()), format!("of={}", disks[2].display()));
    run("dd", &[&from, &to, "bs=1M", &format!("count={}", POOL / MIB), "conv=fsync", "status=none"]);
    let log = record(&disks, folder.path());
    let begin = log.entries.iter().position(|entry| entry.mark.as_deref() == Some("begin")).unwrap();
    let points: Vec<usize> = log.flush_points().into_iter().filter(|&count| count > begin).collect();
    assert!(points.len() > 20 && log.last_mark(log.entries.len()).is_some(), "{} flush points", points.len());

    // What looking changes goes here.
    let changes = folder.path().join("changes");
    File::create(&changes).unwrap().set_len(2 * POOL).unwrap();
    let device = String::from_utf8(run("losetup", &["--find", "--show", text(&changes)]).stdout).unwrap();
    let device = Path::new(device.trim());
    assert!(sectors(device) > 0);
    let mut replay = Replay::onto(&log, &disks[2]);
    for &count in &points {
        replay.advance(count);
        let result = std::thread::scope(|scope| {
            // Its mounts end with the thread.
            let look = || {
                private_mounts();
                look(&log, count, &disks[2], device, folder.path());
            };
            scope.spawn(look).join()
        });
        assert!(result.is_ok(), "at entry {count}, after mark {:?}", log.last_mark(count));
    }
    run("losetup", &["--detach", text(device)]);
    println!(
        "measured: {} writes, {} flush points, all sound, {:.0} s",
        log.entries.len(),
        points.len(),
        started.elapsed().as_secs_f64()
    );
}
