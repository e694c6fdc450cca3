//! Encrypted volumes over the simulated host: needs no privilege.

mod encrypted;
mod world;

use encrypted::encrypted_behaviours;
use world::World;

encrypted_behaviours!(Some(World::sim()));
// Over LUKS2 each of its dozens of attempts would take seconds of stretching; the command's tests in guests try that with fewer.
encrypted_behaviours!(Some(World::sim()) => a_passphrase_opens_and_is_changed_and_nothing_kept_tells_it);
