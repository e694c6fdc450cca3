//! Museum row 29: calls of a kubelet that forgets, repeats and reorders, against a model of what must be true. Every seed is one history;
//! `TIERCE_MODEL_SEED=<n>` runs one of them alone.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{collections::BTreeMap, fs, path::PathBuf};

use tierce_engine::{Error, VolumeId};
use world::{BLOCK, EXT4, MIB, World, spec};

const VOLUMES: usize = 3;
const TARGETS: usize = 3;
const STEPS: usize = 120;

/// A small generator, so that a seed means the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(sides).unwrap()).unwrap()
    }
}

/// What must be true of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Volume {
    exists: bool,
    staged: bool,
    used: bool,
}

/// What must be true.
#[derive(Debug, Default)]
struct Model {
    volumes: Vec<Volume>,
    /// Which volume each target shows.
    targets: BTreeMap<usize, usize>,
    /// Empty mount points that a reboot left, and whether they are files for a raw block device.
    left: BTreeMap<usize, bool>,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Changed,
    Unchanged,
    NotFound,
    NotStaged,
    Foreign,
    InUse,
    MayHoldData,
}

fn answer(result: Result<bool, Error>) -> Answer {
    match result {
        Ok(true) => Answer::Changed,
        Ok(false) => Answer::Unchanged,
        Err(Error::NotFound { .. }) => Answer::NotFound,
        Err(Error::NotStaged { .. }) => Answer::NotStaged,
        Err(Error::ForeignTarget { .. }) => Answer::Foreign,
        Err(Error::InUse { .. }) => Answer::InUse,
        Err(Error::MayHoldData { .. }) => Answer::MayHoldData,
        Err(other) => panic!("no such answer expected: {other:?}"),
    }
}

fn when(changed: bool) -> Answer {
    if changed { Answer::Changed } else { Answer::Unchanged }
}

/// Volume 2 is raw block.
fn is_block(volume: usize) -> bool {
    volume == 2
}

impl Model {
    fn published(&self, volume: usize) -> bool {
        self.targets.values().any(|shown| *shown == volume)
    }

    fn create(&mut self, volume: usize) -> Answer {
        let before = self.volumes[volume].exists;
        self.volumes[volume].exists = true;
        when(!before)
    }

    fn stage(&mut self, volume: usize) -> Answer {
        let state = &mut self.volumes[volume];
        if !state.exists {
            return Answer::NotFound;
        }
        let before = state.staged;
        (state.staged, state.used) = (true, true);
        when(!before)
    }

    fn unstage(&mut self, volume: usize) -> Answer {
        if is_block(volume) && self.volumes[volume].staged && self.published(volume) {
            return Answer::InUse;
        }
        when(std::mem::take(&mut self.volumes[volume].staged))
    }

    fn publish(&mut self, volume: usize, target: usize) -> Answer {
        let state = &self.volumes[volume];
        if !state.exists {
            return Answer::NotFound;
        }
        if !state.staged {
            return Answer::NotStaged;
        }
        match self.targets.get(&target) {
            Some(shown) if *shown == volume => Answer::Unchanged,
            Some(_) => Answer::Foreign,
            // A mount point of the other kind is not what a publish would have made.
            None if self.left.get(&target).is_some_and(|file| *file != is_block(volume)) => Answer::Foreign,
            None => {
                self.left.remove(&target);
                self.targets.insert(target, volume);
                Answer::Changed
            }
        }
    }

    fn unpublish(&mut self, volume: usize, target: usize) -> Answer {
        match self.targets.get(&target) {
            None => when(self.left.remove(&target).is_some()),
            Some(shown) if *shown == volume => {
                self.targets.remove(&target);
                Answer::Changed
            }
            Some(_) if !self.volumes[volume].exists => Answer::NotFound,
            Some(_) => Answer::Foreign,
        }
    }

    fn delete(&mut self, volume: usize, only_if_unused: bool) -> Answer {
        let state = &self.volumes[volume];
        if !state.exists {
            return Answer::Unchanged;
        }
        if only_if_unused && state.used {
            return Answer::MayHoldData;
        }
        if state.staged || self.published(volume) {
            return Answer::InUse;
        }
        self.volumes[volume] = Volume::default();
        Answer::Changed
    }
}

struct History {
    world: World,
    model: Model,
    dice: Dice,
    told: Vec<String>,
}

impl History {
    fn new(world: World, seed: u64) -> Self {
        let model = Model { volumes: vec![Volume::default(); VOLUMES], ..Model::default() };
        Self { world, model, dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), told: Vec::new() }
    }

    fn id(volume: usize) -> VolumeId {
        format!("pvc-{volume}").parse().unwrap()
    }

    fn target(&self, target: usize) -> PathBuf {
        self.world.path(&format!("target-{target}"))
    }

    fn step(&mut self) {
        let (volume, target) = (self.dice.roll(VOLUMES), self.dice.roll(TARGETS));
        let (id, block, path) = (Self::id(volume), is_block(volume), self.target(target));
        let (name, expected, got) = match self.dice.roll(17) {
            0..=2 => {
                let mode = if block { BLOCK } else { EXT4 };
                let spec = spec(id.as_str(), mode, 32 * MIB);
                let got =
                    self.world.run(self.world.engine.create("pool", &spec)).map(|change| change.changed());
                ("create", self.model.create(volume), got)
            }
            3..=5 => ("stage", self.model.stage(volume), self.world.stage(&id, block)),
            6 | 7 => ("unstage", self.model.unstage(volume), self.world.unstage(&id)),
            8..=10 => ("publish", self.model.publish(volume, target), self.world.publish(&id, &path, block)),
            11..=13 => ("unpublish", self.model.unpublish(volume, target), self.world.unpublish(&id, &path)),
            14 => {
                let only_if_unused = self.dice.roll(3) == 0;
                let got = self
                    .world
                    .run(self.world.engine.delete(&id, only_if_unused))
                    .map(|change| change.changed());
                ("delete", self.model.delete(volume, only_if_unused), got)
            }
            15 => {
                self.world.restart();
                let recovery = self.world.run(self.world.engine.recover());
                assert_eq!(recovery.problems, Vec::<String>::new());
                assert_eq!(
                    recovery.freed_loops,
                    Vec::<String>::new(),
                    "nothing of this history is ever stale"
                );
                self.told.push("restart".to_owned());
                return;
            }
            _ => {
                self.reboot();
                return;
            }
        };
        self.told.push(format!("{name} {volume} {target}"));
        assert_eq!(answer(got), expected, "after {:#?}\n{:?}", self.told, self.model);
        self.check();
    }

    /// Mounts and devices are gone, disks and folders are as they were.
    fn reboot(&mut self) {
        self.told.push("reboot".to_owned());
        self.world.reboot();
        let targets = std::mem::take(&mut self.model.targets);
        self.model.left.extend(targets.into_iter().map(|(target, volume)| (target, is_block(volume))));
        for (volume, state) in self.model.volumes.iter_mut().enumerate() {
            // The record of a raw block volume still says where it was staged; the device is gone.
            state.staged &= is_block(volume);
        }
        if self.model.volumes[2].staged {
            // Staging it again is what the kubelet does; until then it is attached nowhere.
            assert!(self.world.stage(&Self::id(2), true).unwrap());
        }
    }

    /// What the engine tells is what the model says.
    fn check(&self) {
        let volumes = self.world.run(self.world.engine.list()).volumes;
        let used =
            |volume: usize| volumes.iter().find(|info| info.id == Self::id(volume)).map(|info| info.used);
        for (volume, state) in self.model.volumes.iter().enumerate() {
            assert_eq!(
                used(volume),
                state.exists.then_some(state.used),
                "volume {volume} after {:#?}",
                self.told
            );
        }
        for target in 0..TARGETS {
            let shown = self.model.targets.contains_key(&target);
            // After a reboot an empty mount point may remain until it is unpublished.
            assert!(
                !shown || self.target(target).symlink_metadata().is_ok(),
                "target {target} after {:#?}",
                self.told
            );
        }
    }

    /// Whatever happened, an orderly end leaves nothing.
    fn end(&mut self) {
        for target in 0..TARGETS {
            for volume in 0..VOLUMES {
                let _ = self.world.unpublish(&Self::id(volume), &self.target(target));
            }
            assert!(!self.target(target).exists(), "target {target} after {:#?}", self.told);
        }
        for volume in 0..VOLUMES {
            let id = Self::id(volume);
            self.world.unstage(&id).unwrap();
            self.world.delete(&id).unwrap();
        }
        self.world.run(self.world.engine.recover());
        for folder in ["volumes", "new", "trash"] {
            let left = fs::read_dir(self.world.path("pool").join(folder)).unwrap().count();
            assert_eq!(left, 0, "{folder} after {:#?}", self.told);
        }
        self.world.assert_clean();
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("TIERCE_MODEL_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=count).collect(),
    }
}

fn live(world: World, seed: u64, steps: usize) {
    println!("seed {seed}");
    let mut history = History::new(world, seed);
    for _ in 0..steps {
        history.step();
    }
    history.end();
}

#[test]
fn bug_29_dropped_repeated_and_reordered_calls_end_well_on_the_simulation() {
    for seed in seeds(40) {
        live(World::sim(), seed, STEPS);
    }
}

#[test]
fn bug_29_dropped_repeated_and_reordered_calls_end_well_on_the_kernel() {
    for seed in seeds(4) {
        let Some(world) = World::real() else { return };
        live(world, seed, STEPS);
    }
}
