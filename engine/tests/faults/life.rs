//! The life of a few volumes: calls that follow from a seed, each of which must succeed, and what must be true in the end.

#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of it.

use std::{fs, path::PathBuf, time::Duration};

use tierce_engine::{Change, Error, PublishRequest, SnapshotSpec, StageRequest, VolumeId, VolumeSpec};

use crate::{
    state::{Answer, Model, Origin, is_block, when},
    world::{BLOCK, EXT4, MIB, World, spec},
};

const VOLUMES: usize = 3;
const SNAPSHOTS: usize = 3;
const TARGETS: usize = 2;
/// What a clone has; all others are smaller.
const CLONE_MIB: u64 = 96;

/// A small generator, so that a seed means the same everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(sides).unwrap()).unwrap()
    }
}

/// One call.
#[derive(Debug, Clone)]
pub enum Call {
    Create(usize, Option<Origin>),
    Stage(usize),
    Write(usize, String),
    Publish(usize, usize),
    Unpublish(usize, usize),
    Unstage(usize),
    Grow(usize),
    Snapshot(usize, usize),
    DeleteSnapshot(usize),
    Restore { volume: usize, snapshot: usize, safety: usize },
    Delete(usize),
}

/// Calls, and what is true after them.
pub struct Life {
    pub calls: Vec<Call>,
    pub end: Model,
}

pub fn volume(number: usize) -> VolumeId {
    format!("pvc-{number}").parse().unwrap()
}

pub fn snapshot(number: usize) -> VolumeId {
    format!("snap-{number}").parse().unwrap()
}

pub fn target(world: &World, number: usize) -> PathBuf {
    world.path(&format!("target-{number}"))
}

impl Life {
    /// A volume whose content differs from its snapshot's goes back to it.
    pub fn of_a_restore() -> Self {
        let mut end = Model::new(VOLUMES, SNAPSHOTS, false);
        let calls = restore(&mut end);
        Self { calls, end }
    }

    pub fn of(seed: u64, copies_devices: bool, length: usize) -> Self {
        let mut dice = Dice::new(seed);
        let mut model = Model::new(VOLUMES, SNAPSHOTS, copies_devices);
        let mut calls = Vec::new();
        // Sizes, which the model does not know: a snapshot of a clone fits in no other volume.
        let (mut large, mut large_snapshots) = ([false; VOLUMES], [false; SNAPSHOTS]);
        // Every other life begins with a restore.
        if seed.is_multiple_of(2) {
            calls = restore(&mut model);
        }
        while calls.len() < length {
            let (at, place) = (dice.roll(VOLUMES), dice.roll(TARGETS));
            let (kept, other) = (dice.roll(SNAPSHOTS), dice.roll(SNAPSHOTS));
            let (answer, call) = match dice.roll(20) {
                0 | 1 => (model.create(at, None), Call::Create(at, None)),
                2 => {
                    let origin = Some(Origin::Snapshot(kept));
                    (model.create(at, origin), Call::Create(at, origin))
                }
                3 if other != at => {
                    let origin = Some(Origin::Volume(other));
                    (model.create(at, origin), Call::Create(at, origin))
                }
                4..=6 => (model.stage(at), Call::Stage(at)),
                7 | 8 => match model.write(at) {
                    Some(text) => (Answer::Changed, Call::Write(at, text)),
                    None => continue,
                },
                9 => (model.publish(at, place), Call::Publish(at, place)),
                10 => (model.unpublish(at, place), Call::Unpublish(at, place)),
                11 | 12 => (model.unstage(at), Call::Unstage(at)),
                13 if model.volumes[at].exists && !large[at] => (Answer::Changed, Call::Grow(at)),
                14 | 15 => (model.snapshot(kept, at), Call::Snapshot(kept, at)),
                16 => (model.delete_snapshot(kept), Call::DeleteSnapshot(kept)),
                17 | 18 if large[at] || !large_snapshots[kept] => (
                    model.restore(at, kept, other),
                    Call::Restore { volume: at, snapshot: kept, safety: other },
                ),
                19 => (model.delete(at, false), Call::Delete(at)),
                _ => continue,
            };
            if answer != Answer::Changed {
                continue;
            }
            match &call {
                Call::Create(at, origin) => large[*at] = origin.is_some(),
                Call::Snapshot(kept, at) | Call::Restore { safety: kept, volume: at, .. } => {
                    large_snapshots[*kept] = large[*at];
                }
                _ => {}
            }
            calls.push(call);
        }
        Self { calls, end: model }
    }
}

fn restore(model: &mut Model) -> Vec<Call> {
    let calls = [
        Call::Create(0, None),
        Call::Stage(0),
        Call::Write(0, "1".to_owned()),
        Call::Snapshot(0, 0),
        Call::Write(0, "2".to_owned()),
        Call::Unstage(0),
        Call::Restore { volume: 0, snapshot: 0, safety: 1 },
    ];
    for call in &calls {
        let answer = match call {
            Call::Create(..) => model.create(0, None),
            Call::Stage(_) => model.stage(0),
            Call::Write(_, text) => when(model.write(0).as_ref() == Some(text)),
            Call::Snapshot(..) => model.snapshot(0, 0),
            Call::Unstage(_) => model.unstage(0),
            _ => model.restore(0, 0, 1),
        };
        assert_eq!(answer, Answer::Changed, "{call:?}");
    }
    calls.into()
}

/// Makes a call, again where a busy machine (or a hang) held a copy up for longer than a filesystem may be frozen.
pub async fn call(world: &World, call: &Call) -> Result<(), Error> {
    for _ in 0..20 {
        match once(world, call).await {
            Err(Error::CopyNeedsPause { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
    once(world, call).await
}

async fn once(world: &World, call: &Call) -> Result<(), Error> {
    let engine = &world.engine;
    match call {
        Call::Create(at, origin) => {
            let source = origin.map(|origin| match origin {
                Origin::Snapshot(from) => snapshot(from),
                Origin::Volume(from) => volume(from),
            });
            let size = if source.is_some() { CLONE_MIB } else { 32 };
            let mode = if is_block(*at) { BLOCK } else { EXT4 };
            let encrypted = world.encrypted;
            let asked = VolumeSpec { source, encrypted, ..spec(volume(*at).as_str(), mode, size * MIB) };
            engine.create("pool", &asked).await.map(drop)
        }
        Call::Stage(at) => {
            let staging = world.staging(&volume(*at));
            fs::create_dir_all(&staging).unwrap();
            let request = StageRequest { block: is_block(*at), key: world.key(), ..StageRequest::default() };
            engine.stage(&volume(*at), &staging, &request).await.map(drop)
        }
        Call::Write(at, text) => {
            world.write(&volume(*at), text);
            Ok(())
        }
        Call::Publish(at, place) => {
            let request = PublishRequest { block: is_block(*at), ..PublishRequest::default() };
            let (id, target) = (volume(*at), target(world, *place));
            engine.publish(&id, &world.staging(&id), &target, &request).await.map(drop)
        }
        Call::Unpublish(at, place) => engine.unpublish(&volume(*at), &target(world, *place)).await.map(drop),
        Call::Unstage(at) => engine.unstage(&volume(*at), &world.staging(&volume(*at))).await.map(drop),
        Call::Grow(at) => engine.grow(&volume(*at), 64 * MIB).await.map(drop),
        Call::Snapshot(kept, at) => {
            let asked = SnapshotSpec { id: snapshot(*kept), source: volume(*at), owner: None };
            engine.snapshot(&asked).await.map(drop)
        }
        Call::DeleteSnapshot(kept) => engine.delete_snapshot(&snapshot(*kept)).await.map(drop),
        Call::Restore { volume: at, snapshot: from, safety } => {
            engine.restore(&volume(*at), &snapshot(*from), &snapshot(*safety)).await.map(drop)
        }
        Call::Delete(at) => engine.delete(&volume(*at), false).await.map(drop),
    }
}

impl Life {
    /// Compares everything with what must be true, down to the content of every volume and snapshot, then takes all of it away and looks
    /// for what is left.
    pub fn verify(&self, world: &World) {
        let inventory = world.run(world.engine.list());
        assert_eq!((&inventory.broken, &inventory.unread), (&vec![], &vec![]));
        let volumes: Vec<_> = inventory.volumes.iter().map(|found| (found.id.clone(), found.used)).collect();
        let expected = self.end.volumes.iter().enumerate().filter(|(_, state)| state.exists);
        assert_eq!(volumes, expected.map(|(at, state)| (volume(at), state.used)).collect::<Vec<_>>());
        let snapshots: Vec<_> =
            inventory.snapshots.into_iter().map(|found| (found.id, found.source)).collect();
        let expected = self.end.snapshots.iter().enumerate();
        let expected = expected.filter_map(|(at, state)| Some((snapshot(at), volume(state.as_ref()?.of))));
        assert_eq!(snapshots, expected.collect::<Vec<_>>());

        for (at, state) in self.end.volumes.iter().enumerate() {
            if state.exists && !is_block(at) {
                assert_content(world, &volume(at), state.content.as_deref());
            }
        }
        for (at, state) in self.end.snapshots.iter().enumerate() {
            let Some(state) = state.as_ref().filter(|state| !is_block(state.of)) else { continue };
            let clone = world.create_from("check", EXT4, CLONE_MIB * MIB, snapshot(at).as_str()).unwrap();
            assert_content(world, &clone, state.content.as_deref());
            world.unstage(&clone).unwrap();
            world.delete(&clone).unwrap();
        }
        self.end(world);
    }

    fn end(&self, world: &World) {
        for place in 0..TARGETS {
            if let Some(shown) = self.end.targets.get(&place) {
                world.unpublish(&volume(*shown), &target(world, place)).unwrap();
            }
            assert!(!target(world, place).exists(), "target {place}");
        }
        for at in 0..VOLUMES {
            world.unstage(&volume(at)).unwrap();
            world.delete(&volume(at)).unwrap();
        }
        for kept in 0..SNAPSHOTS {
            let deleted: Change<()> = world.run(world.engine.delete_snapshot(&snapshot(kept))).unwrap();
            assert_eq!(deleted.changed(), self.end.snapshots[kept].is_some());
        }
        let recovery = world.run(world.engine.recover());
        assert_eq!(recovery.problems, Vec::<String>::new());
        world.run(world.engine.sweep());
        match &world.group {
            Some(group) => {
                let left: Vec<_> = group.volumes().into_iter().filter(|name| name != "thin").collect();
                assert_eq!(left, Vec::<String>::new(), "logical volumes left behind");
            }
            None => {
                for folder in ["volumes", "new", "trash"] {
                    assert_eq!(fs::read_dir(world.path("pool").join(folder)).unwrap().count(), 0, "{folder}");
                }
            }
        }
        world.assert_clean();
    }
}

/// `None`: never formatted, so it is empty.
fn assert_content(world: &World, id: &VolumeId, expected: Option<&str>) {
    world.stage(id, false).unwrap();
    assert_eq!(world.read(id), expected.unwrap_or_default(), "{id}");
}
