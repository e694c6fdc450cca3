//! Encrypted volumes on a real kernel with a device mapper. Needs a guest of the disk lab; skipped by name elsewhere.

use crate::encrypted::{self, encrypted_behaviours};
use crate::world::World;

encrypted_behaviours!(World::lab());
