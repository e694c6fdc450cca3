//! `kill -9` at every fail point of every command; then the same command again heals and ends as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod crashes;
mod world;

use std::fs;

use crashes::{killed_everywhere, nothing_half_made};
use world::World;

#[test]
fn a_killed_create_is_made_by_the_next() {
    let count = killed_everywhere(&|_| {}, &["volume", "create", "a", "--label", "k=v"], &|world| {
        assert_eq!(world.ok(&["volume", "ls", "-q", "--filter", "label=k=v"]), "a\n");
        nothing_half_made(world);
    });
    assert!(count >= 2);
}

#[test]
fn a_killed_create_has_the_mode_that_was_asked_for_after_the_next() {
    let count = killed_everywhere(&|_| {}, &["volume", "create", "a", "--mode", "0710"], &|world| {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(world.volume("a")).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o710);
        nothing_half_made(world);
    });
    assert!(count >= 3);
}

#[test]
fn a_killed_removal_leaves_the_whole_volume_or_none_and_nothing_hidden() {
    let prepare = |world: &World| {
        world.ok(&["volume", "create", "--stack", "s", "a"]);
        fs::create_dir(world.root().join("volumes/s/a/sub")).unwrap();
        fs::write(world.root().join("volumes/s/a/sub/file"), "x").unwrap();
        world.ok(&["volume", "create", "other"]);
    };
    let count = killed_everywhere(&prepare, &["volume", "rm", "s_a"], &|world| {
        assert_eq!(world.ok(&["volume", "ls", "-q"]), "other\n");
        nothing_half_made(world);
    });
    assert!(count >= 3);
}

#[test]
fn a_killed_attach_and_detach_are_completed() {
    let create = |world: &World| drop(world.ok(&["volume", "create", "a"]));
    killed_everywhere(&create, &["volume", "attach", "a", "--to", "vm"], &|world| {
        let message = world.fails(1, &["volume", "rm", "a"]);
        assert_eq!(message, "Error: Volume 'a' is in use by: vm. Use --force to remove anyway.\n");
    });
    let attach = |world: &World| {
        create(world);
        world.ok(&["volume", "attach", "a", "--to", "vm"]);
    };
    killed_everywhere(&attach, &["volume", "detach", "a", "--from", "vm"], &|world| {
        assert!(world.ok(&["volume", "inspect", "a"]).contains("\"InUseBy\": []"));
    });
}

#[test]
fn a_killed_copy_of_files_goes_on_and_leaves_no_half_file() {
    let prepare = |world: &World| {
        fs::create_dir_all(world.path("src/sub")).unwrap();
        for name in ["src/one", "src/sub/two"] {
            fs::write(world.path(name), name.repeat(100_000)).unwrap();
        }
        world.ok(&["volume", "create", "a"]);
    };
    let count = killed_everywhere(&prepare, &["volume", "cp", "src/.", "a:"], &|world| {
        for name in ["one", "sub/two"] {
            let content = fs::read_to_string(world.volume("a").join(name)).unwrap();
            assert_eq!(content, format!("src/{name}").repeat(100_000));
        }
        assert!(world.ok(&["volume", "inspect", "a"]).contains("\"InUseBy\": []"), "the dead copy holds it");
        nothing_half_made(world);
    });
    assert!(count >= 2);
}

#[test]
fn a_killed_import_is_no_volume_and_the_next_begins_anew() {
    let prepare = |world: &World| {
        world.ok(&["volume", "create", "a"]);
        for name in ["one", "two"] {
            fs::write(world.volume("a").join(name), name).unwrap();
        }
        let (printed, status) = world.shell("tierce --host volume export a > a.tar.zst\n");
        assert_eq!((printed.as_str(), status), ("", 0));
    };
    let import = ["volume", "import", "b", "--file", "a.tar.zst"];
    let count = killed_everywhere(&prepare, &import, &|world| {
        for name in ["one", "two"] {
            assert_eq!(fs::read_to_string(world.volume("b").join(name)).unwrap(), name);
        }
        nothing_half_made(world);
    });
    assert!(count >= 3);
    // It says that it is not whole, and goes with what else was interrupted.
    let world = World::new();
    prepare(&world);
    assert!(!world.host(&import).env("TIERCE_FAIL_AT", "import: made").status().unwrap().success());
    let listed = world.tierce(&["volume", "ls", "-q"]);
    assert!(String::from_utf8_lossy(&listed.stderr).contains("its import was interrupted"), "{listed:?}");
    world.ok(&["system", "prune"]);
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
}

#[test]
fn a_killed_clone_snapshot_or_restore_leaves_whole_things_only() {
    let prepare = |world: &World| {
        world.ok(&["volume", "create", "a"]);
        fs::write(world.volume("a").join("file"), "old").unwrap();
        world.ok(&["volume", "snapshot", "create", "a", "s"]);
        fs::write(world.volume("a").join("file"), "new").unwrap();
    };
    killed_everywhere(&prepare, &["volume", "restore", "a", "s"], &|world| {
        assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "old");
        let safety = world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]);
        assert!(safety.lines().any(|name| name.starts_with("before-s-")), "{safety}");
        nothing_half_made(world);
    });
    killed_everywhere(&prepare, &["volume", "clone", "a", "b"], &|world| {
        assert_eq!(fs::read_to_string(world.volume("b").join("file")).unwrap(), "new");
        nothing_half_made(world);
    });
    killed_everywhere(&prepare, &["volume", "snapshot", "create", "a", "t"], &|world| {
        assert_eq!(world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]), "s\nt\n");
        nothing_half_made(world);
    });
    killed_everywhere(&prepare, &["volume", "snapshot", "rm", "a", "s"], &|world| {
        assert_eq!(world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]), "");
        nothing_half_made(world);
    });
}
