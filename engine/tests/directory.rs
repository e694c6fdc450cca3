//! The engine over directory pools on the real kernel. Needs root; skipped by name without.

#![allow(clippy::unwrap_used)]

mod behaviour;
mod world;

use behaviour::behaviours;
use world::World;

behaviours!(World::real());
// The simulation keeps no files.
behaviours! { World::real() => a_volume_of_every_filesystem_lives_from_create_to_delete }
