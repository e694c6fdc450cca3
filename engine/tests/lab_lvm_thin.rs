//! The engine over LVM thin pools, in the lab. Skipped by name elsewhere.

#![allow(clippy::unwrap_used, clippy::panic)]

mod behaviour;
mod world;

use std::fs;

use behaviour::behaviours;
use world::{BTRFS, EXT4, MIB, World, XFS, lvm};

behaviours!(everywhere World::lvm(lvm::thin()));

#[test]
fn a_volume_of_every_filesystem_lives_from_create_to_delete() {
    let Some(world) = World::lvm(lvm::thin()) else { return };
    for mode in [EXT4, XFS, BTRFS] {
        let id = world.create("pvc-1", mode, 320 * MIB);
        assert!(world.stage(&id, false).unwrap());
        let target = world.path("target");
        assert!(world.publish(&id, &target, false).unwrap());
        fs::write(target.join("file"), b"hello").unwrap();
        assert!(world.unpublish(&id, &target).unwrap());
        assert!(!target.exists());
        assert!(world.unstage(&id).unwrap());
        world.assert_clean();
        assert!(world.stage(&id, false).unwrap());
        assert_eq!(fs::read(world.staging(&id).join("file")).unwrap(), b"hello");
        assert!(world.unstage(&id).unwrap());
        assert!(world.delete(&id).unwrap());
        assert!(!world.delete(&id).unwrap());
        world.assert_clean();
    }
    assert_eq!(world.mkfs_count(), 3);
}
