//! Imports that run and imports that were killed: nobody else gets the volume, and nobody's data goes with it.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

#[allow(dead_code, reason = "other tests make odder archives")]
mod pieces;
mod world;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Stdio},
    thread,
    time::{Duration, Instant},
};

use pieces::{Piece, archive};
use rustix::fs::{FlockOperation, flock};
use world::World;

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed().as_secs() < 30, "not within 30 s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An import of volume `a` that waits for the rest of its archive: it has file `one`, and two are still to come.
struct Begun {
    import: Child,
    input: ChildStdin,
    rest: Vec<u8>,
}

impl Begun {
    fn new(world: &World) -> Self {
        let mut whole = archive(&[
            Piece::file(b"one", &[1; 600]),
            Piece::file(b"two", &[2; 600]),
            Piece::file(b"z", b"z"),
        ]);
        let rest = whole.split_off(2000);
        let mut import = world
            .host(&["volume", "import", "a"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = import.stdin.take().unwrap();
        input.write_all(&whole).unwrap();
        eventually("it begins", || world.volume("a").join("one").exists());
        Self { import, input, rest }
    }

    fn killed(world: &World) {
        let mut begun = Self::new(world);
        begun.import.kill().unwrap();
        begun.import.wait().unwrap();
    }

    /// Standard error of the import once it has all of its archive, or is cut off; it must fail.
    fn fails(self, rest: bool) -> String {
        let Self { import, mut input, rest: bytes } = self;
        if rest {
            input.write_all(&bytes).unwrap();
        }
        drop(input);
        let output = import.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A process that stands in volume `a`.
struct User(Child);

impl User {
    fn new(world: &World) -> Self {
        let mut command = world.command("sleep");
        command.arg("600").current_dir(world.volume("a")).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// All that takes a volume to use it, or to make another of it.
const VERBS: [&[&str]; 8] = [
    &["attach", "a", "--to", "postgres"],
    &["clone", "a", "b"],
    &["snapshot", "create", "a", "s"],
    &["restore", "a", "s"],
    &["export", "a"],
    &["cp", "a:one", "./one"],
    &["cp", "./file", "a:"],
    &["create", "a"],
];

fn each_is_refused(world: &World, words: &str) {
    fs::write(world.path("file"), "x").unwrap();
    for verb in VERBS {
        let command = [&["volume"], verb].concat();
        let said = world.fails(1, &command);
        assert!(said.contains(words), "{command:?}: {said}");
    }
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
    assert!(!world.volume("a").join("file").exists() && !world.path("one").exists());
}

#[test]
fn nothing_uses_or_copies_a_volume_that_an_import_fills() {
    let world = World::new();
    let begun = Begun::new(&world);
    each_is_refused(
        &world,
        "Volume 'a' is in use by: tierce volume import, which fills it. Try again once that has ended.",
    );
    let Begun { import, mut input, rest } = begun;
    input.write_all(&rest).unwrap();
    drop(input);
    assert!(import.wait_with_output().unwrap().status.success());
    world.ok(&["volume", "attach", "a", "--to", "postgres"]);
}

#[test]
fn nothing_uses_or_copies_what_a_killed_import_left() {
    let world = World::new();
    Begun::killed(&world);
    each_is_refused(&world, "Volume 'a' holds a part of an archive only, its import was interrupted");
    let listed = world.tierce(&["volume", "ls", "-q"]);
    assert!(String::from_utf8_lossy(&listed.stderr).contains("Volume 'a' holds a part"), "{listed:?}");
    world.ok(&["system", "prune"]);
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn what_a_killed_import_left_stays_while_somebody_uses_its_folder() {
    let world = World::new();
    Begun::killed(&world);
    fs::write(world.volume("a").join("precious"), "x").unwrap();
    fs::write(world.path("a.tar"), archive(&[Piece::file(b"new", b"new")])).unwrap();
    let user = User::new(&world);
    let import = ["volume", "import", "a", "--file", "a.tar"];
    for command in [import.as_slice(), &["system", "prune", "--force"]] {
        let said = world.tierce(command);
        let words = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(world.volume("a").join("precious").exists(), "{command:?}: {words}");
        assert_eq!(said.status.code(), Some(1), "{words}");
        assert!(words.contains("in use by: sleep") && words.contains("was interrupted"), "{words}");
    }
    drop(user);
    world.ok(&import);
    assert!(world.volume("a").join("new").exists() && !world.volume("a").join("precious").exists());
}

#[test]
fn an_import_that_fails_leaves_what_somebody_uses_all_the_same() {
    let world = World::new();
    let begun = Begun::new(&world);
    let user = User::new(&world);
    let said = begun.fails(false);
    drop(user);
    assert!(
        said.contains("Warning: Volume 'a' is in use by: sleep") && said.contains("ends early"),
        "{said}"
    );
    assert!(world.volume("a").join("one").exists());
    world.fails(1, &["volume", "attach", "a", "--to", "postgres"]);
    world.ok(&["system", "prune"]);
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}

/// Whether it fails or not in the end.
#[test]
fn an_import_spares_what_bears_its_name_by_then() {
    for rest in [false, true] {
        let world = World::new();
        let begun = Begun::new(&world);
        world.ok(&["volume", "rm", "--force", "a"]);
        world.ok(&["volume", "create", "a"]);
        world.ok(&["volume", "attach", "a", "--to", "postgres"]);
        fs::write(world.volume("a").join("precious"), "x").unwrap();
        let said = begun.fails(rest);
        assert!(said.contains("Volume 'a' was removed while it was imported"), "{said}");
        assert!(world.volume("a").join("precious").exists());
    }
}

#[test]
fn an_import_does_not_make_whole_what_another_fills_by_then() {
    let world = World::new();
    let first = Begun::new(&world);
    world.ok(&["volume", "rm", "--force", "a"]);
    let mut second = Begun::new(&world);
    let said = first.fails(true);
    assert!(said.contains("Volume 'a' was removed while it was imported"), "{said}");
    second.import.kill().unwrap();
    second.import.wait().unwrap();
    let said = world.fails(1, &["volume", "attach", "a", "--to", "postgres"]);
    assert!(said.contains("holds a part of an archive only"), "{said}");
}

/// Two commands see the same: the first imports the volume, then the second goes on.
#[test]
fn what_another_import_made_whole_meanwhile_is_left() {
    for command in [["volume", "import", "a"].as_slice(), &["volume", "create", "a"], &["system", "prune"]] {
        let world = World::new();
        Begun::killed(&world);
        let lock = fs::File::create(world.root().join("state/locks/a")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let mut second = world.host(command).stdin(Stdio::piped()).spawn().unwrap();
        second.stdin.take().unwrap().write_all(&archive(&[Piece::file(b"new", b"new")])).unwrap();
        eventually("the second waits for the lock", || waits(second.id()));
        fs::write(world.volume("a").join("precious"), "x").unwrap();
        made_whole(&world.root().join("state/records/local/a.json"));
        drop(lock);
        second.wait().unwrap();
        assert!(world.volume("a").join("precious").exists(), "{command:?}");
    }
}

fn waits(pid: u32) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let is_its = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields[1] == "->" && fields.contains(&pid.to_string().as_str())
    };
    locks.lines().any(is_its)
}

/// As an import does it in the end.
fn made_whole(record: &Path) {
    let mut noted: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    assert!(noted.as_object_mut().unwrap().remove("filling").is_some(), "{noted}");
    fs::write(record, noted.to_string()).unwrap();
}
