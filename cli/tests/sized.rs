//! Volumes with a size, on this kernel (root; skipped by name else).

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod crashes;
mod moments;
mod sessions;
mod world;

use std::fs;

use crashes::{killed_everywhere, nothing_half_made};
use moments::{POINTS, each_export_is_of_one_moment, nothing_is_left_of_a_killed_export};
use world::{World, is_root};

fn mounted(world: &World, name: &str) -> bool {
    let point = world.volume(name).display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == Some(&point))
}

#[test]
fn a_limit_is_kept_and_volumes_grow() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    sessions::check("sized.txt", include_str!("transcripts/sized.txt"));
}

#[test]
fn after_a_reboot_volumes_are_mounted_again_with_their_data() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a", "--size", "20Mi"]);
    world.ok(&["volume", "create", "b", "--size", "20Mi"]);
    for name in ["a", "b"] {
        fs::write(world.volume(name).join("file"), name).unwrap();
        // What a reboot does to a mount.
        assert!(world.command("umount").arg(world.volume(name)).status().unwrap().success());
    }
    // Nobody can write to the empty places meanwhile.
    assert!(fs::write(world.volume("a").join("file"), "lost").is_err());
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nb\n");
    world.ok(&["volume", "mount", "--all"]);
    for name in ["a", "b"] {
        assert_eq!(fs::read_to_string(world.volume(name).join("file")).unwrap(), name);
    }
    world.ok(&["volume", "rm", "a", "b"]);
    assert!(!world.volume("a").exists());
}

#[test]
fn a_killed_creation_with_a_size_is_made_by_the_next() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let command = ["volume", "create", "a", "--size", "20Mi"];
    let points = killed_everywhere(&|_| {}, &command, &|world| {
        assert!(mounted(world, "a"));
        fs::write(world.volume("a").join("file"), "x").unwrap();
        nothing_half_made(world);
    });
    assert!(points >= 3);
}

#[test]
fn a_killed_removal_or_growth_of_a_volume_with_a_size_heals() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let prepare = |world: &World| {
        world.ok(&["volume", "create", "a", "--size", "20Mi"]);
        fs::write(world.volume("a").join("file"), "kept").unwrap();
        rustix::fs::sync();
    };
    killed_everywhere(&prepare, &["volume", "rm", "a"], &|world| {
        assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
        assert!(!world.volume("a").exists());
        nothing_half_made(world);
    });
    killed_everywhere(&prepare, &["volume", "resize", "a", "40Mi"], &|world| {
        assert!(mounted(world, "a"));
        assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "kept");
        let size = rustix::fs::statvfs(world.volume("a")).unwrap();
        assert!(size.f_blocks * size.f_frsize > 30 << 20);
    });
}

#[test]
fn clones_and_snapshots_of_volumes_with_a_size_keep_their_data() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    sessions::check("sized-copies.txt", include_str!("transcripts/sized-copies.txt"));
}

#[test]
fn a_killed_restore_of_a_volume_with_a_size_is_completed_by_the_next() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let prepare = |world: &World| {
        world.ok(&["volume", "create", "a", "--size", "20Mi"]);
        fs::write(world.volume("a").join("file"), "old").unwrap();
        world.ok(&["volume", "snapshot", "create", "a", "s"]);
        fs::write(world.volume("a").join("file"), "new").unwrap();
        rustix::fs::sync();
    };
    killed_everywhere(&prepare, &["volume", "restore", "a", "s"], &|world| {
        assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "old");
        assert!(world.ok(&["volume", "snapshot", "list", "a"]).contains("before-2"));
    });
}

#[test]
fn an_export_of_a_volume_that_is_written_to_is_of_one_moment() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a", "--size", "32Mi"]);
    each_export_is_of_one_moment(&world, 3);
    world.ok(&["volume", "rm", "a"]);
    nothing_half_made(&world);
}

#[test]
fn whatever_command_comes_next_removes_what_a_killed_export_left() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a", "--size", "32Mi"]);
    nothing_is_left_of_a_killed_export(&world, &POINTS, &String::new);
    world.ok(&["volume", "rm", "a"]);
    nothing_half_made(&world);
}

#[test]
fn a_kernel_that_can_not_encrypt_says_so_before_anything_is_made() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    if ["/sys/class/misc/device-mapper", "/dev/mapper/control"].iter().any(|place| fs::exists(place).unwrap())
    {
        return println!("skipped: this kernel has a device mapper");
    }
    let world = World::new();
    fs::write(world.path("key"), "00ff".repeat(16)).unwrap();
    rustix::fs::chmod(world.path("key"), rustix::fs::Mode::RUSR).unwrap();
    let create = ["volume", "create", "a", "--size", "64Mi", "--encrypt", "--key-file", "key"];
    let refused = world.fails(1, &create);
    assert!(refused.contains("modprobe dm_mod") && refused.contains("leave --encrypt out"), "{refused}");
    assert!(world.files().is_empty(), "{:?}", world.files());
}
