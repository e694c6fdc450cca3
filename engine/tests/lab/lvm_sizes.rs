//! What LVM makes of a size: whole extents. A copy needs no more than its source was asked for, and sectors that its content can be read
//! by. In the lab; skipped by name elsewhere.

use crate::world::{BLOCK, EXT4, MIB, World, XFS, lvm, spec};
use tierce_engine::{Error, LvmKind, PoolConfig, VolumeSpec};

#[test]
fn bug_12_a_copy_of_the_size_that_its_source_was_asked_for_fits() {
    for (kind, encrypted) in
        [(lvm::thin(), false), (lvm::thin(), true), (LvmKind::Thick, false), (LvmKind::Thick, true)]
    {
        let Some(world) = World::lvm(kind.clone()) else { return };
        let world = if encrypted { world.encrypted() } else { world };
        let case = format!("{kind:?}, encrypted: {encrypted}");
        let id = world.create("pvc-1", EXT4, 62 * MIB);
        world.stage(&id, false).unwrap();
        world.write(&id, "all of it");
        world.unstage(&id).unwrap();
        let size = |id: &str| world.run(world.engine.get(&id.parse().unwrap())).unwrap().unwrap().size_bytes;
        assert!(size("pvc-1") > 62 * MIB, "{case}: the pool rounds up");
        let snapshot = world.snapshot("snap-1", &id).unwrap();
        let asked = world.run(world.engine.get_snapshot(&snapshot)).unwrap().unwrap().size_bytes;
        assert_eq!(asked, 62 * MIB, "{case}");

        for from in ["snap-1", "pvc-1"] {
            let error = world.create_from("pvc-small", EXT4, 61 * MIB, from).unwrap_err();
            assert!(matches!(error, Error::SourceTooLarge { .. }), "{case}: {error:?}");
            let copy = world.create_from(&format!("copy-of-{from}"), EXT4, 62 * MIB, from).unwrap();
            // Said again, it is the same.
            world.create_from(copy.as_str(), EXT4, 62 * MIB, from).unwrap();
            assert_eq!(size(copy.as_str()), size("pvc-1"), "{case}");
            world.stage(&copy, false).unwrap();
            assert_eq!(world.read(&copy), "all of it", "{case}");
            world.unstage(&copy).unwrap();
            assert!(world.delete(&copy).unwrap());
        }

        // After it grew, and of a raw block volume.
        world.run(world.engine.grow(&id, 70 * MIB)).unwrap();
        let later = world.snapshot("snap-2", &id).unwrap();
        assert_eq!(
            world.run(world.engine.get_snapshot(&later)).unwrap().unwrap().size_bytes,
            70 * MIB,
            "{case}"
        );
        let raw = world.create("pvc-raw", BLOCK, 10 * MIB);
        world.snapshot("snap-raw", &raw).unwrap();
        let copy = world.create_from("copy-raw", BLOCK, 10 * MIB, "snap-raw").unwrap();
        assert_eq!(size(copy.as_str()), size("pvc-raw"), "{case}");
    }
}

#[test]
fn content_goes_to_another_pool_only_where_its_sectors_let_it_be_read() {
    let Some(world) = World::lab() else { return };
    let group = lvm::TestGroup::of_sectors(LvmKind::Thick, 1024 * MIB, 4096).unwrap();
    let large = PoolConfig { name: "large".to_owned(), backend: group.backend(), ..world.pool("pool") };
    world.run(world.engine.set_pools(vec![world.pool("pool"), large]));
    let copy = |id: &str, mode, from: &str| {
        let spec = VolumeSpec { source: Some(from.parse().unwrap()), ..spec(id, mode, 320 * MIB) };
        world.run(world.engine.create("large", &spec)).map(|_| spec.id)
    };
    let disk = world.create("disk", BLOCK, 320 * MIB);
    let error = copy("other-disk", BLOCK, "disk").unwrap_err();
    assert!(matches!(error, Error::SourceMismatch { field: "sector size", .. }), "{error:?}");
    assert!(error.to_string().contains("512 bytes, not 4096 as in pool large"), "{error}");
    for mode in [EXT4, XFS] {
        let id = world.create("data", mode, 320 * MIB);
        world.stage(&id, false).unwrap();
        world.write(&id, "all of it");
        world.unstage(&id).unwrap();
        let copied = copy("copy", mode, "data").unwrap();
        world.stage(&copied, false).unwrap();
        assert_eq!(world.read(&copied), "all of it", "{mode}");
        world.unstage(&copied).unwrap();
        assert!(world.delete(&copied).unwrap() && world.delete(&id).unwrap());
    }
    assert!(world.delete(&disk).unwrap());
}
