//! Trees that are deeper than a process may have files open, and than a path may be long.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs,
    io::Read,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
    process::{Command, Output},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, mkdirat, openat};
use world::World;

/// What a login gets on most systems.
const DESCRIPTORS: &str = "1024";

/// Makes that many folders `d` in one another. Returns the innermost.
fn plant(at: &Path, levels: usize) -> OwnedFd {
    let mut folder = OwnedFd::from(fs::File::open(at).unwrap());
    for _ in 0..levels {
        mkdirat(&folder, c"d", Mode::RWXU).unwrap();
        folder = down(&folder);
    }
    folder
}

fn down(folder: &OwnedFd) -> OwnedFd {
    openat(folder, c"d", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn write(folder: &OwnedFd, name: &str, text: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::io::write(file, text.as_bytes()).unwrap();
}

/// `tierce --host ARGUMENTS` with no more descriptors than that.
fn tierce(world: &World, arguments: &[&str]) -> Output {
    let script = format!("ulimit -Sn {DESCRIPTORS} && exec tierce --host \"$@\"");
    world.command("sh").args(["-c", &script, "sh"]).args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed and say nothing else.
fn ok(world: &World, arguments: &[&str]) -> String {
    let output = tierce(world, arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_deep_volume_is_added_up_and_removed_as_any_other() {
    let world = World::new();
    for name in ["m", "n", "o"] {
        ok(&world, &["volume", "create", name]);
    }
    for (name, levels) in [("m", 2100), ("o", 1100)] {
        write(&plant(&world.volume(name), levels), "file", &"x".repeat(10_000));
    }
    ok(&world, &["system", "df", "-v"]);
    let inspected = ok(&world, &["volume", "inspect", "m"]);
    assert!(inspected.contains("\"Size\": 12288"), "{inspected}");
    ok(&world, &["volume", "rm", "m"]);
    assert_eq!(fs::read_dir(world.root().join("volumes/local")).unwrap().count(), 2);
    let pruned = ok(&world, &["volume", "prune", "--all", "--force"]);
    assert!(pruned.contains("Deleted Volumes:\nn\no\n"), "{pruned}");
    // As a version that could not do it left it.
    fs::create_dir(world.root().join("volumes/local/.trash-0")).unwrap();
    plant(&world.root().join("volumes/local/.trash-0"), 1100);
    assert!(ok(&world, &["system", "df"]).contains(".trash-0"));
    ok(&world, &["system", "prune"]);
    assert_eq!(fs::read_dir(world.root().join("volumes/local")).unwrap().count(), 0);
}

#[test]
fn what_is_stuck_deep_below_is_named_in_few_words() {
    let world = World::new();
    world.ok(&["volume", "create", "m"]);
    write(&plant(&world.volume("m"), 1000), "stubborn", "x");
    let chattr = |how: &str, volume: &Path| {
        let file = volume.join("d/".repeat(1000)).join("stubborn");
        Command::new("chattr").arg(how).arg(file).output().is_ok_and(|output| output.status.success())
    };
    if !chattr("+i", &world.volume("m")) {
        return println!("skipped: no file can be made immutable here");
    }
    let said = world.fails(1, &["volume", "rm", "m"]);
    assert!(said.contains("d/d/stubborn can't be removed: Operation not permitted"), "{said}");
    assert!(said.len() < 700, "{said}");
    let left = fs::read_dir(world.root().join("volumes/local")).unwrap().next().unwrap().unwrap().path();
    assert!(chattr("-i", &left));
    world.ok(&["system", "prune"]);
}

/// What the file at the bottom says, and how many names it has.
fn at_bottom(top: &Path, levels: usize) -> (String, u64) {
    let mut folder = OwnedFd::from(fs::File::open(top).unwrap());
    for _ in 0..levels {
        folder = down(&folder);
    }
    let file = openat(&folder, c"file", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut file = fs::File::from(file);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    (text, file.metadata().unwrap().nlink())
}

#[test]
fn a_deep_volume_is_copied_with_files_of_many_names() {
    let world = World::new();
    ok(&world, &["volume", "create", "m"]);
    // So deep that no path reaches the file.
    let bottom = plant(&world.volume("m"), 2100);
    write(&bottom, "file", "deep");
    linkat(&bottom, c"file", CWD, world.volume("m").join("first"), AtFlags::empty()).unwrap();
    linkat(&bottom, c"file", &bottom, c"third", AtFlags::empty()).unwrap();
    ok(&world, &["volume", "clone", "m", "copy"]);
    assert_eq!(at_bottom(&world.volume("copy"), 2100), ("deep".to_owned(), 3));
    for name in ["m", "copy"] {
        ok(&world, &["volume", "rm", name]);
    }
}

#[test]
fn each_verb_that_copies_takes_more_levels_and_links_than_files_may_be_open() {
    let world = World::new();
    ok(&world, &["volume", "create", "m"]);
    write(&plant(&world.volume("m"), 400), "file", "deep");
    let linked = world.volume("m").join("linked");
    fs::create_dir(&linked).unwrap();
    for number in 0..1100 {
        let [one, other] = ["one", "other"].map(|name| linked.join(format!("{number}-{name}")));
        fs::write(&one, number.to_string()).unwrap();
        fs::hard_link(&one, &other).unwrap();
    }
    let is_whole = |top: &Path| {
        assert_eq!(at_bottom(top, 400), ("deep".to_owned(), 1), "{}", top.display());
        for number in 0..1100 {
            let file = top.join(format!("linked/{number}-other"));
            assert_eq!(fs::read_to_string(&file).unwrap(), number.to_string());
            assert_eq!(fs::metadata(&file).unwrap().nlink(), 2, "{}", file.display());
        }
    };
    ok(&world, &["volume", "snapshot", "create", "m", "s"]);
    is_whole(&world.root().join("snapshots/local/m/s"));
    fs::remove_file(world.volume("m").join("linked/7-one")).unwrap();
    let restored = tierce(&world, &["volume", "restore", "m", "s"]);
    assert!(restored.status.success(), "{restored:?}");
    is_whole(&world.volume("m"));
    ok(&world, &["volume", "create", "n"]);
    ok(&world, &["volume", "cp", "m:", "n:/all"]);
    is_whole(&world.volume("n").join("all"));
}

#[test]
fn a_deep_volume_becomes_an_archive_and_a_volume_again() {
    let world = World::new();
    ok(&world, &["volume", "create", "m"]);
    let bottom = plant(&world.volume("m"), 2100);
    write(&bottom, "file", "deep");
    linkat(&bottom, c"file", CWD, world.volume("m").join("first"), AtFlags::empty()).unwrap();
    let script = format!("ulimit -Sn {DESCRIPTORS} && tierce --host volume export m >m.tar.zst");
    assert_eq!(world.shell(&script), (String::new(), 0));
    ok(&world, &["volume", "rm", "m"]);
    ok(&world, &["volume", "import", "n", "--file", "m.tar.zst"]);
    assert_eq!(at_bottom(&world.volume("n"), 2100), ("deep".to_owned(), 2));
    let folder = fs::metadata(world.volume("n").join("d/".repeat(1000))).unwrap();
    assert_eq!(folder.mode() & 0o7777, 0o700);
    ok(&world, &["volume", "rm", "n"]);
}
