//! `volume cp`: what it makes of the folders on both sides.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use world::{World, is_root};

/// Owner and mode. Where the test may, the folder gets an owner first.
fn whose(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

fn give(path: &Path, owner: u32, mode: u32) {
    if is_root() {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_folder_that_is_there_keeps_its_owner_and_mode() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    world.ok(&["volume", "create", "b"]);
    fs::write(world.volume("a").join("f"), "x").unwrap();
    let local = world.path("local");
    fs::create_dir(&local).unwrap();
    let inside = world.volume("b").join("inside");
    fs::create_dir(&inside).unwrap();
    give(&world.volume("a"), 999, 0o750);
    give(&world.volume("b"), 1000, 0o2770);
    give(&inside, 1001, 0o711);
    give(&local, 1002, 0o1777);
    for (from, to, there) in [
        ("a:", "./local", &local),
        ("a:/.", "local/", &local),
        ("a:", "b:", &world.volume("b")),
        ("local/.", "b:/", &world.volume("b")),
        ("local/.", "b:inside", &inside),
        ("a:", "b:/inside/.", &inside),
        ("a:f", "b:inside", &inside),
    ] {
        let before = whose(there);
        world.ok(&["volume", "cp", from, to]);
        assert!(there.join("f").exists(), "{from} to {to}");
        assert_eq!(whose(there), before, "{from} to {to}");
    }
    // A new one is like its source.
    world.ok(&["volume", "cp", "a:", "b:/new"]);
    assert_eq!(whose(&world.volume("b").join("new")), whose(&world.volume("a")));
    // A folder in a folder is the same folder, as of a copy that was interrupted.
    world.ok(&["volume", "cp", "b:/new", "b:/inside"]);
    give(&inside.join("new"), 0, 0o700);
    world.ok(&["volume", "cp", "b:/new", "b:/inside"]);
    assert_eq!(whose(&inside.join("new")), whose(&world.volume("a")));
}

/// As a container may while a copy runs: a copy that opened the pipe would wait for its writer for ever.
#[test]
fn a_pipe_put_in_the_place_of_a_file_keeps_no_copy_waiting() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    let at = |name: &str| world.volume("a").join(name);
    for number in 0..50 {
        fs::write(at(&format!("f{number}")), "x").unwrap();
    }
    fs::write(at("one"), "x").unwrap();
    let pipe = at("other");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                renameat_with(CWD, &pipe, CWD, at("one"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        let begun = Instant::now();
        let mut late = None;
        for number in 0.. {
            let copy = format!("b{number}");
            let mut clone = world.command("timeout");
            let clone = clone.args(["10", "tierce", "--host", "volume", "clone", "a", &copy]);
            let output = clone.output().unwrap();
            if !output.status.success() {
                late = Some((number, output));
            }
            if late.is_some() || begun.elapsed().as_secs() > 5 {
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
        assert!(late.is_none(), "{late:?}");
    });
}

#[test]
fn a_slash_at_the_end_means_a_folder() {
    let world = World::new();
    world.ok(&["volume", "create", "v"]);
    let at = |name: &str| world.volume("v").join(name);
    fs::create_dir(world.path("real")).unwrap();
    fs::write(world.path("real/r"), "x").unwrap();
    symlink("real", world.path("link")).unwrap();
    // Of the source: the folder that a link leads to, under the link's name.
    world.ok(&["volume", "cp", "./link/", "v:"]);
    assert!(at("link").symlink_metadata().unwrap().is_dir() && at("link/r").is_file());
    world.ok(&["volume", "cp", "./link/", "v:"]);
    world.ok(&["volume", "cp", "link//", "v:/other"]);
    assert!(at("other").symlink_metadata().unwrap().is_dir() && at("other/r").is_file());
    world.ok(&["volume", "cp", "link/./", "v:/inner"]);
    assert!(at("inner/r").is_file());
    world.ok(&["volume", "cp", "link", "v:/bare"]);
    assert_eq!(fs::read_link(at("bare")).unwrap(), Path::new("real"));
    symlink("other", at("within")).unwrap();
    world.ok(&["volume", "cp", "v:/within/", "./out"]);
    assert!(world.path("out").symlink_metadata().unwrap().is_dir() && world.path("out/r").is_file());
    let error = world.fails(1, &["volume", "cp", "real/r/", "v:/file"]);
    assert!(error.contains("Not a directory") && !at("file").exists(), "{error}");
    // Of the target: there must be one, or a folder comes.
    for (from, to) in [
        ("real/r", "v:/new/"),
        ("real/r", "v:/new/."),
        ("link", "v:/new/"),
        ("v:/other/r", "./new/"),
        ("real/r", "v:/other/r/"),
    ] {
        let error = world.fails(1, &["volume", "cp", from, to]);
        assert_eq!(
            error,
            format!(
                "Error: can't copy {from} to {to}: no folder has that name; make it first, or leave the / out\n"
            )
        );
        assert!(!at("new").exists() && !world.path("new").exists());
    }
    world.ok(&["volume", "cp", "real", "v:/new/"]);
    assert!(at("new/r").is_file());
}
