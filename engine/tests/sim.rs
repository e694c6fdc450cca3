//! The engine over the simulated host: needs no privilege.

mod behaviour;
mod world;

use behaviour::behaviours;
use world::World;

behaviours!(Some(World::sim()));
