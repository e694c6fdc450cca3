//! What LVM makes of a size: whole extents. A copy needs no more than its source was asked for. In the lab; skipped by name elsewhere.

#![allow(clippy::unwrap_used)]

mod world;

use tierce_engine::{Error, LvmKind};
use world::{BLOCK, EXT4, MIB, World, lvm};

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
