//! LVM pools that are missing, sick, full, shared with others or made anew, in the lab. Skipped by name elsewhere.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::FileExt,
    process::Command,
    time::Duration,
};

use crate::world::lvm::{TestGroup, eventually, group, reopen, thin_pool};
use crate::world::{BLOCK, EXT4, MIB, World, lvm, run, spec, text};
use tierce_engine::{Backend, Error, LvmKind, PoolUsage, ThinPool, Uuid};

fn usage(world: &World) -> PoolUsage {
    world.run(world.engine.reports()).remove(0).result.unwrap()
}

/// Why the pool can't be used.
fn trouble(world: &World) -> String {
    world.run(world.engine.reports()).remove(0).result.unwrap_err().to_string()
}

/// Writes random bytes to a staged raw block volume, past the page cache. The error, if there is one.
fn fill(world: &World, id: &tierce_engine::VolumeId, mib: u64) -> std::io::Result<()> {
    let node = group(world).node(&format!("v-{id}"));
    let mut random = File::open("/dev/urandom")?;
    let mut bytes = vec![0; 1 << 20];
    let device = OpenOptions::new().write(true).open(node)?;
    for at in 0..mib {
        random.read_exact(&mut bytes)?;
        device.write_all_at(&bytes, at * MIB)?;
        device.sync_data()?;
    }
    Ok(())
}

#[test]
fn a_device_that_carries_anything_is_named_and_left_untouched() {
    /// Every byte of them is read, often.
    const BYTES: u64 = 64 * MIB;
    if !lvm::in_lab() {
        return;
    }
    for (what, words) in [
        ("ext4", "ext4"),
        ("a partition table", "dos"),
        ("LVM", "LVM2_member"),
        ("data at its end", "unknown data"),
        ("data at its start", "unknown data"),
    ] {
        let mut world = World::real().unwrap();
        let group = TestGroup::of_devices(LvmKind::Thick, BYTES).unwrap();
        let device = group.devices[1].clone();
        match what {
            "ext4" => drop(run("mkfs.ext4", &["-q", text(&device)])),
            "a partition table" => {
                // The two bytes that end a boot sector, and one partition.
                let file = OpenOptions::new().write(true).open(&device).unwrap();
                file.write_all_at(&[0x80, 0, 2, 0, 0x83, 0, 3, 0, 0, 8, 0, 0, 0, 16, 0, 0], 446).unwrap();
                file.write_all_at(&[0x55, 0xaa], 510).unwrap();
            }
            "LVM" => drop(group.lvm("pvcreate", &["-qq", text(&device)])),
            _ => {
                let at = if what.ends_with("end") { BYTES - 5 } else { 5000 };
                let file = OpenOptions::new().write(true).open(&device).unwrap();
                file.write_all_at(b"data", at).unwrap();
                file.sync_all().unwrap();
            }
        }
        let sum = || run("sha256sum", &[text(&group.devices[0]), text(&device)]).stdout;
        let before = sum();
        reopen(&mut world, group.backend(), None);
        let error = trouble(&world);
        assert!(
            error.contains(text(&device)) && error.contains("not touched") && error.contains(words),
            "{what}: {error}"
        );
        assert_eq!(sum(), before, "{what}: both devices are as they were");
    }
}

#[test]
fn what_is_wrong_with_a_group_is_named() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let known = world.run(world.engine.pool_ids())[0].1;
    let backend = |world: &World, name: &str, kind: LvmKind, devices: bool| {
        let devices = if devices { group(world).devices.clone() } else { Vec::new() };
        Backend::Lvm { volume_group: name.to_owned(), kind, devices }
    };
    let name = group(&world).name.clone();
    let plain = |pool: &str| {
        LvmKind::Thin(ThinPool { name: pool.to_owned(), size_bytes: None, chunk_bytes: None, extend: true })
    };
    group(&world).lvm("lvcreate", &["-qq", "-y", "-Wn", "-Zn", "-L", "8m", "-n", "plain", &name]);
    for (case, wanted, known, words) in [
        (
            "a name that is none",
            backend(&world, "a b", LvmKind::Thick, true),
            None,
            "no name of a volume group",
        ),
        (
            "no such group",
            backend(&world, "nonesuch", LvmKind::Thick, false),
            None,
            "there is no volume group nonesuch",
        ),
        (
            "a group that was here",
            backend(&world, "nonesuch", LvmKind::Thick, true),
            Some(known),
            "is a disk missing?",
        ),
        ("another pool", backend(&world, &name, LvmKind::Thick, true), Some(known), "is a disk missing?"),
        (
            "a plain volume",
            backend(&world, &name, plain("plain"), true),
            None,
            "is no thin pool but a linear volume",
        ),
        ("no such thin pool", backend(&world, &name, plain("nonesuch"), true), None, "there is no thin pool"),
    ] {
        reopen(&mut world, wanted, known);
        let error = trouble(&world);
        assert!(error.contains(words), "{case}: {error}");
        let error = world.run(world.engine.create("pool", &spec("pvc-2", EXT4, 64 * MIB))).unwrap_err();
        assert!(matches!(error, Error::PoolUnavailable(_)), "{case}: {error:?}");
    }
    let mut gone = group(&world).devices.clone();
    gone.push("/dev/nonesuch".into());
    reopen(&mut world, Backend::Lvm { volume_group: name.clone(), kind: lvm::thin(), devices: gone }, None);
    assert!(trouble(&world).contains("device /dev/nonesuch is missing"));

    // Half of its devices: nothing is guessed, and it heals by itself.
    world.forget();
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);
    let half = Backend::Lvm {
        volume_group: name.clone(),
        kind: lvm::thin(),
        devices: group(&world).devices[..1].to_vec(),
    };
    reopen(&mut world, half, Some(known));
    let error = trouble(&world);
    assert!(error.contains("misses 1 of its 2 devices") && error.contains("bring the disks back"), "{error}");
    let error = world.delete(&id).unwrap_err();
    assert!(matches!(error, Error::PoolUnavailable(_)), "{error:?}");
    world.set_pool();
    assert!(world.stage(&id, false).unwrap());
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
}

#[test]
fn what_others_made_in_the_group_is_left_alone_and_counts_as_taken() {
    for kind in [lvm::thin(), LvmKind::Thick] {
        let Some(mut world) = World::lvm(kind.clone()) else { return };
        let name = group(&world).name.clone();
        let before = usage(&world);
        // Named as ours are, without our tags.
        for volume in ["v-pvc-9", "d-pvc-9-0a1b2c3d", "n-pvc-9-0a1b2c3d", "data"] {
            let mut arguments = vec!["-qq", "-y", "-n", volume];
            match &kind {
                LvmKind::Thin(_) => arguments.extend(["-V", "64m", "--thinpool", "thin"]),
                LvmKind::Thick => arguments.extend(["-Wn", "-Zn", "-L", "64m"]),
            }
            arguments.push(&name);
            group(&world).lvm("lvcreate", &arguments);
        }
        File::options()
            .write(true)
            .open(group(&world).node("data"))
            .unwrap()
            .write_all(&vec![7; 8 << 20])
            .unwrap();
        run("sync", &[]);
        world.restart();
        let inventory = world.run(world.engine.list());
        assert_eq!((inventory.volumes.len(), inventory.broken.len()), (0, 0));
        let now = usage(&world);
        assert_eq!((now.volumes, now.promised_bytes), (0, 0));
        assert!(now.available_bytes < before.available_bytes, "{before:?} {now:?}");
        assert!(!world.delete(&"pvc-9".parse().unwrap()).unwrap());
        assert_eq!(world.run(world.engine.recover()).problems, Vec::<String>::new());
        let error = world.run(world.engine.create("pool", &spec("pvc-9", EXT4, 64 * MIB))).unwrap_err();
        assert!(matches!(error, Error::Command(_)), "the name is taken: {error:?}");
        for volume in ["v-pvc-9", "d-pvc-9-0a1b2c3d", "n-pvc-9-0a1b2c3d", "data"] {
            assert!(group(&world).volumes().contains(&volume.to_owned()), "{volume}");
        }
    }
}

#[test]
fn a_record_damaged_by_hand_is_left_alone() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    let good = world.create("pvc-good", EXT4, 64 * MIB);
    let damaged = ["pvc-edited", "pvc-gone", "pvc-other"];
    for id in damaged {
        world.create(id, EXT4, 64 * MIB);
        let full = format!("{}/v-{id}", group(&world).name);
        let tags = group(&world).lvm("lvs", &["--noheadings", "-o", "lv_tags", &full]);
        let record = tags.trim().split(',').find(|tag| tag.starts_with("tierce.r0.")).unwrap();
        let pool = tags.trim().split(',').find(|tag| tag.starts_with("tierce.pool=")).unwrap();
        match id {
            "pvc-edited" => {
                let other = format!("{}AAAA", &record[..record.len() - 4]);
                group(&world).lvm("lvchange", &["-qq", "--deltag", record, "--addtag", &other, &full]);
            }
            "pvc-gone" => drop(group(&world).lvm("lvchange", &["-qq", "--deltag", record, &full])),
            _ => {
                let other = format!("tierce.pool={}", Uuid::from_u128(1).simple());
                group(&world).lvm("lvchange", &["-qq", "--deltag", pool, "--addtag", &other, &full]);
            }
        }
    }
    world.restart();
    let inventory = world.run(world.engine.list());
    assert_eq!((inventory.volumes.len(), inventory.broken.len()), (1, 3), "{inventory:?}");
    for id in damaged {
        let id = id.parse().unwrap();
        for result in
            [world.stage(&id, false), world.delete(&id), world.run(world.engine.get(&id)).map(|_| true)]
        {
            assert!(matches!(result, Err(Error::BrokenRecord { .. })), "{id}: {result:?}");
        }
        assert!(group(&world).volumes().contains(&format!("v-{id}")));
    }
    assert_eq!(world.run(world.engine.recover()).problems, Vec::<String>::new());
    world.stage(&good, false).unwrap();
    world.unstage(&good).unwrap();
    assert!(world.delete(&good).unwrap());
    eventually(&world, "the end of the deletion", || group(&world).volumes().len() == 4);
}

#[test]
fn bug_05_a_full_thin_pool_fails_writes_keeps_the_rest_and_comes_back() {
    let Some(world) = World::lvm(thin_pool(256, false)) else { return };
    let (victim, filler) = (world.create("pvc-1", EXT4, 48 * MIB), world.create("pvc-2", BLOCK, 204 * MIB));
    world.stage(&victim, false).unwrap();
    let precious = world.staging(&victim).join("precious");
    let mut file = File::create(&precious).unwrap();
    file.write_all(&vec![7; 4 << 20]).unwrap();
    file.sync_all().unwrap();
    drop(file);
    world.stage(&filler, true).unwrap();
    assert!(usage(&world).available_bytes < 64 * MIB, "{:?}", usage(&world));
    fill(&world, &filler, 203).unwrap();
    // Data is at more than 80 %: nothing more is promised, though the promises of before are kept.
    let now = usage(&world);
    assert_eq!((now.available_bytes, now.max_volume_bytes), (0, 0), "{now:?}");
    assert!(now.thin.unwrap().data > 8000, "{now:?}");
    let error = world.run(world.engine.create("pool", &spec("pvc-3", BLOCK, 4 * MIB))).unwrap_err();
    assert!(matches!(error, Error::OutOfSpace { .. }), "{error:?}");

    // Somebody else takes what is left: writes to new places fail, and nobody hangs.
    let name = group(&world).name.clone();
    group(&world).lvm("lvcreate", &["-qq", "-y", "-V", "256m", "--thinpool", "thin", "-n", "other", &name]);
    let other = OpenOptions::new().write(true).open(group(&world).node("other")).unwrap();
    let failed = (0..128)
        .any(|at| other.write_all_at(&vec![9; 1 << 20], at * MIB).and_then(|()| other.sync_data()).is_err());
    assert!(failed, "the pool never filled up");
    drop(other);
    let now = usage(&world);
    assert_eq!(now.thin.unwrap().data, 10_000, "{now:?}");
    assert_eq!(fs::read(&precious).unwrap(), vec![7; 4 << 20], "what was there can be read");

    // Space by hand brings it back.
    group(&world).lvm("lvextend", &["-qq", "-y", "-L", "+128m", &format!("{name}/thin")]);
    assert!(usage(&world).thin.unwrap().data < 8000);
    let mut file = File::create(world.staging(&victim).join("more")).unwrap();
    file.write_all(&vec![8; 4 << 20]).unwrap();
    file.sync_all().unwrap();
    drop(file);
    world.unstage(&filler).unwrap();
    world.unstage(&victim).unwrap();
    world.stage(&victim, false).unwrap();
    assert_eq!(fs::read(&precious).unwrap(), vec![7; 4 << 20]);
    world.unstage(&victim).unwrap();
}

#[test]
fn a_pool_that_can_not_grow_offers_nothing_from_where_lvm_makes_nothing() {
    let Some(mut world) = World::lvm(thin_pool(256, false)) else { return };
    world.overcommit = 4.0;
    world.set_pool();
    let filler = world.create("pvc-1", BLOCK, 204 * MIB);
    world.stage(&filler, true).unwrap();
    fill(&world, &filler, 170).unwrap();
    let now = usage(&world);
    assert!(now.thin.unwrap().data < 7000 && now.max_volume_bytes > 0, "{now:?}");
    let second = world.create("pvc-2", BLOCK, 4 * MIB);
    fill(&world, &filler, 190).unwrap();
    let now = usage(&world);
    assert!((7000..8000).contains(&now.thin.unwrap().data), "{now:?}");
    assert_eq!((now.available_bytes, now.max_volume_bytes), (0, 0), "{now:?}");
    for error in [
        world.run(world.engine.create("pool", &spec("pvc-3", BLOCK, 4 * MIB))).unwrap_err(),
        world.snapshot("snap-1", &second).unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::OutOfSpace { requested, largest: 0, .. } if requested == 4 * MIB),
            "{error:?}"
        );
    }
    // LVM with our settings says the same: if it made more, so might we.
    let name = group(&world).name.clone();
    let config = "devices { use_devicesfile=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 thin_pool_autoextend_threshold=70 }";
    let refused = Command::new("lvcreate")
        .args(["--config", config, "-V", "4m", "--thinpool", "thin", "-n", "other", &name])
        .envs([("LVM_SYSTEM_DIR", ""), ("DM_DISABLE_UDEV", "1")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("reached threshold"), "{said}");
    group(&world).lvm("lvextend", &["-qq", "-y", "-L", "+64m", &format!("{name}/thin")]);
    world.snapshot("snap-1", &second).unwrap();
    world.unstage(&filler).unwrap();
}

#[test]
fn a_thin_pool_that_fills_up_grows_by_itself() {
    let Some(mut world) = World::lvm(thin_pool(256, true)) else { return };
    let id = world.create("pvc-1", BLOCK, 240 * MIB);
    world.stage(&id, true).unwrap();
    let before = usage(&world).capacity_bytes;
    assert_eq!(before, 256 * MIB);
    fill(&world, &id, 190).unwrap();
    eventually(&world, "the growth", || usage(&world).capacity_bytes > before);
    let after = usage(&world).capacity_bytes;
    assert!((280 * MIB..400 * MIB).contains(&after), "{after}");
    // It is watched also after a restart.
    world.restart();
    fill(&world, &id, 239).unwrap();
    eventually(&world, "the second growth", || usage(&world).capacity_bytes > after);
    assert!(usage(&world).thin.unwrap().data < 8000);
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
}

#[test]
fn a_thin_pool_that_could_not_grow_does_so_when_its_group_gets_space() {
    let Some(world) = World::lvm(thin_pool(256, true)) else { return };
    let group = group(&world);
    group.lvm("lvcreate", &["-qq", "-y", "-l", "100%FREE", "-n", "theirs", &group.name]);
    let id = world.create("pvc-1", BLOCK, 240 * MIB);
    world.stage(&id, true).unwrap();
    let before = usage(&world).capacity_bytes;
    fill(&world, &id, 190).unwrap();
    eventually(&world, "the warning", || usage(&world).thin.unwrap().data > 7000);
    assert_eq!(usage(&world).capacity_bytes, before);
    group.lvm("lvremove", &["-qq", "-f", &format!("{}/theirs", group.name)]);
    eventually(&world, "the growth", || usage(&world).capacity_bytes > before);
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
}

/// As docs/thin-pools.md has it: first the pool is told of the disk, then its group gets it. Nobody restarts anything.
#[test]
fn a_pool_goes_on_when_its_group_gets_a_further_disk() {
    for kind in [lvm::thin(), LvmKind::Thick] {
        let Some(mut world) = World::lvm(kind) else { return };
        let id = world.create("pvc-1", BLOCK, 16 * MIB);
        let name = group(&world).name.clone();
        let disk = world.group.as_mut().unwrap().add_device(lvm::DEVICE_BYTES);
        world.set_pool();
        group(&world).lvm("vgextend", &["-qq", "-y", &name, text(&disk)]);
        world.create("pvc-2", BLOCK, 16 * MIB);
        world.snapshot("snap-1", &id).unwrap();
        world.run(world.engine.grow(&id, 32 * MIB)).unwrap();
        assert!(world.delete(&id).unwrap());
    }
}

#[test]
fn bug_13_a_new_volume_shows_nothing_of_a_deleted_one() {
    for kind in [LvmKind::Thick, lvm::thin()] {
        let Some(world) = World::lvm(kind) else { return };
        let marker = b"TIERCE-MARKER-OF-THE-FIRST-TENANT";
        // So large that the next one gets the same space.
        let size = usage(&world).max_volume_bytes.min(3072 * MIB) / 4 / MIB * MIB * 3;
        let id = world.create("pvc-1", BLOCK, size);
        world.stage(&id, true).unwrap();
        let node = group(&world).node("v-pvc-1");
        let device = OpenOptions::new().write(true).open(&node).unwrap();
        let mut piece = vec![0; 1 << 20];
        for chunk in piece.chunks_mut(4096) {
            chunk[..marker.len()].copy_from_slice(marker);
        }
        // Every 16 MiB, to its last byte.
        let places: Vec<u64> = (0..size / MIB).filter(|at| at % 16 == 0 || *at == size / MIB - 1).collect();
        for at in &places {
            device.write_all_at(&piece, at * MIB).unwrap();
        }
        device.sync_all().unwrap();
        drop(device);
        world.unstage(&id).unwrap();
        assert!(world.delete(&id).unwrap());
        let second = world.create("pvc-2", BLOCK, size);
        world.stage(&second, true).unwrap();
        let mut device = File::open(group(&world).node("v-pvc-2")).unwrap();
        let (mut read, zeros) = (0, vec![0; piece.len()]);
        while let Ok(()) = device.read_exact(&mut piece) {
            // Compared as a whole: byte by byte it takes a minute without optimisation.
            assert!(piece == zeros, "at {read}");
            read += 1 << 20;
        }
        assert_eq!(read, size);
        drop(device);
        world.unstage(&second).unwrap();
        assert!(world.delete(&second).unwrap());
    }
}

#[test]
fn bug_21_a_group_inside_a_volume_is_never_seen() {
    let Some(mut world) = World::lvm(LvmKind::Thick) else { return };
    let id = world.create("pvc-1", BLOCK, 256 * MIB);
    world.stage(&id, true).unwrap();
    // A guest that makes a group of the same name on its disk.
    let name = group(&world).name.clone();
    let node = group(&world).node("v-pvc-1");
    // It has a /dev of its own, in which no such group is yet.
    let dev = world.path("guests-dev");
    fs::create_dir(&dev).unwrap();
    let config = format!(
        "devices {{ dir=\"{}\" scan=[\"/dev\"] use_devicesfile=0 global_filter=[\"a|^{}$|\",\"r|.*|\"] scan_lvs=1 }}",
        dev.display(),
        node.display()
    );
    run(
        "env",
        &["LVM_SYSTEM_DIR=", "DM_DISABLE_UDEV=1", "vgcreate", "--config", &config, "-qq", &name, text(&node)],
    );
    world.restart();
    let inventory = world.run(world.engine.list());
    assert_eq!((inventory.volumes.len(), inventory.broken.len(), inventory.unread.len()), (1, 0, 0));
    let other = world.create("pvc-2", EXT4, 64 * MIB);
    world.stage(&other, false).unwrap();
    world.unstage(&other).unwrap();
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap() && world.delete(&other).unwrap());
}

#[test]
fn bug_31_a_volume_that_a_killed_command_left_suspended_goes_on() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    let suspend =
        |world: &World| drop(run("dmsetup", &["suspend", text(group(world).node("v-pvc-1").as_path())]));
    suspend(&world);
    world.restart();
    let recovery = world.run(world.engine.recover());
    assert_eq!((recovery.problems, recovery.freed_loops), (Vec::new(), Vec::new()));
    world.write(&id, "on");
    world.unstage(&id).unwrap();
    suspend(&world);
    assert!(world.stage(&id, false).unwrap());
    assert_eq!(world.read(&id), "on");
    world.unstage(&id).unwrap();
}

#[test]
fn an_exchange_that_was_cut_off_between_the_names_is_ended() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "whole");
    world.unstage(&id).unwrap();
    // What a crash leaves when the old volume has lost its name and the new one has not got it yet; and one that never got whole.
    let name = group(&world).name.clone();
    let full = format!("{name}/n-pvc-1-0a1b2c3d");
    group(&world).lvm("lvrename", &["-qq", &name, "v-pvc-1", "n-pvc-1-0a1b2c3d"]);
    group(&world).lvm("lvchange", &["-qq", "--addtag", "tierce.swap", &full]);
    world.restart();
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "whole");
    world.unstage(&id).unwrap();
    world.snapshot("snap-1", &id).unwrap();
    group(&world).lvm("lvrename", &["-qq", &name, "v-snap-1", "n-snap-1-0a1b2c3d"]);
    world.restart();
    let recovery = world.run(world.engine.recover());
    assert_eq!((recovery.thrown_unfinished, recovery.problems), (1, Vec::new()));
    assert!(world.run(world.engine.list()).snapshots.is_empty());
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "whole");
    world.unstage(&id).unwrap();
}

#[test]
fn volumes_are_found_after_a_reboot() {
    for kind in [lvm::thin(), LvmKind::Thick] {
        let Some(mut world) = World::lvm(kind) else { return };
        let (id, unused) = (world.create("pvc-1", EXT4, 64 * MIB), world.create("pvc-2", EXT4, 64 * MIB));
        world.stage(&id, false).unwrap();
        world.write(&id, "here");
        world.reboot();
        assert_eq!(world.run(world.engine.recover()).problems, Vec::<String>::new());
        assert_eq!(world.run(world.engine.list()).volumes.len(), 2);
        assert!(world.stage(&id, false).unwrap());
        assert_eq!(world.read(&id), "here");
        assert!(world.stage(&unused, false).unwrap());
        for id in [&id, &unused] {
            world.unstage(id).unwrap();
            assert!(world.delete(id).unwrap());
        }
    }
}

#[test]
fn bug_06_a_sick_thin_pool_is_named_with_the_command_that_mends_it_and_comes_back() {
    let Some(mut world) = World::lvm(lvm::thin()) else { return };
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "kept");
    world.unstage(&id).unwrap();
    world.forget();
    let name = group(&world).name.clone();
    // LVM's count of transactions is ahead of the pool's, as after somebody put other metadata of the group back.
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);
    let backup = world.path("vg.txt");
    group(&world).lvm("vgcfgbackup", &["-qq", "-f", text(&backup), &name]);
    let config = fs::read_to_string(&backup).unwrap();
    let line = config.lines().find(|line| line.contains("transaction_id =")).unwrap().trim().to_owned();
    let seen: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    fs::write(&backup, config.replace(&line, "transaction_id = 77")).unwrap();
    let put_back = |world: &World| {
        group(world).lvm("vgcfgrestore", &["-qq", "-y", "--force", "-f", text(&backup), &name])
    };
    put_back(&world);
    world.run(world.engine.set_pools(vec![world.pool("pool")]));
    let error = trouble(&world);
    for words in [
        format!("has seen transaction {seen}"),
        "expects 77".to_owned(),
        format!("vgcfgbackup -f FILE {name}; in FILE let the transaction_id of thin be {seen}"),
    ] {
        assert!(error.contains(&words), "{error}");
    }
    // As the page about thin pools says.
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);
    group(&world).lvm("vgcfgbackup", &["-qq", "-f", text(&backup), &name]);
    let edit = format!(r"/^\t\tthin {{/,/^\t\t}}/s/transaction_id = .*/transaction_id = {seen}/");
    run("sed", &["-i", &edit, text(&backup)]);
    put_back(&world);
    world.restart();
    world.stage(&id, false).unwrap();
    assert_eq!(world.read(&id), "kept");
    world.unstage(&id).unwrap();
}

/// Prints how long creations take beside the bare command; `cargo test … -- --ignored --nocapture figures`.
#[test]
#[ignore = "prints figures"]
fn figures_of_creations() {
    const COUNT: usize = 40;
    for kind in [lvm::thin(), LvmKind::Thick] {
        let Some(world) = World::lvm(kind.clone()) else { return };
        let name = group(&world).name.clone();
        let median = |mut times: Vec<Duration>| {
            times.sort();
            (times[times.len() / 2], times[times.len() * 99 / 100])
        };
        let timed = |work: &mut dyn FnMut()| {
            let start = std::time::Instant::now();
            work();
            start.elapsed()
        };
        let bare = (0..COUNT).map(|number| {
            let volume = format!("bare-{number}");
            let mut arguments = vec!["-qq", "-y", "-n", &volume];
            match &kind {
                LvmKind::Thin(_) => arguments.extend(["-V", "16m", "--thinpool", "thin"]),
                LvmKind::Thick => arguments.extend(["-L", "16m"]),
            }
            arguments.push(&name);
            timed(&mut || drop(group(&world).lvm("lvcreate", &arguments)))
        });
        let bare = median(bare.collect());
        let ours = (0..COUNT)
            .map(|number| timed(&mut || drop(world.create(&format!("pvc-{number}"), BLOCK, 16 * MIB))));
        let ours = median(ours.collect());
        let at_once = timed(&mut || {
            world.run(async {
                let mut tasks = tokio::task::JoinSet::new();
                for number in 0..COUNT {
                    let engine = world.engine.clone();
                    tasks.spawn(async move {
                        engine
                            .create("pool", &spec(&format!("once-{number}"), BLOCK, 16 * MIB))
                            .await
                            .unwrap();
                    });
                }
                tasks.join_all().await;
            });
        });
        println!(
            "{kind:?}: lvcreate p50 {:?} p99 {:?}; engine p50 {:?} p99 {:?}; {COUNT} at once {at_once:?}",
            bare.0, bare.1, ours.0, ours.1
        );
    }
}
