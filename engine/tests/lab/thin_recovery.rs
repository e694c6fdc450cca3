//! The steps of docs/thin-pools.md that bring a full or damaged thin pool back, each as it stands there, in the lab. Skipped by name elsewhere.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

use crate::world::lvm::{eventually, group, thin_pool, with_little_metadata};
use crate::world::{BLOCK, EXT4, MIB, World, lvm, run, spec, text};
use tierce_engine::{Error, PoolErrorKind, PoolUsage, VolumeId};

fn usage(world: &World) -> PoolUsage {
    world.run(world.engine.reports()).remove(0).result.unwrap()
}

fn data(world: &World) -> u16 {
    usage(world).thin.unwrap().data
}

/// Why the pool can't be used.
fn trouble(world: &World) -> String {
    world.run(world.engine.reports()).remove(0).result.unwrap_err().to_string()
}

fn random(bytes: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(bytes).unwrap()];
    File::open("/dev/urandom").unwrap().read_exact(&mut content).unwrap();
    content
}

/// Writes to a device past the page cache.
fn write(device: &Path, at: u64, content: &[u8]) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(device)?;
    file.write_all_at(content, at)?;
    file.sync_data()
}

#[test]
fn what_is_deleted_or_trimmed_gives_its_space_back() {
    let Some(mut world) = World::lvm(thin_pool(256, false)) else { return };
    // Else no snapshot would be promised what its volume was.
    world.overcommit = 10.0;
    world.set_pool();
    let files = world.create("pvc-1", EXT4, 120 * MIB);
    world.stage(&files, false).unwrap();
    fs::write(world.staging(&files).join("large"), random(80 * MIB)).unwrap();
    let device = world.create("pvc-2", BLOCK, 96 * MIB);
    world.stage(&device, true).unwrap();
    write(&group(&world).node("v-pvc-2"), 0, &random(90 * MIB)).unwrap();
    run("sync", &[]);
    let full = data(&world);
    assert!(full > 6500, "{full}");

    fs::remove_file(world.staging(&files).join("large")).unwrap();
    // ext4 gives blocks free only when its journal has them.
    run("sync", &[]);
    run("fstrim", &[text(&world.staging(&files))]);
    let trimmed = data(&world);
    assert!(trimmed + 2500 < full, "{full} {trimmed}");

    // A snapshot holds what its volume no longer has.
    let snapshot = world.snapshot("snap-1", &device).unwrap();
    write(&group(&world).node("v-pvc-2"), 0, &random(60 * MIB)).unwrap();
    let with_snapshot = data(&world);
    assert!(with_snapshot > trimmed + 2000, "{trimmed} {with_snapshot}");
    assert!(world.run(world.engine.delete_snapshot(&snapshot)).unwrap().changed());
    eventually(&world, "the snapshot's space", || data(&world) + 2000 < with_snapshot);
    world.unstage(&device).unwrap();
    world.delete(&device).unwrap();
    eventually(&world, "the volume's space", || data(&world) < 1500);
    world.unstage(&files).unwrap();
}

#[test]
fn a_further_disk_gives_the_pool_room() {
    let Some(mut world) = World::lvm(thin_pool(256, false)) else { return };
    let name = group(&world).name.clone();
    let before = usage(&world).capacity_bytes;
    // First the StoragePool names the disk, since the plugin looks at no other; then the group gets it.
    let disk = world.group.as_mut().unwrap().add_device(lvm::DEVICE_BYTES);
    world.set_pool();
    assert_eq!(usage(&world).capacity_bytes, before);
    group(&world).lvm("vgextend", &["-qq", "-y", &name, text(&disk)]);
    group(&world).lvm("lvextend", &["-qq", "-y", "-L", "+1g", &format!("{name}/thin")]);
    world.restart();
    assert_eq!(usage(&world).capacity_bytes, before + 1024 * MIB);
    // The other way round the pool is not used, and says so.
    world.group.as_mut().unwrap().devices.pop();
    world.forget();
    world.run(world.engine.set_pools(vec![world.pool("pool")]));
    let error = trouble(&world);
    assert!(error.contains("misses 1 of its 3 devices"), "{error}");
    world.group.as_mut().unwrap().devices.push(disk);
    world.restart();
    let id = world.create("pvc-1", BLOCK, 512 * MIB);
    assert!(world.delete(&id).unwrap());
}

/// The mappings of 8 MiB lie in one block of metadata: changing one of them in a volume that shares it takes a new block.
fn change_each_block(device: &Path, mib: u64) -> std::io::Result<()> {
    let content = random(4096);
    (0..mib / 8).try_for_each(|at| write(device, at * 8 * MIB, &content))
}

#[test]
fn bug_06_full_metadata_stops_creations_early_and_comes_back_with_space() {
    const VOLUME: u64 = 64;
    let Some(mut world) = with_little_metadata(false) else { return };
    let name = group(&world).name.clone();
    let id = world.create("pvc-1", BLOCK, VOLUME * MIB);
    world.stage(&id, true).unwrap();
    let node = group(&world).node("v-pvc-1");
    let device = OpenOptions::new().write(true).open(&node).unwrap();
    let content = random(4096);
    for at in 0..VOLUME * 16 {
        device.write_all_at(&content, at * (64 << 10)).unwrap();
    }
    device.sync_all().unwrap();
    drop(device);

    // LVM or we stop admission before it is full.
    let mut snapshots: Vec<VolumeId> = Vec::new();
    let refused = loop {
        match world.snapshot(&format!("snap-{}", snapshots.len()), &id) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(refused) => break refused,
        }
        change_each_block(&node, VOLUME).unwrap();
    };
    let level = usage(&world).thin.unwrap().metadata;
    assert!((7000..9000).contains(&level), "refused at {level}");
    // A volume is refused for the same reason, and both say what is full and what mends it.
    let volume = world.run(world.engine.create("pool", &spec("pvc-2", BLOCK, MIB))).unwrap_err();
    for refused in [refused, volume] {
        let Error::PoolUnavailable(trouble) = refused else { panic!("{refused:?}") };
        assert_eq!(trouble.kind, PoolErrorKind::MetadataNearlyFull, "{trouble}");
        let full = format!("metadata of thin pool thin of volume group {name} is {} % full", level / 100);
        assert!(trouble.reason.contains(&full), "{trouble}");
        assert!(
            trouble.reason.contains(&format!("lvextend --poolmetadatasize +SIZE {name}/thin")),
            "{trouble}"
        );
    }

    // Somebody else takes the rest, past LVM.
    let mapped = |device: &str| format!("{}-{device}", name.replace('-', "--"));
    let (origin, pool) = (mapped("v--pvc--1"), mapped("thin-tpool"));
    let table = String::from_utf8(run("dmsetup", &["table", &origin]).stdout).unwrap();
    let number = table.split_ascii_whitespace().last().unwrap();
    let full = (5000..5100).any(|copy| {
        run("dmsetup", &["suspend", &origin]);
        let message = format!("create_snap {copy} {number}");
        // Refused when it is full; then the write fails too.
        let _ = Command::new("dmsetup").args(["message", &pool, "0", &message]).output().unwrap();
        run("dmsetup", &["resume", &origin]);
        change_each_block(&node, VOLUME).is_err()
    });
    assert!(full, "the metadata never filled up");
    // What could not be written is not to be read from memory.
    run("blockdev", &["--flushbufs", text(&node)]);
    let precious = fs::read(&node).unwrap();
    world.unstage(&id).unwrap();
    world.forget();
    world.run(world.engine.set_pools(vec![world.pool("pool")]));
    let error = trouble(&world);
    assert!(error.contains("needs_check") || error.contains("--poolmetadatasize"), "{error}");

    // The steps of the page.
    world.forget();
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);
    group(&world).lvm("lvextend", &["-qq", "-y", "--poolmetadatasize", "+64m", &format!("{name}/thin")]);
    world.restart();
    let now = usage(&world);
    assert!(now.thin.unwrap().metadata < 5000 && now.max_volume_bytes > 0, "{now:?}");
    world.stage(&id, true).unwrap();
    assert!(fs::read(&node).unwrap() == precious, "the content differs");
    world.unstage(&id).unwrap();
    world.snapshot("snap-again", &id).unwrap();
}

/// Bytes of a block of a thin pool's metadata.
const BLOCK_BYTES: u64 = 4096;

/// Finds a block of the metadata whose loss is noticed and can be mended, by trying on a copy.
fn mendable_block(folder: &Path, metadata: &[u8]) -> u64 {
    let [copy, mended] = ["copy", "mended"].map(|name| folder.join(name));
    let succeeds = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().unwrap().status.success()
    };
    let found = (1..64).find(|block| {
        let mut damaged = metadata.to_vec();
        let at = usize::try_from(block * BLOCK_BYTES).unwrap();
        damaged[at..at + 4096].fill(0);
        fs::write(&copy, damaged).unwrap();
        fs::write(&mended, vec![0; metadata.len()]).unwrap();
        !succeeds("thin_check", &["-q", text(&copy)])
            && succeeds("thin_repair", &["-i", text(&copy), "-o", text(&mended)])
            && run("thin_dump", &[text(&mended)]).stdout.windows(6).filter(|word| word == b"mapped").count()
                > 0
    });
    found.expect("no such block")
}

#[test]
fn bug_06_damaged_metadata_is_refused_and_mended_by_lvconvert() {
    let Some(mut world) = World::lvm(thin_pool(256, false)) else { return };
    let name = group(&world).name.clone();
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    world.stage(&id, false).unwrap();
    world.write(&id, "kept");
    world.unstage(&id).unwrap();
    world.forget();
    group(&world).lvm("vgchange", &["-qq", "-an", &name]);

    // Where the metadata lies: `<device>:<first extent>-<last>`, in extents of 4 MiB.
    let layout = ["--noheadings", "-a", "-o", "lv_name,seg_pe_ranges", &name];
    let lines = group(&world).lvm("lvs", &layout);
    let line = lines.lines().find(|line| line.contains("[thin_tmeta]")).unwrap();
    let (device, extents) = line.split_whitespace().nth(1).unwrap().split_once(':').unwrap();
    let first: u64 = extents.split('-').next().unwrap().parse().unwrap();
    let extents = ["--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start", device];
    let extents: u64 = group(&world).lvm("pvs", &extents).trim().parse().unwrap();
    let start = extents + first * 4 * MIB;
    let mut metadata = vec![0; 4 << 20];
    File::open(device).unwrap().read_exact_at(&mut metadata, start).unwrap();
    let block = mendable_block(world.folder.path(), &metadata);
    write(Path::new(device), start + block * BLOCK_BYTES, &[0; 4096]).unwrap();

    world.run(world.engine.set_pools(vec![world.pool("pool")]));
    let error = trouble(&world);
    let command = format!("lvconvert --repair {name}/thin");
    assert!(error.contains(&command), "{error}");

    // The steps of the page.
    world.forget();
    group(&world).try_lvm("vgchange", &["-qq", "-an", &name]);
    group(&world).lvm("lvconvert", &["-qq", "-y", "--repair", &format!("{name}/thin")]);
    world.restart();
    assert!(world.stage(&id, false).unwrap());
    assert_eq!(world.read(&id), "kept");
    world.unstage(&id).unwrap();
    // What was damaged is kept aside.
    group(&world).lvm("lvremove", &["-qq", "-f", &format!("{name}/thin_meta0")]);
    world.restart();
    assert_eq!(world.run(world.engine.list()).volumes.len(), 1);
    assert!(world.delete(&id).unwrap());
}
