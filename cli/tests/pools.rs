//! Which pools a command opens, and what it counts in them (root; skipped by name else).

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{fs, mem::MaybeUninit, os::fd::OwnedFd, path::Path, thread};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use world::{World, is_root};

/// Two pools in folders: `near` and `far`.
fn prepare(world: &World) {
    fs::create_dir_all(world.path("home/.config/tierce")).unwrap();
    let table = |pool: &str| {
        fs::create_dir(world.path(pool)).unwrap();
        format!("[pools.{pool}]\ndirectory = \"{}\"\n", world.path(pool).display())
    };
    let config = table("near") + &table("far");
    fs::write(world.path("home/.config/tierce/config.toml"), config).unwrap();
}

/// Notices who opens a folder.
struct Notice(OwnedFd);

impl Notice {
    fn of(folder: &Path) -> Self {
        let notice = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&notice, folder, WatchFlags::OPEN).unwrap();
        Self(notice)
    }

    /// Whether somebody opened it, or something in it, since the last question.
    fn opened(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut any = false;
        loop {
            match inotify::Reader::new(&self.0, &mut buffer).next() {
                Ok(_) => any = true,
                Err(Errno::AGAIN) => return any,
                Err(error) => unreachable!("{error}"),
            }
        }
    }
}

#[test]
fn a_command_opens_the_pool_of_its_volume_alone() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    prepare(&world);
    world.ok(&["volume", "create", "plain"]);
    world.ok(&["volume", "create", "image", "--size", "20Mi"]);
    for (name, pool) in [("a_b", "near"), ("c", "far")] {
        world.ok(&["volume", "create", name, "--size", "20Mi", "--pool", pool]);
    }
    fs::write(world.path("file"), "x").unwrap();
    let far = Notice::of(&world.path("far"));
    // Whoever promises room counts what folders on the same disk promised.
    for (counts, arguments) in [
        (false, &["volume", "inspect", "plain", "image", "a_b"][..]),
        (false, &["volume", "label", "a_b", "k=v"]),
        (false, &["volume", "mount", "a_b"]),
        (false, &["volume", "attach", "a_b", "--to", "vm"]),
        (false, &["volume", "detach", "a_b", "--from", "vm"]),
        (false, &["volume", "cp", "file", "a_b:"]),
        (true, &["volume", "snapshot", "create", "a_b", "s"]),
        (false, &["volume", "snapshot", "list", "a_b"]),
        (true, &["volume", "restore", "a_b", "s"]),
        (false, &["volume", "snapshot", "rm", "a_b", "s"]),
        (true, &["volume", "resize", "a_b", "24Mi"]),
        (false, &["volume", "rm", "a_b", "image", "plain"]),
        // For these every pool is asked.
        (true, &["volume", "ls"]),
        (true, &["system", "df"]),
        (true, &["volume", "create", "new"]),
    ] {
        far.opened();
        world.ok(arguments);
        assert_eq!(far.opened(), counts, "{arguments:?}");
    }
    world.ok(&["volume", "rm", "c", "new"]);
}

#[test]
fn a_pool_that_is_away_stops_nothing_on_others_and_lists_tell_of_it() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    prepare(&world);
    for (name, pool) in [("a", "near"), ("b", "far"), ("image", "local")] {
        world.ok(&["volume", "create", name, "--size", "20Mi", "--pool", pool]);
    }
    fs::write(world.volume("b").join("file"), "x").unwrap();
    assert!(world.command("umount").arg(world.volume("b")).status().unwrap().success());
    // A disk that is not mounted: its folder is there, and empty.
    fs::rename(world.path("far"), world.path("unmounted")).unwrap();
    fs::create_dir(world.path("far")).unwrap();
    for arguments in [
        &["volume", "inspect", "a", "image"][..],
        &["volume", "resize", "a", "24Mi"],
        &["volume", "snapshot", "create", "image", "s"],
        &["volume", "create", "new"],
        &["volume", "create", "sized", "--size", "20Mi", "--pool", "near"],
    ] {
        let output = world.tierce(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !told.contains("far"), "{arguments:?}: {output:?}");
    }
    for arguments in [
        &["volume", "ls", "-q"][..],
        &["system", "df"],
        &["volume", "prune", "--force", "--filter", "label=none"],
    ] {
        let output = world.tierce(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains("the volumes of pool far: "), "{output:?}");
    }
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nimage\nnew\nsized\n");
    for arguments in [
        &["volume", "inspect", "b"][..],
        &["volume", "rm", "--force", "b"],
        &["volume", "create", "b"],
        &["volume", "create", "b", "--size", "20Mi", "--pool", "far"],
    ] {
        let refused = world.fails(1, arguments);
        assert!(refused.contains("pool far"), "{refused}");
    }
    assert_eq!(fs::read_dir(world.path("far")).unwrap().count(), 0, "nothing was made on the wrong disk");
    fs::remove_dir(world.path("far")).unwrap();
    let refused = world.fails(1, &["volume", "create", "d", "--size", "20Mi", "--pool", "far"]);
    assert!(refused.contains("make the folder, or correct the pool's table"), "{refused}");
    fs::create_dir(world.path("far")).unwrap();
    // The pools' ids are lost as well: what is there is still not taken for the pool.
    let ids = world.root().join("state/pools.json");
    let kept = fs::read(&ids).unwrap();
    fs::remove_file(&ids).unwrap();
    let refused = world.fails(1, &["volume", "rm", "--force", "b"]);
    assert!(
        refused.contains("Volume 'b' lies in pool 'far'") && refused.contains("is its disk mounted?"),
        "{refused}"
    );
    assert_eq!(fs::read_dir(world.path("far")).unwrap().count(), 0);
    fs::write(&ids, kept).unwrap();
    fs::remove_dir(world.path("far")).unwrap();
    fs::rename(world.path("unmounted"), world.path("far")).unwrap();
    world.ok(&["volume", "mount", "b"]);
    assert_eq!(fs::read_to_string(world.volume("b").join("file")).unwrap(), "x");
    world.ok(&["volume", "rm", "a", "b", "image", "new", "sized"]);
}

#[test]
fn a_volume_whose_record_was_lost_is_noted_with_its_pool_again() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    prepare(&world);
    world.ok(&["volume", "create", "a", "--size", "20Mi", "--pool", "near"]);
    fs::remove_dir_all(world.root().join("state")).unwrap();
    world.ok(&["volume", "label", "a", "k=v"]);
    assert!(world.ok(&["volume", "inspect", "a"]).contains("\"Pool\": \"near\""));
    world.ok(&["volume", "rm", "a"]);
    assert!(!world.volume("a").exists());
}

#[test]
fn many_that_make_volumes_at_once_never_promise_more_than_the_disk_has() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    let disk = ["-t", "tmpfs", "-o", "size=256M", "tmpfs"];
    assert!(world.command("mount").args(disk).arg(world.root()).status().unwrap().success());
    let made = thread::scope(|scope| {
        let creations: Vec<_> = (0..6)
            .map(|number| {
                let world = &world;
                scope.spawn(move || {
                    let output =
                        world.tierce(&["volume", "create", &format!("v{number}"), "--size", "100Mi"]);
                    let told = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success() || told.contains("has no room"), "{output:?}");
                    output.status.success()
                })
            })
            .collect();
        creations.into_iter().map(|creation| creation.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 2);
    world.ok(&["volume", "prune", "--all", "--force"]);
}
