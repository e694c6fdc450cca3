//! LVM's description of a volume group fills the area that it is kept in, on a real kernel with real LVM. Needs a guest of the disk lab; skipped
//! by name elsewhere.

use crate::encrypted::{self, KEY, stage};
use crate::world::lvm::{TestGroup, group};
use crate::world::{EXT4, MIB, World, lvm, spec, text};
use tierce_engine::{Error, LvmKind, PoolErrorKind, VolumeId};

/// A volume of the test, small enough for many.
const SIZE: u64 = 32 * MIB;
/// Characters of each tag that fills the area.
const TAG: usize = 1000;

/// Bytes of the group's metadata area that are free.
fn free(world: &World) -> u64 {
    let name = group(world).name.clone();
    let text =
        group(world).lvm("vgs", &["--noheadings", "--units", "b", "--nosuffix", "-o", "vg_mda_free", &name]);
    text.trim().parse().unwrap()
}

/// Fills the area with tags of the group until less than `left` bytes are free.
fn fill(world: &World, left: u64) {
    let name = group(world).name.clone();
    let mut number = 0;
    while free(world) > left {
        let count = ((free(world) - left) / u64::try_from(TAG + 20).unwrap()).clamp(1, 100);
        let tags: Vec<String> = (0..count)
            .map(|_| {
                number += 1;
                format!("{number:x<TAG$}")
            })
            .collect();
        let mut arguments = vec!["-qq"];
        arguments.extend(tags.iter().flat_map(|tag| ["--addtag", tag.as_str()]));
        arguments.push(&name);
        group(world).lvm("vgchange", &arguments);
    }
}

/// Takes the tags away again.
fn empty(world: &World) {
    let name = group(world).name.clone();
    let tags = group(world).lvm("vgs", &["--noheadings", "-o", "vg_tags", &name]);
    for some in tags.trim().split(',').collect::<Vec<_>>().chunks(100) {
        let mut arguments = vec!["-qq"];
        arguments.extend(some.iter().flat_map(|tag| ["--deltag", tag]));
        arguments.push(&name);
        group(world).lvm("vgchange", &arguments);
    }
}

fn is_crowded<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    let error = result.unwrap_err();
    let found = matches!(&error, Error::PoolUnavailable(trouble)
        if trouble.kind == PoolErrorKind::MetadataNearlyFull && trouble.reason.contains("--metadatasize"));
    assert!(found, "{error}");
    found
}

/// A world over a group that somebody made as LVM does by itself.
fn of_lvms_own_size(kind: LvmKind) -> Option<World> {
    let mut world = World::lab()?;
    let made = TestGroup::new(kind)?;
    let devices: Vec<&str> = made.devices.iter().map(|device| text(device)).collect();
    made.lvm("vgcreate", &[&["-qq", made.name.as_str()], devices.as_slice()].concat());
    world.group = Some(made);
    world.set_pool();
    Some(world)
}

#[test]
fn lab_a_group_whose_metadata_area_fills_up_makes_nothing_more_and_all_else_goes_on() {
    for kind in [lvm::thin_pool(1024, true), LvmKind::Thick] {
        let Some(world) = of_lvms_own_size(kind) else { return };
        let make = |id: &str| {
            let spec = spec(id, EXT4, SIZE);
            world.run(world.engine.create("pool", &spec)).map(|_| spec.id)
        };
        let id = make("pvc-1").unwrap();
        world.stage(&id, false).unwrap();
        world.write(&id, "kept");
        // Behind our back, so that LVM itself has to refuse.
        fill(&world, 512);
        assert!(is_crowded(make("pvc-2")));
        let names = group(&world).volumes();
        assert!(!names.iter().any(|name| name.contains("pvc-2")), "{names:?}");
        // From now on it is known.
        let report = world.run(world.engine.reports()).remove(0);
        assert_eq!(report.result.unwrap().available_bytes, 0);
        assert_eq!(report.warning.map(|warning| warning.kind), Some(PoolErrorKind::MetadataNearlyFull));
        assert!(is_crowded(make("pvc-2")));
        // Somebody frees what is less than the reserve: nothing is promised, and what there is goes on.
        empty(&world);
        fill(&world, 60 << 10);
        assert!(is_crowded(make("pvc-3")));
        world.unstage(&id).unwrap();
        world.stage(&id, false).unwrap();
        assert!(is_crowded(world.run(world.engine.grow(&id, 2 * SIZE))));
        assert_eq!(world.read(&id), "kept");
        world.unstage(&id).unwrap();
        // With the area free again all is well at the next look.
        empty(&world);
        world.run(world.engine.reports());
        let another = make("pvc-2").unwrap();
        let report = world.run(world.engine.reports()).remove(0);
        assert_eq!(report.warning, None);
        world.run(world.engine.grow(&id, 2 * SIZE)).unwrap();
        for id in [id, another] {
            assert!(world.delete(&id).unwrap());
        }
        world.run(world.engine.sweep());
        world.assert_clean();
    }
}

#[test]
fn lab_a_full_metadata_area_still_lets_volumes_be_deleted() {
    let Some(world) = of_lvms_own_size(lvm::thin_pool(1024, true)) else { return };
    let ids: Vec<VolumeId> =
        (0..4).map(|number| world.create(&format!("pvc-{number}"), EXT4, SIZE)).collect();
    fill(&world, 60 << 10);
    for id in ids {
        assert!(world.delete(&id).unwrap());
    }
    world.run(world.engine.sweep());
    let names = group(&world).volumes();
    assert_eq!(names, ["thin"], "{names:?}");
}

/// Prints how many volumes fit into the group's metadata area.
#[test]
fn lab_volumes_by_the_thousand_fit_into_the_metadata_area_of_a_group_of_ours() {
    const COUNT: usize = 8;
    for (what, least) in [("a group of ours", 2000), ("a group with LVM's own area", 200)] {
        let kind = lvm::thin_pool(1024, true);
        let world = if least > 1000 { World::lvm(kind) } else { of_lvms_own_size(kind) };
        let Some(world) = world.map(World::encrypted) else { return };
        let before = free(&world);
        let ids: Vec<VolumeId> = (0..COUNT)
            .map(|number| encrypted::create(&world, &format!("pvc-0123456789ab-cdef-{number}"), EXT4, SIZE))
            .collect();
        for id in &ids {
            stage(&world, id, false, Some(KEY), None).unwrap();
            world.unstage(id).unwrap();
        }
        let each = (before - free(&world)).div_ceil(u64::try_from(COUNT).unwrap());
        let fit = (before - (64 << 10)) / each;
        println!("measured: {what}: {each} of {before} bytes for each encrypted thin volume: {fit} fit");
        assert!(fit > least, "{fit}");
        for id in ids {
            assert!(world.delete(&id).unwrap());
        }
    }
}
