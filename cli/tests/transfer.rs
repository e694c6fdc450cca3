//! Copies between folders of which one lies in the other.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    process::Command,
};

use world::{World, is_root};

/// A volume `z` with files on four levels.
fn world() -> World {
    let world = World::new();
    world.ok(&["volume", "create", "z"]);
    fs::create_dir_all(world.volume("z").join("d/e/f")).unwrap();
    for file in ["top", "d/one", "d/e/two", "d/e/f/three"] {
        fs::write(world.volume("z").join(file), file).unwrap();
    }
    symlink("d/e", world.volume("z").join("link")).unwrap();
    world
}

#[test]
fn a_folder_is_not_copied_into_itself() {
    let world = world();
    let before = world.files();
    let local = world.volume("z").display().to_string();
    let below = format!("{local}/d");
    for [from, to] in [
        ["z:/d", "z:/d/new"],
        ["z:/d", "z:/d"],
        ["z:/d", "z:/d/e"],
        ["z:/d", "z:/link"],
        ["z:/d/.", "z:/d/new"],
        ["z:/d/.", "z:/d"],
        ["z:/d/", "z:/d/new/"],
        ["z:/d/", "z:/"],
        ["z:/link/", "z:/d/e/f"],
        ["z:/d", "z:/"],
        ["z:/", "z:/sub"],
        ["z:", "z:"],
        [&local, "z:/sub"],
        [&local, "z:"],
        [&below, "z:/d/new"],
        ["z:/d", &below],
    ] {
        // It ends by itself, whatever it does.
        let said = Command::new("timeout")
            .args(["60", env!("CARGO_BIN_EXE_tierce"), "--host", "volume", "cp", from, to])
            .env("TIERCE_ROOT", world.root())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{from} {to}: {said:?}");
        assert!(text.contains("a folder can't be copied into itself"), "{from} {to}: {text}");
        assert_eq!(world.files(), before, "{from} {to}");
    }
}

#[test]
fn a_folder_is_copied_beside_itself_and_above() {
    let world = world();
    world.ok(&["volume", "cp", "z:/d", "z:/again"]);
    world.ok(&["volume", "cp", "z:/d/e", "z:/"]);
    world.ok(&["volume", "cp", "z:/d/e/.", "z:/d"]);
    let read = |path: &str| fs::read_to_string(world.volume("z").join(path)).unwrap();
    assert_eq!(read("again/e/f/three"), "d/e/f/three");
    assert_eq!(read("e/f/three"), "d/e/f/three");
    assert_eq!([read("d/two"), read("d/f/three")], ["d/e/two", "d/e/f/three"]);
    assert_eq!(fs::metadata(world.volume("z").join("d/e")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn a_copy_does_not_go_into_what_it_makes_where_another_mount_shows_that() {
    if !is_root() {
        return println!("skipped: a mount needs root");
    }
    let world = world();
    let shown = world.path("shown");
    fs::create_dir(&shown).unwrap();
    let inner = world.volume("z").join("d/e");
    assert!(Command::new("mount").arg("--bind").args([&inner, &shown]).status().unwrap().success());
    let said = world.fails(1, &["volume", "cp", "z:", &format!("{}/new", shown.display())]);
    assert!(said.contains("a folder can't be copied into itself"), "{said}");
    assert!(!inner.join("new/d/e/new").exists());
}
