//! A crash between what LVM writes down and what it tells the kernel: such a volume is in the group and was never made. In the lab; skipped by
//! name elsewhere.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::world::lvm::{TestGroup, group};
use crate::world::{EXT4, MIB, World, lvm, run, spec, text};
use tierce_engine::VolumeId;

/// How often a command is killed, each time a little later.
const ROUNDS: u64 = 10;

/// The process id of an `lvcreate` that this process has started.
fn lvcreate() -> Option<i32> {
    let ours = std::process::id().to_string();
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?;
        let words = line.split(|byte| *byte == 0).take(2).any(|word| word.ends_with(b"lvcreate"));
        (parent == ours && words).then_some(pid)
    })
}

/// Runs `work` while each `lvcreate` of it is killed that long after its start.
fn killing<R>(after: Duration, work: impl FnOnce() -> R) -> R {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                if let Some(pid) = lvcreate() {
                    thread::sleep(after);
                    let pid = rustix::process::Pid::from_raw(pid).unwrap();
                    // It may have ended by itself.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                // The guest has one processor.
                thread::sleep(Duration::from_millis(2));
            }
        });
        let result = work();
        ended.store(true, Ordering::SeqCst);
        result
    })
}

#[test]
fn whoever_repeats_a_call_whose_command_was_killed_gets_a_volume_that_is_there() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    let base = world.create("pvc-base", EXT4, 64 * MIB);
    world.stage(&base, false).unwrap();
    let mut killed = 0;
    for round in 0..ROUNDS {
        let after = Duration::from_millis(round * 16);
        let name = format!("pvc-{round}");
        let made = killing(after, || world.run(world.engine.create("pool", &spec(&name, EXT4, 64 * MIB))));
        killed += usize::from(made.is_err());
        let id = world.create(&name, EXT4, 64 * MIB);
        world.stage(&id, false).unwrap();
        world.write(&id, "kept");
        world.unstage(&id).unwrap();
        world.delete(&id).unwrap();
    }
    assert!(killed > 2, "only {killed} of {ROUNDS} calls were hit");
    world.unstage(&base).unwrap();
    println!("{killed} of {ROUNDS} calls had their command killed");
}

/// What LVM says of a volume of a group.
fn ask(group: &TestGroup, field: &str, volume: &str) -> String {
    let text = group.lvm("lvs", &["--noheadings", "-o", field, &format!("{}/{volume}", group.name)]);
    text.trim().to_owned()
}

/// The thin pool as the kernel says: the transaction, and how many chunks are in use.
fn thin_pool(group: &TestGroup) -> (u64, u64) {
    let device = format!("{}-thin-tpool", group.name.replace('-', "--"));
    let status = String::from_utf8(run("dmsetup", &["status", &device]).stdout).unwrap();
    let words: Vec<&str> = status.split(' ').collect();
    (words[3].parse().unwrap(), words[5].split_once('/').unwrap().0.parse().unwrap())
}

/// How far LVM and the kernel came with a volume when the command was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// LVM wrote the volume down, with a message to send.
    BeforeTheMessage,
    /// The kernel made the device, and does not count the transaction yet.
    BeforeTheTransaction,
}

/// Turns back what came after that point in the making of a volume.
fn turn_back(group: &TestGroup, name: &str, to: Killed) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metadata");
    group.lvm("vgcfgbackup", &["-qq", "-f", text(&file), &group.name]);
    let made = fs::read_to_string(&file).unwrap();
    let pool = "type = \"thin-pool\"\n";
    assert_eq!(made.matches(pool).count(), 1, "{made}");
    let message = format!("{pool}message1 {{\ncreate = \"{name}\"\n}}\n");
    fs::write(&file, made.replace(pool, &message)).unwrap();

    let (after, _) = thin_pool(group);
    let device = format!("{}-thin-tpool", group.name.replace('-', "--"));
    let tell = |message: &str| drop(run("dmsetup", &["message", &device, "0", message]));
    if to == Killed::BeforeTheMessage {
        tell(&format!("delete {}", ask(group, "thin_id", name)));
    }
    tell(&format!("set_transaction_id {after} {}", after - 1));
    group.lvm("vgcfgrestore", &["-qq", "-y", "--force", "-f", text(&file), &group.name]);
    assert!(group.volumes().contains(&name.to_owned()), "{name} is in the group");
    assert_eq!(thin_pool(group).0, after - 1, "{to:?}");
}

/// Makes a volume with the tags of another one, as if its command had been killed there.
fn never_made(group: &TestGroup, like: &str, name: &str, snapshot: bool, killed: Killed) {
    let tags = ask(group, "lv_tags", like);
    let origin = format!("{}/{like}", group.name);
    let mut arguments = vec!["-qq", "-y", "-ky", "-K", "-an", "-n", name];
    for tag in tags.split(',') {
        arguments.extend(["--addtag", tag]);
    }
    if snapshot {
        arguments.extend(["-s", &origin]);
    } else {
        arguments.extend(["-V", "64m", "--thinpool", "thin", &group.name]);
    }
    group.lvm("lvcreate", &arguments);
    turn_back(group, name, killed);
}

#[test]
fn what_lvm_wrote_down_and_never_made_goes_with_the_recovery_and_can_be_made_again() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    let base = world.create("pvc-base", EXT4, 64 * MIB);
    world.stage(&base, false).unwrap();
    world.write(&base, "kept");
    for (name, snapshot, killed) in [
        ("pvc-lost", false, Killed::BeforeTheMessage),
        ("pvc-half", false, Killed::BeforeTheTransaction),
        ("pvc-copy", true, Killed::BeforeTheMessage),
        ("pvc-twice", true, Killed::BeforeTheTransaction),
        ("pvc-again", false, Killed::BeforeTheMessage),
    ] {
        never_made(group(&world), "v-pvc-base", &format!("v-{name}"), snapshot, killed);
        world.restart();
        let id: VolumeId = name.parse().unwrap();
        let known = world.run(world.engine.list()).volumes;
        assert!(!known.iter().any(|volume| volume.id == id), "{name} was never made");
        let recovery = world.run(world.engine.recover());
        assert_eq!(recovery.problems, Vec::<String>::new());
        assert!(!group(&world).volumes().contains(&format!("v-{name}")), "it was left in the group");
    }
    let id = world.create("pvc-again", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "other");
    world.unstage(&id).unwrap();
    world.delete(&id).unwrap();
    world.unstage(&base).unwrap();
}

#[test]
fn a_new_volume_shows_nothing_of_what_the_kernel_has_under_its_number() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    let base = world.create("pvc-base", EXT4, 64 * MIB);
    let number: u32 = ask(group(&world), "thin_id", "v-pvc-base").parse().unwrap();
    let pool = format!("{}-thin-tpool", group(&world).name.replace('-', "--"));
    run("dmsetup", &["message", &pool, "0", &format!("create_thin {}", number + 1)]);
    let table = format!("0 131072 thin /dev/mapper/{pool} {}", number + 1);
    run("dmsetup", &["create", "orphan", "--table", &table]);
    fs::write("/dev/mapper/orphan", "of another".repeat(1000)).unwrap();
    run("sync", &[]);
    run("dmsetup", &["remove", "--retry", "orphan"]);

    let (_, before) = thin_pool(group(&world));
    let id = world.create("pvc-a", EXT4, 64 * MIB);
    assert!(thin_pool(group(&world)).1 < before, "what it held is gone");
    world.stage(&id, false).unwrap();
    world.unstage(&id).unwrap();
    world.delete(&id).unwrap();
    world.delete(&base).unwrap();
}
