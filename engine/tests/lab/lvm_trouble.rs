//! What is wrong with a volume group or thin pool has a kind of its own, and nothing is touched. In the lab; skipped by name elsewhere.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::world::lvm::{TestGroup, group, reopen};
use crate::world::{BLOCK, EXT4, MIB, World, lvm, run, spec, text};
use tierce_engine::{Backend, Error, LvmKind, PoolConfig, PoolError, PoolErrorKind, ThinPool, VolumeId};

/// Why the pool can't be used; it makes no volume either.
fn trouble(world: &World) -> PoolError {
    let error = world.run(world.engine.reports()).remove(0).result.unwrap_err();
    let refused = world.run(world.engine.create("pool", &spec("pvc-new", EXT4, 64 * MIB))).unwrap_err();
    assert!(matches!(refused, Error::PoolUnavailable(_)), "{refused:?}");
    error
}

fn thin_named(pool: &str) -> LvmKind {
    LvmKind::Thin(ThinPool { name: pool.to_owned(), size_bytes: None, chunk_bytes: None, extend: true })
}

#[test]
fn each_trouble_has_its_kind_and_words_that_say_what_to_do() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "kept");
    world.unstage(&id).unwrap();
    let known = world.run(world.engine.pool_ids())[0].1;
    let (name, devices) = (group(&world).name.clone(), group(&world).devices.clone());
    group(&world).lvm("lvcreate", &["-qq", "-y", "-Wn", "-Zn", "-L", "8m", "-n", "plain", &name]);
    let over = |group: &str, kind: LvmKind, devices: &[std::path::PathBuf]| Backend::Lvm {
        volume_group: group.to_owned(),
        kind,
        devices: devices.to_vec(),
    };
    for (backend, known, kind, words) in [
        (over("a b", LvmKind::Thick, &devices), None, PoolErrorKind::InvalidSettings, "1 to 60 letters"),
        (over("nonesuch", LvmKind::Thick, &[]), None, PoolErrorKind::NoSuchVolumeGroup, "vgcreate nonesuch"),
        (
            over("nonesuch", LvmKind::Thick, &devices),
            Some(known),
            PoolErrorKind::NoSuchVolumeGroup,
            "is a disk missing?",
        ),
        (over("other", LvmKind::Thick, &devices), None, PoolErrorKind::DeviceUnusable, "is it in use?"),
        (over(&name, LvmKind::Thick, &devices), Some(known), PoolErrorKind::OtherDisk, "is a disk missing?"),
        (over(&name, thin_named("plain"), &devices), None, PoolErrorKind::NotAThinPool, "a linear volume"),
        (
            over(&name, thin_named("nonesuch"), &devices),
            None,
            PoolErrorKind::NoSuchThinPool,
            "lvcreate --type thin-pool",
        ),
        (
            over(&name, lvm::thin(), &["/dev/nonesuch".into()]),
            None,
            PoolErrorKind::MissingDevices,
            "is the disk there?",
        ),
    ] {
        reopen(&mut world, backend, known);
        let error = trouble(&world);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.reason.contains(words), "{error}");
    }
    world.forget();
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);
    reopen(&mut world, over(&name, lvm::thin(), &devices[..1]), Some(known));
    let error = trouble(&world);
    assert_eq!(error.kind, PoolErrorKind::MissingDevices, "{error}");
    assert!(error.reason.contains("bring the disks back"), "{error}");
    // Nobody uses the devices any more, but they carry something.
    reopen(&mut world, over("other", LvmKind::Thick, &devices), None);
    let error = trouble(&world);
    assert_eq!(error.kind, PoolErrorKind::ForeignSignature, "{error}");
    assert!(error.reason.contains("LVM2_member") && error.reason.contains("wipefs --all"), "{error}");

    world.set_pool();
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "kept");
    world.unstage(&id).unwrap();
}

#[test]
fn a_copied_disk_is_named_and_none_of_the_two_is_used() {
    let Some(mut world) = World::lvm(LvmKind::Thick) else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "kept");
    world.unstage(&id).unwrap();
    let known = world.run(world.engine.pool_ids())[0].1;
    let (name, first) = (group(&world).name.clone(), group(&world).devices[0].clone());
    world.forget();
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);
    let copy = world.group.as_mut().unwrap().add_device(lvm::DEVICE_BYTES);
    run(
        "dd",
        &[&format!("if={}", text(&first)), &format!("of={}", text(&copy)), "bs=1M", "conv=sparse,fsync"],
    );
    let backend = group(&world).backend();
    reopen(&mut world, backend, Some(known));
    let error = trouble(&world);
    assert_eq!(error.kind, PoolErrorKind::DuplicateDevices, "{error}");
    let named = error.reason.contains(text(&first)) || error.reason.contains(text(&copy));
    assert!(named && error.reason.contains("vgimportclone"), "{error}");
    assert!(matches!(world.stage(&id, false), Err(Error::PoolUnavailable(_))));
    assert!(matches!(world.delete(&id), Err(Error::PoolUnavailable(_))));

    // As the message says: the copy is taken away.
    run("wipefs", &["-qq", "--all", "--force", text(&copy)]);
    world.group.as_mut().unwrap().devices.pop();
    run("losetup", &["-d", text(&copy)]);
    let backend = group(&world).backend();
    reopen(&mut world, backend, Some(known));
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "kept");
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
}

#[test]
fn bug_05_a_full_thin_pool_says_so_while_its_volumes_can_be_read() {
    let size_bytes = Some(128 * MIB);
    let kind = ThinPool { name: "thin".to_owned(), size_bytes, chunk_bytes: Some(64 << 10), extend: false };
    let Some(world) = World::lvm(LvmKind::Thin(kind)) else { return };
    let id = world.create("pvc-1", EXT4, 48 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "kept");
    let report = || world.run(world.engine.reports()).remove(0);
    assert_eq!(report().warning, None);
    let name = group(&world).name.clone();
    group(&world).lvm("lvcreate", &["-qq", "-y", "-V", "256m", "--thinpool", "thin", "-n", "other", &name]);
    let other = OpenOptions::new().write(true).open(group(&world).node("other")).unwrap();
    let failed = (0..160)
        .any(|at| other.write_all_at(&vec![9; 1 << 20], at * MIB).and_then(|()| other.sync_data()).is_err());
    assert!(failed, "the pool never filled up");
    drop(other);
    let full = report();
    let warning = full.warning.unwrap();
    assert_eq!(warning.kind, PoolErrorKind::OutOfData, "{warning}");
    assert!(warning.reason.contains(&format!("lvextend -L +SIZE {name}/thin")), "{warning}");
    assert_eq!(full.result.unwrap().max_volume_bytes, 0);
    assert_eq!(world.read(&id), "kept");

    // What the message says.
    group(&world).lvm("lvextend", &["-qq", "-y", "-L", "+128m", &format!("{name}/thin")]);
    assert_eq!(report().warning, None);
    assert!(report().result.unwrap().max_volume_bytes > 0);
    world.unstage(&id).unwrap();
}

/// The node that the kernel itself made for a device.
fn kernels_node(node: &Path) -> PathBuf {
    let number = fs::metadata(node).unwrap().rdev();
    let path = format!("/sys/dev/block/{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    Path::new("/dev").join(fs::canonicalize(path).unwrap().file_name().unwrap())
}

#[test]
fn bug_21_a_group_inside_a_raw_volume_of_a_directory_pool_is_no_pool_under_any_name_of_its_device() {
    for encrypted in [false, true] {
        let Some(mut world) = World::lab() else { return };
        world.encrypted = encrypted;
        let id = world.create("pvc-1", BLOCK, 256 * MIB);
        world.stage(&id, true).unwrap();
        let mappers: Vec<PathBuf> =
            world.mappers().iter().map(|name| Path::new("/dev/mapper").join(name)).collect();
        let device = kernels_node(mappers.first().unwrap_or(&PathBuf::from(world.loops().remove(0))));
        let guests = TestGroup::lasting("vg0", LvmKind::Thick, std::slice::from_ref(&device));
        guests.lvm("vgcreate", &["-qq", &guests.name, text(&device)]);
        let number = fs::metadata(&device).unwrap().rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        fs::create_dir_all("/dev/block").unwrap();
        let link = PathBuf::from(format!("/dev/block/{major}:{minor}"));
        let odd = Path::new("/dev/odd");

        let refused = |words: &str| {
            let backend =
                Backend::Lvm { volume_group: guests.name.clone(), kind: LvmKind::Thick, devices: Vec::new() };
            let group = PoolConfig { name: "group".to_owned(), backend, ..world.pool("pool") };
            world.run(world.engine.set_pools(vec![world.pool("pool"), group]));
            let reports = world.run(world.engine.reports());
            let error =
                reports.into_iter().find(|report| report.name == "group").unwrap().result.unwrap_err();
            assert_eq!(error.kind, PoolErrorKind::NoSuchVolumeGroup, "{error}");
            assert!(error.reason.contains(words), "{error}");
        };
        // As udev gives every block device one.
        symlink(&device, &link).unwrap();
        refused("vgcreate vg0");
        fs::remove_file(&link).unwrap();
        // Of all its names none tells what it is.
        for mapper in &mappers {
            fs::remove_file(mapper).unwrap();
        }
        fs::rename(&device, odd).unwrap();
        refused("/dev/odd");
        fs::rename(odd, &device).unwrap();
        world.unstage(&id).unwrap();
        assert!(world.delete(&id).unwrap());
    }
}

#[test]
fn what_lies_on_a_raw_volume_is_named_where_it_keeps_the_volume_from_being_deleted() {
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    let id = world.create("pvc-1", BLOCK, 64 * MIB);
    world.stage(&id, true).unwrap();
    let node = group(&world).node("v-pvc-1");
    // As a host does that finds a group in it.
    run("dmsetup", &["create", "found-inside", "--table", &format!("0 2048 linear {} 0", text(&node))]);
    let inside = kernels_node(Path::new("/dev/mapper/found-inside"));
    let inside = format!("{} over ", text(Path::new(inside.file_name().unwrap())));
    world.unstage(&id).unwrap();
    let error = world.delete(&id).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }) && error.to_string().contains(&inside), "{error}");
    run("dmsetup", &["remove", "found-inside"]);
    assert!(world.delete(&id).unwrap());
}

#[test]
fn a_device_that_became_another_ones_is_not_taken() {
    let Some(world) = World::lvm(LvmKind::Thick) else { return };
    let ids = ["pvc-1", "pvc-2"].map(|name| world.create(name, BLOCK, 64 * MIB));
    for id in &ids {
        world.stage(id, true).unwrap();
    }
    let [node, others] = ["v-pvc-1", "v-pvc-2"].map(|name| kernels_node(&group(&world).node(name)));
    // What whoever opens the node gets once its number is another volume's.
    let kept = node.with_extension("kept");
    fs::rename(&node, &kept).unwrap();
    run("cp", &["-a", text(&others), text(&node)]);
    let error = world.stage(&ids[0], true).unwrap_err();
    assert!(error.to_string().contains("another device is there by now"), "{error}");
    fs::remove_file(&node).unwrap();
    fs::rename(&kept, &node).unwrap();
    for id in &ids {
        assert!(!world.stage(id, true).unwrap());
        world.unstage(id).unwrap();
        assert!(world.delete(id).unwrap());
    }
}

/// Writes to one chunk of every part of the map of a volume of 256 MiB, so that a shared one is copied. Whether all went well.
fn touch(node: &Path, with: u8) -> bool {
    let device = OpenOptions::new().write(true).open(node).unwrap();
    (0..64)
        .all(|at| device.write_all_at(&[with; 4096], at * 4 * MIB).and_then(|()| device.sync_data()).is_ok())
}

#[test]
fn bug_06_a_thin_pool_without_room_for_metadata_is_named_and_comes_back_by_the_commands_of_its_message() {
    let kind = |name: &str| {
        LvmKind::Thin(ThinPool {
            name: name.to_owned(),
            size_bytes: Some(512 * MIB),
            chunk_bytes: Some(64 << 10),
            extend: false,
        })
    };
    let Some(mut world) = World::lvm(kind("thin")) else { return };
    let (name, devices) = (group(&world).name.clone(), group(&world).devices.clone());
    let full = format!("{name}/small");
    // The least metadata there is.
    let pool = ["-L", "1g", "-c", "64k", "--poolmetadatasize", "2m", "-n", "small"];
    let make = ["-qq", "-y", "--type", "thin-pool", "-Zy"];
    group(&world).lvm("lvcreate", &[make.as_slice(), &pool, &[&name]].concat());
    let backend = Backend::Lvm { volume_group: name.clone(), kind: kind("small"), devices };
    reopen(&mut world, backend.clone(), None);
    let victim = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&victim, false).unwrap();
    world.write(&victim, "kept");
    let filler = world.create("pvc-2", BLOCK, 256 * MIB);
    world.stage(&filler, true).unwrap();
    let node = group(&world).node("v-pvc-2");
    run("dd", &["if=/dev/zero", &format!("of={}", text(&node)), "bs=1M", "count=256", "oflag=direct"]);

    // Each copy of the map takes blocks of the metadata, and hardly any data. LVM makes none from three quarters on; the kernel does.
    let dm = |name: &str| format!("{}-{name}", name_of_device(&group(&world).name));
    let (origin, thin_pool) = (dm("v--pvc--2"), dm("small-tpool"));
    let table = String::from_utf8(run("dmsetup", &["table", &origin]).stdout).unwrap();
    let number = table.split_ascii_whitespace().last().unwrap();
    let mut copies = 0_u8;
    let error = loop {
        match world.run(world.engine.reports()).remove(0).result {
            Err(error) => break error,
            Ok(usage) => assert!(copies < 100, "the metadata never filled up: {usage:?}"),
        }
        copies += 1;
        run("dmsetup", &["suspend", &origin]);
        let message = format!("create_snap {} {number}", 5000 + u32::from(copies));
        let done = Command::new("dmsetup").args(["message", &thin_pool, "0", &message]).status().unwrap();
        run("dmsetup", &["resume", &origin]);
        let touched = touch(&node, copies);
        assert!(done.success() || !touched, "copy {copies} was not made, though the pool can be written");
    };
    println!("after {copies} copies: {error}");
    assert!(matches!(error.kind, PoolErrorKind::MetadataFull | PoolErrorKind::NeedsCheck), "{error}");
    assert!(error.reason.contains(&format!("lvchange -an {full}")), "{error}");
    assert_eq!(world.read(&victim), "kept");

    // What the message says.
    world.unstage(&filler).unwrap();
    world.unstage(&victim).unwrap();
    world.forget();
    group(&world).lvm("lvextend", &["-qq", "-y", "--poolmetadatasize", "+32m", &full]);
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);
    group(&world).lvm("lvchange", &["-qq", "-ay", &full]);
    reopen(&mut world, backend, None);
    assert_eq!(state_of(&world), Ok(()));
    world.stage(&victim, false).unwrap();
    assert_eq!(world.read(&victim), "kept");
    world.write(&victim, "and written");
    world.unstage(&victim).unwrap();
    assert!(touch_again(&world, &filler));
}

/// How device-mapper writes a group's name.
fn name_of_device(group: &str) -> String {
    group.replace('-', "--")
}

/// Whether a volume can be written again.
fn touch_again(world: &World, id: &VolumeId) -> bool {
    world.stage(id, true).unwrap();
    let went_well = touch(&group(world).node(&format!("v-{id}")), 201);
    world.unstage(id).unwrap();
    went_well
}

fn state_of(world: &World) -> Result<(), PoolError> {
    world.run(world.engine.reports()).remove(0).result.map(drop)
}
