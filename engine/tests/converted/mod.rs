//! Snapshots of raw devices that somebody made a filesystem on, read as that filesystem with a permission.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)] // Each test binary uses a part of it.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tierce_engine::{Error, Filesystem, VolumeId, VolumeMode};

use super::world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, run, text};

/// Stages and publishes a raw block volume; its device.
fn device(world: &World, id: &VolumeId) -> PathBuf {
    let target = world.path("device");
    world.stage(id, true).unwrap();
    world.publish(id, &target, true).unwrap();
    target
}

fn put_away(world: &World, id: &VolumeId) {
    world.unpublish(id, &world.path("device")).unwrap();
    world.unstage(id).unwrap();
}

/// What a pod does with a raw device: makes a filesystem on it, and writes a file.
fn use_as(world: &World, filesystem: Filesystem, device: &Path, content: &str) {
    let mkfs = format!("mkfs.{filesystem}");
    run(&mkfs, &["-q", text(device)]);
    let folder = world.path("used");
    fs::create_dir_all(&folder).unwrap();
    run("mount", &["-t", filesystem.name(), text(device), text(&folder)]);
    fs::write(folder.join("content"), content).unwrap();
    run("umount", &[text(&folder)]);
}

fn total_bytes(world: &World, id: &VolumeId) -> u64 {
    world.run(world.engine.stats(id, &world.staging(id))).unwrap().total_bytes
}

pub fn a_raw_device_is_read_as_the_filesystem_that_it_carries(world: &mut World) {
    for mode in [EXT4, XFS, BTRFS] {
        let VolumeMode::Filesystem(filesystem) = mode else { unreachable!() };
        let raw = world.create("raw", BLOCK, 320 * MIB);
        let target = device(world, &raw);
        use_as(world, filesystem, &target, "of a pod");
        put_away(world, &raw);
        world.snapshot("snapshot", &raw).unwrap();
        let error = world.create_from("copy", mode, 320 * MIB, "snapshot").unwrap_err();
        assert!(matches!(error, Error::SourceMismatch { field: "mode", .. }), "{error:?}");

        let copy = world.convert("copy", mode, 320 * MIB, "snapshot").unwrap();
        world.restart();
        world.stage(&copy, false).unwrap();
        assert_eq!(world.read(&copy), "of a pod", "{filesystem}");
        world.write(&copy, "written since");
        // A larger one beside it, with the same filesystem in it.
        let larger = world.convert("larger", mode, 480 * MIB, "snapshot").unwrap();
        world.stage(&larger, false).unwrap();
        assert_eq!(world.read(&larger), "of a pod", "{filesystem}");
        assert!(total_bytes(world, &larger) > 400 * MIB, "{filesystem}: {}", total_bytes(world, &larger));
        world.unstage(&copy).unwrap();
        world.restart();
        world.stage(&copy, false).unwrap();
        assert_eq!(world.read(&copy), "written since", "{filesystem}");
        for id in [copy, larger, raw] {
            world.unstage(&id).unwrap();
            world.delete(&id).unwrap();
        }
        world.run(world.engine.delete_snapshot(&"snapshot".parse().unwrap())).unwrap();
    }
    assert_eq!(world.mkfs_count(), 0, "a copy was formatted");
}

/// All that lies on a volume's device, below its encryption.
fn below_encryption(world: &World, id: &VolumeId) -> Vec<u8> {
    let image = || world.image(id.as_str());
    let below = world.group.as_ref().map_or_else(image, |group| group.node(&format!("v-{id}")));
    let mut bytes = Vec::new();
    File::open(below).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// What somebody does with a raw device.
type Use<'a> = &'a dyn Fn(&Path);

/// Writes to a raw device.
fn write(device: &Path, bytes: &[u8], at: u64) {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    file.write_all_at(bytes, at).unwrap();
    file.sync_all().unwrap();
}

pub fn bug_18_a_raw_device_that_carries_anything_else_is_refused_and_nothing_is_written(world: &mut World) {
    const SIZE: u64 = 128 * MIB;
    let raw = world.create("raw", BLOCK, SIZE);
    world.snapshot("unused", &raw).unwrap();
    let contents: [(&str, Use<'_>); 4] = [
        ("zeros", &|device| write(device, &[0; 4096], 0)),
        ("data", &|device| write(device, b"a database of somebody", 8192)),
        ("btrfs", &|device| use_as(world, Filesystem::Btrfs, device, "of a pod")),
        ("cut-off", &|device| {
            let larger = world.path("larger");
            File::create(&larger).unwrap().set_len(2 * SIZE).unwrap();
            run("mkfs.ext4", &["-q", text(&larger)]);
            let mut head = vec![0; usize::try_from(MIB).unwrap()];
            File::open(&larger).unwrap().read_exact(&mut head).unwrap();
            write(device, &head, 0);
        }),
    ];
    for (name, fill) in contents {
        fill(&device(world, &raw));
        put_away(world, &raw);
        world.snapshot(name, &raw).unwrap();
    }
    for (from, words) in [
        ("unused", ["only zeros", "nothing at all"]),
        ("zeros", ["only zeros", "unknown data"]),
        ("data", ["unknown data"; 2]),
        ("btrfs", ["btrfs"; 2]),
        ("cut-off", ["larger than the device"; 2]),
    ] {
        let told = |error: &Error| {
            let message = error.to_string();
            assert!(words.iter().any(|words| message.contains(words)), "{from}: {message}");
        };
        match world.convert("copy", EXT4, SIZE, from) {
            Err(error) => {
                assert!(matches!(error, Error::SourceMismatch { field: "content", .. }), "{error:?}");
                told(&error);
            }
            // Only its key can tell what an encrypted one carries.
            Ok(copy) => {
                assert!(world.encrypted, "{from}");
                let before = below_encryption(world, &copy);
                for _ in 0..2 {
                    let error = world.stage(&copy, false).unwrap_err();
                    match &error {
                        Error::FormatRefused { .. } => told(&error),
                        // The kernel looks at the size of what it mounts.
                        other => assert!(from == "cut-off" && matches!(other, Error::Io { .. }), "{other:?}"),
                    }
                }
                assert!(below_encryption(world, &copy) == before, "{from}: something was written");
                world.unstage(&copy).unwrap();
                assert!(world.delete(&copy).unwrap());
            }
        }
        assert_eq!(world.run(world.engine.list()).volumes.len(), 1, "{from}");
    }
    assert_eq!(world.mkfs_count(), 0);
}
