//! Commands that are held up in the middle of a copy: what others can do meanwhile, and what is left when they are killed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod crashes;
mod world;

use std::{
    fs,
    process::{Child, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crashes::nothing_half_made;
use rustix::process::{Pid, Signal, kill_process};
use world::{World, is_root};

/// A command that stands at a fail point.
struct HeldUp(Option<Child>);

impl HeldUp {
    fn at(world: &World, point: &str, arguments: &[&str]) -> Self {
        let mut command = world.host(arguments);
        let child = command.env("TIERCE_STOP_AT", point).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut held = Self(Some(child.spawn().unwrap()));
        let state = format!("/proc/{}/stat", held.child().id());
        let begun = Instant::now();
        while !fs::read_to_string(&state).unwrap().contains(") T ") {
            assert_eq!(held.child().try_wait().unwrap(), None, "{arguments:?} ended before '{point}'");
            assert!(begun.elapsed() < Duration::from_secs(20), "{arguments:?} does not get to '{point}'");
            thread::sleep(Duration::from_millis(5));
        }
        held
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Lets it go on, to its end.
    fn goes_on(mut self) -> Output {
        let child = self.0.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for HeldUp {
    /// Kills it.
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// A command that may take so many seconds; `None`: it takes longer.
fn within(world: &World, seconds: u32, arguments: &[&str]) -> Option<Output> {
    let mut command = world.command("timeout");
    command.arg(seconds.to_string()).args(["tierce", "--host"]).args(arguments);
    let output = command.output().unwrap();
    (output.status.code() != Some(124)).then_some(output)
}

/// Does what must not wait.
fn soon(world: &World, arguments: &[&str]) -> String {
    let output = within(world, 20, arguments).unwrap_or_else(|| panic!("{arguments:?} waits"));
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A world whose root is on a filesystem that can't share blocks, of so many MiB.
fn small(mebibytes: u32) -> World {
    let world = World::new();
    fs::create_dir(world.root()).unwrap();
    let size = format!("size={mebibytes}m");
    let disk = ["-t", "tmpfs", "-o", &size, "small"];
    assert!(world.command("mount").args(disk).arg(world.root()).status().unwrap().success());
    world
}

/// Volume `a`, which is copied: its removal is refused at once. One that waited would take what is written meanwhile.
fn not_removed(world: &World) {
    let told =
        within(world, 5, &["volume", "rm", "a"]).map(|output| String::from_utf8(output.stderr).unwrap());
    assert!(told.as_ref().is_some_and(|told| told.contains("is in use by")), "{told:?}");
}

/// Where a copy of a device has its room and was not begun.
const SET_ASIDE: &str = "room: set aside";

#[test]
fn while_a_volume_with_a_size_is_copied_others_are_made_and_mounted() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = small(300);
    for (name, size) in [("a", "60Mi"), ("b", "20Mi")] {
        world.ok(&["volume", "create", name, "--size", size]);
    }
    fs::write(world.volume("a").join("file"), "a").unwrap();
    assert!(world.command("umount").arg(world.volume("b")).status().unwrap().success());
    let copies: [&[&str]; 2] =
        [&["volume", "clone", "a", "copy"], &["volume", "snapshot", "create", "a", "s"]];
    let held = copies.map(|copy| HeldUp::at(&world, SET_ASIDE, copy));
    for arguments in [
        &["volume", "mount", "b"][..],
        &["volume", "create", "new", "--size", "20Mi"],
        &["volume", "resize", "b", "24Mi"],
        &["volume", "snapshot", "create", "b", "s"],
        &["volume", "restore", "b", "s"],
        &["volume", "rm", "new"],
        // The source is mounted, and stays so.
        &["volume", "attach", "a", "--to", "vm"],
        &["volume", "detach", "a", "--from", "vm"],
        &["volume", "ls"],
        &["system", "df"],
    ] {
        soon(&world, arguments);
    }
    // It can't tell what is made from what is left.
    let told = soon(&world, &["system", "prune"]);
    assert!(told.contains("other commands are making something just now"), "{told}");
    not_removed(&world);
    for arguments in [&["volume", "rm", "--force", "a"][..], &["volume", "resize", "a", "80Mi"]] {
        assert!(within(&world, 1, arguments).is_none(), "{arguments:?}");
    }
    for output in held.map(HeldUp::goes_on) {
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]), "s\n");
    assert_eq!(fs::read_to_string(world.volume("copy").join("file")).unwrap(), "a");
    assert!(soon(&world, &["system", "prune"]).is_empty());
    world.ok(&["volume", "prune", "--all", "--force"]);
    nothing_half_made(&world);
}

#[test]
fn a_copy_of_a_volume_that_is_not_mounted_keeps_it_so() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = small(200);
    world.ok(&["volume", "create", "a", "--size", "60Mi"]);
    assert!(world.command("umount").arg(world.volume("a")).status().unwrap().success());
    let held = HeldUp::at(&world, SET_ASIDE, &["volume", "clone", "a", "b"]);
    assert!(within(&world, 1, &["volume", "mount", "a"]).is_none());
    assert!(held.goes_on().status.success());
    soon(&world, &["volume", "mount", "a"]);
}

#[test]
fn what_is_set_aside_for_a_copy_is_promised_to_nobody_else_until_its_maker_is_dead() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = small(256);
    world.ok(&["volume", "create", "a", "--size", "100Mi"]);
    let large = ["volume", "create", "c", "--size", "100Mi"];
    let held = HeldUp::at(&world, SET_ASIDE, &["volume", "clone", "a", "b"]);
    for arguments in [&large[..], &["volume", "clone", "a", "c"], &["volume", "resize", "a", "200Mi"]] {
        let refused = within(&world, 20, arguments);
        let Some(refused) = refused else {
            assert_eq!(arguments[1], "resize", "{arguments:?} waits");
            continue;
        };
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains("has no room") && told.contains("at most 5"), "{arguments:?}: {refused:?}");
    }
    // There is room beside it.
    soon(&world, &["volume", "create", "d", "--size", "50Mi"]);
    soon(&world, &["volume", "rm", "d"]);
    drop(held);
    soon(&world, &large);
    soon(&world, &["system", "prune"]);
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nc\n");
    nothing_half_made(&world);
}

#[test]
fn copies_at_once_never_promise_more_than_the_disk_has() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = small(256);
    world.ok(&["volume", "create", "a", "--size", "64Mi"]);
    let copies = ["b", "c"].map(|name| HeldUp::at(&world, SET_ASIDE, &["volume", "clone", "a", name]));
    let refused = within(&world, 20, &["volume", "clone", "a", "d"]).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has no room"), "{refused:?}");
    for copy in copies {
        assert!(copy.goes_on().status.success());
    }
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nb\nc\n");
    world.ok(&["volume", "prune", "--all", "--force"]);
    nothing_half_made(&world);
}

#[test]
fn copies_at_once_of_a_mounted_volume_with_a_size_are_all_made() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = small(700);
    world.ok(&["volume", "create", "a", "--size", "100Mi"]);
    fs::write(world.volume("a").join("file"), vec![7; 64 << 20]).unwrap();
    // So it is exported from a copy of one moment.
    world.ok(&["volume", "attach", "a", "--to", "vm"]);
    for round in 0..2 {
        let name = |kind: &str| format!("{kind}{round}");
        let (first, second, snapshot) = (name("first"), name("second"), name("snapshot"));
        let copies: [&[&str]; 4] = [
            &["volume", "clone", "a", &first],
            &["volume", "clone", "a", &second],
            &["volume", "snapshot", "create", "a", &snapshot],
            &["volume", "export", "a"],
        ];
        let copies = copies.map(|copy| {
            let mut command = world.host(copy);
            (copy, command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        });
        for (copy, child) in copies {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{copy:?}: {output:?}");
        }
        for name in [&first, &second] {
            assert_eq!(fs::metadata(world.volume(name).join("file")).unwrap().len(), 64 << 20);
            soon(&world, &["volume", "rm", name]);
        }
        soon(&world, &["volume", "snapshot", "rm", "a", &snapshot]);
    }
    nothing_half_made(&world);
}

#[test]
fn a_folder_is_used_while_it_is_copied_and_not_removed() {
    for copy in [&["volume", "clone", "a", "copy"][..], &["volume", "snapshot", "create", "a", "copy"]] {
        let world = World::new();
        world.ok(&["volume", "create", "a"]);
        fs::write(world.volume("a").join("file"), "a").unwrap();
        fs::write(world.path("new"), "new").unwrap();
        let held = HeldUp::at(&world, "copy: begun", copy);
        for arguments in [
            &["volume", "mount", "a"][..],
            &["volume", "attach", "a", "--to", "vm"],
            &["volume", "label", "a", "k=v"],
            &["volume", "cp", "a:file", "out"],
            &["volume", "clone", "a", "other"],
            &["volume", "detach", "a", "--from", "vm"],
            &["volume", "ls"],
            &["system", "df"],
            // A copy under way is nothing that is left.
            &["system", "prune"],
        ] {
            soon(&world, arguments);
        }
        not_removed(&world);
        assert!(within(&world, 1, &["volume", "rm", "--force", "a"]).is_none());
        soon(&world, &["volume", "prune", "--all", "--force", "--filter", "label=k"]);
        let copied = held.goes_on();
        assert!(copied.status.success(), "{copied:?}");
        let at = [world.volume("copy"), world.root().join("snapshots/local/a/copy")];
        assert!(at.iter().any(|copy| fs::read_to_string(copy.join("file")).is_ok_and(|text| text == "a")));
        soon(&world, &["volume", "rm", "a"]);
        nothing_half_made(&world);
    }
}

#[test]
fn who_came_by_the_path_while_a_restore_copied_keeps_the_folder() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    let file = world.volume("a").join("file");
    fs::write(&file, "old").unwrap();
    world.ok(&["volume", "snapshot", "create", "a", "s"]);
    fs::write(&file, "now").unwrap();
    let held = HeldUp::at(&world, "restore: copied", &["volume", "restore", "a", "s"]);
    let mut within = world.command("sleep");
    let mut within = within.arg("1000").current_dir(world.volume("a")).spawn().unwrap();
    let output = held.goes_on();
    let told = String::from_utf8(output.stderr).unwrap();
    within.kill().unwrap();
    within.wait().unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("is in use by: sleep (process "), "{told}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "now");
    assert_eq!(world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]), "s\n");
    nothing_half_made(&world);
    soon(&world, &["volume", "restore", "a", "s"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
}

#[test]
fn of_two_snapshots_of_one_name_the_second_waits_and_is_refused() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    let create = ["volume", "snapshot", "create", "a", "s"];
    let held = HeldUp::at(&world, "copy: whole", &create);
    assert!(within(&world, 1, &create).is_none());
    assert!(held.goes_on().status.success());
    assert!(world.fails(1, &create).contains("exists already"));
    // A killed one is begun anew.
    drop(HeldUp::at(&world, "copy: whole", &["volume", "snapshot", "create", "a", "t"]));
    soon(&world, &["volume", "snapshot", "create", "a", "t"]);
    drop(HeldUp::at(&world, "copy: whole", &["volume", "snapshot", "create", "a", "u"]));
    soon(&world, &["system", "prune"]);
    assert_eq!(world.ok(&["volume", "snapshot", "list", "a", "-o", "name"]), "s\nt\n");
    nothing_half_made(&world);
}

#[test]
fn what_a_copy_under_way_is_making_is_left_to_it() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::create_dir(world.path("src")).unwrap();
    fs::write(world.path("src/file"), "first").unwrap();
    fs::write(world.path("file"), "second").unwrap();
    let held = HeldUp::at(&world, "copy: file begun", &["volume", "cp", "src/.", "a:"]);
    // The same name in the same folder, and a clean-up.
    soon(&world, &["volume", "cp", "file", "a:"]);
    soon(&world, &["system", "prune"]);
    assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "second");
    let copied = held.goes_on();
    assert!(copied.status.success() && copied.stderr.is_empty(), "{copied:?}");
    assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "first");
    assert_eq!(fs::read_dir(world.volume("a")).unwrap().count(), 1);
    nothing_half_made(&world);
}
