//! The engine over LVM thick pools, in the lab. Skipped by name elsewhere.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
};

use crate::behaviour::{self, behaviours};
use crate::world::{BLOCK, BTRFS, EXT4, MIB, World, XFS};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tierce_engine::Error;

behaviours!(everywhere World::lvm(tierce_engine::LvmKind::Thick));
// The simulation keeps no files.
behaviours! { World::lvm(tierce_engine::LvmKind::Thick) => a_volume_of_every_filesystem_lives_from_create_to_delete }

#[test]
fn a_filesystem_grows_under_its_user_and_keeps_what_is_in_it() {
    let Some(mut world) = World::lvm(tierce_engine::LvmKind::Thick) else { return };
    for (mode, size) in [(EXT4, 64 * MIB), (XFS, 320 * MIB), (BTRFS, 256 * MIB)] {
        let id = world.create("pvc-1", mode, size);
        let made = world.mkfs_count();
        world.stage(&id, false).unwrap();
        let target = world.path("target");
        world.publish(&id, &target, false).unwrap();
        let content: Vec<u8> = (0_u32..4 << 20).flat_map(u32::to_le_bytes).collect();
        fs::write(target.join("before"), &content).unwrap();
        // Open all the time: nothing is unmounted for it.
        let mut open = File::create(target.join("open")).unwrap();
        open.write_all(b"from before").unwrap();
        open.sync_all().unwrap();
        assert_eq!(fallocate(&open, FallocateFlags::empty(), 0, size), Err(Errno::NOSPC), "{mode}");

        world.run(world.engine.grow(&id, 2 * size)).unwrap();
        assert_eq!(world.run(world.engine.expand(&id, &target)).unwrap(), 2 * size, "{mode}");
        let total = world.run(world.engine.stats(&id, &target)).unwrap().total_bytes;
        assert!(total > size * 3 / 2 && total <= 2 * size, "{mode}: {total}");
        fallocate(&open, FallocateFlags::empty(), 0, size).unwrap();
        open.write_all_at(b"the end", size - 7).unwrap();
        open.sync_all().unwrap();
        drop(open);
        assert!(fs::read(target.join("before")).unwrap() == content, "{mode}: while it is mounted");

        world.unpublish(&id, &target).unwrap();
        world.unstage(&id).unwrap();
        world.restart();
        world.stage(&id, false).unwrap();
        let staging = world.staging(&id);
        assert!(fs::read(staging.join("before")).unwrap() == content, "{mode}: after a mount anew");
        let (open, mut begin, mut end) = (File::open(staging.join("open")).unwrap(), [0; 11], [0; 7]);
        open.read_exact_at(&mut begin, 0).unwrap();
        open.read_exact_at(&mut end, size - 7).unwrap();
        assert_eq!((&begin, &end), (b"from before", b"the end"), "{mode}");
        drop(open);
        world.unstage(&id).unwrap();
        assert_eq!(world.mkfs_count(), made + 1, "{mode}");
        assert!(world.delete(&id).unwrap());
    }
    world.assert_clean();
}

#[test]
fn a_restore_for_which_there_is_room_but_for_its_exchange_leaves_the_volume_as_it_was() {
    const SIZE: u64 = 128 * MIB;
    let Some(world) = World::lvm(tierce_engine::LvmKind::Thick) else { return };
    let available = || world.run(world.engine.reports()).remove(0).result.unwrap().available_bytes;
    let id = world.create("pvc-1", EXT4, SIZE);
    world.stage(&id, false).unwrap();
    world.write(&id, "before");
    world.unstage(&id).unwrap();
    let snapshot = world.snapshot("snap-1", &id).unwrap();
    world.stage(&id, false).unwrap();
    world.write(&id, "now");
    world.unstage(&id).unwrap();
    let filler = world.create("filler", BLOCK, available() - SIZE - SIZE / 2);
    let safety = "safety-1".parse().unwrap();
    let restore = || world.run(world.engine.restore(&id, &snapshot, &safety));
    let error = restore().unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { .. }), "{error:?}");
    assert!(world.run(world.engine.get_snapshot(&safety)).unwrap().is_none());
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "now");
    world.unstage(&id).unwrap();

    assert!(world.delete(&filler).unwrap());
    world.run(world.engine.sweep());
    restore().unwrap();
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "before");
    world.unstage(&id).unwrap();
    world.assert_clean();
}
