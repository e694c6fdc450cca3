//! Encrypted volumes when things go wrong, on a real kernel with a device mapper. Needs a guest of the disk lab; skipped by name elsewhere.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use crate::encrypted::{KEY, NEXT, OTHER, create, fingerprint, is_of, stage};
use crate::world::{
    BLOCK, Death, EXT4, MIB, World,
    below::world_on,
    lvm::{eventually, in_lab},
    run, text, victim,
};
use tierce_engine::{Error, Filesystem, LinuxHost, VolumeId};

/// The longest run of programs that is killed at each of its steps; reaching it means that the search for its end went wrong.
const STEPS: usize = 40;

/// An encrypted volume with a file in it, unstaged again.
fn used_volume(world: &World, id: &str) -> VolumeId {
    let id = create(world, id, EXT4, 64 * MIB);
    stage(world, &id, false, Some(KEY), None).unwrap();
    let path = world.staging(&id).join("precious");
    fs::write(&path, b"precious").unwrap();
    File::open(path).unwrap().sync_all().unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
    id
}

fn assert_precious(world: &World, id: &VolumeId, key: [u8; 32]) {
    stage(world, id, false, Some(key), None).unwrap();
    assert_eq!(fs::read(world.staging(id).join("precious")).unwrap(), b"precious");
    world.unstage(id).unwrap();
    world.assert_clean();
}

/// Attaches a new file that no engine knows of.
fn stranger(world: &World, name: &str) -> String {
    let path = world.path(name);
    File::create(&path).unwrap().set_len(32 * MIB).unwrap();
    losetup(&path)
}

fn losetup(path: &Path) -> String {
    let output = run("losetup", &["--find", "--show", text(path)]);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a mapper of that name over a new file; both go together.
fn strange_mapper(world: &World, name: &str, uuid: &str) {
    let device = stranger(world, "elsewhere");
    let table = format!("0 {} linear {device} 0", 32 * MIB / 512);
    run("dmsetup", &["create", name, "--uuid", uuid, "--table", &table]);
    // In use, so that is done when the mapper goes.
    run("losetup", &["-d", &device]);
}

fn mapper_uuid(name: &str) -> String {
    let output = run("dmsetup", &["info", "-c", "--noheadings", "-o", "uuid", name]);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn bug_03_a_mapper_of_ours_that_leads_elsewhere_is_closed_and_never_used() {
    let Some(world) = World::lab() else { return };
    let id = used_volume(&world, "pvc-1");
    stage(&world, &id, false, Some(KEY), None).unwrap();
    let own = mapper_uuid("tierce-crypt-pvc-1");
    world.unstage(&id).unwrap();
    world.assert_clean();
    let other = format!("CRYPT-LUKS2-{}-tierce-crypt-pvc-1", "7".repeat(32));
    // The right uuid over the wrong device, and the right name of another header.
    for uuid in [&own, &other] {
        strange_mapper(&world, "tierce-crypt-pvc-1", uuid);
        let before = world.mkfs_count();
        assert_precious(&world, &id, KEY);
        assert_eq!(world.mkfs_count(), before);
        assert_eq!(fs::metadata(world.path("elsewhere")).unwrap().blocks(), 0, "nothing was written there");
    }
    // One whose disk is gone, as after a hot removal.
    run("dmsetup", &["create", "tierce-crypt-pvc-1", "--uuid", &own, "--table", "0 1024 error"]);
    assert_precious(&world, &id, KEY);
    // One that somebody uses stays, and is named.
    strange_mapper(&world, "tierce-crypt-pvc-1", &other);
    let held = File::open("/dev/mapper/tierce-crypt-pvc-1").unwrap();
    let error = stage(&world, &id, false, Some(KEY), None).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.contains("/dev/dm-")), "{error:?}");
    assert_eq!(mapper_uuid("tierce-crypt-pvc-1"), other);
    drop(held);
    assert_precious(&world, &id, KEY);
}

#[test]
fn bug_03_a_mapper_that_is_not_ours_is_refused_and_left_alone() {
    let Some(world) = World::lab() else { return };
    let id = used_volume(&world, "pvc-1");
    strange_mapper(&world, "tierce-crypt-pvc-1", "OTHER-thing");
    for _ in 0..2 {
        let error = stage(&world, &id, false, Some(KEY), None).unwrap_err();
        assert!(
            matches!(&error, Error::ForeignTarget { path, found }
                if path == Path::new("/dev/mapper/tierce-crypt-pvc-1") && found.contains("OTHER-thing")),
            "{error:?}"
        );
    }
    world.run(world.engine.recover());
    assert_eq!(mapper_uuid("tierce-crypt-pvc-1"), "OTHER-thing");
    assert_eq!(fs::metadata(world.path("elsewhere")).unwrap().blocks(), 0, "nothing was written there");
    run("dmsetup", &["remove", "tierce-crypt-pvc-1"]);
    assert_precious(&world, &id, KEY);
}

/// The kernel takes a mapper's name away a moment before the mapper lets go of the device below: a stage in between waits.
#[test]
fn lab_a_stage_waits_for_what_still_lies_on_the_device_and_names_it() {
    let Some(world) = World::lab() else { return };
    let id = used_volume(&world, "pvc-1");
    let image = world.image(id.as_str());
    let device = losetup(&image);
    let table = format!("0 2048 linear {device} 0");
    run("dmsetup", &["create", "still-there", "--table", &table]);
    // In use, so that is done when its last user goes.
    run("losetup", &["-d", &device]);
    let error = stage(&world, &id, false, Some(KEY), None).unwrap_err();
    assert!(
        matches!(&error, Error::InUse { by, .. } if by.contains(&format!(" over {device}"))),
        "{error:?}"
    );
    let going = thread::spawn(|| {
        thread::sleep(Duration::from_millis(300));
        run("dmsetup", &["remove", "still-there"]);
    });
    stage(&world, &id, false, Some(KEY), None).unwrap();
    assert_eq!(fs::read(world.staging(&id).join("precious")).unwrap(), b"precious");
    going.join().unwrap();
    world.unstage(&id).unwrap();
    world.assert_clean();
    // And so it is where nobody but the kernel is slow.
    for _ in 0..20 {
        stage(&world, &id, false, Some(KEY), None).unwrap();
        run("umount", &[text(&world.staging(&id))]);
    }
    world.assert_clean();
}

#[test]
fn bug_02_zeros_or_another_header_under_a_record_that_says_encrypted_are_never_formatted() {
    let Some(world) = World::lab() else { return };
    let (one, two) = (used_volume(&world, "pvc-1"), used_volume(&world, "pvc-2"));
    let aside = world.path("aside");
    fs::rename(world.image("pvc-1"), &aside).unwrap();
    File::create(world.image("pvc-1")).unwrap().set_len(65 * MIB).unwrap();
    let calls = world.spy.lines.lock().unwrap().len();
    for key in [Some(KEY), Some(OTHER)] {
        let error = stage(&world, &one, false, key, None).unwrap_err();
        assert!(
            matches!(&error, Error::FormatRefused { reason, .. } if reason.contains("only zeros")),
            "{error:?}"
        );
    }
    assert_eq!(fs::metadata(world.image("pvc-1")).unwrap().blocks(), 0, "nothing was written");
    fs::remove_file(world.image("pvc-1")).unwrap();
    fs::copy(world.image("pvc-2"), world.image("pvc-1")).unwrap();
    let error = stage(&world, &one, false, Some(KEY), None).unwrap_err();
    assert!(
        matches!(&error, Error::FormatRefused { reason, .. } if reason.contains("LUKS2 header")),
        "{error:?}"
    );
    assert_eq!(world.spy.lines.lock().unwrap().len(), calls, "no program was started");
    fs::rename(&aside, world.image("pvc-1")).unwrap();
    for id in [&one, &two] {
        assert_precious(&world, id, KEY);
    }
}

#[test]
fn bug_30_what_holds_a_mapper_is_named_and_its_release_is_enough() {
    let Some(world) = World::lab() else { return };
    let id = create(&world, "pvc-1", BLOCK, 32 * MIB);
    stage(&world, &id, true, Some(KEY), None).unwrap();
    let node = fs::canonicalize("/dev/mapper/tierce-crypt-pvc-1").unwrap();
    let held = File::open(&node).unwrap();
    for _ in 0..2 {
        let error = world.unstage(&id).unwrap_err();
        assert!(matches!(&error, Error::InUse { by, .. } if by.contains("1 processes")), "{error:?}");
    }
    drop(held);
    run("dmsetup", &["create", "tierce-above", "--table", &format!("0 8 linear {} 0", text(&node))]);
    let error = world.unstage(&id).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.contains("dm-")), "{error:?}");
    assert!(matches!(world.delete(&id), Err(Error::InUse { .. })));
    run("dmsetup", &["remove", "tierce-above"]);
    assert!(world.unstage(&id).unwrap());
    world.assert_clean();
    // A filesystem's mapper needs nobody to come back: it goes when the last user does.
    let id = used_volume(&world, "pvc-2");
    stage(&world, &id, false, Some(KEY), None).unwrap();
    let held = File::open("/dev/dm-0").unwrap();
    assert!(world.unstage(&id).unwrap());
    assert_eq!(world.mappers(), ["tierce-crypt-pvc-2"]);
    assert!(matches!(world.delete(&id), Err(Error::InUse { .. })));
    drop(held);
    world.assert_clean();
    assert!(world.delete(&id).unwrap());
}

/// How many key slots a volume's header has in use.
fn slots(world: &World, id: &VolumeId) -> usize {
    let dump = run("cryptsetup", &["luksDump", "--dump-json-metadata", text(&world.image(id.as_str()))]);
    let dump: serde_json::Value = serde_json::from_slice(&dump.stdout).unwrap();
    dump["keyslots"].as_object().unwrap().len()
}

/// Kills `work` at each of its programs, before and after it ran, each time on a volume that `prepare` made.
fn killed_at_each_step(
    world: &mut World,
    prepare: impl Fn(&World, &str) -> VolumeId,
    work: impl Fn(&World, &VolumeId) -> Result<bool, Error>,
    check: impl Fn(&World, &VolumeId, bool),
) -> usize {
    let mut deaths = 0;
    for at in 0..STEPS {
        for after in [false, true] {
            let id = prepare(world, &format!("pvc-{at}-{after}"));
            world.die(Some(Death { at, after }));
            let result = work(world, &id);
            world.die(None);
            if result.is_ok() {
                assert!(deaths > 0, "nothing was killed");
                world.unstage(&id).unwrap();
                world.assert_clean();
                world.delete(&id).unwrap();
                return deaths;
            }
            deaths += 1;
            world.restart();
            let recovery = world.run(world.engine.recover());
            assert_eq!(recovery.problems, Vec::<String>::new(), "{at} {after}");
            world.assert_clean();
            check(world, &id, after);
            world.delete(&id).unwrap();
            world.assert_clean();
        }
    }
    panic!("{STEPS} steps were not the end");
}

#[test]
fn a_rotation_killed_at_any_step_leaves_a_volume_that_opens_and_ends_well() {
    let Some(mut world) = World::lab() else { return };
    let deaths = killed_at_each_step(
        &mut world,
        used_volume,
        |world, id| stage(world, id, false, Some(KEY), Some(NEXT)),
        |world, id, give_up| {
            // The key of which the record speaks opens, whatever came of the rotation.
            let in_force = if is_of(fingerprint(world, id).as_ref(), KEY) { KEY } else { NEXT };
            assert!(is_of(fingerprint(world, id).as_ref(), in_force));
            let before = world.header(id);
            assert!(matches!(stage(world, id, false, Some(OTHER), None), Err(Error::WrongKey { .. })));
            assert_eq!(world.header(id), before);
            if give_up {
                // What was half done is cleaned away, and the key in force stays.
                assert_precious(world, id, in_force);
                assert!(is_of(fingerprint(world, id).as_ref(), in_force));
            } else {
                // The next stage with what the Secret still holds brings it to its end.
                stage(world, id, false, Some(KEY), Some(NEXT)).unwrap();
                world.unstage(id).unwrap();
                world.assert_clean();
                assert!(is_of(fingerprint(world, id).as_ref(), NEXT));
                assert!(matches!(stage(world, id, false, Some(KEY), None), Err(Error::WrongKey { .. })));
                assert_precious(world, id, NEXT);
            }
            assert_eq!(slots(world, id), 1);
        },
    );
    println!("rotation: {deaths} deaths");
}

#[test]
fn a_first_stage_killed_at_any_step_ends_well_at_the_next() {
    let Some(mut world) = World::lab() else { return };
    for (mode, block) in [(EXT4, false), (BLOCK, true)] {
        let deaths = killed_at_each_step(
            &mut world,
            |world, id| create(world, id, mode, 64 * MIB),
            |world, id| stage(world, id, block, Some(KEY), None),
            |world, id, _| {
                stage(world, id, block, Some(KEY), None).unwrap();
                assert!(is_of(fingerprint(world, id).as_ref(), KEY));
                world.unstage(id).unwrap();
                world.assert_clean();
            },
        );
        println!("first stage of {mode}: {deaths} deaths");
    }
}

#[test]
fn a_deleted_volume_has_no_key_slots_left_wherever_its_blocks_remain() {
    let Some(world) = World::lab() else { return };
    for (name, mode, block) in [("pvc-1", EXT4, false), ("pvc-2", BLOCK, true)] {
        let id = create(&world, name, mode, 64 * MIB);
        stage(&world, &id, block, Some(KEY), None).unwrap();
        world.unstage(&id).unwrap();
        world.assert_clean();
        assert_eq!(&world.header(&id)[..6], b"LUKS\xba\xbe");
        let lines = world.spy.lines.lock().unwrap().len();
        // Stopped in the middle: the volume can't be moved away any more.
        run("chattr", &["+i", text(&world.path("pool/trash"))]);
        assert!(matches!(world.delete(&id), Err(Error::Io { .. })));
        run("chattr", &["-i", text(&world.path("pool/trash"))]);
        world.assert_clean();
        assert!(world.header(&id).iter().all(|&byte| byte == 0), "header and key slots are gone first");
        let error = stage(&world, &id, block, Some(KEY), None).unwrap_err();
        assert!(matches!(error, Error::FormatRefused { .. }), "{error:?}");
        world.assert_clean();
        assert!(world.delete(&id).unwrap());
        assert_eq!(world.spy.lines.lock().unwrap().len(), lines, "no program is needed for that");
    }
    world.assert_clean();
}

#[test]
fn a_deleted_snapshot_has_no_key_slots_left_and_its_volume_keeps_its_own() {
    if !in_lab() {
        return;
    }
    // It shares its blocks with its volume there.
    let Some((world, _below)) = world_on(Filesystem::Xfs) else { return };
    let id = create(&world, "pvc-1", EXT4, 64 * MIB);
    stage(&world, &id, false, Some(KEY), None).unwrap();
    let taken = world.snapshot("snap-1", &id).unwrap();
    world.unstage(&id).unwrap();
    world.assert_no_loops();
    let slots = world.header(&id);
    assert!(slots.starts_with(b"LUKS\xba\xbe") && world.header(&taken) == slots);
    // Stopped in the middle: the snapshot can't be moved away any more.
    let delete = || world.run(world.engine.delete_snapshot(&taken)).map(|change| change.changed());
    run("chattr", &["+i", text(&world.path("pool/trash"))]);
    assert!(matches!(delete(), Err(Error::Io { .. })));
    run("chattr", &["-i", text(&world.path("pool/trash"))]);
    assert!(world.header(&taken).iter().all(|&byte| byte == 0), "header and key slots are gone first");
    assert!(world.header(&id) == slots, "the volume's own header");
    assert!(delete().unwrap() && !delete().unwrap());
    world.assert_no_loops();
    stage(&world, &id, false, Some(KEY), None).unwrap();
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
    world.assert_no_loops();
}

#[test]
fn bug_17_keys_show_in_no_argument_no_error_and_no_file() {
    let Some(world) = World::lab() else { return };
    let id = used_volume(&world, "pvc-1");
    let mut words = Vec::new();
    words.push(format!("{:?}", stage(&world, &id, false, Some(OTHER), Some(NEXT)).unwrap_err()));
    stage(&world, &id, false, Some(KEY), Some(NEXT)).unwrap();
    world.unstage(&id).unwrap();
    words.extend(world.spy.lines.lock().unwrap().iter().cloned());
    words.push(format!("{:?}", world.run(world.engine.get(&id))));
    words.push(fs::read_to_string(world.path("pool/volumes/pvc-1/record.json")).unwrap());
    let text = words.join("\n");
    assert!(
        text.contains("luksFormat") && text.contains("luksAddKey") && text.contains("<redacted>"),
        "{text}"
    );
    // Each key is one byte, repeated: as text, as hexadecimal digits, as a list.
    for key in [KEY, NEXT, OTHER] {
        let byte = key[0];
        for shape in [
            char::from(byte).to_string().repeat(4),
            format!("{byte:02x}").repeat(3),
            format!("{byte}, {byte}"),
        ] {
            assert!(!text.contains(&shape), "{shape} in {text}");
        }
    }
    world.assert_clean();
}

#[test]
fn recovery_closes_mappers_that_nothing_needs_and_no_others() {
    let Some(mut world) = World::lab() else { return };
    let id = create(&world, "pvc-1", BLOCK, 32 * MIB);
    stage(&world, &id, true, Some(KEY), None).unwrap();
    // Its staging folder went with the pod while nobody looked.
    fs::remove_dir(world.staging(&id)).unwrap();
    // Another instance's volume of the same kind: not on a device of our pools.
    let uuid = format!("CRYPT-LUKS2-{}-tierce-crypt-pvc-9", "9".repeat(32));
    strange_mapper(&world, "tierce-crypt-pvc-9", &uuid);
    world.restart();
    let recovery = world.run(world.engine.recover());
    assert_eq!(recovery.closed_mappers, ["tierce-crypt-pvc-1"]);
    assert_eq!((recovery.freed_loops.len(), recovery.problems), (1, Vec::new()));
    assert_eq!(mapper_uuid("tierce-crypt-pvc-9"), uuid);
    run("dmsetup", &["remove", "tierce-crypt-pvc-9"]);
    assert!(world.delete(&id).unwrap());
}

const ROUNDS: u64 = 12;

/// The process that is killed: rotates between two keys until then.
#[test]
#[ignore = "started by the test below"]
fn rotator() {
    let folder = victim::folder();
    let world = World::over(&folder, |_| Arc::new(LinuxHost::new()));
    let id = "pvc-1".parse().unwrap();
    println!("ready");
    loop {
        let (key, next) = turn(&world, &id);
        stage(&world, &id, false, Some(key), Some(next)).unwrap();
        world.unstage(&id).unwrap();
    }
}

/// The key in force, and the other one.
fn turn(world: &World, id: &VolumeId) -> ([u8; 32], [u8; 32]) {
    if is_of(fingerprint(world, id).as_ref(), KEY) { (KEY, NEXT) } else { (NEXT, KEY) }
}

#[test]
fn a_process_killed_while_it_rotates_never_loses_the_way_to_the_data() {
    let Some(mut world) = World::lab() else { return };
    let id = used_volume(&world, "pvc-1");
    let mut keys = 0;
    for round in 0..ROUNDS {
        let before = turn(&world, &id).0;
        victim::kill_one(&world, "luks_faults::rotator", Duration::from_millis(100 + round * 137 % 1500));
        world.restart();
        // A program that the killed one had started goes on to its end, and has the mapper open until then.
        eventually(&world, "a recovery without problems", || {
            world.run(world.engine.recover()).problems.is_empty()
        });
        let in_force = turn(&world, &id).0;
        keys += usize::from(in_force != before);
        // One that opens the mapper may have come no further than to hold the device: the caller repeats its call.
        eventually(&world, "a stage", || {
            stage(&world, &id, false, Some(in_force), None)
                .inspect_err(|error| assert!(format!("{error:?}").contains("which is in use"), "{error:?}"))
                .is_ok()
        });
        assert_eq!(fs::read(world.staging(&id).join("precious")).unwrap(), b"precious", "round {round}");
        world.unstage(&id).unwrap();
        world.assert_clean();
        assert_eq!(slots(&world, &id), 1);
    }
    println!("{ROUNDS} kills, {keys} of them after a change of key");
}
