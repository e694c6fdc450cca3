//! Raw devices read as filesystems, over LVM and encrypted, in the lab. Skipped by name elsewhere.

use crate::converted;
use crate::world::{World, lvm};
use tierce_engine::LvmKind;

#[test]
fn a_raw_device_is_read_as_the_filesystem_that_it_carries_over_thin_volumes() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    converted::a_raw_device_is_read_as_the_filesystem_that_it_carries(&mut world);
    world.assert_clean();
}

#[test]
fn a_raw_device_is_read_as_the_filesystem_that_it_carries_over_encrypted_volumes() {
    let Some(mut world) = World::lvm(lvm::thin()).map(World::encrypted) else { return };
    converted::a_raw_device_is_read_as_the_filesystem_that_it_carries(&mut world);
    world.assert_clean();
}

#[test]
fn bug_18_a_raw_device_that_carries_anything_else_is_refused_and_nothing_is_written_over_thick_volumes() {
    let Some(mut world) = World::lvm(LvmKind::Thick) else { return };
    converted::bug_18_a_raw_device_that_carries_anything_else_is_refused_and_nothing_is_written(&mut world);
    world.assert_clean();
}

#[test]
fn bug_18_a_raw_device_that_carries_anything_else_is_refused_and_nothing_is_written_over_encrypted_volumes() {
    let Some(mut world) = World::lvm(lvm::thin()).map(World::encrypted) else { return };
    converted::bug_18_a_raw_device_that_carries_anything_else_is_refused_and_nothing_is_written(&mut world);
    world.assert_clean();
}
