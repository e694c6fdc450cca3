//! What a call leaves that fails: a logical volume or a mapper that nobody needs would stay until the next start of the plugin, and each further
//! try would leave one more. What a *kill* leaves is for the recovery; this is about errors, after which the call itself can clean up.

#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fail::FailScenario;
use tierce_engine::{Error, VolumeId};

use crate::{
    cycles::{Kind, POINT},
    life::{Call, snapshot, volume},
    world::{EXT4, MIB, World},
};

/// What the names of our mappers begin with.
const MAPPER: &str = "tierce-crypt-";

/// The group's logical volumes and our mappers.
pub fn there(world: &World) -> BTreeSet<String> {
    let mut there = BTreeSet::new();
    if world.real {
        there.extend(world.mappers());
    }
    if let Some(group) = &world.group {
        there.extend(group.volumes());
    }
    there
}

/// Looks for what a call left that has just failed. `before`: what was there when it began.
pub fn assert_none(world: &World, call: &Call, before: &BTreeSet<String>, error: &Error) {
    let left = settled(world, before, &|name| may_stay(call, name));
    assert!(left.is_empty(), "{call:?} failed ({error}) and left {left:?}");
}

/// What is new and must not stay. Of a mapper the kernel lets go a moment after its last user.
fn settled(world: &World, before: &BTreeSet<String>, may_stay: &dyn Fn(&str) -> bool) -> Vec<String> {
    for attempt in 0.. {
        let now = there(world);
        let left: Vec<String> = now.difference(before).filter(|name| !may_stay(name)).cloned().collect();
        if attempt == 40 || !left.iter().any(|name| name.starts_with(MAPPER)) {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    unreachable!()
}

/// What the modules of `engine/src/engine` say that a step leaves.
fn may_stay(call: &Call, name: &str) -> bool {
    // volumes.rs: the space of a deleted volume is freed in the background.
    if name.starts_with("d-") {
        return true;
    }
    match call {
        // volumes.rs, snapshots.rs: it appears by one step; the repeated call finds it.
        Call::Create(at, _) => name == format!("v-{}", volume(*at)),
        Call::Snapshot(kept, _) => name == format!("v-{}", snapshot(*kept)),
        // staging.rs: an encrypted volume's mapper, which the next stage takes over if it is the right one.
        Call::Stage(at) => name == format!("{MAPPER}{}", volume(*at)),
        // restore.rs: from the record on the restore is under way, and whoever wants the volume carries it to its end. By then there are the
        // safety, and what is to take the volume's place, which the next exchange removes (pool/lvm/copies.rs).
        Call::Restore { volume: at, safety, .. } => {
            name == format!("v-{}", snapshot(*safety)) || name.starts_with(&format!("n-{}-", volume(*at)))
        }
        _ => false,
    }
}

/// How many points something passes.
fn points<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&passed);
    fail::cfg_callback(POINT, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    let done = work();
    fail::remove(POINT);
    (passed.load(Ordering::SeqCst), done)
}

/// Does something in which one point fails.
fn with_error<T>(at: usize, work: impl FnOnce() -> T) -> T {
    fail::cfg(POINT, &format!("{at}*off->1*return")).unwrap();
    let done = work();
    fail::remove(POINT);
    done
}

/// Takes a copy away again, down to its space: no sweep is under way after that.
fn take_away(world: &World, copy: &VolumeId) {
    match world.run(world.engine.get_snapshot(copy)) {
        Ok(Some(_)) => drop(world.run(world.engine.delete_snapshot(copy)).unwrap()),
        _ => drop(world.delete(copy).unwrap()),
    }
    world.run(world.engine.sweep());
}

type Copying = fn(&World) -> Result<VolumeId, Error>;

/// Lets each point of a copy fail once. Right after that all of it is there or nothing, without a recovery.
pub fn each_error_in_a_copy(kind: &Kind) {
    const COPIES: [(&str, Copying); 2] = [
        ("a snapshot of a volume in use", |world| world.snapshot("copy", &volume(0))),
        ("a larger volume of a snapshot", |world| world.create_from("copy", EXT4, 48 * MIB, "snap-0")),
    ];
    let scenario = FailScenario::setup();
    let Some(world) = (kind.world)() else { return };
    let id = world.create(volume(0).as_str(), EXT4, 32 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "one");
    world.snapshot(snapshot(0).as_str(), &id).unwrap();
    // What held the source still is freed in the background.
    world.run(world.engine.sweep());
    let before = there(&world);
    let (mut faults, mut errors) = (0, 0);
    for (what, copy) in COPIES {
        let (points, made) = points(|| copy(&world));
        let made = made.unwrap();
        take_away(&world, &made);
        for at in 0..points {
            let result = with_error(at, || copy(&world));
            // What a thick pool zeroes in the background is nobody's any more.
            let left = settled(&world, &before, &|name| name == "v-copy" || name.starts_with("d-"));
            assert_eq!(left, Vec::<String>::new(), "{}, {what}: {result:?} at point {at}", kind.name);
            faults += 1;
            errors += usize::from(result.is_err());
            // The repeated call makes it, or finds it.
            assert_eq!(copy(&world).unwrap(), made, "{what}, {at}");
            take_away(&world, &made);
            assert_eq!(there(&world), before, "{}, {what}: after {result:?} at point {at}", kind.name);
        }
    }
    world.unstage(&id).unwrap();
    println!("measured: {}: {faults} faults in copies, {errors} told, and nothing was left", kind.name);
    scenario.teardown();
}

/// A volume whose restore failed at one of its last steps is deleted: it does not come back when the pool is opened anew.
pub fn deleted_after_each_error_of_a_restore(kind: &Kind) {
    /// The points of the two renames that exchange the content and of the tag's end, and of the sweep after them, which may count too.
    const LAST: usize = 6 + 3;
    let scenario = FailScenario::setup();
    let Some(mut world) = (kind.world)() else { return };
    let prepared = |world: &World| {
        let id = world.create(volume(0).as_str(), EXT4, 32 * MIB);
        world.snapshot(snapshot(0).as_str(), &id).unwrap();
        id
    };
    let restore = |world: &World| world.run(world.engine.restore(&volume(0), &snapshot(0), &snapshot(1)));
    // Its background work is over before anything is counted again.
    let end = |world: &World| {
        for kept in [0, 1] {
            world.run(world.engine.delete_snapshot(&snapshot(kept))).unwrap();
        }
        world.run(world.engine.sweep());
    };
    prepared(&world);
    let (points, done) = points(|| restore(&world));
    done.unwrap();
    world.delete(&volume(0)).unwrap();
    end(&world);
    let (mut errors, mut waiting) = (0, 0);
    for at in points - LAST..points {
        let id = prepared(&world);
        errors += usize::from(with_error(at, || restore(&world)).is_err());
        let exchange = format!("n-{id}-");
        waiting += usize::from(there(&world).iter().any(|name| name.starts_with(&exchange)));
        assert!(world.delete(&id).unwrap(), "{}, error at {at}", kind.name);
        world.restart();
        let found: Vec<_> =
            world.run(world.engine.list()).volumes.into_iter().map(|found| found.id).collect();
        assert_eq!(found, [], "{}, error at {at}: it came back", kind.name);
        end(&world);
        let left: Vec<_> = there(&world).into_iter().filter(|name| name != "thin").collect();
        assert_eq!(left, Vec::<String>::new(), "{}, error at {at}", kind.name);
    }
    assert!(waiting > 1, "{}: of {errors} errors {waiting} left an exchange that waited", kind.name);
    println!(
        "measured: {}: {errors} restores failed, {waiting} left an exchange, which went with its volume",
        kind.name
    );
    scenario.teardown();
}
