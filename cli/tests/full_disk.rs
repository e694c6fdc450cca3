//! A disk that gets full in the middle (root, for a small filesystem; skipped by name else).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod crashes;
mod world;

use std::fs;

use crashes::nothing_half_made;
use world::{World, is_root};

/// A world whose root is on a filesystem of 8 MiB with a volume of 3 MiB, and what an archive of 12 MB would hold beside it.
fn small() -> World {
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    let mounted =
        world.command("mount").args(["-t", "tmpfs", "-o", "size=8m", "small"]).arg(world.root()).status();
    assert!(mounted.unwrap().success());
    world.ok(&["volume", "create", "a"]);
    fs::write(world.volume("a").join("file"), vec![1; 3 << 20]).unwrap();
    fs::create_dir(world.path("large")).unwrap();
    for name in ["one", "two", "three", "four"] {
        fs::write(world.path("large").join(name), vec![2; 3_000_000]).unwrap();
    }
    world
}

/// The amount that an error says is missing, in bytes, read from `… 6MB are missing`.
fn missing(error: &str) -> f64 {
    let text = error.split("the disk is full, ").nth(1).unwrap_or_else(|| panic!("no such error: {error}"));
    let text = text.split("MB are missing").next().unwrap_or_else(|| panic!("no amount: {error}"));
    text.parse().unwrap_or_else(|_| panic!("no amount: {error}"))
}

#[test]
fn a_copy_that_does_not_fit_leaves_whole_files_only_and_says_how_much_is_missing() {
    if !is_root() {
        return println!("skipped: a small filesystem needs root");
    }
    let world = small();
    let error = world.fails(1, &["volume", "cp", "large", "a:"]);
    // One of the four fits beside what is there.
    assert!((8.0..9.1).contains(&missing(&error)), "{error}");
    for entry in fs::read_dir(world.volume("a").join("large")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().len(), 3_000_000);
    }
    nothing_half_made(&world);
    // With room it goes on.
    fs::remove_file(world.volume("a").join("file")).unwrap();
    let resized = world.command("mount").args(["-o", "remount,size=16m"]).arg(world.root()).status();
    assert!(resized.unwrap().success());
    world.ok(&["volume", "cp", "large", "a:"]);
    assert_eq!(fs::read_dir(world.volume("a").join("large")).unwrap().count(), 4);
}

#[test]
fn an_import_that_does_not_fit_is_no_volume_and_says_how_much_is_missing() {
    if !is_root() {
        return println!("skipped: a small filesystem needs root");
    }
    let world = small();
    let (printed, status) = world.shell("tar -cf large.tar -C large .\n");
    assert_eq!((printed.as_str(), status), ("", 0));
    let error = world.fails(1, &["volume", "import", "b", "--file", "large.tar"]);
    assert!((8.9..9.1).contains(&missing(&error)), "{error}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
    nothing_half_made(&world);
}

#[test]
fn a_snapshot_or_clone_that_does_not_fit_is_none() {
    if !is_root() {
        return println!("skipped: a small filesystem needs root");
    }
    let world = small();
    fs::write(world.volume("a").join("more"), vec![3; 2 << 20]).unwrap();
    for command in [["volume", "snapshot", "create", "a", "s"].as_slice(), &["volume", "clone", "a", "b"]] {
        let error = world.fails(1, command);
        assert!((1.0..6.0).contains(&missing(&error)), "{error}");
        assert_eq!(world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]), "");
        assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
        nothing_half_made(&world);
    }
}

#[test]
fn a_filesystem_without_inodes_is_no_full_disk() {
    if !is_root() {
        return println!("skipped: a small filesystem needs root");
    }
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    let mounted = world
        .command("mount")
        .args(["-t", "tmpfs", "-o", "size=8m,nr_inodes=60", "few"])
        .arg(world.root())
        .status();
    assert!(mounted.unwrap().success());
    world.ok(&["volume", "create", "a"]);
    fs::create_dir(world.path("many")).unwrap();
    for number in 0..70 {
        fs::write(world.path("many").join(number.to_string()), "x").unwrap();
    }
    let (printed, status) = world.shell("tar -cf many.tar -C many .\n");
    assert_eq!((printed.as_str(), status), ("", 0));
    let is_told = |command: &[&str]| {
        let error = world.fails(1, command);
        assert!(
            error.contains("all 60 inodes of the filesystem are used, though the disk is not full"),
            "{error}"
        );
    };
    is_told(&["volume", "import", "b", "--file", "many.tar"]);
    is_told(&["volume", "cp", "many/.", "a:"]);
    // A command takes some itself, for its lock and its record.
    let copied = || fs::read_dir(world.volume("a")).unwrap().map(|entry| entry.unwrap().path());
    assert!(copied().count() > 30);
    copied().skip(30).for_each(|path| fs::remove_file(path).unwrap());
    is_told(&["volume", "snapshot", "create", "a", "s"]);
    is_told(&["volume", "clone", "a", "c"]);
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
}
