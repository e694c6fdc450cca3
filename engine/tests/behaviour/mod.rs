//! What every host must do: run over the simulation always, over directory pools as root.

#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used, clippy::panic)] // Each test binary uses a part of it.

mod node_calls;
mod pools;
mod records;
mod snapshots;
mod volumes;

pub use node_calls::*;
pub use pools::*;
pub use records::*;
pub use snapshots::*;
pub use volumes::*;

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use tierce_engine::{
    Backend, Change, Engine, Error, Filesystem, Owner, PublishRequest, SnapshotSpec, StageRequest, VolumeId,
    VolumeSpec,
};

use super::world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, spec};

/// Makes one test per behaviour, in the world that the expression gives; `everywhere`: those that ask nothing of what a pool is made of.
macro_rules! behaviours {
    ($world:expr) => {
        behaviours! { everywhere $world }
        behaviours! { $world =>
            a_record_of_a_newer_tierce_is_left_alone_and_told_from_a_broken_one
            a_broken_record_is_left_alone_and_the_others_go_on
            a_pool_that_is_missing_does_not_stop_the_others
            a_pool_that_opens_late_is_cleaned_up_then_and_only_once
            a_pool_that_returns_is_asked_before_a_volume_counts_as_gone
            what_is_mounted_comes_down_while_its_pool_is_away
            what_is_mounted_comes_down_after_its_folder_was_removed
            a_disk_that_is_missing_at_the_start_is_not_replaced_by_an_empty_pool
            a_pool_whose_disk_went_away_is_refused_until_it_is_back
            pools_on_one_disk_share_its_space
            two_pools_over_one_directory_are_told_apart
            what_a_crash_left_is_removed_and_nothing_else
            bug_04_delete_touches_only_its_own_subtree
        }
    };
    (everywhere $world:expr) => {
        behaviours! { $world =>
            a_creation_repeated_changes_nothing_and_another_one_conflicts
            a_thousand_creations_at_once_of_one_id_make_one_volume
            bad_arguments_are_refused_before_anything_is_made
            what_does_not_exist_is_told_precisely
            out_of_space_names_the_largest_size_that_fits
            creations_at_once_never_promise_more_than_there_is
            every_call_may_be_repeated
            every_call_works_after_a_restart
            calls_in_the_wrong_order_are_answered_and_can_be_made_good
            raw_block_lives_from_create_to_delete
            bug_08_publishing_again_never_touches_the_mount
            bug_10_publish_without_stage_is_refused
            a_target_that_is_not_ours_is_left_alone
            a_staging_path_that_is_not_ours_is_left_alone
            a_read_only_target_stays_read_only
            two_targets_of_one_volume_are_independent
            a_volume_in_use_is_not_deleted
            a_volume_that_was_ever_used_is_kept_if_asked
            a_volume_grows_and_never_shrinks
            mount_options_are_kept_and_checked
            a_snapshot_keeps_what_was_there_and_outlives_its_volume
            a_snapshot_is_no_volume_and_a_volume_no_snapshot
            a_source_that_does_not_fit_is_refused_and_nothing_is_made
            bug_18_a_snapshot_of_a_raw_block_volume_is_never_mounted
            bug_18_a_snapshot_changes_its_mode_only_where_that_was_permitted
            snapshots_and_clones_promise_their_whole_size
            a_restore_in_place_brings_the_content_back_and_keeps_what_was_before
            a_restore_that_does_not_fit_is_refused_and_nothing_is_touched
            a_restore_is_called_off_before_it_begins_and_not_after
            a_volume_is_copied_into_another_pool_of_the_node
            snapshots_and_clones_at_once_are_each_made_once
        }
    };
    ($world:expr => $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let Some(mut world) = $world else { return };
                behaviour::$name(&mut world);
                world.assert_clean();
            }
        )*
    };
}
pub(crate) use behaviours;

/// What befalls a record file.
type Damage = fn(&std::path::Path);

fn message(error: &Error) -> String {
    error.to_string()
}
