//! Encrypted volumes over the simulated host: needs no privilege.

mod encrypted;
mod world;

use encrypted::encrypted_behaviours;
use world::World;

encrypted_behaviours!(Some(World::sim()));
