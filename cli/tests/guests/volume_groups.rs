//! Volumes of volume groups.

use std::{
    fs,
    os::unix::fs::FileExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::plugin::Plugin;
use crate::{
    crashes::{killed_everywhere, nothing_half_made},
    moments::{POINTS, each_export_is_of_one_moment, nothing_is_left_of_a_killed_export},
    sessions,
    world::World,
};

/// The group of these tests, on the first of the lab's disks.
const GROUP: &str = "tierce-cli";

/// The first disk that tests may do anything to; `None`: the test is skipped.
fn disk() -> Option<String> {
    let disks = std::env::var("TIERCE_LAB_DISKS").unwrap_or_default();
    let disk = disks.split_whitespace().next().map(str::to_owned);
    if disk.is_none() {
        println!("skipped: volume groups need a guest of the disk lab (TIERCE_LAB_DISKS)");
    }
    disk
}

fn run(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
}

/// A configuration with the pools fast (thin), bulk (thick) and big (a folder), all of them empty.
fn prepare(world: &World, disk: &str) {
    run(&format!(
        "vgremove -qq -y -ff {GROUP} 2> /dev/null || true; wipefs -qa {disk}; vgcreate -qq -y {GROUP} {disk}
         lvcreate -qq -y --type thin-pool -L 1G --zero y -n thin {GROUP}"
    ));
    fs::create_dir_all(world.path("disk")).unwrap();
    fs::create_dir_all(world.path("home/.config/tierce")).unwrap();
    // Loop devices are looked at only where they are named.
    let named =
        if disk.starts_with("/dev/loop") { format!("devices = [\"{disk}\"]\n") } else { String::new() };
    let config = format!(
        "[pools.fast]\nvolume-group = \"{GROUP}\"\nthin-pool = \"thin\"\n{named}[pools.bulk]\nvolume-group = \"{GROUP}\"\n{named}\
         [pools.big]\ndirectory = \"{}\"\n",
        world.path("disk").display()
    );
    fs::write(world.path("home/.config/tierce/config.toml"), config).unwrap();
}

/// Our volumes in the group.
fn logical_volumes() -> String {
    let output = Command::new("lvs").args(["--noheadings", "-o", "lv_name", GROUP]).output().unwrap();
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    names.split_whitespace().filter(|name| *name != "thin").collect::<Vec<_>>().join(" ")
}

#[test]
fn lab_volumes_of_a_volume_group_live_as_images_do() {
    let Some(disk) = disk() else { return };
    let world = World::new();
    prepare(&world, &disk);
    sessions::check_in(&world, "volume-groups.txt", include_str!("../transcripts/volume-groups.txt"));
    assert_eq!(logical_volumes(), "");
}

#[test]
fn lab_after_a_reboot_volumes_of_a_group_are_mounted_again_and_found_without_their_records() {
    let Some(disk) = disk() else { return };
    let world = World::new();
    prepare(&world, &disk);
    for (name, pool) in [("a", "fast"), ("b", "bulk"), ("c", "big")] {
        world.ok(&["volume", "create", name, "--size", "64Mi", "--pool", pool]);
        fs::write(world.volume(name).join("file"), name).unwrap();
        // What a reboot does to mounts and logical volumes.
        assert!(world.command("umount").arg(world.volume(name)).status().unwrap().success());
    }
    run(&format!("vgchange -qq -an {GROUP}"));
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nb\nc\n");
    assert!(fs::write(world.volume("a").join("file"), "lost").is_err(), "nobody writes below a mount point");
    assert_eq!(world.ok(&["volume", "mount", "--all"]), "a\nb\nc\n");
    // What the root knew is lost: the disks still tell of their volumes.
    fs::remove_dir_all(world.root().join("state")).unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(fs::read_to_string(world.volume(name).join("file")).unwrap(), name);
    }
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nb\nc\n");
    world.ok(&["volume", "rm", "a", "b", "c"]);
    assert_eq!(logical_volumes(), "");
}

#[test]
fn lab_a_killed_command_on_a_volume_of_a_group_heals() {
    let Some(disk) = disk() else { return };
    for pool in ["fast", "bulk"] {
        let empty = |world: &World| prepare(world, &disk);
        let create = ["volume", "create", "a", "--size", "20Mi", "--pool", pool];
        let points = killed_everywhere(&empty, &create, &|world| {
            fs::write(world.volume("a").join("file"), "x").unwrap();
            nothing_half_made(world);
            world.ok(&["volume", "rm", "a"]);
            assert_eq!(logical_volumes(), "");
        });
        assert!(points >= 3, "{points}");
        let made = |world: &World| {
            prepare(world, &disk);
            world.ok(&create);
            fs::write(world.volume("a").join("file"), "old").unwrap();
        };
        killed_everywhere(&made, &["volume", "rm", "a"], &|world| {
            assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
            assert_eq!(logical_volumes(), "");
            nothing_half_made(world);
        });
        if pool == "bulk" {
            // What follows is the engine's, which has tests of its own over thick volumes.
            continue;
        }
        killed_everywhere(&made, &["volume", "resize", "a", "40Mi"], &|world| {
            assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "old");
            let size = rustix::fs::statvfs(world.volume("a")).unwrap();
            assert!(size.f_blocks * size.f_frsize > 30 << 20);
        });
        let kept = |world: &World| {
            made(world);
            world.ok(&["volume", "snapshot", "create", "a", "s"]);
            fs::write(world.volume("a").join("file"), "new").unwrap();
        };
        killed_everywhere(&kept, &["volume", "restore", "a", "s"], &|world| {
            assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "old");
            nothing_half_made(world);
        });
    }
}

#[test]
fn lab_an_export_of_a_volume_of_a_group_is_of_one_moment_and_leaves_nothing_when_it_is_killed() {
    let Some(disk) = disk() else { return };
    let world = World::new();
    prepare(&world, &disk);
    for (pool, points) in [("fast", &POINTS[1..2]), ("bulk", &[])] {
        world.ok(&["volume", "create", "a", "--size", "24Mi", "--pool", pool]);
        each_export_is_of_one_moment(&world, 1);
        nothing_is_left_of_a_killed_export(&world, points, &logical_volumes);
        world.ok(&["volume", "rm", "a"]);
        assert_eq!(logical_volumes(), "");
    }
}

#[test]
fn lab_a_pool_that_is_away_is_told_and_hides_nothing_else() {
    let Some(disk) = disk() else { return };
    let world = World::new();
    prepare(&world, &disk);
    for arguments in [
        &["volume", "create", "plain"][..],
        &["volume", "create", "image", "--size", "20Mi"],
        &["volume", "create", "far", "--size", "20Mi", "--pool", "bulk"],
        &["volume", "create", "other", "--size", "20Mi", "--pool", "big"],
    ] {
        world.ok(arguments);
    }
    for name in ["far", "other"] {
        assert!(world.command("umount").arg(world.volume(name)).status().unwrap().success());
    }
    run(&format!("vgchange -qq -an {GROUP}; vgrename -qq {GROUP} away"));
    // A disk that is not mounted: the folder is there, and empty.
    fs::rename(world.path("disk"), world.path("unmounted")).unwrap();
    fs::create_dir(world.path("disk")).unwrap();
    let listed = world.tierce(&["volume", "ls", "-q"]);
    let told = String::from_utf8_lossy(&listed.stderr).into_owned();
    for pool in ["fast", "bulk", "big"] {
        assert!(told.contains(&format!("pool {pool}")), "{told}");
    }
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "image\nplain\n", "those of others are not shown");
    world.ok(&["volume", "inspect", "plain"]);
    world.ok(&["volume", "resize", "image", "40Mi"]);
    world.ok(&["volume", "create", "meanwhile"]);
    // What is away is not made anew, and its place is nobody's.
    for arguments in [
        &["volume", "create", "far"][..],
        &["volume", "create", "other", "--size", "20Mi"],
        &["volume", "create", "new", "--size", "20Mi", "--pool", "big"],
        &["volume", "rm", "--force", "far"],
    ] {
        let refused = world.fails(1, arguments);
        assert!(refused.contains("pool big") || refused.contains("pool bulk"), "{refused}");
    }
    assert_eq!(fs::read_dir(world.path("disk")).unwrap().count(), 0, "nothing was made on the wrong disk");
    world.tierce(&["system", "prune"]);
    fs::remove_dir(world.path("disk")).unwrap();
    fs::rename(world.path("unmounted"), world.path("disk")).unwrap();
    run(&format!("vgrename -qq away {GROUP}"));
    world.ok(&["volume", "mount", "--all"]);
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "far\nimage\nmeanwhile\nother\nplain\n");
    world.ok(&["volume", "rm", "far", "image", "meanwhile", "other", "plain"]);
    assert_eq!(logical_volumes(), "");
}

#[test]
fn lab_a_container_gets_a_volume_of_a_group() {
    let Some(disk) = disk() else { return };
    let world = World::new();
    prepare(&world, &disk);
    let plugin = Plugin::start(&world);
    plugin.done("Create", r#"{"Name": "a", "Opts": {"size": "20Mi", "pool": "fast"}}"#);
    let use_it = r#"{"Name": "a", "ID": "0123456789abcdef"}"#;
    let mounted = plugin.call("Mount", use_it);
    assert!(mounted.contains("volumes/local/a"), "{mounted}");
    assert!(world.ok(&["volume", "inspect", "a"]).contains("\"Pool\": \"fast\""));
    let refused = plugin.call("Remove", r#"{"Name": "a"}"#);
    assert!(refused.contains("in use by"), "{refused}");
    plugin.done("Unmount", use_it);
    plugin.done("Remove", r#"{"Name": "a"}"#);
    assert_eq!(logical_volumes(), "");
}

/// Bytes of the thin pool.
fn thin_pool_bytes() -> u64 {
    let arguments = ["--noheadings", "--nosuffix", "--units", "b", "-o", "lv_size"];
    let output = Command::new("lvs").args(arguments).arg(format!("{GROUP}/thin")).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

/// Waits until the thin pool is larger than that.
fn grown_over(bytes: u64) -> u64 {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        let now = thin_pool_bytes();
        if now > bytes {
            return now;
        }
        assert!(Instant::now() < end, "it does not grow over {bytes}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn lab_a_thin_pool_of_a_host_that_fills_up_grows_while_serve_runs() {
    const MIB: u64 = 1 << 20;
    let Some(disk) = disk() else { return };
    let world = World::new();
    prepare(&world, &disk);
    run(&format!(
        "lvremove -qq -y {GROUP}/thin; lvcreate -qq -y --type thin-pool -L 256M --zero y -n thin {GROUP}"
    ));
    // The pool gets its first volume from another process, while the plugin runs.
    let plugin = Plugin::start(&world);
    world.ok(&["volume", "create", "a", "--size", "252Mi", "--pool", "fast"]);
    let fill = |name: &str, bytes: u64| {
        let file = fs::File::create(world.volume("a").join(name)).unwrap();
        let piece = vec![7; usize::try_from(MIB).unwrap()];
        for at in 0..bytes / MIB {
            file.write_all_at(&piece, at * MIB).unwrap();
        }
        file.sync_all().unwrap();
    };
    assert_eq!(thin_pool_bytes(), 256 * MIB);
    fill("first", 179 * MIB);
    let once = grown_over(256 * MIB);
    assert!((280 * MIB..400 * MIB).contains(&once), "{once}");
    world.ok(&["volume", "resize", "a", "300Mi"]);
    // Nobody watches while it is stopped; it looks when it starts, and the volume was not harmed.
    drop(plugin);
    fill("second", 60 * MIB);
    assert_eq!(thin_pool_bytes(), once);
    let _plugin = Plugin::start(&world);
    grown_over(once);
    assert_eq!(
        fs::read(world.volume("a").join("first")).unwrap(),
        vec![7; usize::try_from(179 * MIB).unwrap()]
    );
    world.ok(&["volume", "rm", "a"]);
    assert_eq!(logical_volumes(), "");
}
