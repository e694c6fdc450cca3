//! `volume cp`: what it makes of the folders on both sides.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
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

/// The names in a folder, and below it, that a copy may have made.
fn hidden(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(".tierce-copy-") {
            found.push(name);
        } else if entry.file_type().unwrap().is_dir() {
            found.extend(hidden(&entry.path()));
        }
    }
    found.sort();
    found
}

/// What users may call theirs.
const USERS: [&str; 3] =
    [".tierce-copy-", ".tierce-copy-0123456789abcdef", ".tierce-copy-0123456789abcdef0123456789abcdef"];

/// A volume and a local folder with users' files, and a folder to be copied.
fn with_users_files() -> World {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::create_dir_all(world.path("src/sub")).unwrap();
    fs::write(world.path("src/sub/file"), "content").unwrap();
    symlink("file", world.path("src/sub/link")).unwrap();
    fs::create_dir(world.path("out")).unwrap();
    for folder in [world.volume("a"), world.path("out")] {
        for name in USERS {
            fs::write(folder.join(name), "precious").unwrap();
        }
    }
    world
}

fn killed(world: &World, point: &str, arguments: &[&str]) {
    let output = world.host(arguments).env("TIERCE_FAIL_AT", point).output().unwrap();
    assert_eq!(output.status.code(), None, "{arguments:?} at '{point}': {output:?}");
}

#[test]
fn what_a_killed_copy_left_goes_with_the_next_command_there_and_no_file_of_a_user() {
    let nexts: [&[&str]; 5] = [
        &["volume", "cp", "src/sub/file", "a:other"],
        &["volume", "cp", "a:sub", "elsewhere"],
        &["volume", "clone", "a", "b"],
        &["volume", "snapshot", "create", "a", "s"],
        &["system", "prune"],
    ];
    for next in nexts {
        let world = with_users_files();
        for point in ["copy: noted", "copy: file begun", "copy: file whole", "copy: entry made"] {
            for (arguments, target) in [
                (&["volume", "cp", "src/.", "a:"], world.volume("a")),
                (&["volume", "cp", "src/sub/file", "a:"], world.volume("a")),
                (&["volume", "cp", "src/sub/.", "a:sub"], world.volume("a").join("sub")),
            ] {
                if target.ends_with("sub") {
                    fs::create_dir_all(&target).unwrap();
                }
                if point == "copy: entry made" && arguments[2].ends_with("file") {
                    continue;
                }
                killed(&world, point, arguments);
            }
        }
        // One of each is left.
        assert!(hidden(&world.volume("a")).len() > USERS.len(), "{:?}", hidden(&world.volume("a")));
        world.ok(next);
        assert_eq!(hidden(&world.volume("a")), USERS, "{next:?}");
        for (volume, from) in [("a", "a:sub/."), ("a", "a:sub/file")] {
            killed(&world, "copy: file begun", &["volume", "cp", from, "out"]);
            assert_eq!(hidden(&world.path("out")).len(), USERS.len() + 1, "of {volume}");
            world.ok(&["volume", "cp", "src/sub/file", "a:"]);
            assert_eq!(hidden(&world.path("out")), USERS, "{next:?}");
        }
        for folder in [world.volume("a"), world.path("out")] {
            for name in USERS {
                assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "precious");
            }
        }
        assert_eq!(fs::read_dir(world.root().join("state/locks")).unwrap().count(), 0);
    }
}

#[test]
fn what_a_killed_copy_left_in_a_filesystem_that_is_not_mounted_waits_until_it_is() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = with_users_files();
    world.ok(&["volume", "create", "sized", "--size", "20Mi"]);
    killed(&world, "copy: file begun", &["volume", "cp", "src/.", "sized:"]);
    assert_eq!(hidden(&world.volume("sized")).len(), 1);
    assert!(world.command("umount").arg(world.volume("sized")).status().unwrap().success());
    world.ok(&["volume", "cp", "src/.", "a:"]);
    world.ok(&["system", "prune"]);
    world.ok(&["volume", "mount", "sized"]);
    assert_eq!(hidden(&world.volume("sized")).len(), 1);
    world.ok(&["volume", "cp", "src/.", "sized:"]);
    assert!(hidden(&world.volume("sized")).is_empty());
    // With the volume what is noted of it goes too.
    killed(&world, "copy: file begun", &["volume", "cp", "src/.", "sized:new"]);
    world.ok(&["volume", "rm", "sized"]);
    world.ok(&["system", "prune"]);
    assert_eq!(fs::read_dir(world.root().join("state/locks")).unwrap().count(), 0);
}

/// As reproducible builds and package stores have it, which give every file the same time.
#[test]
fn a_file_that_changed_and_has_the_same_size_and_time_is_copied() {
    let world = World::new();
    world.ok(&["volume", "create", "web"]);
    let (site, copy) = (world.path("site"), world.volume("web").join("www"));
    fs::create_dir(&site).unwrap();
    // The last of them differ behind what is compared at once, and in a hole.
    let long = |end: &str| ["x".repeat(3 << 20), end.to_owned()].concat();
    let write = |version: &str| {
        for (name, content) in [("index", format!("version {version}")), ("long", long(version))] {
            let file = fs::File::create(site.join(name)).unwrap();
            file.write_all_at(content.as_bytes(), 0).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        }
        let holes = fs::File::create(site.join("holes")).unwrap();
        holes.set_len(64 << 20).unwrap();
        holes.write_all_at(version.as_bytes(), if version == "3" { 8 << 20 } else { 32 << 20 }).unwrap();
        holes.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    };
    let is_same = |name: &str| fs::read(site.join(name)).unwrap() == fs::read(copy.join(name)).unwrap();
    for (version, from, to) in
        [("1", "./site", "web:/www"), ("2", "./site/.", "web:/www"), ("3", "./site/", "web:/")]
    {
        write(version);
        world.ok(&["volume", "cp", "--strict", from, to]);
        if version == "3" {
            fs::rename(&copy, world.path("older")).unwrap();
            fs::rename(world.volume("web").join("site"), &copy).unwrap();
        }
        for name in ["index", "long", "holes"] {
            assert!(is_same(name), "{name} of version {version}");
        }
    }
    write("4");
    world.ok(&["volume", "cp", "./site/index", "web:/www"]);
    assert!(is_same("index"));
    // What is the same is not written again, and one that can't be read is.
    let inode = |name: &str| fs::metadata(copy.join(name)).unwrap().ino();
    world.ok(&["volume", "cp", "./site/.", "web:/www"]);
    let before = ["index", "long", "holes"].map(inode);
    world.ok(&["volume", "cp", "./site/.", "web:/www"]);
    assert_eq!(["index", "long", "holes"].map(inode), before);
}

/// Mounts an image with a filesystem of its own.
fn mount(world: &World, image: &str, at: &str) {
    if !world.path(image).exists() {
        fs::File::create(world.path(image)).unwrap().set_len(16 << 20).unwrap();
        assert!(world.command("mkfs.ext4").args(["-q", "-F", image]).status().unwrap().success());
    }
    fs::create_dir_all(world.path(at)).unwrap();
    assert!(world.command("mount").args(["-o", "loop", image, at]).status().unwrap().success());
}

#[test]
fn what_a_killed_copy_left_on_a_disk_that_is_away_waits_until_it_is_back() {
    if !is_root() {
        return println!("skipped: mounts need root");
    }
    let world = with_users_files();
    let unmount = || assert!(world.command("umount").arg("usb").status().unwrap().success());
    let notes = || fs::read_dir(world.root().join("state/locks")).unwrap().count();
    let pruned = || {
        let pruned = world.tierce(&["system", "prune"]);
        assert!(pruned.status.success(), "{pruned:?}");
        String::from_utf8(pruned.stderr).unwrap()
    };
    mount(&world, "usb.img", "usb");
    fs::create_dir(world.path("usb/deep")).unwrap();
    killed(&world, "copy: file whole", &["volume", "cp", "src/sub/file", "usb/deep/"]);
    unmount();
    // Nothing, another disk of the same device number, no folder at all.
    for place in 0..3 {
        match place {
            1 => mount(&world, "other.img", "usb"),
            2 => fs::remove_dir(world.path("usb")).unwrap(),
            _ => {}
        }
        world.ok(&["volume", "clone", "a", "b"]);
        world.ok(&["volume", "cp", "a:", "copied"]);
        let told = pruned();
        assert!(told.lines().count() == 1 && told.contains("is not mounted there now"), "{told}");
        assert_eq!(notes(), 1);
        world.ok(&["volume", "rm", "b"]);
        if place == 1 {
            unmount();
        }
    }
    mount(&world, "usb.img", "usb");
    assert_eq!(hidden(&world.path("usb")).len(), 1);
    assert_eq!(pruned(), "");
    assert!(hidden(&world.path("usb")).is_empty());
    assert_eq!(notes(), 0);
    // A folder that is gone from a disk that is there.
    killed(&world, "copy: file whole", &["volume", "cp", "src/sub/file", "usb/deep/"]);
    fs::remove_dir_all(world.path("usb/deep")).unwrap();
    world.ok(&["volume", "cp", "src/sub/file", "usb/"]);
    assert_eq!(notes(), 0);
    // What can be read only is told by who cleans up, and hinders nobody.
    killed(&world, "copy: file whole", &["volume", "cp", "src/sub/file", "usb/new"]);
    let remount = |how: &str| {
        assert!(world.command("mount").args(["-o", how, "usb"]).status().unwrap().success());
    };
    remount("remount,ro");
    let cloned = world.tierce(&["volume", "clone", "a", "b"]);
    assert!(cloned.status.success() && cloned.stderr.is_empty(), "{cloned:?}");
    assert!(pruned().contains("Read-only file system"));
    remount("remount,rw");
    assert_eq!(pruned(), "");
    assert_eq!(notes(), 0);
}

#[test]
fn a_disk_that_hangs_keeps_nobody_waiting_for_what_a_killed_copy_left_there() {
    if !is_root() {
        return println!("skipped: mounts need root");
    }
    let world = with_users_files();
    mount(&world, "usb.img", "usb");
    killed(&world, "copy: file whole", &["volume", "cp", "src/sub/file", "usb/"]);
    let freeze =
        |how: &str| assert!(world.command("fsfreeze").args([how, "usb"]).status().unwrap().success());
    freeze("-f");
    let nexts: [&[&str]; 4] = [
        &["volume", "clone", "a", "b"],
        &["volume", "snapshot", "create", "a", "s"],
        &["volume", "export", "a"],
        &["volume", "cp", "src/.", "a:"],
    ];
    let hanging: Vec<&[&str]> = nexts
        .into_iter()
        .filter(|next| {
            let mut child = world.host(next).stdout(Stdio::null()).spawn().unwrap();
            let begun = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if begun.elapsed() > Duration::from_secs(20) {
                    return true;
                }
                thread::sleep(Duration::from_millis(5));
            }
            false
        })
        .collect();
    freeze("-u");
    assert!(hanging.is_empty(), "{hanging:?}");
    world.ok(&["system", "prune"]);
    assert!(hidden(&world.path("usb")).is_empty());
}
