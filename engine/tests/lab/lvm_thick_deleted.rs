//! What becomes of deleted thick volumes: zeros are written over them in the background, piece by piece. In the lab; skipped by name elsewhere.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use crate::world::{BLOCK, Death, EXT4, MIB, World, lvm::group, run, text};
use tierce_engine::{Error, LvmKind, VolumeId};

/// A used raw volume that has a MiB of ones at its end and at each 16 MiB.
fn used(world: &World, name: &str, bytes: u64) -> VolumeId {
    let id = world.create(name, BLOCK, bytes);
    world.stage(&id, true).unwrap();
    let device = OpenOptions::new().write(true).open(group(world).node(&format!("v-{id}"))).unwrap();
    for at in (0..bytes / MIB).step_by(16).map(|at| at * MIB).chain([bytes - MIB]) {
        device.write_all_at(&vec![1; 1 << 20], at).unwrap();
    }
    device.sync_all().unwrap();
    world.unstage(&id).unwrap();
    id
}

const ZEROS: [u8; 4096] = [0; 4096];

/// How many bytes of that part of a device are not zero.
fn written(device: &Path, from: u64, bytes: u64) -> usize {
    let mut found = vec![0; usize::try_from(bytes).unwrap()];
    File::open(device).unwrap().read_exact_at(&mut found, from).unwrap();
    // Whole blocks are compared at once: byte by byte, a GiB takes a program without optimisation a quarter of a minute.
    let used = found.chunks(ZEROS.len()).filter(|block| **block != ZEROS[..block.len()]);
    used.flatten().filter(|byte| **byte != 0).count()
}

fn size(world: &World, volume: &str) -> u64 {
    let full = format!("{}/{volume}", group(world).name);
    let text =
        group(world).lvm("lvs", &["--noheadings", "--units", "b", "--nosuffix", "-o", "lv_size", &full]);
    text.trim().parse().unwrap()
}

#[test]
fn a_start_zeroes_nothing_before_volumes_can_be_used() {
    let Some(mut world) = World::lvm(LvmKind::Thick) else { return };
    let (_, _) = (used(&world, "pvc-1", 64 * MIB), used(&world, "pvc-2", 64 * MIB));
    let kept = world.create("pvc-3", EXT4, 64 * MIB);
    // What a kill leaves of a deletion, and of a copy.
    let name = group(&world).name.clone();
    group(&world).lvm("lvrename", &["-qq", &name, "v-pvc-1", "d-pvc-1-0a1b2c3d"]);
    group(&world).lvm("lvrename", &["-qq", &name, "v-pvc-2", "n-pvc-2-0a1b2c3d"]);
    world.restart();
    let recovery = world.run(world.engine.recover());
    assert_eq!((recovery.thrown_unfinished, recovery.problems), (1, Vec::new()));
    for left in ["d-pvc-1-0a1b2c3d", "d-pvc-2-0a1b2c3d"] {
        assert!(group(&world).volumes().contains(&left.to_owned()), "{left}");
        group(&world).lvm("lvchange", &["-qq", "-ay", "-K", &format!("{name}/{left}")]);
        assert_eq!(written(&group(&world).node(left), 0, MIB), 1 << 20, "{left}");
    }
    assert!(world.stage(&kept, false).unwrap());
    world.unstage(&kept).unwrap();
    world.run(world.engine.sweep());
    assert_eq!(group(&world).volumes(), ["v-pvc-3"]);
    world.assert_clean();
}

#[test]
fn zeroing_goes_on_where_a_killed_process_ended() {
    const SIZE: u64 = 1024 * MIB;
    let Some(mut world) = World::lvm(LvmKind::Thick) else { return };
    let id = used(&world, "pvc-1", SIZE);
    world.run(world.engine.stop_sweeps(Duration::from_mins(1)));
    assert!(world.delete(&id).unwrap());
    let deleted = group(&world).volumes().remove(0);
    assert!(deleted.starts_with("d-pvc-1-"), "{deleted}");
    let full = format!("{}/{deleted}", group(&world).name);
    let mut left = SIZE;
    for round in 1..4 {
        world.restart();
        group(&world).lvm("lvchange", &["-qq", "-ay", "-K", &full]);
        // It dies when one piece was given back.
        world.die(Some(Death { at: 1, after: false }));
        world.run(world.engine.sweep());
        world.die(None);
        let now = size(&world, &deleted);
        assert!(now < left, "round {round}: {now} of {left}");
        left = now;
    }
    world.restart();
    world.run(world.engine.sweep());
    assert_eq!(group(&world).volumes(), Vec::<String>::new());
    // Whoever gets the space reads nothing of it.
    let next = world.create("pvc-2", BLOCK, SIZE);
    let node = group(&world).node("v-pvc-2");
    for at in (0..SIZE).step_by(64 << 20) {
        assert_eq!(written(&node, at, 64 * MIB), 0, "from {at} on");
    }
    assert!(world.delete(&next).unwrap());
}

#[test]
fn what_needs_no_zeros_goes_before_the_rest_of_what_needs_many() {
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    // Of four pieces. LVM takes its time to take each back.
    let large = used(&world, "pvc-1", 1024 * MIB);
    let unused = world.create("pvc-2", BLOCK, 64 * MIB);
    *world.spy.slow.lock().unwrap() = Some(("lvreduce", Duration::from_secs(2)));
    assert!(world.delete(&large).unwrap());
    assert!(world.delete(&unused).unwrap());
    world.run(world.engine.sweep());
    let lines = world.spy.lines.lock().unwrap().clone();
    let removed = |name: &str| {
        let removes = |line: &String| line.contains(" lvremove ") && line.contains(name);
        lines.iter().position(removes).unwrap_or_else(|| panic!("{name} was never removed"))
    };
    let last_piece = lines.iter().rposition(|line| line.contains(" lvreduce ")).unwrap();
    assert!(removed("d-pvc-2-") < last_piece && last_piece < removed("d-pvc-1-"), "{lines:#?}");
    assert_eq!(group(&world).volumes(), Vec::<String>::new());
    world.assert_clean();
}

#[test]
fn of_a_deleted_encrypted_volume_only_the_header_is_zeroed() {
    let Some(world) = World::lvm(LvmKind::Thick).map(World::encrypted) else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "precious");
    world.unstage(&id).unwrap();
    let full = format!("{}/v-pvc-1", group(&world).name);
    let ranges = group(&world).lvm("lvs", &["--noheadings", "-o", "seg_pe_ranges", &full]);
    let (device, extents) = ranges.trim().split_once(':').unwrap();
    assert_eq!(extents.split('-').next(), Some("0"), "{ranges}");
    let starts =
        group(&world).lvm("pvs", &["--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start", device]);
    let start: u64 = starts.trim().parse().unwrap();
    let device = Path::new(device);
    assert!(written(device, start, MIB) > 0 && written(device, start + MIB, MIB) > 0);
    assert!(world.delete(&id).unwrap());
    world.run(world.engine.sweep());
    assert_eq!(group(&world).volumes(), Vec::<String>::new());
    assert_eq!(written(device, start, MIB), 0, "the header with its key slots");
    assert!(written(device, start + MIB, MIB) > 0, "noise was zeroed, which takes hours");
    world.assert_clean();
}

#[test]
fn a_copy_without_room_for_what_holds_its_source_still_is_refused_before_anything_is_made() {
    const SIZE: u64 = 1536 * MIB;
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    let id = world.create("pvc-1", BLOCK, SIZE);
    world.stage(&id, true).unwrap();
    let before = world.spy.lines.lock().unwrap().len();
    // Of two devices of 2 GiB too little is left for both a snapshot and a copy.
    let error = world.snapshot("snap-1", &id).unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { requested, .. } if requested > 2 * SIZE), "{error:?}");
    let lines = world.spy.lines.lock().unwrap()[before..].to_vec();
    assert!(!lines.iter().any(|line| line.contains("lvcreate")), "{lines:#?}");
    assert_eq!(group(&world).volumes(), ["v-pvc-1"]);
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
    world.run(world.engine.sweep());
    world.assert_clean();
}

/// A copy-on-write snapshot of a volume, as a copy leaves it whose end LVM refused.
fn left_by_a_copy(world: &World, of: &str, name: &str, ours: bool) {
    let group = group(world);
    let full = format!("{}/{of}", group.name);
    let tag = group.lvm("lvs", &["--noheadings", "-o", "lv_tags", &full]);
    let tag = tag.trim().split(',').find(|tag| tag.starts_with("tierce.pool=")).unwrap().to_owned();
    let tag: &[&str] = if ours { &["--addtag", &tag] } else { &[] };
    group.lvm("lvcreate", &[&["-qq", "-y", "-s", "-l", "100%ORIGIN", "-n", name], tag, &[&full]].concat());
}

/// How many blocks of 4 KiB are full of ones on the group's devices.
fn ones(world: &World) -> usize {
    let mut found = 0;
    let mut piece = vec![0; 1 << 20];
    for device in &group(world).devices {
        // What lies upon it writes past what is in memory of it.
        run("blockdev", &["--flushbufs", text(device)]);
        let device = File::open(device).unwrap();
        for at in 0.. {
            if device.read_exact_at(&mut piece, at * MIB).is_err() {
                break;
            }
            found += piece.chunks(4096).filter(|block| block.iter().all(|byte| *byte == 1)).count();
        }
    }
    found
}

#[test]
fn what_a_copy_left_of_a_deleted_volume_is_zeroed_too() {
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    let id = used(&world, "pvc-1", 64 * MIB);
    assert_eq!(ones(&world), 5 * 256);
    left_by_a_copy(&world, "v-pvc-1", "n-snap-1-0a1b2c3d", true);
    left_by_a_copy(&world, "v-pvc-1", "n-snap-2-0a1b2c3d", true);
    assert!(world.delete(&id).unwrap());
    world.run(world.engine.sweep());
    assert_eq!(group(&world).volumes(), Vec::<String>::new());
    assert_eq!(ones(&world), 0, "what the volume held lies where the next one may be");
    world.assert_clean();
}

#[test]
fn a_deleted_volume_of_which_somebody_has_a_snapshot_waits_and_the_snapshot_stays() {
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    let id = used(&world, "pvc-1", 64 * MIB);
    left_by_a_copy(&world, "v-pvc-1", "theirs", false);
    assert!(world.delete(&id).unwrap());
    world.run(world.engine.sweep());
    let left = group(&world).volumes();
    assert!(left.iter().any(|name| name.starts_with("d-pvc-1-")), "{left:?}");
    assert_eq!(written(&group(&world).node("theirs"), 0, MIB), 1 << 20, "{left:?}");
    group(&world).lvm("lvremove", &["-qq", "-f", &format!("{}/theirs", group(&world).name)]);
    world.run(world.engine.sweep());
    assert_eq!((group(&world).volumes(), ones(&world)), (Vec::new(), 0));
    world.assert_clean();
}
