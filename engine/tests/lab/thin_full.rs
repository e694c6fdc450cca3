//! Thin pools that fill up, with data or with metadata, while somebody writes: what was acknowledged stays, and a pool that may grow does. In
//! the lab; skipped by name elsewhere.

use std::{collections::BTreeMap, fs::File, io, ops::Range, os::unix::fs::FileExt, path::PathBuf};

use crate::world::lvm::{eventually, group, thin_pool, with_little_metadata};
use crate::world::{BLOCK, BTRFS, EXT4, MIB, World, XFS, lvm, run, text};
use rustix::io::Errno;
use tierce_engine::{PoolUsage, VolumeId};

/// Bytes of a block: a chunk of the tests' thin pools.
const BYTES: u64 = 64 << 10;

/// How many blocks are synced together where it does not matter which of them is the last one that is acknowledged: to sync one takes as long as
/// to write some dozens.
const TOGETHER: usize = 32;

/// Writes blocks that say which they are, syncs them, and remembers what was acknowledged.
#[derive(Clone)]
struct Writer {
    /// A file, or a device.
    path: PathBuf,
    /// The blocks that are there for certain, and what they say.
    acknowledged: BTreeMap<u64, String>,
}

impl Writer {
    fn new(path: PathBuf) -> Self {
        Self { path, acknowledged: BTreeMap::new() }
    }

    /// Writes blocks and syncs each, until one is refused.
    fn write(&mut self, places: Range<u64>, what: &str) -> io::Result<()> {
        self.write_in_parts(&places.collect::<Vec<_>>(), 1, what)
    }

    /// The same, some of them synced together.
    fn write_together(&mut self, places: Range<u64>, what: &str) -> io::Result<()> {
        self.write_in_parts(&places.collect::<Vec<_>>(), TOGETHER, what)
    }

    fn write_in_parts(&mut self, places: &[u64], together: usize, what: &str) -> io::Result<()> {
        let file = File::options().write(true).create(true).truncate(false).open(&self.path)?;
        let said = |place: u64| format!("{what}, block {place}");
        for part in places.chunks(together) {
            for place in part {
                // Nobody knows what is there while it is written.
                self.acknowledged.remove(place);
                file.write_all_at(&block(&said(*place)), place * BYTES)?;
            }
            file.sync_data()?;
            self.acknowledged.extend(part.iter().map(|&place| (place, said(place))));
        }
        Ok(())
    }

    /// Reads all that was acknowledged. The last one to close a device has let go of what was in memory of it.
    fn verify(&self, when: &str) {
        self.verify_each(1, when);
    }

    /// The same of the places that are multiples of this.
    fn verify_each(&self, step: u64, when: &str) {
        let file = File::open(&self.path).unwrap();
        for (place, said) in self.acknowledged.iter().filter(|(place, _)| *place % step == 0) {
            let mut found = block("");
            let read = file.read_exact_at(&mut found, place * BYTES);
            let begins = String::from_utf8_lossy(&found[..LINE]).into_owned();
            assert!(
                read.is_ok() && found == block(said),
                "{when}, {}: {said:?} was acknowledged, and now: {begins:?} {read:?}",
                self.path.display()
            );
        }
    }
}

/// Bytes of a line.
const LINE: usize = 64;

/// A block that says this in every line.
fn block(said: &str) -> Vec<u8> {
    format!("{said:<63}\n").repeat(usize::try_from(BYTES).unwrap() / LINE).into_bytes()
}

fn usage(world: &World) -> PoolUsage {
    world.run(world.engine.reports()).remove(0).result.unwrap()
}

fn node(world: &World, id: &VolumeId) -> PathBuf {
    group(world).node(&format!("v-{id}"))
}

#[test]
fn bug_05_what_was_acknowledged_while_a_pool_filled_up_is_there_when_it_has_space_again() {
    // The bystander has what the filler lacks in the end.
    const BESIDE: Range<u64> = 0..32 * MIB / BYTES;
    // XFS takes no less than 300 MiB.
    for (mode, size) in [(BLOCK, 128), (EXT4, 128), (XFS, 320), (BTRFS, 320)] {
        let Some(mut world) = World::lvm(thin_pool(size, true)) else { return };
        world.overcommit = 2.0;
        world.set_pool();
        let (bystander, filler) =
            (world.create("pvc-1", BLOCK, 32 * MIB), world.create("pvc-2", mode, size * MIB));
        world.stage(&bystander, true).unwrap();
        world.stage(&filler, mode == BLOCK).unwrap();
        let name = group(&world).name.clone();
        group(&world).lvm("lvcreate", &["-qq", "-y", "-l", "100%FREE", "-n", "theirs", &name]);

        let mut beside = Writer::new(node(&world, &bystander));
        beside.write(BESIDE, "before").unwrap();
        let file = world.staging(&filler).join("file");
        let mut writer = Writer::new(if mode == BLOCK { node(&world, &filler) } else { file });
        let error = writer.write(0..(size - 24) * MIB / BYTES, "first").unwrap_err();
        let kind = Errno::from_io_error(&error);
        assert!(matches!(kind, Some(Errno::NOSPC | Errno::IO)), "{mode}: {error:?}");
        let written = u64::try_from(writer.acknowledged.len()).unwrap();
        assert!(written > 64 * MIB / BYTES, "{mode}: only {written} blocks");
        // Who goes on all the same gets errors, and nothing of before suffers.
        let refused =
            (written + 1..written + 33).filter(|place| writer.write(*place..place + 1, "late").is_err());
        assert!(refused.count() > 16, "{mode}");
        assert_eq!(usage(&world).thin.unwrap().data, 10_000, "{mode}");
        beside.verify("while the pool is full");
        beside.write(BESIDE, "while the pool is full").unwrap();
        beside.verify("while the pool is full");

        group(&world).lvm("lvremove", &["-qq", "-f", &format!("{name}/theirs")]);
        eventually(&world, "the growth", || usage(&world).thin.unwrap().data < 10_000);
        // A filesystem that got errors has to be mounted anew.
        world.unstage(&filler).unwrap();
        world.stage(&filler, mode == BLOCK).unwrap();
        writer.verify("with space again");
        writer.write(written..written + 64, "second").unwrap();
        writer.verify("after further writes");
        beside.verify("with space again");
        println!("{mode}: {written} blocks before {error}, {} in the end", writer.acknowledged.len());
        for id in [&bystander, &filler] {
            world.unstage(id).unwrap();
            assert!(world.delete(id).unwrap());
        }
        world.assert_clean();
    }
}

/// As docs/thin-pools.md has it: into the pool's configuration first, then into the group. Nobody restarts anything.
#[test]
fn a_pool_that_is_full_grows_by_itself_onto_a_further_disk() {
    let Some(mut world) = World::lvm(thin_pool(128, true)) else { return };
    world.overcommit = 2.0;
    world.set_pool();
    let (bystander, filler) =
        (world.create("pvc-1", BLOCK, 64 * MIB), world.create("pvc-2", BLOCK, 96 * MIB));
    world.stage(&bystander, true).unwrap();
    world.stage(&filler, true).unwrap();
    let name = group(&world).name.clone();
    group(&world).lvm("lvcreate", &["-qq", "-y", "-l", "100%FREE", "-n", "theirs", &name]);
    let mut beside = Writer::new(node(&world, &bystander));
    beside.write_together(0..64 * MIB / BYTES, "before").unwrap();
    let mut writer = Writer::new(node(&world, &filler));
    let much = 48 * MIB / BYTES;
    writer.write_together(0..much, "first").unwrap();
    writer.write(much..96 * MIB / BYTES, "first").unwrap_err();

    let disk = world.group.as_mut().unwrap().add_device(lvm::DEVICE_BYTES);
    world.set_pool();
    group(&world).lvm("vgextend", &["-qq", "-y", &name, text(&disk)]);
    eventually(&world, "the growth", || usage(&world).thin.unwrap().data < 10_000);
    writer.verify("with space again");
    let written = u64::try_from(writer.acknowledged.len()).unwrap();
    writer.write(written..written + 64, "second").unwrap();
    world.unstage(&filler).unwrap();
    world.stage(&filler, true).unwrap();
    writer.verify("in the end");
    beside.verify("in the end");
    for id in [&bystander, &filler] {
        world.unstage(id).unwrap();
        assert!(world.delete(id).unwrap());
    }
    world.create("pvc-3", BLOCK, 4 * MIB);
}

/// Its key slots lie in a chunk that its snapshot shares, and zeros over them would need another chunk.
#[test]
fn an_encrypted_volume_with_a_snapshot_can_be_deleted_from_a_full_pool() {
    let Some(mut world) = World::lvm(thin_pool(192, false)).map(World::encrypted) else { return };
    world.overcommit = 3.0;
    world.set_pool();
    let mapper = |id: &VolumeId| PathBuf::from(format!("/dev/mapper/tierce-crypt-{id}"));
    let (volume, filler) = (world.create("pvc-1", BLOCK, 64 * MIB), world.create("pvc-2", BLOCK, 160 * MIB));
    for id in [&volume, &filler] {
        world.stage(id, true).unwrap();
    }
    Writer::new(mapper(&volume)).write_together(0..64 * MIB / BYTES, "first").unwrap();
    let taken = world.snapshot("snap-1", &volume).unwrap();
    Writer::new(mapper(&filler)).write_together(0..160 * MIB / BYTES, "first").unwrap_err();
    assert_eq!(usage(&world).thin.unwrap().data, 10_000);
    world.unstage(&volume).unwrap();
    assert!(world.delete(&volume).unwrap());
    assert!(world.run(world.engine.delete_snapshot(&taken)).unwrap().changed());
    world.run(world.engine.sweep());
    assert!(usage(&world).thin.unwrap().data < 8_000);
    world.unstage(&filler).unwrap();
    assert!(world.delete(&filler).unwrap());
    world.assert_clean();
}

/// Blocks of the pool's metadata that are in use, and all. Asked past the engine, which would look at the pool and let it grow.
fn metadata(world: &World) -> (u64, u64) {
    let device = format!("{}-thin-tpool", group(world).name.replace('-', "--"));
    let status = String::from_utf8(run("dmsetup", &["status", &device]).stdout).unwrap();
    let blocks = status.split(' ').nth(4).unwrap();
    let (used, all) = blocks.split_once('/').unwrap();
    (used.parse().unwrap(), all.parse().unwrap())
}

/// The kernel tells when a quarter is left of metadata that is as small as this, and of larger ones later still; a tenth that it keeps for itself
/// counts as used, so that is at 85 %. Who looks at the pool sees from 70 % on that it is due.
#[test]
fn metadata_that_fills_up_grows_by_itself() {
    const SIZE: u64 = 128 * MIB;
    const COPIES: u64 = 40;
    for (who_looks, until) in [(true, 71), (false, 90)] {
        let Some(mut world) = with_little_metadata(true) else { return };
        let first = world.create("pvc-0", BLOCK, SIZE);
        world.stage(&first, true).unwrap();
        let mut writers = vec![Writer::new(node(&world, &first))];
        writers[0].write_together(0..SIZE / BYTES, "first").unwrap();
        // Each copy shares its map with the first, until it is written to.
        for number in 1..=COPIES {
            let copy = world.create_from(&format!("pvc-{number}"), BLOCK, SIZE, "pvc-0").unwrap();
            world.stage(&copy, true).unwrap();
            writers.push(Writer { path: node(&world, &copy), ..writers[0].clone() });
        }
        let (used, before) = metadata(&world);
        assert!(used * 100 < before * 60, "{used} of {before}");

        // A part of the map has the places of 8 MiB at most.
        let mut places =
            (1..=COPIES).flat_map(|copy| (0..SIZE / BYTES).step_by(128).map(move |at| (copy, at)));
        let full = |world: &World| {
            let (used, all) = metadata(world);
            used * 100 >= all * until || all > before
        };
        while !full(&world) {
            // To ask takes longer than to write, and four take a fiftieth of the metadata at most.
            for _ in 0..4 {
                let Some((copy, place)) = places.next() else {
                    panic!("the metadata never filled up: {used} of {before}, then {:?}", metadata(&world));
                };
                let writer = &mut writers[usize::try_from(copy).unwrap()];
                writer.write(place..place + 1, &format!("copy {copy}")).unwrap();
            }
        }
        if who_looks {
            assert_eq!(metadata(&world).1, before, "nobody has looked, and the kernel has not told yet");
            assert!(usage(&world).thin.unwrap().metadata >= 7000);
        }
        eventually(&world, "the growth", || metadata(&world).1 > before);

        let mut rest: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (copy, place) in places {
            rest.entry(copy).or_default().push(place);
        }
        for (copy, places) in rest {
            let writer = &mut writers[usize::try_from(copy).unwrap()];
            writer.write_in_parts(&places, TOGETHER, &format!("copy {copy}")).unwrap();
        }
        world.restart();
        let now = usage(&world);
        assert!(now.thin.unwrap().metadata < 7000 && now.max_volume_bytes > 0, "{now:?}");
        // What goes wrong with the metadata goes wrong with a part of the map, if not with the places that were written to.
        writers[0].verify("with more metadata");
        for writer in &writers[1..] {
            writer.verify_each(8, "with more metadata");
        }
        world.snapshot("snap-1", &first).unwrap();
        println!("{used} of {before} blocks of metadata, in the end {:?}", metadata(&world));
    }
}
