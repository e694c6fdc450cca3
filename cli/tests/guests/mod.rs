//! What is tried in guests of the disk lab, and what they must have.

mod encrypted;
mod passphrases;
mod plugin;
mod volume_groups;

use std::process::Command;

use crate::world::{World, is_root};

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

/// Writes a file with a key into the world.
fn write_key(world: &World, name: &str, byte: &str) {
    std::fs::write(world.path(name), byte.repeat(32)).unwrap();
    rustix::fs::chmod(world.path(name), rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
}
