//! Nothing that may hold data is ever formatted, whatever the disk shows: re-enacted on the real kernel. Needs root; skipped by name
//! without.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::atomic::Ordering,
};

use tierce_engine::{Error, VolumeId, VolumeMode};
use world::{BTRFS, EXT4, MIB, World, XFS, run, text};

/// Everything that is in an image, to see that it was not touched.
fn contents(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// A volume with a file in it, unstaged again.
fn used_volume(world: &World, id: &str, mode: VolumeMode, size: u64) -> VolumeId {
    let id = world.create(id, mode, size);
    world.stage(&id, false).unwrap();
    fs::write(world.staging(&id).join("precious"), b"precious").unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
    id
}

fn assert_precious(world: &World, id: &VolumeId) {
    world.stage(id, false).unwrap();
    assert_eq!(fs::read(world.staging(id).join("precious")).unwrap(), b"precious");
    world.unstage(id).unwrap();
}

#[test]
fn bug_01_a_missing_image_is_never_made_anew() {
    let Some(world) = World::real() else { return };
    let id = used_volume(&world, "pvc-1", EXT4, 64 * MIB);
    let aside = world.path("aside");
    fs::rename(world.image("pvc-1"), &aside).unwrap();
    for _ in 0..3 {
        let error = world.stage(&id, false).unwrap_err();
        assert!(matches!(error, Error::BrokenRecord { .. }), "{error:?}");
    }
    assert!(!world.image("pvc-1").exists());
    assert_eq!(world.run(world.engine.list()).broken.len(), 1);
    fs::rename(&aside, world.image("pvc-1")).unwrap();
    assert_precious(&world, &id);
    assert_eq!(world.mkfs_count(), 1);
    world.assert_clean();
}

#[test]
fn bug_01_an_image_that_was_cut_off_is_never_formatted_or_mended() {
    let Some(world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", BTRFS)] {
        let id = used_volume(&world, name, mode, 256 * MIB);
        let image = OpenOptions::new().write(true).open(world.image(name)).unwrap();
        image.set_len(64 * MIB).unwrap();
        let error = world.stage(&id, false).unwrap_err();
        assert!(
            matches!(&error, Error::BrokenRecord { reason, .. } if reason.contains("cut off")),
            "{error:?}"
        );
        assert_eq!(image.metadata().unwrap().len(), 64 * MIB);
        let inventory = world.run(world.engine.list());
        assert!(inventory.broken.iter().any(|broken| broken.reason.contains("cut off")), "{inventory:?}");
        world.assert_clean();
    }
    assert_eq!(world.mkfs_count(), 2);
}

#[test]
fn bug_01_a_device_that_answers_with_errors_is_never_formatted() {
    let Some(world) = World::real() else { return };
    // A volume never staged, so that only the read error stands between it and mkfs; and one that was.
    let fresh = world.create("pvc-fresh", EXT4, 64 * MIB);
    let used = used_volume(&world, "pvc-used", EXT4, 64 * MIB);
    let before = world.mkfs_count();
    for id in [&fresh, &used] {
        let image = world.image(id.as_str());
        let whole = world.path("whole");
        fs::copy(&image, &whole).unwrap();
        // A loop device keeps its size when the file below shrinks: reads behind the end fail as a dying disk's do.
        let device = String::from_utf8(run("losetup", &["--find", "--show", text(&image)]).stdout).unwrap();
        let device = device.trim();
        OpenOptions::new().write(true).open(&image).unwrap().set_len(0).unwrap();
        let mut byte = [0];
        if File::open(device).unwrap().read_exact(&mut byte).is_ok() {
            println!("skipped: a loop device of this kernel reads zeros behind the end of its file");
            run("losetup", &["-d", device]);
            return;
        }
        for _ in 0..3 {
            let error = world.stage(id, false).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
        }
        run("losetup", &["-d", device]);
        fs::write(&image, contents(&whole)).unwrap();
    }
    assert_eq!(world.mkfs_count(), before);
    assert_precious(&world, &used);
    world.assert_clean();
}

#[test]
fn bug_01_bug_02_zeros_under_a_record_that_says_formatted_are_never_formatted() {
    let Some(world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", XFS), ("pvc-3", BTRFS)] {
        let id = used_volume(&world, name, mode, 300 * MIB);
        let count = world.mkfs_count();
        let aside = world.path("aside");
        fs::rename(world.image(name), &aside).unwrap();
        File::create(world.image(name)).unwrap().set_len(300 * MIB).unwrap();
        for _ in 0..3 {
            let error = world.stage(&id, false).unwrap_err();
            assert!(
                matches!(&error, Error::FormatRefused { reason, .. } if reason.contains("only zeros")),
                "{error:?}"
            );
        }
        assert_eq!(fs::metadata(world.image(name)).unwrap().blocks(), 0, "nothing was written");
        assert_eq!(world.mkfs_count(), count);
        world.assert_clean();
        // The disk is well again: so is the volume.
        fs::rename(&aside, world.image(name)).unwrap();
        assert_precious(&world, &id);
    }
}

#[test]
fn bug_01_data_under_a_record_that_says_never_formatted_is_never_formatted() {
    let Some(world) = World::real() else { return };
    // Deep inside, where no probe looks; at the start; and a whole filesystem.
    let deep = world.create("pvc-deep", EXT4, 64 * MIB);
    OpenOptions::new()
        .write(true)
        .open(world.image("pvc-deep"))
        .unwrap()
        .write_all_at(b"x", 30 * MIB)
        .unwrap();
    let start = world.create("pvc-start", EXT4, 64 * MIB);
    OpenOptions::new().write(true).open(world.image("pvc-start")).unwrap().write_all_at(b"x", 0).unwrap();
    let filesystem = world.create("pvc-fs", EXT4, 64 * MIB);
    run("mkfs.ext4", &["-q", text(&world.image("pvc-fs"))]);
    for (id, words) in [(&deep, "holds data"), (&start, "unknown data"), (&filesystem, "carries ext4")] {
        let before = contents(&world.image(id.as_str()));
        let error = world.stage(id, false).unwrap_err();
        assert!(matches!(&error, Error::FormatRefused { reason, .. } if reason.contains(words)), "{error:?}");
        assert_eq!(contents(&world.image(id.as_str())), before);
        assert!(!world.run(world.engine.get(id)).unwrap().unwrap().used);
    }
    assert_eq!(world.mkfs_count(), 0);
    world.assert_clean();
}

#[test]
fn another_volumes_filesystem_under_the_record_is_refused() {
    let Some(world) = World::real() else { return };
    let one = used_volume(&world, "pvc-1", EXT4, 64 * MIB);
    let two = used_volume(&world, "pvc-2", EXT4, 64 * MIB);
    let aside = world.path("aside");
    fs::rename(world.image("pvc-1"), &aside).unwrap();
    fs::rename(world.image("pvc-2"), world.image("pvc-1")).unwrap();
    fs::rename(&aside, world.image("pvc-2")).unwrap();
    for id in [&one, &two] {
        let error = world.stage(id, false).unwrap_err();
        assert!(matches!(error, Error::FormatRefused { .. }), "{error:?}");
    }
    world.assert_clean();
}

#[test]
fn a_mkfs_that_was_killed_is_done_again_and_ends_well() {
    let Some(mut world) = World::real() else { return };
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", XFS), ("pvc-3", BTRFS)] {
        let id = world.create(name, mode, 300 * MIB);
        world.spy.fail_next_mkfs.store(true, Ordering::SeqCst);
        let error = world.stage(&id, false).unwrap_err();
        assert!(matches!(error, Error::Command(_)), "{error:?}");
        world.restart();
        // What half a mkfs may have left.
        OpenOptions::new()
            .write(true)
            .open(world.image(name))
            .unwrap()
            .write_all_at(&[0xff; 4096], 65_536)
            .unwrap();
        assert!(world.stage(&id, false).unwrap());
        fs::write(world.staging(&id).join("precious"), b"precious").unwrap();
        world.unstage(&id).unwrap();
        assert_precious(&world, &id);
        world.assert_clean();
    }
    assert_eq!(world.mkfs_count(), 6);
}
