//! Encrypted volumes on one host. Needs a kernel with dm-crypt, as a guest of the disk lab; skipped by name elsewhere.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod crashes;
mod sessions;
mod world;

use std::{fs, process::Command};

use crashes::{killed_everywhere, nothing_half_made};
use world::{World, is_root};

/// Whether this kernel can encrypt; else the test is skipped by name.
fn can_encrypt() -> bool {
    let targets =
        Command::new("dmsetup").arg("targets").output().map(|output| output.stdout).unwrap_or_default();
    let can = is_root() && String::from_utf8_lossy(&targets).contains("crypt");
    if !can {
        println!("skipped: encrypted volumes need root and a kernel with dm-crypt");
    }
    can
}

fn with_key() -> World {
    let world = World::new();
    fs::write(world.path("key"), "00ff".repeat(16)).unwrap();
    rustix::fs::chmod(world.path("key"), rustix::fs::Mode::RUSR).unwrap();
    world
}

#[test]
fn lab_an_encrypted_volume_lives_and_moves_with_its_key_alone() {
    if can_encrypt() {
        sessions::check_in(&with_key(), "encrypted.txt", include_str!("transcripts/encrypted.txt"));
    }
}

#[test]
fn lab_a_killed_creation_or_removal_of_an_encrypted_volume_heals() {
    if !can_encrypt() {
        return;
    }
    let key = |world: &World| fs::write(world.path("key"), "00ff".repeat(16)).unwrap();
    let create = ["volume", "create", "a", "--size", "64Mi", "--encrypt", "--key-file", "key"];
    killed_everywhere(&key, &create, &|world| {
        fs::write(world.volume("a").join("file"), "x").unwrap();
        nothing_half_made(world);
        world.ok(&["volume", "rm", "a"]);
    });
    let made = |world: &World| {
        key(world);
        world.ok(&create);
    };
    killed_everywhere(&made, &["volume", "rm", "a"], &|world| {
        assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
        nothing_half_made(world);
    });
}
