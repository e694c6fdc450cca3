//! Encrypted volumes with their keys in files.

use std::fs;

use super::{can_encrypt, plugin::Plugin, write_key};
use crate::{
    crashes::{killed_everywhere, nothing_half_made},
    moments::{POINTS, each_export_is_of_one_moment, nothing_is_left_of_a_killed_export},
    sessions,
    world::World,
};

fn with_key() -> World {
    let world = World::new();
    write_key(&world, "key", "41");
    world
}

#[test]
fn lab_an_encrypted_volume_lives_and_moves_with_its_key_alone() {
    if can_encrypt() {
        sessions::check_in(&with_key(), "encrypted.txt", include_str!("../transcripts/encrypted.txt"));
    }
}

#[test]
fn lab_a_killed_creation_or_removal_of_an_encrypted_volume_heals() {
    if !can_encrypt() {
        return;
    }
    let key = |world: &World| write_key(world, "key", "41");
    let create = ["volume", "create", "a", "--size", "64Mi", "--encrypt", "--key-file", "key"];
    killed_everywhere(&key, &create, &|world| {
        fs::write(world.volume("a").join("file"), "x").unwrap();
        nothing_half_made(world);
        world.ok(&["volume", "rm", "a"]);
    });
    let made = |world: &World| {
        key(world);
        world.ok(&create);
    };
    killed_everywhere(&made, &["volume", "rm", "a"], &|world| {
        assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
        nothing_half_made(world);
    });
}

#[test]
fn lab_a_key_that_was_being_changed_when_the_command_was_killed_opens_or_the_new_one_does() {
    if !can_encrypt() {
        return;
    }
    let prepare = |world: &World| {
        write_key(world, "key", "41");
        write_key(world, "next", "42");
        world.ok(&["volume", "create", "a", "--size", "64Mi", "--encrypt", "--key-file", "key"]);
        fs::write(world.volume("a").join("file"), "kept").unwrap();
        assert!(world.command("umount").arg(world.volume("a")).status().unwrap().success());
    };
    let change = ["volume", "key", "change", "a", "--key-file", "next"];
    let points = killed_everywhere(&prepare, &change, &|world| {
        // What the first key opened is the second one's alone now.
        assert!(world.command("umount").arg(world.volume("a")).status().unwrap().success());
        let old = world.fails(1, &["volume", "mount", "a", "--key-file", "key"]);
        assert!(old.contains("does not open with the key in"), "{old}");
        world.ok(&["volume", "mount", "a"]);
        assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "kept");
        nothing_half_made(world);
    });
    assert!(points >= 2, "{points}");
    // Nobody tries again: then the volume opens all the same, and either key file may be gone.
    for (point, gone) in [("key: noted", "next"), ("key: changed", "key")] {
        let world = World::new();
        prepare(&world);
        let killed = world.host(&change).env("TIERCE_FAIL_AT", point).status().unwrap();
        assert!(!killed.success());
        let _ = world.command("umount").arg(world.volume("a")).status().unwrap();
        fs::remove_file(world.path(gone)).unwrap();
        world.ok(&["volume", "mount", "a"]);
        assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "kept");
        let record = fs::read_to_string(world.root().join("state/records/local/a.json")).unwrap();
        assert!(!record.contains("next_key"), "{record}");
    }
}

#[test]
fn lab_an_export_of_an_encrypted_volume_is_of_one_moment_and_leaves_nothing_when_it_is_killed() {
    if !can_encrypt() {
        return;
    }
    let world = with_key();
    world.ok(&["volume", "create", "a", "--size", "64Mi", "--encrypt", "--key-file", "key"]);
    each_export_is_of_one_moment(&world, 1);
    nothing_is_left_of_a_killed_export(&world, &POINTS, &String::new);
    world.ok(&["volume", "rm", "a"]);
    nothing_half_made(&world);
}

#[test]
fn lab_a_container_gets_an_encrypted_volume_with_its_key_file_alone() {
    if !can_encrypt() {
        return;
    }
    let world = with_key();
    let plugin = Plugin::start(&world);
    let key = world.path("key").display().to_string();
    plugin.done("Create", &format!(r#"{{"Name": "a", "Opts": {{"size": "64Mi", "key-file": "{key}"}}}}"#));
    fs::write(world.volume("a").join("file"), "kept").unwrap();
    // A reboot.
    assert!(world.command("umount").arg(world.volume("a")).status().unwrap().success());
    let use_it = |name: &str| format!(r#"{{"Name": "{name}", "ID": "0123456789abcdef"}}"#);
    let mounted = plugin.call("Mount", &use_it("a"));
    assert!(mounted.contains("volumes/local/a"), "{mounted}");
    assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "kept");
    plugin.done("Unmount", &use_it("a"));
    assert!(world.command("umount").arg(world.volume("a")).status().unwrap().success());
    fs::rename(world.path("key"), world.path("elsewhere")).unwrap();
    let refused = plugin.call("Mount", &use_it("a"));
    assert!(refused.contains("its key file") && refused.contains("bring it back there"), "{refused}");
    // One with a passphrase is told, and asks nobody.
    fs::write(world.path("words"), "correct horse").unwrap();
    rustix::fs::chmod(world.path("words"), rustix::fs::Mode::RUSR).unwrap();
    world.ok(&["volume", "create", "b", "--size", "64Mi", "--encrypt", "--passphrase-file", "words"]);
    let still_open = plugin.call("Mount", &use_it("b"));
    assert!(still_open.contains("volumes/local/b"), "{still_open}");
    plugin.done("Unmount", &use_it("b"));
    assert!(world.command("umount").arg(world.volume("b")).status().unwrap().success());
    let locked = plugin.call("Mount", &use_it("b"));
    assert!(locked.contains("is locked") && locked.contains("volume mount b"), "{locked}");
    // Who was refused uses nothing.
    for name in ["a", "b"] {
        plugin.done("Remove", &format!(r#"{{"Name": "{name}"}}"#));
    }
}
