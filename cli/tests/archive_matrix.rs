//! Who wrote an archive × what is in it × the verb × where the volume lies × whose it is × how it is packed, each value with each other.
//!
//! `TIERCE_MATRIX=full` tries the whole product.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod trees;
mod world;

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, lchown, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use trees::{
    PARTS, Part,
    manifest::{Lost, manifest},
    pairs, plant,
    writers::{READERS, WRITERS},
};
use world::{World, is_root};

/// What is done with the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// From an archive of that writer.
    Import(usize),
    /// Into an archive for that reader.
    Export(usize),
    Copy,
    Clone,
    Restore,
}

/// Options of `volume create` and `volume import`.
const PLACES: [(&str, &[&str]); 4] = [
    ("folder", &[]),
    ("ext4", &["--size", "64Mi"]),
    ("xfs", &["--size", "320Mi", "--filesystem", "xfs"]),
    ("btrfs", &["--size", "320Mi", "--filesystem", "btrfs"]),
];
const PACKED: [&str; 5] = ["cat", "gzip -1", "bzip2 -1", "xz -0", "zstd -q"];
const NOBODY: u32 = 65534;
/// The program that writes and reads as Go and Docker do.
const GO: &str = "archives";

#[derive(Debug, Clone, Copy)]
struct Case {
    verb: Verb,
    part: Part,
    place: usize,
    as_user: bool,
    packed: usize,
}

impl Case {
    fn words(&self) -> String {
        let verb = match self.verb {
            Verb::Import(writer) => {
                format!("import from {} ({})", WRITERS[writer].name, PACKED[self.packed])
            }
            Verb::Export(reader) => format!("export to {}", READERS[reader].name),
            other => format!("{other:?}"),
        };
        let user = if self.as_user { "a user" } else { "root" };
        format!("{verb} of {:?} on {} as {user}", self.part, PLACES[self.place].0)
    }

    /// What may be lost on the way; `None`: it can't be done.
    fn loses(&self) -> Option<Lost> {
        if self.as_user && (self.place != 0 || self.part == Part::OfRoot) {
            return None;
        }
        match self.verb {
            Verb::Import(writer) => (WRITERS[writer].loses)(self.part),
            _ if self.packed != 0 => None,
            Verb::Export(reader) => (READERS[reader].loses)(self.part),
            // The folder of a volume that is there stays as it is.
            Verb::Copy => Some(Lost { top: true, ..Lost::default() }),
            Verb::Clone | Verb::Restore => Some(Lost::default()),
        }
    }
}

#[test]
fn each_writer_each_verb_each_filesystem_and_each_user_keep_everything() {
    if !is_root() {
        return println!("skipped: volumes with a size and another user need root");
    }
    let begun = Instant::now();
    let helpers = Helpers::new();
    let (mut missing, mut verbs) = (Vec::new(), vec![Verb::Copy, Verb::Clone, Verb::Restore]);
    for (at, writer) in WRITERS.iter().enumerate() {
        if helpers.has(writer.needs) { verbs.push(Verb::Import(at)) } else { missing.push(writer.needs) }
    }
    for (at, reader) in READERS.iter().enumerate() {
        if helpers.has(reader.needs) { verbs.push(Verb::Export(at)) } else { missing.push(reader.needs) }
    }
    if !missing.is_empty() {
        println!("skipped: archives of {}, which is not here", missing.join(", "));
    }
    let case = |cell: &pairs::Cell| Case {
        verb: verbs[cell[0]],
        part: PARTS[cell[1]],
        place: cell[2],
        as_user: cell[3] == 1,
        packed: cell[4],
    };
    let sizes = [verbs.len(), PARTS.len(), PLACES.len(), 2, PACKED.len()];
    let possible = pairs::product(&sizes, |cell| case(cell).loses().is_some());
    let full = env::var("TIERCE_MATRIX").is_ok_and(|wanted| wanted == "full");
    let mut cases: Vec<Case> =
        if full { possible.clone() } else { pairs::covering(&possible) }.iter().map(case).collect();
    if let Ok(only) = env::var("TIERCE_MATRIX_ONLY") {
        cases.retain(|case| case.words().contains(&only));
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = tried(case, &helpers) {
                        wrong.lock().unwrap().push(format!("{}: {why}", case.words()));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!(
        "measured: archives: {} cells of {} that are possible, all kept, in {:.0} s",
        cases.len(),
        possible.len(),
        begun.elapsed().as_secs_f64()
    );
}

/// Programs of the test's own, in a folder.
struct Helpers(tempfile::TempDir);

impl Helpers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("write.py", include_str!("trees/write.py"));
        // Where other users reach it. Once, and before there are threads: what a thread has open for writing nobody may execute, and the
        // processes that another starts have it open until they execute something.
        trees::mode(folder.path(), 0o755);
        fs::copy(env!("CARGO_BIN_EXE_tierce"), folder.path().join("tierce")).unwrap();
        // Where `make setup` put it, which depends on what it is made of: the script that builds it knows.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tools/reference.sh");
        let found = Command::new(script).args(["archives", "--built"]).output().unwrap();
        let [program, reason] = [found.stdout, found.stderr].map(|text| String::from_utf8(text).unwrap());
        if found.status.success() {
            symlink(program.trim_end(), folder.path().join(GO)).unwrap();
        } else {
            println!("skipped: archives of Go and of Docker: {}", reason.trim_end());
        }
        Self(folder)
    }

    fn has(&self, program: &str) -> bool {
        match program {
            GO => self.0.path().join(GO).exists(),
            _ => ["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists()),
        }
    }
}

/// One cell, in a world of its own.
struct Tried<'a> {
    case: &'a Case,
    helpers: &'a Helpers,
    world: World,
}

fn tried(case: &Case, helpers: &Helpers) -> Result<(), String> {
    let tried = Tried { case, helpers, world: World::new() };
    trees::mode(&tried.world.path(""), 0o755);
    fs::create_dir(tried.world.root()).unwrap();
    if case.as_user {
        lchown(tried.world.root(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let lost = Lost { small_holes: PLACES[case.place].0 == "xfs", ..case.loses().unwrap() };
    let (source, target) = tried.run()?;
    let (wanted, has) = (manifest(&source, lost), manifest(&target, lost));
    let differs = wanted.iter().filter(|(path, line)| has.get(*path) != Some(*line));
    let mut lines: Vec<String> = differs
        .map(|(path, line)| {
            format!("  {path}\n    was {line}\n    has {}", has.get(path).map_or("nothing", |line| line))
        })
        .collect();
    lines
        .extend(has.keys().filter(|path| !wanted.contains_key(*path)).map(|path| format!("  {path} is new")));
    for name in ["a", "b"] {
        let _ = tried.tierce(&["volume", "rm", "--force", name]);
    }
    lines.truncate(4);
    if lines.is_empty() { Ok(()) } else { Err(format!("differs\n{}", lines.join("\n"))) }
}

impl Tried<'_> {
    /// Returns what was there and what came of it.
    fn run(&self) -> Result<(PathBuf, PathBuf), String> {
        let (a, b) = (self.world.volume("a"), self.world.volume("b"));
        let size = PLACES[self.case.place].1;
        if let Verb::Import(writer) = self.case.verb {
            let from = self.world.path("from");
            fs::create_dir(&from).unwrap();
            self.plant(&from);
            self.shell(WRITERS[writer].script, self.case.part == Part::Sockets)?;
            self.shell(&format!("{} <$OUT >$OUT.packed", PACKED[self.case.packed]), false)?;
            let packed = self.world.path("out.packed");
            let arguments = ["volume", "import", "b", "--strict", "--file", packed.to_str().unwrap()];
            self.tierce(&[&arguments, size].concat())?;
            return Ok((from, b));
        }
        self.tierce(&[&["volume", "create", "a"], size].concat())?;
        self.plant(&a);
        match self.case.verb {
            Verb::Import(_) => {}
            Verb::Export(reader) => {
                let export = if self.case.as_user {
                    "setpriv --reuid 65534 --regid 65534 --clear-groups $HELPERS/tierce --host volume export a >$OUT.zst && zstd -dcq <$OUT.zst >$OUT"
                } else {
                    "tierce --host volume export a >$OUT.zst && zstd -dcq <$OUT.zst >$OUT"
                };
                self.shell(export, false)?;
                let to = self.world.path("to");
                fs::create_dir(&to).unwrap();
                self.shell(READERS[reader].script, false)?;
                return Ok((a, to));
            }
            Verb::Copy => {
                self.tierce(&[&["volume", "create", "b"], size].concat())?;
                self.tierce(&["volume", "cp", "--strict", "a:", "b:"])?;
            }
            Verb::Clone => self.tierce(&["volume", "clone", "--strict", "a", "b"])?,
            Verb::Restore => {
                let before = self.world.path("before");
                assert!(Command::new("cp").arg("-a").arg(&a).arg(&before).status().unwrap().success());
                self.tierce(&["volume", "snapshot", "create", "--strict", "a", "s"])?;
                fs::write(a.join("later"), "x").unwrap();
                if self.case.as_user {
                    give(&a);
                }
                self.tierce(&["volume", "restore", "--strict", "a", "s"])?;
                return Ok((before, a));
            }
        }
        Ok((a, b))
    }

    fn plant(&self, top: &Path) {
        plant(self.case.part, top);
        if self.case.as_user {
            give(top);
        }
    }

    fn tierce(&self, arguments: &[&str]) -> Result<(), String> {
        let output = if self.case.as_user {
            let mut command = self.world.command("setpriv");
            command
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
                .arg(self.helpers.0.path().join("tierce"));
            command.arg("--host").args(arguments).output().unwrap()
        } else {
            self.world.tierce(arguments)
        };
        if output.status.success() { Ok(()) } else { Err(format!("{arguments:?}: {output:?}")) }
    }

    fn shell(&self, script: &str, may_fail: bool) -> Result<(), String> {
        let [from, to, out] = ["from", "to", "out"].map(|name| self.world.path(name));
        let storage = self.world.path("storage.conf");
        let place = self.world.path("podman").display().to_string();
        fs::write(
            storage,
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{place}\"\nrunroot = \"{place}/run\"\n"),
        )
        .unwrap();
        fs::write(self.world.path("containers.conf"), "").unwrap();
        let mut command = self.world.command("sh");
        command.env("LC_ALL", "C.UTF-8").env("FROM", from).env("TO", to).env("OUT", out);
        let output = command.env("HELPERS", self.helpers.0.path()).args(["-c", script]).output().unwrap();
        if output.status.success() || may_fail { Ok(()) } else { Err(format!("{script}: {output:?}")) }
    }
}

/// Makes a tree an ordinary user's, which takes special bits away for a moment.
fn give(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
    lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if !metadata.is_symlink() {
        trees::mode(path, metadata.mode() & 0o7777);
    }
}
