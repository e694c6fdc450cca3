//! Museum row 29: calls of a kubelet that forgets, repeats and reorders, against a model of what must be true. Every seed is one history;
//! `TIERCE_MODEL_SEED=<n>` runs one of them alone.

#![allow(clippy::unwrap_used, clippy::panic)]

mod state;
#[path = "../world/mod.rs"]
mod world;

use std::{fs, path::PathBuf};

use state::{Model, Origin, answer, is_block};
use tierce_engine::{SnapshotSpec, VolumeId, VolumeSpec};
use world::{BLOCK, EXT4, MIB, World, spec};

const VOLUMES: usize = 3;
const SNAPSHOTS: usize = 4;
const TARGETS: usize = 3;
const STEPS: usize = 160;

/// A small generator, so that a seed means the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(sides).unwrap()).unwrap()
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
        // The folder of these tests lies on whatever /tmp is; only the simulation is known to copy a device that is in use.
        let model = Model::new(VOLUMES, SNAPSHOTS, !world.real);
        Self { world, model, dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), told: Vec::new() }
    }

    fn id(volume: usize) -> VolumeId {
        format!("pvc-{volume}").parse().unwrap()
    }

    fn snapshot_id(snapshot: usize) -> VolumeId {
        format!("snap-{snapshot}").parse().unwrap()
    }

    fn target(&self, target: usize) -> PathBuf {
        self.world.path(&format!("target-{target}"))
    }

    fn step(&mut self) {
        let (volume, target) = (self.dice.roll(VOLUMES), self.dice.roll(TARGETS));
        let (id, block, path) = (Self::id(volume), is_block(volume), self.target(target));
        let (name, expected, got) = match self.dice.roll(28) {
            0..=2 => {
                let mode = if block { BLOCK } else { EXT4 };
                let origin = match self.dice.roll(4) {
                    0 => Some(Origin::Snapshot(self.dice.roll(SNAPSHOTS))),
                    1 => Some(Origin::Volume(self.dice.roll(VOLUMES)))
                        .filter(|from| *from != Origin::Volume(volume)),
                    _ => None,
                };
                let source = origin.map(|origin| match origin {
                    Origin::Snapshot(snapshot) => Self::snapshot_id(snapshot),
                    Origin::Volume(volume) => Self::id(volume),
                });
                let spec = VolumeSpec { source, ..spec(id.as_str(), mode, 32 * MIB) };
                self.told.push(format!("{origin:?}:"));
                let got =
                    self.world.run(self.world.engine.create("pool", &spec)).map(|change| change.changed());
                ("create", self.model.create(volume, origin), got)
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
            16 => {
                self.reboot();
                return;
            }
            17..=20 => {
                let snapshot = self.dice.roll(SNAPSHOTS);
                let spec = SnapshotSpec { id: Self::snapshot_id(snapshot), source: id.clone(), owner: None };
                self.told.push(format!("{}:", spec.id));
                let got = self.world.run(self.world.engine.snapshot(&spec)).map(|change| change.changed());
                ("snapshot", self.model.snapshot(snapshot, volume), got)
            }
            21 => {
                let snapshot = self.dice.roll(SNAPSHOTS);
                let id = Self::snapshot_id(snapshot);
                self.told.push(format!("{id}:"));
                let got =
                    self.world.run(self.world.engine.delete_snapshot(&id)).map(|change| change.changed());
                ("delete snapshot", self.model.delete_snapshot(snapshot), got)
            }
            22..=24 => {
                let (snapshot, safety) = (self.dice.roll(SNAPSHOTS), self.dice.roll(SNAPSHOTS));
                let ids = [snapshot, safety].map(Self::snapshot_id);
                self.told.push(format!("{ids:?}:"));
                let got = self.world.run(self.world.engine.restore(&id, &ids[0], &ids[1]));
                ("restore", self.model.restore(volume, snapshot, safety), got.map(|change| change.changed()))
            }
            _ => {
                if let Some(content) = self.model.write(volume) {
                    self.told.push(format!("write {content} to {volume}"));
                    self.world.write(&id, &content);
                }
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
        let inventory = self.world.run(self.world.engine.list());
        let snapshots: Vec<_> =
            inventory.snapshots.into_iter().map(|found| (found.id, found.source)).collect();
        let expected = self.model.snapshots.iter().enumerate();
        let expected: Vec<_> = expected
            .filter_map(|(at, found)| Some((Self::snapshot_id(at), Self::id(found.as_ref()?.of))))
            .collect();
        assert_eq!(snapshots, expected, "after {:#?}", self.told);
        let volumes = inventory.volumes;
        let used =
            |volume: usize| volumes.iter().find(|info| info.id == Self::id(volume)).map(|info| info.used);
        for (volume, state) in self.model.volumes.iter().enumerate() {
            assert_eq!(
                used(volume),
                state.exists.then_some(state.used),
                "volume {volume} after {:#?}",
                self.told
            );
            if state.staged && !is_block(volume) {
                let content = state.content.clone().unwrap();
                assert_eq!(
                    self.world.read(&Self::id(volume)),
                    content,
                    "volume {volume} after {:#?}",
                    self.told
                );
            }
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
        for snapshot in 0..SNAPSHOTS {
            self.world.run(self.world.engine.delete_snapshot(&Self::snapshot_id(snapshot))).unwrap();
        }
        self.world.run(self.world.engine.recover());
        self.world.run(self.world.engine.sweep());
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
