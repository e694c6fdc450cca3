//! Archives: what comes out is what went in, or there is no volume.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod greedy;
mod odd;
mod pieces;
mod trees;
mod world;

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use pieces::{Piece, archive, refused};
use trees::{
    PARTS, Part,
    manifest::{Lost, manifest},
    plant,
};
use world::{World, is_root};

fn planted(world: &World, name: &str, part: Part) {
    world.ok(&["volume", "create", name]);
    plant(part, &world.volume(name));
}

fn parts() -> impl Iterator<Item = Part> {
    PARTS.into_iter().filter(|part| is_root() || *part != Part::OfRoot)
}

#[test]
fn everything_goes_round_by_archive_clone_copy_and_snapshot() {
    for part in parts() {
        let world = World::new();
        planted(&world, "a", part);
        let source = manifest(&world.volume("a"), Lost::default());
        let (printed, status) = world.shell("tierce --host volume export a > a.tar.zst\n");
        assert_eq!(status, 0, "{part:?}: {printed}");
        let says_socket = printed.contains("sockets, which no archive holds: 1, such as 'socket'");
        assert_eq!(says_socket, part == Part::Sockets, "{printed}");
        world.ok(&["volume", "import", "b", "--file", "a.tar.zst"]);
        let lost = Lost { sockets: true, ..Lost::default() };
        assert_eq!(manifest(&world.volume("b"), lost), manifest(&world.volume("a"), lost), "{part:?}");
        world.ok(&["volume", "clone", "a", "c"]);
        assert_eq!(manifest(&world.volume("c"), Lost::default()), source, "{part:?}, cloned");
        world.ok(&["volume", "create", "d"]);
        // The folder of a volume that is there stays as it is.
        let copied = Lost { top: true, ..Lost::default() };
        let wanted = manifest(&world.volume("a"), copied);
        world.ok(&["volume", "cp", "a:", "d:"]);
        assert_eq!(manifest(&world.volume("d"), copied), wanted, "{part:?}, copied");
        world.ok(&["volume", "cp", "a:", "d:"]);
        assert_eq!(manifest(&world.volume("d"), copied), wanted, "{part:?}, copied once more");
        world.ok(&["volume", "cp", "a:", "d:/new"]);
        let new = manifest(&world.volume("d").join("new"), Lost::default());
        assert_eq!(new, source, "{part:?}, copied into a new folder");
        world.ok(&["volume", "snapshot", "create", "a", "s"]);
        trees::mode(&world.volume("a"), 0o700);
        fs::write(world.volume("a").join("later"), "x").unwrap();
        world.ok(&["volume", "restore", "a", "s"]);
        assert_eq!(manifest(&world.volume("a"), Lost::default()), source, "{part:?}, restored");
    }
}

#[test]
fn a_dash_for_the_archives_file_is_standard_input() {
    let world = World::new();
    fs::write(world.path("packed"), archive(&[Piece::file(b"f", b"x")])).unwrap();
    let (printed, status) = world.shell("tierce --host volume import v --file - < packed\n");
    assert_eq!((printed.as_str(), status), ("v\n", 0));
    assert_eq!(fs::read_to_string(world.volume("v").join("f")).unwrap(), "x");
}

#[test]
fn an_archive_cut_anywhere_is_refused_in_each_compression() {
    let world = World::new();
    let whole =
        archive(&[Piece::file(b"one", &[1; 600]), Piece::file(b"two", &[2; 10]), Piece::file(b"three", b"")]);
    for cut in (512..whole.len()).step_by(512).chain([100, 700, whole.len() - 1]) {
        refused(&world, &whole[..cut], "ends early");
    }
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        fs::write(world.path("cut.tar"), &whole[..2048]).unwrap();
        fs::write(world.path("whole.tar"), &whole).unwrap();
        let (printed, status) =
            world.shell(&format!("for f in cut whole; do {program} -c $f.tar > $f.packed; done\n"));
        assert_eq!((printed.as_str(), status), ("", 0), "{program}");
        refused(&world, &fs::read(world.path("cut.packed")).unwrap(), "ends early");
        let packed = fs::read(world.path("whole.packed")).unwrap();
        for cut in [packed.len() / 2, packed.len() - 1] {
            refused(&world, &packed[..cut], "damaged or ends early");
        }
        for (at, byte) in [(packed.len() / 2, 0x55), (packed.len() - 2, 0xaa)] {
            let mut damaged = packed.clone();
            damaged[at] ^= byte;
            refused(&world, &damaged, "");
        }
        refused(&world, &[packed.as_slice(), b"garbage behind it"].concat(), "");
        // Filled up to whole blocks, as tapes and block devices have it.
        let filled_up = [packed.as_slice(), &[0; 4096]].concat();
        fs::write(world.path("filled"), &filled_up).unwrap();
        assert_eq!(world.ok(&["volume", "import", "filled", "--file", "filled"]), "filled\n", "{program}");
        world.ok(&["volume", "rm", "filled"]);
        refused(&world, &[filled_up.as_slice(), b"garbage"].concat(), "damaged");
        refused(&world, &[filled_up.as_slice(), &packed].concat(), "damaged");
        // Several streams in one file are one, as `cat` and parallel compressors make them.
        let (printed, status) = world.shell(&format!(
            "{{ head -c 1000 whole.tar | {program} -c; tail -c +1001 whole.tar | {program} -c; }} > two\ntierce --host volume import two --file two && tierce --host volume rm two\n"
        ));
        assert_eq!((printed.as_str(), status), ("two\ntwo\n", 0), "{program}");
    }
}

/// The command as an ordinary user, in a root of that user's.
fn as_user(world: &World, arguments: &[&str]) -> Output {
    const NOBODY: u32 = 65534;
    let binary = world.path("tierce");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_tierce"), &binary).unwrap();
        trees::mode(&world.path(""), 0o755);
        trees::mode(&binary, 0o755);
        fs::create_dir_all(world.root()).unwrap();
        std::os::unix::fs::chown(world.root(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = world.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary);
    command.arg("--host").args(arguments).output().unwrap()
}

#[test]
fn an_ordinary_user_takes_what_can_be_his_and_is_told_the_rest_once() {
    if !is_root() {
        return println!("skipped: another user needs root");
    }
    let world = World::new();
    fs::create_dir(world.path("source")).unwrap();
    for part in [Part::Files, Part::OfRoot, Part::Modes, Part::Attributes] {
        fs::create_dir(world.path("source").join(format!("{part:?}"))).unwrap();
        plant(part, &world.path("source").join(format!("{part:?}")));
    }
    let (printed, status) =
        world.shell("tar --format=posix --xattrs --xattrs-include='*' --acls -C source -cf all.tar .\nchmod 644 all.tar\n");
    assert_eq!((printed.as_str(), status), ("", 0));
    let archive = world.path("all.tar");
    let arguments = ["volume", "import", "a", "--file", archive.to_str().unwrap()];
    let strict = as_user(&world, &[arguments.as_slice(), &["--strict"]].concat());
    assert_eq!(strict.status.code(), Some(1), "{strict:?}");
    assert!(String::from_utf8_lossy(&strict.stderr).contains("--strict: not kept would be"), "{strict:?}");
    assert!(!world.volume("a").exists());
    let output = as_user(&world, &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    for kind in ["device nodes", "owners or groups", "set-user-id", "trusted.*", "security.*"] {
        assert_eq!(told.matches(kind).count(), 1, "{kind}: {told}");
    }
    assert_eq!(told.matches('\n').count(), 5, "{told}");
    let part = |part: &str| manifest(&world.volume("a").join(part), Lost::default());
    let source = |part: &str| manifest(&world.path("source").join(part), Lost::default());
    let unowned = |lines: std::collections::BTreeMap<String, String>| -> Vec<String> {
        lines.into_values().map(|line| line.replace("0:0", "U:U").replace("65534:65534", "U:U")).collect()
    };
    for same in ["Files", "Attributes"] {
        assert_eq!(unowned(part(same)), unowned(source(same)), "{same}");
    }
    // Folders that nobody may write to are copied, brought back and removed too, and stay so.
    for command in [
        ["volume", "clone", "a", "b"].as_slice(),
        &["volume", "cp", "a:", "b:"],
        &["volume", "snapshot", "create", "a", "s"],
        &["volume", "restore", "a", "s"],
        &["volume", "rm", "a", "b"],
    ] {
        let output = as_user(&world, command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        if command[1] == "clone" {
            trees::mode(&world.volume("b"), 0o555);
        } else if command[1] == "cp" {
            assert_eq!(fs::metadata(world.volume("b")).unwrap().mode() & 0o7777, 0o555);
        }
    }
    assert!(!world.volume("a").exists() && !world.volume("b").exists());
}

#[test]
fn an_export_of_a_folder_that_changes_meanwhile_fails_and_its_archive_is_refused() {
    let world = World::new();
    for change in ["larger", "new", "gone", "touched"] {
        world.ok(&["volume", "create", "a"]);
        let inside = |name: &str| world.volume("a").join(name);
        fs::write(inside("first"), "x").unwrap();
        fs::write(inside("removed"), "x").unwrap();
        let mut noise = Vec::new();
        fs::File::open("/dev/urandom").unwrap().take(4 << 20).read_to_end(&mut noise).unwrap();
        fs::write(inside("large"), noise).unwrap();
        let mut child = world
            .host(&["volume", "export", "a"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut archive = vec![0; 1000];
        // It waits for us to read on.
        child.stdout.as_mut().unwrap().read_exact(&mut archive).unwrap();
        match change {
            "larger" => {
                fs::File::options().append(true).open(inside("first")).unwrap().write_all(b"y").unwrap();
            }
            "new" => fs::write(inside("zz"), "").unwrap(),
            "gone" => fs::remove_file(inside("removed")).unwrap(),
            _ => trees::mode(&inside("first"), 0o600),
        }
        let output = child.wait_with_output().unwrap();
        archive.extend(output.stdout);
        assert_eq!(output.status.code(), Some(1), "{change}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("changed meanwhile"), "{change}: {error}");
        world.ok(&["volume", "rm", "a"]);
        refused(&world, &archive, "ends early");
    }
}

#[test]
fn an_export_with_something_that_no_archive_holds_fails_where_all_must_be_kept() {
    let world = World::new();
    planted(&world, "a", Part::Sockets);
    let output = world.tierce(&["volume", "export", "a", "--strict"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("sockets"), "{output:?}");
    world.ok(&["volume", "rm", "a"]);
    refused(&world, &output.stdout, "empty");
}

#[test]
fn the_callers_mask_does_not_decide_who_reaches_a_volume() {
    let world = World::new();
    let (printed, status) = world.shell(
        "umask 077\ntierce --host volume create a && echo x > $TIERCE_ROOT/volumes/local/a/f && chmod 644 $TIERCE_ROOT/volumes/local/a/f\n\
         tierce --host volume export a | tierce --host volume import b\ntierce --host volume clone a c\n",
    );
    assert_eq!((printed.as_str(), status), ("a\nb\nc\n", 0));
    let bits = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for folder in
        [world.root(), world.root().join("volumes"), world.volume("a"), world.volume("b"), world.volume("c")]
    {
        assert_eq!(bits(&folder), 0o755, "{}", folder.display());
    }
    assert_eq!(bits(&world.volume("b").join("f")), 0o644);
}

#[test]
fn nothing_takes_a_volume_that_an_import_fills_or_an_export_reads() {
    let world = World::new();
    let whole = archive(&[Piece::file(b"one", &[1; 600]), Piece::file(b"two", &[2; 10])]);
    let mut import =
        world.host(&["volume", "import", "a"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = import.stdin.take().unwrap();
    input.write_all(&whole[..2000]).unwrap();
    let begun = std::time::Instant::now();
    while !world.volume("a").join("one").exists() {
        assert!(begun.elapsed().as_secs() < 30, "it does not begin");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let taken = |what: &str| {
        for command in
            [["volume", "prune", "--all", "--force"].as_slice(), &["system", "prune", "--volumes", "--force"]]
        {
            world.tierce(command);
            assert!(world.volume("a").exists(), "{command:?} during {what}");
        }
        let error = world.fails(1, &["volume", "rm", "a"]);
        assert!(error.contains(&format!("in use by: tierce volume {what}")), "{error}");
    };
    taken("import");
    input.write_all(&whole[2000..]).unwrap();
    drop(input);
    assert!(import.wait().unwrap().success());
    fs::write(world.volume("a").join("large"), fs::read(env!("CARGO_BIN_EXE_tierce")).unwrap()).unwrap();
    let mut export = world.host(&["volume", "export", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    export.stdout.as_mut().unwrap().read_exact(&mut [0; 1000]).unwrap();
    taken("export");
    let output = export.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    world.ok(&["volume", "rm", "a"]);
}

/// What Docker's module and busybox refuse of an archive with holes, each aloud: the kind of entry that GNU has for them.
#[test]
fn an_export_without_holes_has_none_and_is_read_where_holes_are_not() {
    if ["busybox", "zstd"].iter().any(|program| Command::new(program).arg("--help").output().is_err()) {
        return println!("skipped: this needs busybox and zstd");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    let sparse = fs::File::create(world.volume("a").join("file")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 1 << 20).unwrap();
    let (printed, status) = world.shell(
        "set -e
        tierce --host volume export a | zstd -dcq > holes.tar
        tierce --host volume export --no-holes a | zstd -dcq > none.tar
        if busybox tar -xf holes.tar 2> /dev/null; then exit 1; fi
        mkdir out && busybox tar -C out -xf none.tar && cmp out/file $TIERCE_ROOT/volumes/local/a/file
        [ $(stat -c %s holes.tar) -lt 100000 ] && [ $(stat -c %s none.tar) -gt 3000000 ]
        tierce --host volume import b < none.tar && cmp $TIERCE_ROOT/volumes/local/b/file $TIERCE_ROOT/volumes/local/a/file\n",
    );
    assert_eq!((printed.as_str(), status), ("b\n", 0));
}
