//! One boot of a guest whose power is cut in the middle of an operation: `tierce-e2e lab power-cuts` starts this again and again on the same
//! disks. It first looks whether what the last cut left is sound, then begins the next operation, with a writer beside it.
//!
//! What was acknowledged is noted outside the guest's disks, in `said` of the folder that it shares with the host: written before anything that
//! the line speaks of begins, or after it was acknowledged.

#![allow(clippy::unwrap_used, clippy::panic)]

mod audit;
mod content;
mod operation;
mod said;
#[path = "../world/mod.rs"]
mod world;

use std::path::{Path, PathBuf};

use content::Writer;
use operation::{BASE, Operation, STILL};
use said::Said;
use tierce_engine::{Key, LvmKind, StageRequest, VolumeId, VolumeMode, VolumeSpec};
use world::{EXT4, MIB, World, XFS, lvm, spec};

/// `thin`, `thick`, and both with `-luks`.
const KIND: &str = "TIERCE_POWER_KIND";
/// The number of this boot.
const BOOT: &str = "TIERCE_POWER_BOOT";
/// What to be in the middle of; nothing: only look whether all is sound.
const OPERATION: &str = "TIERCE_POWER_OPERATION";

/// A boot.
struct Boot {
    world: World,
    said: Said,
    number: usize,
    thin: bool,
}

#[test]
#[ignore = "started by tierce-e2e lab power-cuts"]
fn boot() {
    let variable = |name| std::env::var(name).unwrap();
    let number = variable(BOOT).parse().unwrap();
    let kind = variable(KIND);
    let said = Said::open(&PathBuf::from(variable("TIERCE_LAB_FOLDER")).join("said"));
    said.say("booted");
    world::private_mounts();
    let disks: Vec<PathBuf> = variable("TIERCE_LAB_DISKS").split(' ').map(PathBuf::from).collect();
    let thin = kind.starts_with("thin");
    let group =
        lvm::TestGroup::lasting("tierce-power", if thin { lvm::thin() } else { LvmKind::Thick }, &disks[..2]);
    let folder = Path::new("/tmp/power");
    std::fs::create_dir_all(folder).unwrap();
    let mut world = World::lvm_over(folder, group);
    world.encrypted = kind.ends_with("-luks");
    let boot = Boot { world, said, number, thin };
    let recovery = boot.world.run(boot.world.engine.recover());
    assert_eq!(recovery.problems, Vec::<String>::new());
    // As the node plugin does once it serves.
    boot.world.run(boot.world.engine.start_sweeps());
    boot.settle();
    if let Ok(wanted) = std::env::var(OPERATION) {
        boot.live(wanted.parse().unwrap());
    }
    boot.world.unstage(&id(BASE)).unwrap();
    boot.world.assert_clean();
}

fn id(name: &str) -> VolumeId {
    name.parse().unwrap()
}

impl Boot {
    /// XFS where space is only taken as it is written; copies of thick volumes are whole, so they are kept small.
    fn mode(&self) -> VolumeMode {
        if self.thin { XFS } else { EXT4 }
    }

    fn size(&self) -> u64 {
        if self.thin { 320 * MIB } else { 48 * MIB }
    }

    /// By how much the base volume grows: more than its filesystem takes for itself.
    fn step(&self) -> u64 {
        if self.thin { 96 * MIB } else { 24 * MIB }
    }

    fn key(&self, number: usize) -> Option<Key> {
        let byte = u8::try_from(number % 251).unwrap();
        self.world.encrypted.then(|| Key::new([byte; Key::BYTES]))
    }

    fn create(&self, name: &str, source: Option<&str>) -> VolumeId {
        let source = source.map(id);
        let size = if source.is_some() { self.grown() } else { self.size() };
        let asked = VolumeSpec { source, encrypted: self.world.encrypted, ..spec(name, self.mode(), size) };
        self.world.run(self.world.engine.create("pool", &asked)).unwrap();
        asked.id
    }

    /// The size that the base volume was last asked to have.
    fn grown(&self) -> u64 {
        self.said.last("begin grow").map_or(self.size(), |words| words[0].parse().unwrap())
    }

    /// Stages with one of the keys, and the other to rotate to.
    fn stage(&self, volume: &VolumeId, key: usize, next: Option<usize>) {
        let staging = self.world.staging(volume);
        std::fs::create_dir_all(&staging).unwrap();
        let (wanted, older) = (next.unwrap_or(key), next.and_then(|_| self.key(key)));
        let request = StageRequest {
            key: self.key(wanted),
            older_keys: older.into_iter().collect(),
            ..StageRequest::default()
        };
        self.world.run(self.world.engine.stage(volume, &staging, &request)).unwrap();
    }

    /// Stages a volume that has records, and counts them. It is never formatted for that.
    fn records(&self, volume: &VolumeId, key: usize, next: Option<usize>) -> u64 {
        let before = self.formats();
        self.stage(volume, key, next);
        assert_eq!(self.formats(), before, "{volume}, which has data, was formatted");
        content::count(&self.world.staging(volume))
    }

    /// How many filesystems and LUKS headers this process made.
    fn formats(&self) -> usize {
        let lines = self.world.spy.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains("mkfs") || line.contains("luksFormat")).count()
    }

    /// The volumes that stay over all boots, and the writer.
    fn live(&self, operation: Operation) {
        if self.said.last("acknowledged base").is_none() {
            self.create(BASE, None);
            self.stage(&id(BASE), 0, None);
            let still = self.create(STILL, None);
            self.stage(&still, 0, None);
            Writer::write(&self.world.staging(&still), &self.said, STILL, 3);
            self.world.unstage(&still).unwrap();
        }
        let prepared = self.prepare(operation);
        let writer = Writer::start(self.world.staging(&id(BASE)), self.said.clone(), BASE);
        writer.wait_for(2);
        self.carry_out(operation, &prepared);
        self.said.say(&format!("done {operation}"));
        // The cut comes, early or late.
        std::thread::sleep(std::time::Duration::from_mins(1));
        drop(writer);
        panic!("no cut came");
    }
}
