//! What the disk engine takes for its operations, beside the bare commands that a person would give in the same place. `make bench` runs
//! it: `images` on the machine as root, the others in a guest of the disk lab. Each line of JSON is one figure, with what was measured of
//! ours and, in turns with it, of the other side.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the measurement")]

#[path = "../tests/world/mod.rs"]
mod world;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tierce_engine::{Filesystem, LvmKind, VolumeId};
use world::below::world_on;
use world::lvm::{TestGroup, thin};
use world::{BLOCK, EXT4, MIB, World, spec, text};

/// How often a single operation is done.
const TIMES: usize = 20;
const SIZE: u64 = 64 * MIB;
/// Creations at once, and one after the other by hand.
const MANY: usize = 50;
/// Pairs of runs of fio.
const PAIRS: usize = 20;

fn main() {
    for section in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
        match section.as_str() {
            "images" => images(),
            "commands" => {
                commands(true);
                commands(false);
                many_at_once();
            }
            "encryption" => encryption(),
            "writes" => {
                writes();
                writes_while_copied();
            }
            other => panic!("no section {other:?}: images, commands, encryption, writes"),
        }
    }
}

/// A line for the harness. Milliseconds, unless `unit` says otherwise.
fn say(what: &str, [ours, other]: &[Vec<f64>; 2]) {
    println!("{}", json!({ "what": what, "ours": ours, "other": other }));
}

fn milliseconds(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64() * 1000.0
}

/// Does both, the one that begins changing from turn to turn.
fn both(turn: usize, times: &mut [Vec<f64>; 2], ours: impl FnOnce(), other: impl FnOnce()) {
    if turn.is_multiple_of(2) {
        times[0].push(milliseconds(ours));
        times[1].push(milliseconds(other));
    } else {
        times[1].push(milliseconds(other));
        times[0].push(milliseconds(ours));
    }
}

/// Single operations on raw block volumes that nobody uses, and the commands of LVM that do the like.
fn commands(is_thin: bool) {
    let Some(world) = World::lvm(if is_thin { thin() } else { LvmKind::Thick }) else { return };
    let group = world.group.as_ref().unwrap();
    let mut times: [[Vec<f64>; 2]; 4] = Default::default();
    let [create, snapshot, clone, delete] = &mut times;
    for turn in 0..TIMES {
        let (volume, by_hand) = (format!("pvc-{turn}"), format!("bare-{turn}"));
        both(
            turn,
            create,
            || drop(world.create(&volume, BLOCK, SIZE)),
            || by_lvcreate(group, is_thin, &by_hand),
        );
        let volume: VolumeId = volume.parse().unwrap();
        // A thick one is a copy; LVM has no command for that.
        let copy_by_hand = |name: &str| {
            if is_thin {
                let origin = format!("{}/{by_hand}", group.name);
                group.lvm("lvcreate", &["-qq", "-y", "-s", "-n", name, &origin]);
            }
        };
        both(turn, snapshot, || drop(world.snapshot("snap", &volume).unwrap()), || copy_by_hand("bare-snap"));
        let copy = || drop(world.create_from("copy", BLOCK, SIZE, volume.as_str()).unwrap());
        both(turn, clone, copy, || copy_by_hand("bare-copy"));
        world.run(world.engine.delete_snapshot(&"snap".parse().unwrap())).unwrap();
        world.delete(&"copy".parse().unwrap()).unwrap();
        if is_thin {
            for name in ["bare-snap", "bare-copy"] {
                by_lvremove(group, name);
            }
        }
        settled(group);
        both(turn, delete, || assert!(world.delete(&volume).unwrap()), || by_lvremove(group, &by_hand));
        settled(group);
    }
    let kind = if is_thin { "thin" } else { "thick" };
    if !is_thin {
        snapshot[1].clear();
        clone[1].clear();
    }
    for (operation, times) in ["create", "snapshot", "clone", "delete"].into_iter().zip(&times) {
        say(&format!("{operation} {kind}"), times);
    }
}

/// Waits until what was deleted has been removed in the background.
fn settled(group: &TestGroup) {
    while group.volumes().iter().any(|name| name.starts_with("d-")) {}
}

fn by_lvcreate(group: &TestGroup, is_thin: bool, name: &str) {
    let size = format!("{}m", SIZE / MIB);
    if is_thin {
        let pool = format!("{}/thin", group.name);
        group.lvm("lvcreate", &["-qq", "-y", "-n", name, "-V", &size, "--thinpool", &pool]);
    } else {
        group.lvm("lvcreate", &["-qq", "-y", "-n", name, "-L", &size, &group.name]);
    }
}

fn by_lvremove(group: &TestGroup, name: &str) {
    group.lvm("lvremove", &["-qq", "-y", &format!("{}/{name}", group.name)]);
}

/// Many creations at once, beside as many commands one after the other.
fn many_at_once() {
    let Some(world) = World::lvm(thin()) else { return };
    let group = world.group.as_ref().unwrap();
    let mut times: [Vec<f64>; 2] = Default::default();
    for turn in 0..PAIRS {
        let ours = || {
            world.run(async {
                let mut tasks = tokio::task::JoinSet::new();
                for index in 0..MANY {
                    let engine = world.engine.clone();
                    let spec = spec(&format!("pvc-{index}"), BLOCK, SIZE);
                    tasks.spawn(async move { engine.create("pool", &spec).await.unwrap() });
                }
                tasks.join_all().await
            });
        };
        let by_hand = || (0..MANY).for_each(|index| by_lvcreate(group, true, &format!("bare-{index}")));
        both(turn, &mut times, ours, by_hand);
        for index in 0..MANY {
            world.delete(&format!("pvc-{index}").parse().unwrap()).unwrap();
            by_lvremove(group, &format!("bare-{index}"));
        }
        settled(group);
    }
    say(&format!("{MANY} at once"), &times);
}

/// What an encrypted volume's stage takes, a plain one's, and the memory that the opening program takes.
fn encryption() {
    let Some((mut world, [locked, plain])) = locked_and_plain(SIZE) else { return };
    let mut times: [Vec<f64>; 2] = Default::default();
    // The first stage of an encrypted volume makes its header.
    for turn in 0..=TIMES {
        for (id, times) in [&locked, &plain].into_iter().zip(&mut times) {
            world.encrypted = *id == locked;
            let took = milliseconds(|| assert!(world.stage(id, true).unwrap()));
            world.unstage(id).unwrap();
            if turn > 0 {
                times.push(took);
            }
        }
    }
    say("stage encrypted", &times);
    world.encrypted = true;
    world.stage(&locked, true).unwrap();
    let device = world.group.as_ref().unwrap().node("v-locked");
    let opening = peak_mib(
        Command::new("cryptsetup").args([
            "open",
            "--test-passphrase",
            "--type=luks2",
            "--key-file=-",
            text(&device),
        ]),
        &[0x41; 32],
    );
    say("memory to open", &[vec![opening], Vec::new()]);
    world.unstage(&locked).unwrap();
}

/// A thin pool with an encrypted raw block volume and one without. Who stages one sets `World::encrypted` to what it is.
fn locked_and_plain(bytes: u64) -> Option<(World, [VolumeId; 2])> {
    let mut world = World::lvm(thin())?;
    let plain = world.create("plain", BLOCK, bytes);
    world.encrypted = true;
    let locked = world.create("locked", BLOCK, bytes);
    Some((world, [locked, plain]))
}

/// The most memory that a program has at a time, in MiB.
#[allow(clippy::zombie_processes, reason = "wait4 is what waits for it")]
fn peak_mib(program: &mut Command, input: &[u8]) -> f64 {
    let mut child = program.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid one, wait4(2) writes to the two places it is given, and nobody else waits for this child.
    #[allow(unsafe_code)]
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::wait4(pid, &raw mut status, 0, &raw mut usage), pid);
        usage
    };
    assert_eq!(status, 0, "{program:?} ended with {status}");
    // Linux counts it in KiB (getrusage(2)).
    f64::from(i32::try_from(usage.ru_maxrss).unwrap()) / 1024.0
}

/// Snapshots of a mounted image with 256 MiB in it, and clones of one.
fn images() {
    for below in [Filesystem::Xfs, Filesystem::Btrfs] {
        let Some((world, _below)) = world_on(below) else { return };
        let id = world.create("pvc", EXT4, 1024 * MIB);
        world.stage(&id, false).unwrap();
        let mut file = File::create(world.staging(&id).join("file")).unwrap();
        for block in 0..256_u32 {
            file.write_all(&block.to_le_bytes().repeat(1 << 18)).unwrap();
        }
        file.sync_all().unwrap();
        drop(file);
        let (mut snapshots, mut clones) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            let mut snapshot = None;
            snapshots.push(milliseconds(|| snapshot = world.snapshot("snap", &id).ok()));
            let snapshot = snapshot.unwrap();
            clones.push(milliseconds(|| drop(world.create_from("clone", EXT4, 1024 * MIB, "snap").unwrap())));
            world.delete(&"clone".parse().unwrap()).unwrap();
            world.run(world.engine.delete_snapshot(&snapshot)).unwrap();
        }
        say(&format!("snapshot image {below}"), &[snapshots, Vec::new()]);
        say(&format!("clone image {below}"), &[clones, Vec::new()]);
        world.unstage(&id).unwrap();
    }
}

/// 4K random writes to a thin volume that was written before: with encryption, and after a snapshot, against a plain one. In operations a
/// second.
fn writes() {
    let Some((mut world, [locked, plain])) = locked_and_plain(256 * MIB) else { return };
    for id in [&locked, &plain] {
        world.encrypted = *id == locked;
        world.stage(id, true).unwrap();
    }
    let group = world.group.as_ref().unwrap();
    let devices = [Path::new("/dev/mapper/tierce-crypt-locked"), &group.node("v-plain")];
    for device in devices {
        fio(device, &["--rw=write", "--bs=1m"]);
    }
    let random = |device: &Path| fio(device, &["--rw=randwrite", "--bs=4k", "--iodepth=4", "--io_size=16m"]);
    let (mut encrypted, mut snapped): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
    for _ in 0..PAIRS {
        encrypted[0].push(random(devices[0]));
        encrypted[1].push(random(devices[1]));
        let snapshot = world.snapshot("snap", &plain).unwrap();
        snapped[0].push(random(devices[1]));
        snapped[1].push(random(devices[1]));
        world.run(world.engine.delete_snapshot(&snapshot)).unwrap();
    }
    say("writes encrypted", &encrypted);
    say("writes after a snapshot", &snapped);
    for id in [&locked, &plain] {
        world.unstage(id).unwrap();
    }
}

/// 4K random writes to a thick volume that was written before, while a snapshot of it is made, which is a full copy; against those without.
fn writes_while_copied() {
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    let id = world.create("pvc", BLOCK, 1024 * MIB);
    world.stage(&id, true).unwrap();
    let device = world.group.as_ref().unwrap().node("v-pvc");
    fio(&device, &["--rw=write", "--bs=1m"]);
    let random =
        || fio(&device, &["--rw=randwrite", "--bs=4k", "--iodepth=4", "--time_based", "--runtime=1"]);
    let (mut copied, mut length): ([Vec<f64>; 2], Vec<f64>) = Default::default();
    for _ in 0..PAIRS {
        let (during, milliseconds) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| (random(), Instant::now()));
            let started = Instant::now();
            let snapshot = world.snapshot("snap", &id).unwrap();
            let ended = Instant::now();
            let (during, written) = writer.join().unwrap();
            assert!(ended > written, "the copy was over before the writes");
            world.run(world.engine.delete_snapshot(&snapshot)).unwrap();
            (during, (ended - started).as_secs_f64() * 1000.0)
        });
        // What was deleted is zeroed in the background.
        world.run(world.engine.sweep());
        copied[0].push(during);
        copied[1].push(random());
        length.push(milliseconds);
    }
    say("writes during a copy", &copied);
    say("whole copy of 1 GiB", &[length, Vec::new()]);
    world.unstage(&id).unwrap();
}

/// Operations a second, past the page cache.
fn fio(device: &Path, load: &[&str]) -> f64 {
    let output = Command::new("fio")
        .args(["--name=bench", "--direct=1", "--ioengine=libaio", "--output-format=json"])
        .arg(format!("--filename={}", device.display()))
        .args(load)
        .output()
        .unwrap();
    assert!(output.status.success(), "fio: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["jobs"][0]["write"]["iops"].as_f64().unwrap()
}
