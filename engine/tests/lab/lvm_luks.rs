//! Encrypted volumes over LVM pools, in the lab. Skipped by name elsewhere.

use crate::encrypted::{self, encrypted_behaviours};
use crate::world::{World, lvm};

encrypted_behaviours!(everywhere World::lvm(lvm::thin()));

mod thick {
    use super::*;

    encrypted_behaviours! { World::lvm(tierce_engine::LvmKind::Thick) =>
        an_encrypted_volume_lives_from_create_to_delete
        an_encrypted_raw_block_volume_lives_from_create_to_delete
        an_encrypted_volume_grows_while_it_is_mounted
        snapshots_and_clones_open_with_the_key_of_their_moment
    }
}
