//! Faults before and after every side effect, over the simulation and (as root) over images; see [`cycles`]. `make test-crash` tries 20 times as
//! many. Skipped by name without root.

#![allow(clippy::unwrap_used, clippy::panic)]

mod called_off;
mod cycles;
mod leftovers;
mod life;
#[path = "../model/state.rs"]
mod state;
#[path = "../world/mod.rs"]
mod world;

use called_off::each_error_then_called_off;
use cycles::{Kind, cycles, each_error};
use life::Life;
use world::World;

const SIM: Kind = Kind { name: "sim", world: || Some(World::sim()), lasting: false, calls: 14 };
const ENCRYPTED: Kind =
    Kind { name: "encrypted", world: || Some(World::sim().encrypted()), lasting: false, calls: 14 };
const DIRECTORY: Kind = Kind { name: "directory", world: World::real, lasting: false, calls: 14 };

#[test]
fn bug_26_every_fault_over_the_simulation_ends_as_if_it_had_not_been() {
    cycles(&SIM, 600);
}

#[test]
fn bug_26_every_fault_over_encrypted_volumes_ends_as_if_it_had_not_been() {
    cycles(&ENCRYPTED, 200);
}

#[test]
fn bug_26_every_fault_over_images_ends_as_if_it_had_not_been() {
    cycles(&DIRECTORY, 48);
}

#[test]
fn an_error_anywhere_in_a_restore_leaves_it_to_be_repeated() {
    for kind in [SIM, ENCRYPTED] {
        each_error(&kind, &Life::of_a_restore(), &[false, true], 1);
    }
}

#[test]
fn an_error_anywhere_in_a_restore_that_is_called_off_leaves_one_content_or_the_other() {
    each_error_then_called_off(&SIM, true);
    each_error_then_called_off(&ENCRYPTED, false);
}
