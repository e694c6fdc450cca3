//! Faults before and after every side effect over LVM pools, plain and encrypted, in the lab; see [`crate::cycles`]. `make test-crash-lvm` tries many times
//! as many. Skipped by name elsewhere.

use crate::cycles::{Kind, cycles, each_error};
use crate::leftovers::{deleted_after_each_error_of_a_restore, each_error_in_a_copy};
use crate::life::Life;
use crate::world::{World, lvm};
use tierce_engine::LvmKind;

/// Of each kind of volume: one of each fault. Each takes seconds.
const CYCLES: usize = 3;
/// LVM takes its time for each.
const CALLS: usize = 9;

const THIN: Kind = Kind { name: "LVM thin", world: || World::lvm(lvm::thin()), lasting: true, calls: CALLS };
const THICK: Kind =
    Kind { name: "LVM thick", world: || World::lvm(LvmKind::Thick), lasting: true, calls: CALLS };
const THIN_LUKS: Kind = Kind {
    name: "LVM thin with LUKS",
    world: || World::lvm(lvm::thin()).map(World::encrypted),
    lasting: true,
    calls: CALLS,
};
const THICK_LUKS: Kind = Kind {
    name: "LVM thick with LUKS",
    world: || World::lvm(LvmKind::Thick).map(World::encrypted),
    lasting: true,
    calls: CALLS,
};

#[test]
fn bug_26_every_fault_over_thin_volumes_ends_as_if_it_had_not_been() {
    cycles(&THIN, CYCLES);
}

#[test]
fn bug_26_every_fault_over_thick_volumes_ends_as_if_it_had_not_been() {
    cycles(&THICK, CYCLES);
}

#[test]
fn bug_26_every_fault_over_encrypted_thin_volumes_ends_as_if_it_had_not_been() {
    cycles(&THIN_LUKS, CYCLES);
}

#[test]
fn bug_26_every_fault_over_encrypted_thick_volumes_ends_as_if_it_had_not_been() {
    cycles(&THICK_LUKS, CYCLES);
}

#[test]
fn an_error_anywhere_in_a_restore_leaves_it_to_be_repeated() {
    each_error(&THIN, &Life::of_a_restore(), &[false], 4);
}

#[test]
fn an_error_anywhere_in_a_copy_of_a_thin_volume_leaves_all_of_it_or_nothing() {
    each_error_in_a_copy(&THIN);
}

#[test]
fn an_error_anywhere_in_a_copy_of_a_thick_volume_leaves_all_of_it_or_nothing() {
    each_error_in_a_copy(&THICK);
}

#[test]
fn a_volume_that_is_deleted_after_a_restore_that_failed_does_not_come_back() {
    for kind in [THIN, THICK] {
        deleted_after_each_error_of_a_restore(&kind);
    }
}
