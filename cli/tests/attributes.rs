//! Attributes that one filesystem has and another has not (root, for volumes with a size; skipped by name else).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod world;

use std::{fs, path::Path};

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use world::{World, is_root};

fn give(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// A volume with a file `f`, and its archive, named after it.
fn exported(world: &World, name: &str, size: &[&str], attributes: &[(&str, &[u8])]) {
    world.ok(&[["volume", "create", name].as_slice(), size].concat());
    let file = world.volume(name).join("f");
    fs::write(&file, "content").unwrap();
    for (attribute, value) in attributes {
        give(&file, attribute, value);
    }
    let (printed, status) = world.shell(&format!("tierce --host volume export {name} > {name}.tar.zst\n"));
    assert_eq!((printed.as_str(), status), ("", 0));
}

#[test]
fn what_another_filesystem_alone_knows_is_told_and_stops_nothing() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    let of_btrfs = ["--size", "256Mi", "--filesystem", "btrfs"];
    exported(&world, "a", &of_btrfs, &[("btrfs.compression", b"zstd"), ("user.colour", b"blue")]);
    let words =
        "extended attributes that the filesystem here does not know: 1, such as 'btrfs.compression of f'";
    let import = ["volume", "import", "b", "--size", "32Mi", "--file", "a.tar.zst"];
    let error = world.fails(1, &[import.as_slice(), &["--strict"]].concat());
    assert!(error.contains("--strict") && error.contains(words), "{error}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
    for (command, target) in [(import.as_slice(), "b/f"), (&["volume", "cp", "a:", "b:/copy"], "b/copy/f")] {
        let output = world.tierce(command);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told, format!("Warning: not kept: {words}\n"), "{command:?}");
        let file = world.volume(target);
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        let mut value = [0; 16];
        let length = lgetxattr(&file, "user.colour", &mut value).unwrap();
        assert_eq!(&value[..length], b"blue");
    }
    // Where it is known it is kept.
    world.ok(&["volume", "clone", "--strict", "a", "c"]);
    assert!(lgetxattr(world.volume("c/f"), "btrfs.compression", &mut [0; 16]).is_ok());
    world.ok(&["volume", "rm", "a", "b", "c"]);
}

#[test]
fn more_attributes_than_a_filesystem_has_a_place_for_are_no_full_disk() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    let large = vec![b'v'; 40_000];
    let of_xfs = ["--size", "300Mi", "--filesystem", "xfs"];
    let attributes = ["user.one", "user.three", "user.two"].map(|name| (name, large.as_slice()));
    exported(&world, "a", &of_xfs, &attributes);
    world.ok(&["volume", "create", "b", "--size", "32Mi"]);
    for command in [
        ["volume", "import", "c", "--size", "32Mi", "--file", "a.tar.zst"].as_slice(),
        &["volume", "cp", "a:", "b:"],
    ] {
        let error = world.fails(1, command);
        let words = "the filesystem has no room for the extended attribute user.one of 'f', though the disk is not full";
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nb\n");
    world.ok(&["volume", "rm", "a", "b"]);
}
