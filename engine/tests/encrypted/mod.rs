//! What encrypted volumes do: over the simulation always, over LUKS2 in the disk lab.

#![allow(dead_code, unused_imports, unused_macros, unreachable_pub, clippy::unwrap_used, clippy::panic)] // Each test binary uses a part of it.

use std::fs;

use tierce_engine::{Error, Key, SnapshotSpec, StageRequest, VolumeId, VolumeMode, VolumeSpec};

use super::world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, spec};

/// Makes one test per behaviour, in the world that the expression gives; `everywhere`: those that ask nothing of what a pool is made of.
macro_rules! encrypted_behaviours {
    ($world:expr) => {
        encrypted_behaviours! { everywhere $world }
        encrypted_behaviours! { $world => an_encrypted_volume_comes_down_while_its_pool_is_away }
    };
    (everywhere $world:expr) => {
        encrypted_behaviours! { $world =>
            an_encrypted_volume_lives_from_create_to_delete
            an_encrypted_raw_block_volume_lives_from_create_to_delete
            an_encrypted_volume_goes_on_after_a_restart_and_a_reboot
            a_wrong_and_a_missing_key_are_told_and_change_nothing
            a_volume_is_encrypted_or_not_for_life
            an_encrypted_volume_grows_while_it_is_mounted
            a_key_rotates_at_a_stage_and_while_mounted
            snapshots_and_clones_open_with_the_key_of_their_moment
            a_restore_in_place_keeps_the_key_in_force
        }
    };
    ($world:expr => $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let Some(mut world) = $world else { return };
                encrypted::$name(&mut world);
                world.assert_clean();
            }
        )*
    };
}
pub(crate) use encrypted_behaviours;

pub const KEY: [u8; 32] = [0x41; 32];
pub const NEXT: [u8; 32] = [0x42; 32];
pub const OTHER: [u8; 32] = [0x43; 32];

/// Makes an encrypted volume.
pub fn create(world: &World, id: &str, mode: VolumeMode, size: u64) -> VolumeId {
    let spec = VolumeSpec { encrypted: true, ..spec(id, mode, size) };
    world.run(world.engine.create("pool", &spec)).unwrap();
    spec.id
}

/// Stages with these keys.
pub fn stage(
    world: &World,
    id: &VolumeId,
    block: bool,
    key: Option<[u8; 32]>,
    next: Option<[u8; 32]>,
) -> Result<bool, Error> {
    let staging = world.staging(id);
    if !staging.exists() {
        fs::create_dir(&staging).unwrap();
    }
    let (wanted, older) = (next.or(key), next.and(key));
    let request = StageRequest {
        block,
        key: wanted.map(Key::new),
        older_keys: older.map(Key::new).into_iter().collect(),
        ..StageRequest::default()
    };
    world.run(world.engine.stage(id, &staging, &request)).map(|change| change.changed())
}

/// The fingerprint of the key in force.
pub fn fingerprint(world: &World, id: &VolumeId) -> Option<String> {
    world.run(world.engine.get(id)).unwrap().unwrap().key_fingerprint
}

/// Whether the fingerprint is that of the key: it carries its own salt.
pub fn is_of(fingerprint: Option<&String>, key: [u8; 32]) -> bool {
    fingerprint.is_some_and(|text| Key::new(key).fingerprint(text[..36].parse().unwrap()) == *text)
}

/// Waits until nothing of the volume is attached: the kernel takes a moment for it.
pub fn settle(world: &World) {
    if world.real {
        world.assert_clean();
    }
}

pub fn an_encrypted_volume_lives_from_create_to_delete(world: &mut World) {
    for (number, mode) in [EXT4, XFS, BTRFS].into_iter().enumerate() {
        let id = create(world, &format!("pvc-{number}"), mode, 320 * MIB);
        let info = world.run(world.engine.get(&id)).unwrap().unwrap();
        assert!(
            info.encrypted
                && info.key_fingerprint.is_none()
                && info.size_bytes == world.encrypted_size(320 * MIB),
            "{info:?}"
        );
        assert!(stage(world, &id, false, Some(KEY), None).unwrap());
        assert!(!stage(world, &id, false, Some(KEY), None).unwrap());
        assert!(is_of(fingerprint(world, &id).as_ref(), KEY));
        let target = world.path("target");
        assert!(world.publish(&id, &target, false).unwrap());
        assert!(!world.publish(&id, &target, false).unwrap());
        let stats = world.run(world.engine.stats(&id, &target)).unwrap();
        assert!(stats.total_bytes > 200 * MIB && stats.total_bytes <= info.size_bytes, "{stats:?}");
        if world.real {
            fs::write(target.join("precious"), b"precious").unwrap();
        }
        assert!(matches!(world.delete(&id), Err(Error::InUse { .. })));
        // The kubelet forgot the publish: the filesystem stays open until the target goes.
        assert!(world.unstage(&id).unwrap());
        assert!(matches!(world.delete(&id), Err(Error::InUse { .. })));
        assert!(stage(world, &id, false, Some(KEY), None).unwrap());
        assert!(world.unpublish(&id, &target).unwrap());
        assert!(world.unstage(&id).unwrap());
        settle(world);
        assert!(stage(world, &id, false, Some(KEY), None).unwrap());
        if world.real {
            assert_eq!(fs::read(world.staging(&id).join("precious")).unwrap(), b"precious");
        }
        assert!(world.unstage(&id).unwrap());
        assert!(!world.unstage(&id).unwrap());
        assert!(world.delete(&id).unwrap());
        assert!(!world.delete(&id).unwrap());
        settle(world);
    }
}

pub fn an_encrypted_raw_block_volume_lives_from_create_to_delete(world: &mut World) {
    let id = create(world, "pvc-1", BLOCK, 8 * MIB);
    let target = world.path("device");
    assert!(matches!(stage(world, &id, true, None, None), Err(Error::KeyMissing { .. })));
    assert!(matches!(world.publish(&id, &target, true), Err(Error::NotStaged { .. })));
    assert!(stage(world, &id, true, Some(KEY), None).unwrap());
    assert!(!stage(world, &id, true, Some(KEY), None).unwrap());
    assert!(world.publish(&id, &target, true).unwrap());
    assert!(!world.publish(&id, &target, true).unwrap());
    let stats = world.run(world.engine.stats(&id, &target)).unwrap();
    assert_eq!((stats.total_bytes, stats.inodes), (world.encrypted_size(8 * MIB), None));
    if world.real {
        use std::os::unix::fs::FileExt;
        let device = fs::OpenOptions::new().write(true).open(&target).unwrap();
        device.write_all_at(b"precious", 4096).unwrap();
        device.sync_all().unwrap();
    }
    world.run(world.engine.grow(&id, 16 * MIB)).unwrap();
    assert_eq!(world.run(world.engine.expand(&id, &target)).unwrap(), world.encrypted_size(16 * MIB));
    let error = world.unstage(&id).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by.contains("device")), "{error:?}");
    assert!(matches!(world.delete(&id), Err(Error::InUse { .. })));
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(world.unstage(&id).unwrap());
    assert!(!world.unstage(&id).unwrap());
    settle(world);
    assert!(matches!(stage(world, &id, true, Some(OTHER), None), Err(Error::WrongKey { .. })));
    assert!(!world.unstage(&id).unwrap(), "a wrong key stages nothing");
    settle(world);
    assert!(stage(world, &id, true, Some(KEY), None).unwrap());
    world.publish(&id, &target, true).unwrap();
    if world.real {
        use std::os::unix::fs::FileExt;
        let mut read = [0; 8];
        fs::File::open(&target).unwrap().read_exact_at(&mut read, 4096).unwrap();
        assert_eq!(&read, b"precious");
    }
    world.unpublish(&id, &target).unwrap();
    world.unstage(&id).unwrap();
    assert!(world.delete(&id).unwrap());
}

pub fn an_encrypted_volume_goes_on_after_a_restart_and_a_reboot(world: &mut World) {
    for (name, mode) in [("pvc-1", EXT4), ("pvc-2", BLOCK)] {
        let block = mode == BLOCK;
        let id = create(world, name, mode, 64 * MIB);
        let target = world.path(&format!("target-{name}"));
        stage(world, &id, block, Some(KEY), None).unwrap();
        world.restart();
        let recovery = world.run(world.engine.recover());
        assert_eq!(
            (recovery.closed_mappers, recovery.freed_loops, recovery.problems),
            (Vec::new(), Vec::new(), Vec::new()),
            "a staged device is not stale"
        );
        assert!(!stage(world, &id, block, Some(KEY), None).unwrap());
        world.restart();
        assert!(world.publish(&id, &target, block).unwrap());
        world.restart();
        assert!(!world.publish(&id, &target, block).unwrap());
        world.reboot();
        world.run(world.engine.recover());
        assert!(stage(world, &id, block, Some(KEY), None).unwrap());
        assert!(world.publish(&id, &target, block).unwrap());
        world.end_over_restarts(&id, &target);
    }
}

pub fn a_wrong_and_a_missing_key_are_told_and_change_nothing(world: &mut World) {
    let id = create(world, "pvc-1", EXT4, 64 * MIB);
    let untouched = world.run(world.engine.get(&id)).unwrap().unwrap();
    let error = stage(world, &id, false, None, None).unwrap_err();
    assert!(matches!(&error, Error::KeyMissing { .. }), "{error:?}");
    assert_eq!(
        world.run(world.engine.get(&id)).unwrap().unwrap(),
        untouched,
        "never formatted without a key"
    );
    stage(world, &id, false, Some(KEY), None).unwrap();
    world.unstage(&id).unwrap();
    settle(world);
    let before = world.header(&id);
    let info = world.run(world.engine.get(&id)).unwrap().unwrap();
    for _ in 0..2 {
        let error = stage(world, &id, false, Some(OTHER), None).unwrap_err();
        assert!(matches!(&error, Error::WrongKey { .. }), "{error:?}");
        let words = error.to_string();
        assert!(
            words.contains("wrong key") && words.contains(info.key_fingerprint.as_ref().unwrap()),
            "{words}"
        );
        let error = stage(world, &id, false, Some(OTHER), Some(NEXT)).unwrap_err();
        assert!(matches!(&error, Error::WrongKey { .. }), "{error:?}");
        assert!(matches!(stage(world, &id, false, None, None), Err(Error::KeyMissing { .. })));
    }
    assert_eq!(world.header(&id), before, "the header is intact");
    assert_eq!(world.run(world.engine.get(&id)).unwrap().unwrap(), info);
    settle(world);
    assert!(stage(world, &id, false, Some(KEY), None).unwrap());
    world.unstage(&id).unwrap();
    settle(world);
}

pub fn a_volume_is_encrypted_or_not_for_life(world: &mut World) {
    let (plain, secret) = (world.create("pvc-1", EXT4, 64 * MIB), create(world, "pvc-2", EXT4, 64 * MIB));
    for (id, encrypted) in [(&plain, true), (&secret, false)] {
        let spec = VolumeSpec { encrypted, ..spec(id.as_str(), EXT4, 64 * MIB) };
        let error = world.run(world.engine.create("pool", &spec)).unwrap_err();
        assert!(matches!(error, Error::Conflict { field: "encryption", .. }), "{error:?}");
    }
    let again = VolumeSpec { encrypted: true, ..spec("pvc-2", EXT4, 64 * MIB) };
    assert!(!world.run(world.engine.create("pool", &again)).unwrap().changed());
    let larger = VolumeSpec { size_bytes: world.encrypted_size(64 * MIB) + 4096, ..again };
    let error = world.run(world.engine.create("pool", &larger)).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "size", .. }), "{error:?}");
    // Who brings a key believes that the volume is encrypted.
    let error = stage(world, &plain, false, Some(KEY), None).unwrap_err();
    assert!(matches!(error, Error::Conflict { field: "encryption", .. }), "{error:?}");
    assert!(!world.run(world.engine.get(&plain)).unwrap().unwrap().used);
}

pub fn an_encrypted_volume_grows_while_it_is_mounted(world: &mut World) {
    for (number, mode) in [EXT4, XFS, BTRFS].into_iter().enumerate() {
        let id = create(world, &format!("pvc-{number}"), mode, 320 * MIB);
        stage(world, &id, false, Some(KEY), None).unwrap();
        let grown = world.run(world.engine.grow(&id, 640 * MIB)).unwrap().into_inner();
        assert_eq!(grown.size_bytes, world.encrypted_size(640 * MIB));
        assert!(matches!(
            world.run(world.engine.grow(&id, 320 * MIB)),
            Err(Error::Shrink { existing, .. }) if existing == world.encrypted_size(640 * MIB)
        ));
        let staging = world.staging(&id);
        assert_eq!(world.run(world.engine.expand(&id, &staging)).unwrap(), world.encrypted_size(640 * MIB));
        let total = world.run(world.engine.stats(&id, &staging)).unwrap().total_bytes;
        assert!(total > 500 * MIB, "{mode:?}: {total}");
        // Grown between a stage and the next: the next one makes it good.
        world.run(world.engine.grow(&id, 700 * MIB)).unwrap();
        assert!(!stage(world, &id, false, Some(KEY), None).unwrap());
        let total = world.run(world.engine.stats(&id, &staging)).unwrap().total_bytes;
        assert!(total > 600 * MIB, "{mode:?}: {total}");
        world.unstage(&id).unwrap();
        settle(world);
        world.run(world.engine.grow(&id, 800 * MIB)).unwrap();
        stage(world, &id, false, Some(KEY), None).unwrap();
        let total = world.run(world.engine.stats(&id, &staging)).unwrap().total_bytes;
        assert!(total > 700 * MIB, "{mode:?}: {total}");
        world.unstage(&id).unwrap();
        settle(world);
        world.delete(&id).unwrap();
    }
}

pub fn a_key_rotates_at_a_stage_and_while_mounted(world: &mut World) {
    let id = create(world, "pvc-1", EXT4, 64 * MIB);
    stage(world, &id, false, Some(KEY), None).unwrap();
    world.unstage(&id).unwrap();
    settle(world);
    // At a stage.
    assert!(stage(world, &id, false, Some(KEY), Some(NEXT)).unwrap());
    assert!(is_of(fingerprint(world, &id).as_ref(), NEXT));
    world.unstage(&id).unwrap();
    settle(world);
    assert!(
        matches!(stage(world, &id, false, Some(KEY), None), Err(Error::WrongKey { .. })),
        "the old key is dead"
    );
    // Not promoted yet: the Secret still holds both.
    assert!(stage(world, &id, false, Some(KEY), Some(NEXT)).unwrap());
    // Promoted, and rotated on while mounted.
    assert!(!stage(world, &id, false, Some(NEXT), None).unwrap());
    assert!(!stage(world, &id, false, Some(NEXT), Some(OTHER)).unwrap());
    assert!(is_of(fingerprint(world, &id).as_ref(), OTHER));
    world.unstage(&id).unwrap();
    settle(world);
    for dead in [KEY, NEXT] {
        assert!(matches!(stage(world, &id, false, Some(dead), None), Err(Error::WrongKey { .. })));
    }
    assert!(stage(world, &id, false, Some(OTHER), None).unwrap());
    world.unstage(&id).unwrap();
    settle(world);
    // A first stage with both ends with the new one.
    let second = create(world, "pvc-2", EXT4, 64 * MIB);
    stage(world, &second, false, Some(KEY), Some(NEXT)).unwrap();
    world.unstage(&second).unwrap();
    settle(world);
    assert!(stage(world, &second, false, Some(NEXT), None).unwrap());
    world.unstage(&second).unwrap();
    settle(world);
}

pub fn a_passphrase_opens_and_is_changed_and_nothing_kept_tells_it(world: &mut World) {
    let passphrase = |text: &str| Key::passphrase(text).unwrap();
    let id = create(world, "pvc-1", EXT4, 64 * MIB);
    let staging = world.staging(&id);
    fs::create_dir_all(&staging).unwrap();
    let stage = |key: &Key, next: Option<&Key>| {
        let request = StageRequest {
            key: Some(next.unwrap_or(key).clone()),
            older_keys: next.map(|_| key.clone()).into_iter().collect(),
            ..StageRequest::default()
        };
        world.run(world.engine.stage(&id, &staging, &request)).map(|change| change.changed())
    };
    let opens_alone = |key: &Key, dead: &[&Key]| {
        for dead in dead {
            assert!(matches!(stage(dead, None), Err(Error::WrongKey { .. })));
        }
        assert!(stage(key, None).unwrap());
        world.unstage(&id).unwrap();
        settle(world);
    };
    let (first, second, random) =
        (passphrase("correct horse battery"), passphrase("staple, and a word"), Key::new(KEY));
    assert!(stage(&first, None).unwrap());
    // While it is mounted, to another passphrase.
    assert!(!stage(&first, Some(&second)).unwrap());
    world.unstage(&id).unwrap();
    settle(world);
    opens_alone(&second, &[&first]);
    let print = fingerprint(world, &id).unwrap();
    assert!(print.ends_with(":passphrase"), "{print}");
    // To a random key, and back.
    assert!(stage(&second, Some(&random)).unwrap());
    assert!(is_of(fingerprint(world, &id).as_ref(), KEY));
    assert!(!stage(&random, Some(&first)).unwrap());
    world.unstage(&id).unwrap();
    settle(world);
    opens_alone(&first, &[&random, &second]);
}

pub fn an_encrypted_volume_comes_down_while_its_pool_is_away(world: &mut World) {
    let (id, block) = (create(world, "pvc-1", EXT4, 64 * MIB), create(world, "pvc-2", BLOCK, 8 * MIB));
    let (target, device) = (world.path("target"), world.path("device"));
    stage(world, &id, false, Some(KEY), None).unwrap();
    world.publish(&id, &target, false).unwrap();
    stage(world, &block, true, Some(KEY), None).unwrap();
    world.publish(&block, &device, true).unwrap();
    fs::rename(world.path("pool"), world.path("unmounted")).unwrap();
    assert!(world.run(world.engine.reports())[0].result.is_err());
    let nobody: VolumeId = "pvc-11".parse().unwrap();
    assert!(world.unpublish(&nobody, &target).is_err());
    assert!(matches!(world.unstage(&block), Err(Error::InUse { .. })), "still published");
    assert!(world.unpublish(&id, &target).unwrap());
    assert!(world.unpublish(&block, &device).unwrap());
    assert!(world.unstage(&id).unwrap());
    assert!(world.unstage(&block).unwrap());
    assert!(!world.unstage(&id).unwrap());
    settle(world);
    fs::rename(world.path("unmounted"), world.path("pool")).unwrap();
}

/// Takes a snapshot.
pub fn snapshot(world: &World, of: &VolumeId, id: &str) -> VolumeId {
    let spec = SnapshotSpec { id: id.parse().unwrap(), source: of.clone(), owner: None };
    let taken = world.run(world.engine.snapshot(&spec)).unwrap().into_inner();
    assert!(taken.encrypted && taken.size_bytes == 320 * MIB && taken.valid, "{taken:?}");
    spec.id
}

/// Writes a file, or looks at it; nothing in the simulation.
fn note(world: &World, id: &VolumeId, text: &str) {
    if world.real {
        let path = world.staging(id).join("note");
        fs::write(&path, text).unwrap();
        fs::File::open(path).unwrap().sync_all().unwrap();
    }
}

fn assert_note(world: &World, id: &VolumeId, text: &str) {
    if world.real {
        assert_eq!(fs::read_to_string(world.staging(id).join("note")).unwrap(), text);
    }
}

pub fn snapshots_and_clones_open_with_the_key_of_their_moment(world: &mut World) {
    for (number, mode) in [EXT4, XFS, BTRFS].into_iter().enumerate() {
        let id = create(world, &format!("pvc-{number}"), mode, 320 * MIB);
        stage(world, &id, false, Some(KEY), None).unwrap();
        note(world, &id, "before");
        // While it is mounted: the filesystem above the mapper is what has to stand still.
        let taken = snapshot(world, &id, &format!("snap-{number}"));
        note(world, &id, "after");
        assert!(!stage(world, &id, false, Some(KEY), Some(NEXT)).unwrap());
        let name = format!("clone-{number}");
        let plain = VolumeSpec { source: Some(taken.clone()), ..spec(&name, mode, 400 * MIB) };
        let error = world.run(world.engine.create("pool", &plain)).unwrap_err();
        assert!(matches!(error, Error::SourceMismatch { field: "encryption", .. }), "{error:?}");
        let small = VolumeSpec { encrypted: true, size_bytes: 300 * MIB, ..plain.clone() };
        let error = world.run(world.engine.create("pool", &small)).unwrap_err();
        assert!(
            matches!(error, Error::SourceTooLarge { existing, .. } if existing == 320 * MIB),
            "{error:?}"
        );
        let clone = VolumeSpec { encrypted: true, ..plain };
        let made = world.run(world.engine.create("pool", &clone)).unwrap().into_inner();
        assert!(
            made.encrypted
                && made.size_bytes == world.encrypted_size(400 * MIB)
                && is_of(made.key_fingerprint.as_ref(), KEY),
            "{made:?}"
        );
        assert!(matches!(stage(world, &clone.id, false, Some(NEXT), None), Err(Error::WrongKey { .. })));
        // Beside its source, which is mounted with the same uuids.
        assert!(stage(world, &clone.id, false, Some(KEY), None).unwrap());
        assert_note(world, &clone.id, "before");
        assert_note(world, &id, "after");
        let total = world.run(world.engine.stats(&clone.id, &world.staging(&clone.id))).unwrap().total_bytes;
        assert!(total > 330 * MIB, "{mode:?}: {total}");
        // Deleting the source destroys its own key slots only.
        world.unstage(&id).unwrap();
        settle_all_but(world, &clone.id);
        world.delete(&id).unwrap();
        world.unstage(&clone.id).unwrap();
        settle(world);
        assert!(stage(world, &clone.id, false, Some(KEY), None).unwrap());
        assert_note(world, &clone.id, "before");
        world.unstage(&clone.id).unwrap();
        settle(world);
        world.delete(&clone.id).unwrap();
        world.run(world.engine.delete_snapshot(&taken)).unwrap();
    }
}

/// Waits until the kernel has let go of what was unstaged.
fn settle_all_but(world: &World, other: &VolumeId) {
    for _ in 0..100 {
        if !world.real || world.mappers() == [format!("tierce-crypt-{other}")] {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("left behind: {:?}", world.mappers());
}

pub fn a_restore_in_place_keeps_the_key_in_force(world: &mut World) {
    let id = create(world, "pvc-1", EXT4, 320 * MIB);
    stage(world, &id, false, Some(KEY), None).unwrap();
    note(world, &id, "before");
    let taken = snapshot(world, &id, "snap-1");
    note(world, &id, "after");
    assert!(!stage(world, &id, false, Some(KEY), Some(NEXT)).unwrap());
    let safety = "safety-1".parse().unwrap();
    let error = world.run(world.engine.restore(&id, &taken, &safety)).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error:?}");
    world.unstage(&id).unwrap();
    settle(world);
    assert!(world.run(world.engine.restore(&id, &taken, &safety)).unwrap().changed());
    assert!(!world.run(world.engine.restore(&id, &taken, &safety)).unwrap().changed());
    settle(world);
    assert!(is_of(fingerprint(world, &id).as_ref(), NEXT));
    // What was rotated away stays so.
    assert!(matches!(stage(world, &id, false, Some(KEY), None), Err(Error::WrongKey { .. })));
    assert!(stage(world, &id, false, Some(NEXT), None).unwrap());
    assert_note(world, &id, "before");
    world.unstage(&id).unwrap();
    settle(world);
    for snapshot in [&taken, &safety] {
        world.run(world.engine.delete_snapshot(snapshot)).unwrap();
    }
    world.delete(&id).unwrap();
}
