//! What can't be removed, or is not there to be removed, and who it concerns: nobody else.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{fs, os::unix::fs::chown, process::Command};

use world::{World, is_root};

fn chattr(how: &str, path: &std::path::Path) -> bool {
    Command::new("chattr").arg(how).arg(path).output().is_ok_and(|output| output.status.success())
}

/// A volume `a` with a file that can't be removed, and one that can; `None`: this filesystem has none such.
fn stubborn() -> Option<World> {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::create_dir(world.volume("a").join("sub")).unwrap();
    for file in ["stubborn", "sub/other"] {
        fs::write(world.volume("a").join(file), "x").unwrap();
    }
    chattr("+i", &world.volume("a").join("stubborn")).then_some(world)
}

/// The only path below the root that ends so.
fn left(world: &World, name: &str) -> Option<std::path::PathBuf> {
    let found = world.files().into_iter().find(|file| file.ends_with(name))?;
    Some(world.root().join(found))
}

#[test]
fn an_immutable_file_is_named_and_stands_in_nobodys_way() {
    let Some(world) = stubborn() else { return println!("skipped: no file can be made immutable here") };
    world.ok(&["volume", "create", "b"]);
    let said = world.fails(1, &["volume", "rm", "a"]);
    let file = left(&world, "/stubborn").unwrap();
    assert!(said.contains("Volume 'a' is removed, but not all of its data"), "{said}");
    let below = file.strip_prefix(world.root().join("volumes/local")).unwrap().display().to_string();
    assert!(said.contains(&below) && said.contains("Operation not permitted"), "{said}");
    assert!(left(&world, "/other").is_none(), "{:?}", world.files());
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "b\n");
    world.ok(&["volume", "rm", "b"]);
    world.ok(&["volume", "create", "a"]);
    assert_eq!(fs::read_dir(world.volume("a")).unwrap().count(), 0);
    assert!(world.ok(&["volume", "prune", "--all", "--force"]).contains("Deleted Volumes:\na\n"));
    let said = world.fails(1, &["system", "prune"]);
    assert!(said.contains(&below), "{said}");
    assert!(chattr("-i", &file));
    world.ok(&["system", "prune"]);
    assert!(left(&world, "/stubborn").is_none());
}

#[test]
fn cleaning_up_goes_on_behind_what_can_not_be_removed() {
    let Some(world) = stubborn() else { return println!("skipped: no file can be made immutable here") };
    world.fails(1, &["volume", "rm", "a"]);
    world.ok(&["volume", "create", "0".repeat(64).as_str()]);
    fs::create_dir(world.root().join("volumes/local/.new-copy")).unwrap();
    let pruned = world.tierce(&["system", "prune", "--volumes", "--force"]);
    assert_eq!(pruned.status.code(), Some(1), "{pruned:?}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
    assert!(left(&world, ".new-copy").is_none());
    assert!(chattr("-i", &left(&world, "/stubborn").unwrap()));
}

/// Two snapshots of a volume `a`, of which `s` has a file that can't be removed; `None`: this filesystem has none such.
fn stubborn_snapshot() -> Option<World> {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::write(world.volume("a").join("stubborn"), "x").unwrap();
    for snapshot in ["s", "t"] {
        world.ok(&["volume", "snapshot", "create", "a", snapshot]);
    }
    chattr("+i", &world.root().join("snapshots/local/a/s/stubborn")).then_some(world)
}

/// What `system df` has of what removals left: each path below the root, and its bytes.
fn shown_as_left(world: &World) -> Vec<(String, u64)> {
    let report = world.ok(&["system", "df", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let left = report["Leftovers"].as_array().cloned().unwrap_or_default();
    let sum: u64 = left.iter().map(|left| left["Size"].as_u64().unwrap()).sum();
    let kinds = report["Usage"].as_array().unwrap();
    let kind = kinds.iter().find(|kind| kind["Type"] == "Leftovers");
    assert_eq!(kind.map(|kind| kind["Size"].as_u64().unwrap()), (!left.is_empty()).then_some(sum));
    let root = format!("{}/", world.root().display());
    let below = |path: &serde_json::Value| path.as_str().unwrap().strip_prefix(&root).unwrap().to_owned();
    left.iter().map(|left| (below(&left["Path"]), left["Size"].as_u64().unwrap())).collect()
}

#[test]
fn a_snapshot_with_an_immutable_file_is_removed_and_its_name_is_free() {
    let Some(world) = stubborn_snapshot() else {
        return println!("skipped: no file can be made immutable here");
    };
    let said = world.fails(1, &["volume", "snapshot", "rm", "a", "s"]);
    assert!(said.contains("Snapshot 's' of volume 'a' is removed, but not all of its data"), "{said}");
    let file = world.files().into_iter().find(|file| file.contains("/.trash-") && file.ends_with("stubborn"));
    let file = world.root().join(file.unwrap());
    let below = file.strip_prefix(world.root().join("snapshots/local/a")).unwrap().display().to_string();
    assert!(said.contains(&below) && said.contains("Operation not permitted"), "{said}");
    for verb in ["create", "rm", "create"] {
        assert_eq!(world.ok(&["volume", "snapshot", verb, "a", "s"]), "s\n");
    }
    assert_eq!(world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]).lines().count(), 2);
    world.ok(&["volume", "snapshot", "rm", "a", "t"]);

    let hidden = file.parent().unwrap().strip_prefix(world.root()).unwrap().display().to_string();
    let left = shown_as_left(&world);
    assert!(left.len() == 1 && left[0].0 == hidden && left[0].1 > 0, "{left:?}");
    let table = world.ok(&["system", "df"]);
    assert!(table.contains("\nLeftovers ") && table.contains(&hidden), "{table}");
    let said = world.fails(1, &["system", "prune"]);
    assert!(said.contains(&below), "{said}");
    assert!(chattr("-i", &file));
    world.ok(&["system", "prune"]);
    assert_eq!(shown_as_left(&world), []);
    assert!(!file.exists());
}

#[test]
fn a_restore_over_an_immutable_file_is_done_and_the_next_is_not_kept_from_it() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::write(world.volume("a").join("stubborn"), "old").unwrap();
    world.ok(&["volume", "snapshot", "create", "a", "s"]);
    fs::write(world.volume("a").join("stubborn"), "new").unwrap();
    if !chattr("+i", &world.volume("a").join("stubborn")) {
        return println!("skipped: no file can be made immutable here");
    }
    let restored = world.tierce(&["volume", "restore", "a", "s"]);
    let said = String::from_utf8(restored.stderr).unwrap();
    assert_eq!(restored.status.code(), Some(1), "{said}");
    assert!(
        said.contains("Volume 'a' is restored, but not all of its files of before are removed"),
        "{said}"
    );
    assert!(
        said.contains("/stubborn can't be removed") && said.contains("is kept as its snapshot before-s-"),
        "{said}"
    );
    assert_eq!(fs::read(world.volume("a").join("stubborn")).unwrap(), b"old");
    let left = shown_as_left(&world);
    assert!(left.len() == 1 && left[0].0.starts_with("volumes/local/.trash-"), "{left:?}");

    fs::write(world.volume("a").join("stubborn"), "newer").unwrap();
    assert_eq!(world.ok(&["volume", "restore", "a", "s"]), "a\n");
    assert_eq!(fs::read(world.volume("a").join("stubborn")).unwrap(), b"old");
    world.ok(&["volume", "rm", "a"]);
    assert_eq!(shown_as_left(&world), left);
    world.ok(&["volume", "create", "b"]);
    world.ok(&["volume", "clone", "b", "a"]);
    assert!(chattr("-i", &world.root().join(&left[0].0).join("stubborn")));
    world.ok(&["volume", "rm", "b"]);
    assert_eq!(shown_as_left(&world), [], "a removal beside it takes it along");
}

#[test]
fn a_copy_that_an_earlier_version_could_not_remove_is_in_nobodys_way() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    world.ok(&["volume", "snapshot", "create", "a", "s"]);
    let hidden = ["snapshots/local/a/.new-t", "volumes/local/.new-a"].map(|hidden| world.root().join(hidden));
    for hidden in &hidden {
        fs::create_dir(hidden).unwrap();
        fs::write(hidden.join("stubborn"), "x").unwrap();
        if !chattr("+i", &hidden.join("stubborn")) {
            return println!("skipped: no file can be made immutable here");
        }
    }
    assert_eq!(shown_as_left(&world).len(), 2);
    for command in [["snapshot", "create", "a", "t"].as_slice(), &["restore", "a", "s"]] {
        let done = world.tierce(&[&["volume"], command].concat());
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success() && said.contains("/stubborn can't be removed"), "{said}");
    }
    assert!(hidden.iter().all(|hidden| !hidden.exists()));
    let left = shown_as_left(&world);
    assert_eq!(left.len(), 2);
    for (hidden, _) in left {
        assert!(chattr("-i", &world.root().join(hidden).join("stubborn")));
    }
    world.ok(&["system", "prune"]);
    assert_eq!(shown_as_left(&world), []);
}

#[test]
fn an_import_begins_anew_where_what_is_left_of_the_last_can_not_be_removed() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::write(world.volume("a").join("stubborn"), "x").unwrap();
    assert_eq!(world.shell("tierce --host volume export a > a.tar\n"), (String::new(), 0));
    let import = ["volume", "import", "b", "--file", "a.tar"];
    assert!(!world.host(&import).env("TIERCE_FAIL_AT", "import: filled").status().unwrap().success());
    if !chattr("+i", &world.volume("b").join("stubborn")) {
        return println!("skipped: no file can be made immutable here");
    }
    let done = world.tierce(&import);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.contains("/stubborn can't be removed"), "{said}");
    let left = shown_as_left(&world);
    assert!(chattr("-i", &world.root().join(&left[0].0).join("stubborn")));
}

#[test]
fn what_is_mounted_in_a_snapshot_is_left_alone_and_named() {
    if !is_root() {
        return println!("skipped: mounts need root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::create_dir(world.volume("a").join("sub")).unwrap();
    world.ok(&["volume", "snapshot", "create", "a", "s"]);
    let sub = world.root().join("snapshots/local/a/s/sub");
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&sub).status().unwrap().success());
    fs::write(sub.join("inside"), "x").unwrap();
    let said = world.fails(1, &["volume", "snapshot", "rm", "a", "s"]);
    assert!(said.contains("/sub can't be removed: something is mounted there"), "{said}");
    world.ok(&["volume", "snapshot", "create", "a", "s"]);
    world.ok(&["volume", "snapshot", "rm", "a", "s"]);
    let inside = left(&world, "/inside").unwrap();
    assert_eq!(shown_as_left(&world)[0].1, 0, "what is mounted is no volume's");
    assert!(Command::new("umount").arg(inside.parent().unwrap()).status().unwrap().success());
    world.ok(&["system", "prune"]);
    assert_eq!(shown_as_left(&world), []);
}

#[test]
fn what_is_mounted_in_a_volume_is_left_alone_and_named() {
    if !is_root() {
        return println!("skipped: mounts need root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "v"]);
    fs::create_dir(world.volume("v/sub")).unwrap();
    fs::write(world.volume("v/file"), "x").unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(world.volume("v/sub")).status();
    assert!(mounted.unwrap().success());
    fs::write(world.volume("v/sub").join("inside"), "x").unwrap();
    assert!(world.fails(1, &["volume", "rm", "v"]).contains("in use by: "));
    let said = world.fails(1, &["volume", "rm", "--force", "v"]);
    assert!(said.contains("/sub can't be removed: something is mounted there"), "{said}");
    let inside = left(&world, "/inside").unwrap();
    assert!(left(&world, "/file").is_none());
    assert!(Command::new("umount").arg(inside.parent().unwrap()).status().unwrap().success());
    world.ok(&["system", "prune"]);
}

/// Runs a script that must end well, with the volumes' folder in `$V`.
fn sh(world: &World, script: &str) {
    let (printed, status) =
        world.shell(&format!("set -e; V=$TIERCE_ROOT/volumes/local; mkdir -p u w m\n{script}\n"));
    assert_eq!(status, 0, "{script}: {printed}");
}

#[test]
fn what_is_made_of_a_volume_without_being_a_mount_of_it_uses_it() {
    if !is_root() {
        return println!("skipped: mounting needs root");
    }
    let world = World::new();
    for name in ["plain", "v"] {
        world.ok(&["volume", "create", name]);
    }
    sh(&world, "ln -s $V link; mkdir $V/v/up $V/v/work; echo x > $V/v/file");
    world.ok(&["volume", "snapshot", "create", "v", "s"]);
    let overlay = |options: &str| format!("mount -t overlay -o {options} overlay m");
    for (made, undone, user) in [
        (overlay("lowerdir=$V/v,upperdir=u,workdir=w"), "umount m", "/m"),
        (overlay("lowerdir=$PWD/link/v:w"), "umount m", "/m"),
        ("H=$PWD; cd $V; mount -t overlay -o lowerdir=./v:$H/w overlay $H/m".to_owned(), "umount m", "/m"),
        (overlay("lowerdir=w,upperdir=$V/v/up,workdir=$V/v/work"), "umount m", "/m"),
        (
            "truncate -s 1M $V/v/image; losetup -f $V/v/image".to_owned(),
            "losetup -d $(losetup -n -O NAME -j $V/v/image)",
            "loop device /dev/loop",
        ),
    ] {
        sh(&world, &made);
        let kept = [&["volume", "rm", "v"][..], &["volume", "restore", "v", "s"]]
            .map(|arguments| world.tierce(arguments));
        let pruned = world.ok(&["volume", "prune", "--all", "--dry-run"]);
        sh(&world, undone);
        for kept in kept {
            let said = String::from_utf8_lossy(&kept.stderr);
            assert_eq!(kept.status.code(), Some(1), "{made}: {said}");
            assert!(said.contains("is in use by: ") && said.contains(user), "{made}: {said}");
        }
        assert!(pruned.contains("plain") && !pruned.contains("\nv "), "{made}: {pruned}");
    }
    world.ok(&["volume", "rm", "v"]);
}

#[test]
fn another_users_folder_is_named_and_its_owner_can_go_on() {
    if !is_root() {
        return println!("skipped: another user's folder needs root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::create_dir(world.volume("a").join("sub")).unwrap();
    fs::write(world.volume("a").join("sub/file"), "x").unwrap();
    let everything = || [vec![String::new()], world.files()].concat();
    for file in everything() {
        chown(world.root().join(file), Some(65534), Some(65534)).unwrap();
    }
    // As a container of rootless Podman leaves it.
    chown(world.volume("a").join("sub"), Some(100_998), Some(100_998)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(world.volume("a").join("sub"), mode).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(world.path(""), open).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_tierce"), world.path("tierce")).unwrap();
    let as_user = |arguments: &[&str]| {
        let mut command = world.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(world.path("tierce"));
        command.arg("--host").args(arguments).output().unwrap()
    };
    let removed = as_user(&["volume", "rm", "a"]);
    let said = String::from_utf8_lossy(&removed.stderr);
    assert_eq!(removed.status.code(), Some(1), "{said}");
    assert!(
        said.contains("Volume 'a' is removed, but not all of its data") && said.contains("/sub "),
        "{said}"
    );
    for arguments in [["volume", "create", "b"], ["volume", "rm", "b"]] {
        let done = as_user(&arguments);
        assert!(done.status.success(), "{done:?}");
    }
    world.ok(&["system", "prune"]);
    assert!(left(&world, "/sub").is_none());
}

#[test]
fn forced_removal_of_what_is_not_there_is_done_already_and_of_several_each_is_tried() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    assert!(world.fails(1, &["volume", "rm", "nosuch"]).contains("not found"));
    assert_eq!(world.ok(&["volume", "rm", "--force", "nosuch"]), "nosuch\n");
    // What can be no name is a slip, and no volume that is gone.
    world.fails(2, &["volume", "rm", "--force", "../a"]);
    let both = world.tierce(&["volume", "rm", "nosuch", "a"]);
    assert_eq!((both.status.code(), both.stdout.as_slice()), (Some(1), b"a\n".as_slice()), "{both:?}");
    world.ok(&["volume", "create", "a"]);
    assert_eq!(world.ok(&["volume", "rm", "-f", "nosuch", "a"]), "nosuch\na\n");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}
