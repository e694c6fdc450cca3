//! Broken records, remains of a crash, and what a deletion must not touch.

use super::*;

pub fn a_broken_record_is_left_alone_and_the_others_go_on(world: &mut World) {
    let good = world.create("pvc-good", EXT4, 64 * MIB);
    let damage: [(&str, Damage); 4] = [
        ("pvc-cut", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("pvc-edited", |file| {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, text.replace("\"size_bytes\": 67108864", "\"size_bytes\": 67108865")).unwrap();
        }),
        ("pvc-gone", |file| fs::remove_file(file).unwrap()),
        ("pvc-zeros", |file| fs::write(file, [0; 512]).unwrap()),
    ];
    for (id, break_it) in damage {
        world.create(id, EXT4, 64 * MIB);
        break_it(&world.path("pool/volumes").join(id).join("record.json"));
    }
    world.restart();
    let inventory = world.run(world.engine.list());
    assert_eq!(inventory.volumes.len(), 1);
    assert_eq!(inventory.broken.len(), 4);
    for (name, _) in damage {
        let id: VolumeId = name.parse().unwrap();
        let broken = inventory.broken.iter().find(|broken| broken.id.as_ref() == Some(&id)).unwrap();
        assert!(broken.file.starts_with(world.path("pool/volumes").join(name)), "{broken:?}");
        assert!(!broken.reason.is_empty());
        for result in [
            world.stage(&id, false),
            world.delete(&id),
            world.run(world.engine.grow(&id, 128 * MIB)).map(|_| true),
            world.run(world.engine.create("pool", &spec(name, EXT4, 64 * MIB))).map(|_| true),
            world.run(world.engine.get(&id)).map(|_| true),
        ] {
            assert!(matches!(result, Err(Error::BrokenRecord { .. })), "{name}: {result:?}");
        }
        assert!(world.path("pool/volumes").join(name).is_dir());
    }
    assert_eq!(world.run(world.engine.recover()).problems, Vec::<String>::new());
    assert_eq!(world.run(world.engine.list()).broken.len(), 4);
    world.stage(&good, false).unwrap();
    world.unstage(&good).unwrap();
    assert!(world.delete(&good).unwrap());
}

pub fn a_record_of_a_newer_tierce_is_left_alone_and_told_from_a_broken_one(world: &mut World) {
    let (plain, needy) = (world.create("pvc-1", EXT4, 64 * MIB), world.create("pvc-2", EXT4, 64 * MIB));
    let volumes = world.path("pool/volumes");
    let record = |id: &VolumeId| volumes.join(id.as_str()).join("record.json");
    let file = record(&plain);
    say(&file, "shade", json!("deep"));
    say(&record(&needy), "needs", json!(1000));
    let before = fs::read(record(&needy)).unwrap();
    world.restart();
    for result in [
        world.stage(&needy, false),
        world.delete(&needy),
        world.run(world.engine.grow(&needy, 128 * MIB)).map(|_| true),
        world.run(world.engine.create("pool", &spec("pvc-2", EXT4, 64 * MIB))).map(|_| true),
        world.run(world.engine.get(&needy)).map(|_| true),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NewerRecord { .. }), "{error:?}");
        let words = error.to_string();
        assert!(words.contains("it needs 1000") && words.contains("update Tierce on this node"), "{words}");
        assert!(!words.contains("damaged"), "{words}");
    }
    let listed = world.run(world.engine.list());
    assert_eq!((listed.volumes.len(), listed.broken.len()), (1, 1));
    assert!(listed.broken[0].reason.contains("newer Tierce"), "{listed:?}");
    assert_eq!(fs::read(record(&needy)).unwrap(), before);
    // A field that we need not know lasts as long as the volume; a snapshot and a clone are without it.
    world.stage(&plain, false).unwrap();
    world.unstage(&plain).unwrap();
    world.run(world.engine.grow(&plain, 128 * MIB)).unwrap();
    assert!(said(&file, "used") == json!(true) && said(&file, "shade") == json!("deep"));
    let snapshot = SnapshotSpec { id: "snap-1".parse().unwrap(), source: plain.clone(), owner: None };
    world.run(world.engine.snapshot(&snapshot)).unwrap();
    assert_eq!(said(&record(&snapshot.id), "shade"), Value::Null);
}

/// Adds a field to a record, as a later Tierce would.
fn say(file: &Path, field: &str, value: Value) {
    let mut whole: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    whole["volume"][field] = value;
    let mut sum = String::new();
    for byte in Sha256::digest(whole["volume"].to_string()) {
        write!(sum, "{byte:02x}").unwrap();
    }
    whole["sha256"] = sum.into();
    fs::write(file, serde_json::to_vec_pretty(&whole).unwrap()).unwrap();
}

fn said(file: &Path, field: &str) -> Value {
    let whole: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    whole["volume"][field].clone()
}

pub fn what_a_crash_left_is_removed_and_nothing_else(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    for left in ["new/pvc-2.0123456789abcdef0123456789abcdef", "trash/pvc-3.fedcba9876543210fedcba9876543210"]
    {
        let folder = world.path("pool").join(left);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("data.img"), b"x").unwrap();
    }
    fs::write(world.path("pool/volumes/pvc-1/record.json.tmp"), b"half a rec").unwrap();
    let recovery = world.run(world.engine.recover());
    assert_eq!((recovery.thrown_unfinished, recovery.problems), (1, Vec::new()));
    let count = |folder: &str| fs::read_dir(world.path("pool").join(folder)).unwrap().count();
    assert_eq!((count("new"), count("trash")), (0, 2), "what takes long waits for the sweep");
    world.run(world.engine.sweep());
    for folder in ["new", "trash"] {
        assert_eq!(fs::read_dir(world.path("pool").join(folder)).unwrap().count(), 0);
    }
    assert!(world.run(world.engine.get(&id)).unwrap().is_some());
    world.stage(&id, false).unwrap();
    world.unstage(&id).unwrap();
}

pub fn bug_04_delete_touches_only_its_own_subtree(world: &mut World) {
    let id = world.create("pvc-1", EXT4, 64 * MIB);
    let neighbours = ["pvc-10", "pvc-2", "pvc"].map(|name| world.create(name, EXT4, 64 * MIB));
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("data.img"), b"precious").unwrap();
    fs::write(outside.join("record.json"), b"{}").unwrap();
    // A volume's folder that is a link, and one with a link and a folder in it.
    std::os::unix::fs::symlink(&outside, world.path("pool/volumes/pvc-link")).unwrap();
    std::os::unix::fs::symlink(&outside, world.path("pool/volumes/pvc-1/link")).unwrap();
    let _ = world.delete(&"pvc-link".parse().unwrap());
    assert!(world.delete(&id).unwrap());
    world.run(world.engine.sweep());
    assert!(!world.path("pool/volumes/pvc-1").exists());
    assert_eq!(fs::read(outside.join("data.img")).unwrap(), b"precious");
    assert!(outside.join("record.json").exists());
    for neighbour in &neighbours {
        assert!(world.run(world.engine.get(neighbour)).unwrap().is_some(), "{neighbour}");
    }
    // Deleting the last volume leaves the pool as it was.
    for neighbour in &neighbours {
        assert!(world.delete(neighbour).unwrap());
    }
    assert!(world.path("pool/volumes").is_dir() && world.path("pool/pool.json").exists());
}
