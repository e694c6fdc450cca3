//! `kill -9` at every fail point of every command; then the same command again heals and ends as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{collections::BTreeSet, fs, os::unix::process::ExitStatusExt};

use world::World;

/// Kills `command` at each of its fail points, in a world prepared anew by `prepare`, runs it again and looks at the world.
fn killed_everywhere(prepare: &dyn Fn(&World), command: &[&str], healed: &dyn Fn(&World)) -> usize {
    let points = {
        let world = World::new();
        prepare(&world);
        let trace = world.path("trace");
        let output = world.host(command).env("TIERCE_FAIL_TRACE", &trace).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        healed(&world);
        fs::read_to_string(trace).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert!(!points.is_empty(), "{command:?} has no fail point");
    for point in &points {
        let world = World::new();
        prepare(&world);
        let output = world.host(command).env("TIERCE_FAIL_AT", point).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{command:?} at {point:?}: {output:?}");
        let again = world.tierce(command);
        let removed_already = String::from_utf8_lossy(&again.stderr).contains("not found");
        assert!(again.status.success() || removed_already, "{command:?} again after {point:?}: {again:?}");
        world.ok(&["system", "prune"]);
        healed(&world);
    }
    points.len()
}

fn nothing_half_made(world: &World) {
    for file in world.files() {
        let last = file.rsplit('/').next().unwrap();
        let odd = last.starts_with('.') || last.contains(".tmp") || file.starts_with("state/locks/");
        assert!(!odd, "{file} is left: {:?}", world.files());
    }
}

#[test]
fn a_killed_create_is_made_by_the_next() {
    let count = killed_everywhere(&|_| {}, &["volume", "create", "a", "--label", "k=v"], &|world| {
        assert_eq!(world.ok(&["volume", "ls", "-q", "--filter", "label=k=v"]), "a\n");
        nothing_half_made(world);
    });
    assert!(count >= 2);
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
