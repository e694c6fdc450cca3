//! Encrypted volumes on a real kernel with a device mapper. Needs a guest of the disk lab; skipped by name elsewhere.

mod encrypted;
mod world;

use encrypted::encrypted_behaviours;
use world::World;

encrypted_behaviours!(World::lab());
