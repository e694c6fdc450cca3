//! What a person at a terminal sees, through a pseudo-terminal of `script`.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use world::World;

/// What a command shows on a terminal where these keys are typed. `None`: there is no `script`.
fn shown(world: &World, line: &str, typed: &str) -> Option<String> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: a pseudo-terminal needs script (Debian: bsdutils)");
        return None;
    }
    let mut child = world
        .command("script")
        .args(["--quiet", "--return", "--command", line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(typed.as_bytes()).unwrap();
    // The terminal stays until the command ends.
    let output = child.wait_with_output().unwrap();
    drop(keys);
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}

#[test]
fn prune_asks_and_only_a_yes_removes() {
    let world = World::new();
    world.ok(&["volume", "create", "old-data"]);
    let Some(kept) = shown(&world, "tierce --host volume prune", "perhaps\n") else { return };
    assert!(
        kept.contains("Are you sure you want to continue? [y/N] ") && !kept.contains("Deleted"),
        "{kept}"
    );
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "old-data\n");
    let gone = shown(&world, "tierce --host volume prune", "yes\n").unwrap();
    assert!(gone.contains("Deleted Volumes:\nold-data\n\nTotal reclaimed space: 0B"), "{gone}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_copy_shows_how_far_it_is_on_a_terminal_alone() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::write(world.path("large"), vec![1; 40_000_000]).unwrap();
    let Some(bar) = shown(&world, "tierce --host volume cp large a:", "") else { return };
    assert!(bar.contains("copied") && bar.contains('%') && bar.contains("40"), "{bar:?}");
    let plain = world.tierce(&["volume", "cp", "large", "a:again"]);
    assert!(plain.status.success() && plain.stdout.is_empty() && plain.stderr.is_empty(), "{plain:?}");
}
