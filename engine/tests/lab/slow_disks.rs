//! Volume groups on disks that are slow, or stop answering: who depends on them waits, nobody else does. In the lab; skipped by name elsewhere.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use crate::device_mapper::{Conduct, Mapped, disks};
use crate::world::{
    BLOCK, EXT4, MIB, World,
    lvm::{TestGroup, thin},
    run, spec,
};
use rustix::fs::{FlockOperation, flock};
use tierce_engine::{Error, LvmKind, PoolErrorKind, SnapshotSpec};

/// A world whose pool is a thick group on a disk that does as it is told.
fn world() -> Option<(World, Mapped)> {
    let mut world = World::lab()?;
    let disk = Mapped::over(&disks()?[0], "told");
    world.group = Some(TestGroup::lasting("tierce-told", LvmKind::Thick, &[disk.path()]));
    world.set_pool();
    Some((world, disk))
}

/// Takes the group off its disk.
fn take_down(world: World, disk: Mapped) {
    world.run(world.engine.sweep());
    world.group.as_ref().unwrap().lvm("vgremove", &["-qq", "-f", "-y", "tierce-told"]);
    drop(world);
    // The next test makes a group of it again, for which its ends have to be blank: LVM leaves its description there.
    let mut device = File::options().write(true).open(disk.path()).unwrap();
    let bytes = device.seek(SeekFrom::End(0)).unwrap();
    for at in [0, bytes - MIB] {
        device.write_all_at(&vec![0; 1 << 20], at).unwrap();
    }
    device.sync_all().unwrap();
    drop(device);
    disk.remove();
}

fn pattern(at: u64) -> Vec<u8> {
    at.to_le_bytes().repeat(1 << 17)
}

#[test]
fn a_volume_goes_down_and_comes_up_while_a_copy_of_it_is_made() {
    const DATA: u64 = 192;
    let Some((world, disk)) = world() else { return };
    let target = world.path("target");
    for (mode, block) in [(EXT4, false), (BLOCK, true)] {
        let file = |target: &Path| if block { target.to_owned() } else { target.join("content") };
        let id = world.create("pvc-1", mode, 256 * MIB);
        world.stage(&id, block).unwrap();
        world.publish(&id, &target, block).unwrap();
        let written = File::options().write(true).create(true).truncate(false).open(file(&target)).unwrap();
        for at in 0..DATA {
            written.write_all_at(&pattern(at), at * MIB).unwrap();
        }
        written.sync_all().unwrap();
        drop(written);
        disk.behave(Conduct::Slow(100));
        let spec = SnapshotSpec { id: "snapshot-1".parse().unwrap(), source: id.clone(), owner: None };
        let engine = world.engine.clone();
        let copy = world.runtime.spawn(async move { engine.snapshot(&spec).await.map(drop) });
        // Of a volume it is refused, as soon as somebody reads that for another reason.
        while !matches!(world.run(world.engine.delete_snapshot(&id)), Err(Error::InUse { .. })) {
            assert!(
                !copy.is_finished(),
                "nobody could ask before the copy was over: it keeps its source's lock"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        world.unpublish(&id, &target).unwrap();
        world.unstage(&id).unwrap();
        world.stage(&id, block).unwrap();
        world.publish(&id, &target, block).unwrap();
        let changed = File::options().write(true).open(file(&target)).unwrap();
        changed.write_all_at(&pattern(7), 0).unwrap();
        drop(changed);
        world.unpublish(&id, &target).unwrap();
        world.unstage(&id).unwrap();
        let refused = world.run(world.engine.grow(&id, 320 * MIB)).map(drop);
        assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
        assert!(!copy.is_finished(), "the copy was over before: nothing is tested");
        disk.behave(Conduct::Good);
        world.run(copy).unwrap().unwrap();
        let clone = world.create_from("pvc-2", mode, 256 * MIB, "snapshot-1").unwrap();
        world.stage(&clone, block).unwrap();
        world.publish(&clone, &target, block).unwrap();
        let copied = File::open(file(&target)).unwrap();
        let mut found = vec![0; 1 << 20];
        for at in 0..DATA {
            copied.read_exact_at(&mut found, at * MIB).unwrap();
            assert!(found == pattern(at), "{mode}: MiB {at} of the copy");
        }
        drop(copied);
        world.unpublish(&clone, &target).unwrap();
        world.unstage(&clone).unwrap();
        world.run(world.engine.grow(&id, 320 * MIB)).unwrap();
        for volume in [&id, &clone] {
            assert!(world.delete(volume).unwrap());
        }
        world.run(world.engine.delete_snapshot(&"snapshot-1".parse().unwrap())).unwrap();
    }
    world.assert_clean();
    take_down(world, disk);
}

#[test]
fn a_group_whose_disk_stops_answering_is_reported_and_comes_back_by_itself() {
    let Some((world, disk)) = world() else { return };
    fs::create_dir(world.path("second")).unwrap();
    world.run(world.engine.set_pools(vec![world.pool("pool"), world.pool("second")]));
    world.create("pvc-1", EXT4, 64 * MIB);
    run("dmsetup", &["suspend", "--noflush", "--nolockfs", "told"]);
    // The list asks LVM, which waits for the disk; after that a look asks the disk itself.
    assert_eq!(world.run(world.engine.list()).unread, ["pool"]);
    // A busy disk has a minute to answer it.
    let asked = Instant::now();
    let reports = loop {
        let reports = world.run(world.engine.reports());
        if reports[0].result.is_err() || asked.elapsed() > Duration::from_mins(3) {
            break reports;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    world.run(world.engine.create("second", &spec("pvc-2", BLOCK, MIB))).unwrap();
    run("dmsetup", &["resume", "told"]);
    assert_eq!(reports[0].result.as_ref().unwrap_err().kind, PoolErrorKind::NotAnswering, "{reports:?}");
    assert!(reports[1].result.is_ok(), "{reports:?}");
    while world.run(world.engine.reports())[0].result.is_err()
        || world.run(world.engine.list()).volumes.len() < 2
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    world.create("pvc-3", EXT4, 64 * MIB);
    take_down(world, disk);
}

#[test]
fn a_copy_for_which_the_filesystem_thawed_too_early_is_none() {
    let Some(world) = World::lvm(thin()) else { return };
    let world = world.encrypted();
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "before");
    let group = world.group.as_ref().unwrap();
    let volumes = group.volumes();
    // As a command of somebody else's holds the group, for longer than a filesystem is held still.
    let lock = format!("/run/lock/lvm/V_{}", group.name);
    let lock = File::options().create(true).truncate(false).write(true).open(lock).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(4));
        drop(lock);
    });
    let taken = world.snapshot("snapshot-1", &id);
    holder.join().unwrap();
    assert!(
        matches!(&taken, Err(Error::CopyNeedsPause { reason, .. }) if reason.contains("try again")),
        "{taken:?}"
    );
    assert_eq!(group.volumes(), volumes, "nothing is left of it");
    let snapshot = world.snapshot("snapshot-1", &id).unwrap();
    world.unstage(&id).unwrap();
    let clone = world.create_from("pvc-2", EXT4, 64 * MIB, snapshot.as_str()).unwrap();
    world.stage(&clone, false).unwrap();
    assert_eq!(world.read(&clone), "before");
    world.unstage(&clone).unwrap();
    world.assert_clean();
}
