//! A restore in place in which a side effect fails, and which is then called off, in which one fails as well: either nothing of it has
//! happened or all of it, and the answer says which.

#![allow(unreachable_pub)] // As in the others.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use fail::FailScenario;
use tierce_engine::{Error, VolumeId};

use crate::{
    cycles::{Kind, POINT, recover},
    life::{snapshot, volume},
    world::{EXT4, MIB, World},
};

/// Lets every point of a restore fail once, also with a restart after it, or a try to delete its snapshot; `twice`: and then every point of
/// the call that calls it off.
pub fn each_error_then_called_off(kind: &Kind, twice: bool) {
    let scenario = FailScenario::setup();
    let Some((world, restored)) = prepared(kind) else { return };
    let points = points(&world, &restored);
    drop(world);
    let (mut off, mut over, mut kept) = (0, 0, 0);
    for at in 0..=points {
        for (restarts, deletes, twice) in [(false, false, twice), (true, false, false), (false, true, false)]
        {
            for again in 0.. {
                let (mut world, volume) = prepared(kind).unwrap();
                fail::cfg(POINT, &format!("{at}*off->1*return")).unwrap();
                let result = world.run(world.engine.restore(&volume, &snapshot(0), &snapshot(1)));
                assert!(at < points || result.is_ok(), "{result:?}");
                fail::remove(POINT);
                if restarts {
                    recover(&mut world);
                }
                if deletes {
                    match world.run(world.engine.delete_snapshot(&snapshot(0))) {
                        Ok(_) => {}
                        Err(Error::InUse { by, .. }) if by.contains("the restore of volume") => kept += 1,
                        Err(other) => panic!("{other:?}"),
                    }
                }
                if twice {
                    fail::cfg(POINT, &format!("{again}*off->1*return")).unwrap();
                }
                let first = world.run(world.engine.call_off_restore(&volume, &snapshot(1)));
                fail::remove(POINT);
                if restarts {
                    recover(&mut world);
                }
                let told = world.run(world.engine.call_off_restore(&volume, &snapshot(1))).unwrap();
                let what = format!(
                    "{}, errors at {at} and {again}, restart: {restarts}, deletes: {deletes}, first {first:?}",
                    kind.name
                );
                verify(&world, &volume, told, &what);
                *if told { &mut off } else { &mut over } += 1;
                if let Ok(answer) = first {
                    assert_eq!(answer, told, "{what}");
                    break;
                }
            }
        }
    }
    assert!(off > 0 && over > 0 && kept > 0, "{off}, {over} and {kept}");
    println!(
        "{}: of {} restores {off} were called off and {over} carried to their end",
        kind.name,
        off + over
    );
    scenario.teardown();
}

/// A volume that holds "two", and its snapshot that holds "one".
fn prepared(kind: &Kind) -> Option<(World, VolumeId)> {
    let world = (kind.world)()?;
    let id = world.create(volume(0).as_str(), EXT4, 32 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "one");
    world.snapshot(snapshot(0).as_str(), &id).unwrap();
    world.write(&id, "two");
    world.unstage(&id).unwrap();
    Some((world, id))
}

/// How many points a restore passes, with those of the sweep that goes on beside it and may be before its last ones, or after them.
fn points(world: &World, volume: &VolumeId) -> usize {
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&passed);
    fail::cfg_callback(POINT, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    world.run(world.engine.restore(volume, &snapshot(0), &snapshot(1))).unwrap();
    world.run(world.engine.sweep());
    fail::remove(POINT);
    passed.load(Ordering::SeqCst)
}

fn verify(world: &World, volume: &VolumeId, called_off: bool, what: &str) {
    let kept = world.run(world.engine.get_snapshot(&snapshot(1))).unwrap();
    assert_eq!(kept.is_none(), called_off, "{what}: the safety");
    world.stage(volume, false).unwrap();
    assert_eq!(world.read(volume), if called_off { "two" } else { "one" }, "{what}");
    world.unstage(volume).unwrap();
    if !called_off {
        let clone = world.create_from("check", EXT4, 32 * MIB, snapshot(1).as_str()).unwrap();
        world.stage(&clone, false).unwrap();
        assert_eq!(world.read(&clone), "two", "{what}: what was before");
        world.unstage(&clone).unwrap();
        world.delete(&clone).unwrap();
        // Its answer stays, also when nobody needs what was before any more.
        world.run(world.engine.delete_snapshot(&snapshot(1))).unwrap();
        assert!(!world.run(world.engine.call_off_restore(volume, &snapshot(1))).unwrap(), "{what}");
    }
    world.delete(volume).unwrap();
    world.run(world.engine.delete_snapshot(&snapshot(0))).unwrap();
    let recovery = world.run(world.engine.recover());
    assert_eq!(recovery.problems, Vec::<String>::new(), "{what}");
    world.assert_clean();
}
