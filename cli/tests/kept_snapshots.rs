//! What becomes of snapshots whose volume is removed, and of a new volume that gets their name.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{fs, thread, time::Duration};

use world::{World, is_root};

/// Standard output and error of a command that must succeed.
fn both(world: &World, arguments: &[&str]) -> (String, String) {
    let output = world.tierce(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Without a size, and with one where that can be.
fn kinds() -> Vec<Vec<&'static str>> {
    let sized = is_root().then(|| vec!["--size", "64Mi"]);
    if sized.is_none() {
        println!("skipped: volumes with a size need root");
    }
    [vec![]].into_iter().chain(sized).collect()
}

#[test]
fn what_a_removed_volume_leaves_is_said_shown_and_can_be_removed() {
    for size in kinds() {
        let world = World::new();
        world.ok(&[["volume", "create", "jj"].as_slice(), &size].concat());
        fs::write(world.volume("jj").join("file"), vec![b'x'; 2 << 20]).unwrap();
        for snapshot in ["one", "two"] {
            world.ok(&["volume", "snapshot", "create", "jj", snapshot]);
        }
        let (listed, said) = both(&world, &["volume", "snapshot", "list", "jj", "-o", "name"]);
        assert_eq!((listed.as_str(), said.as_str()), ("one\ntwo\n", ""), "{size:?}");
        let (_, said) = both(&world, &["volume", "rm", "jj"]);
        assert!(
            said.starts_with("Volume 'jj' leaves 2 snapshots (") && said.matches('\n').count() == 1,
            "{said}"
        );
        let (shown, _) = both(&world, &["system", "df"]);
        let lines: Vec<&str> =
            shown.lines().filter(|line| line.starts_with("Snapshots of removed volumes ")).collect();
        assert_eq!(lines.len(), 1, "{shown}");
        let words: Vec<&str> = lines[0].split_whitespace().skip(4).collect();
        assert_eq!((&words[..2], &words[3..]), (["2", "0"].as_slice(), ["0B", "(0%)"].as_slice()), "{shown}");
        assert_ne!(words[2], "0B", "{shown}");
        assert!(shown.contains("\njj   one   ") && shown.contains("\njj   two   "), "{shown}");
        let (listed, said) = both(&world, &["volume", "snapshot", "list", "jj", "-o", "name"]);
        let words = "Volume 'jj' is removed, and left these snapshots\n";
        assert_eq!((listed.as_str(), said.as_str()), ("one\ntwo\n", words), "{size:?}");
        // No prune takes what somebody may have kept on purpose.
        world.ok(&["system", "prune", "--volumes", "--all", "--force"]);
        let error = world.fails(1, &["volume", "snapshot", "rm", "jj", "three"]);
        assert!(error.contains("Volume 'jj' not found"), "{error}");
        for snapshot in ["one", "two"] {
            assert_eq!(world.ok(&["volume", "snapshot", "rm", "jj", snapshot]), format!("{snapshot}\n"));
        }
        assert!(world.fails(1, &["volume", "snapshot", "list", "jj"]).contains("not found"));
        assert!(!world.ok(&["system", "df"]).contains("removed volumes"));
        assert!(!world.root().join("snapshots/local/jj").exists());
        let (_, said) = both(&world, &[["volume", "create", "jj"].as_slice(), &size].concat());
        assert_eq!(said, "", "{size:?}");
        world.ok(&["volume", "rm", "jj"]);
    }
}

#[test]
fn a_new_volume_does_not_get_the_content_of_a_removed_one_without_a_word() {
    for size in kinds() {
        let world = World::new();
        let create = [["volume", "create", "db"].as_slice(), &size].concat();
        let file = world.volume("db").join("file");
        world.ok(&create);
        fs::write(&file, "OLD").unwrap();
        world.ok(&["volume", "snapshot", "create", "db", "before-upgrade"]);
        world.ok(&["volume", "clone", "db", "source"]);
        world.ok(&["volume", "rm", "db"]);
        // The times of plain snapshots are in whole seconds.
        thread::sleep(Duration::from_millis(1100));
        let inherits = "Warning: volume 'db' is new, and has 1 snapshot of a removed volume of that name: tierce --host volume snapshot list db\n";
        assert_eq!(both(&world, &["volume", "clone", "source", "db"]).1, inherits, "{size:?}");
        world.ok(&["volume", "rm", "db"]);
        assert_eq!(both(&world, &create).1, inherits, "{size:?}");
        // One that is there already is none that is made.
        assert_eq!(both(&world, &create).1, "", "{size:?}");
        fs::write(&file, "NEW").unwrap();
        world.ok(&["volume", "snapshot", "create", "db", "own"]);
        let older = "Warning: snapshot 'before-upgrade' is older than volume 'db' (made at ";
        for arguments in
            [["volume", "snapshot", "list", "db"].as_slice(), &["volume", "restore", "db", "before-upgrade"]]
        {
            let (_, said) = both(&world, arguments);
            assert_eq!(said.matches(older).count(), 1, "{said}");
            assert!(!said.contains("snapshot 'own'"), "{said}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "OLD");
        // What a restore keeps is called by its second.
        thread::sleep(Duration::from_millis(1100));
        let (_, said) = both(&world, &["volume", "restore", "db", "own"]);
        assert!(!said.contains("older than"), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "NEW");
        world.ok(&["volume", "rm", "db", "source"]);
    }
}

#[test]
fn snapshots_of_a_kind_that_the_volume_of_their_name_is_not_are_no_volumes() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a", "--stack", "s", "--size", "64Mi"]);
    world.ok(&["volume", "snapshot", "create", "s_a", "old"]);
    world.ok(&["volume", "restore", "s_a", "old"]);
    world.ok(&["volume", "rm", "s_a"]);
    world.ok(&["volume", "create", "a", "--stack", "s"]);
    assert_eq!(world.ok(&["volume", "snapshot", "list", "s_a", "-o", "name"]), "");
    let shown = world.ok(&["system", "df", "-o", "json"]);
    assert!(
        shown.contains("SnapshotsOfRemovedVolumes") && shown.matches("\"Volume\": \"s_a\"").count() == 2,
        "{shown}"
    );
    // What the restore kept, too.
    let kept =
        shown.lines().find_map(|line| line.split('"').find(|word| word.starts_with("before-"))).unwrap();
    for snapshot in ["old", kept] {
        world.ok(&["volume", "snapshot", "rm", "s_a", snapshot]);
    }
    assert!(!world.ok(&["system", "df"]).contains("removed volumes"));
    world.ok(&["volume", "rm", "s_a"]);
}
