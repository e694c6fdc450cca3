//! Encrypted volumes over LVM pools, in the lab. Skipped by name elsewhere.

mod encrypted;
mod world;

use encrypted::encrypted_behaviours;
use world::{World, lvm};

encrypted_behaviours! { World::lvm(lvm::thin()) =>
    an_encrypted_volume_lives_from_create_to_delete
    an_encrypted_raw_block_volume_lives_from_create_to_delete
    an_encrypted_volume_goes_on_after_a_restart_and_a_reboot
    a_wrong_and_a_missing_key_are_told_and_change_nothing
    a_volume_is_encrypted_or_not_for_life
    an_encrypted_volume_grows_while_it_is_mounted
    a_key_rotates_at_a_stage_and_while_mounted
    snapshots_and_clones_open_with_the_key_of_their_moment
    a_restore_in_place_keeps_the_key_in_force
}

mod thick {
    use super::*;

    encrypted_behaviours! { World::lvm(tierce_engine::LvmKind::Thick) =>
        an_encrypted_volume_lives_from_create_to_delete
        an_encrypted_raw_block_volume_lives_from_create_to_delete
        an_encrypted_volume_grows_while_it_is_mounted
        snapshots_and_clones_open_with_the_key_of_their_moment
    }
}
