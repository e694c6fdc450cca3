//! Raw devices read as filesystems, in directory pools. Needs root; skipped by name without.

#![allow(clippy::unwrap_used, clippy::panic)]

mod converted;
mod world;

use world::World;

#[test]
fn a_raw_device_is_read_as_the_filesystem_that_it_carries() {
    let Some(mut world) = World::real() else { return };
    converted::a_raw_device_is_read_as_the_filesystem_that_it_carries(&mut world);
    world.assert_clean();
}

#[test]
fn bug_18_a_raw_device_that_carries_anything_else_is_refused_and_nothing_is_written() {
    let Some(mut world) = World::real() else { return };
    converted::bug_18_a_raw_device_that_carries_anything_else_is_refused_and_nothing_is_written(&mut world);
    world.assert_clean();
}
