//! Archives: what comes out is what went in, or there is no volume.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod trees;
mod world;

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    process::{Output, Stdio},
};

use tar::Header;
use trees::{
    PARTS, Part,
    manifest::{Lost, manifest},
    plant,
};
use world::{World, is_root};

/// One entry of an archive that the test makes by itself, with what stands in its name field to the letter.
struct Piece(Vec<u8>);

impl Piece {
    fn new(kind: u8, name: &[u8], link: &[u8], body: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(body.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Self(bytes)
    }

    fn file(name: &[u8], body: &[u8]) -> Self {
        Self::new(b'0', name, b"", body)
    }

    fn records(text: &str) -> Self {
        Self::new(b'x', b"pax", b"", text.as_bytes())
    }
}

fn archive(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.0.clone()).collect();
    bytes.extend([0; 1024]);
    bytes
}

/// Feeds an archive to `volume import`.
fn import(world: &World, name: &str, archive: &[u8], more: &[&str]) -> Output {
    fs::write(world.path("archive"), archive).unwrap();
    world.tierce(&[&["volume", "import", name, "--file", "archive"], more].concat())
}

/// Refused in one line with these words, and nothing of it is there.
fn refused(world: &World, archive: &[u8], words: &str) {
    let output = import(world, "no", archive, &[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
    assert!(error.contains(words) && error.matches('\n').count() == 1, "wanted {words:?}: {error}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "", "{words}");
}

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
        world.ok(&["volume", "cp", "a:", "d:"]);
        assert_eq!(manifest(&world.volume("d"), Lost::default()), source, "{part:?}, copied");
        world.ok(&["volume", "cp", "a:", "d:"]);
        assert_eq!(manifest(&world.volume("d"), Lost::default()), source, "{part:?}, copied once more");
        world.ok(&["volume", "snapshot", "create", "a", "s"]);
        trees::mode(&world.volume("a"), 0o700);
        fs::write(world.volume("a").join("later"), "x").unwrap();
        world.ok(&["volume", "restore", "a", "s"]);
        assert_eq!(manifest(&world.volume("a"), Lost::default()), source, "{part:?}, restored");
    }
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
        // Several streams in one file are one, as `cat` and parallel compressors make them.
        let (printed, status) = world.shell(&format!(
            "{{ head -c 1000 whole.tar | {program} -c; tail -c +1001 whole.tar | {program} -c; }} > two\ntierce --host volume import two --file two && tierce --host volume rm two\n"
        ));
        assert_eq!((printed.as_str(), status), ("two\ntwo\n", 0), "{program}");
    }
}

#[test]
fn what_is_half_understood_is_refused_by_name() {
    let world = World::new();
    let file = || Piece::file(b"f", b"x");
    let pieces = |pieces: &[Piece], words: &str| refused(&world, &archive(pieces), words);
    pieces(&[Piece::new(b'Z', b"f", b"", b"")], "'f' is of the kind 'Z'");
    pieces(&[Piece::new(b'M', b"f", b"", b"")], "split archive");
    pieces(&[Piece::new(b'D', b"f/", b"", b"Yx\0\0")], "has content");
    pieces(&[Piece::new(b'5', b"d", b"", b"xx")], "has content, and is no file");
    pieces(
        &[Piece::new(b'1', b"l", b"gone", b"")],
        "'l' is a hard link to 'gone', which is not in the archive",
    );
    pieces(&[Piece::new(b'1', b"l", b"l", b"")], "hard link");
    pieces(&[Piece::new(b'2', b"l", b"", b"")], "link to nothing");
    pieces(&[Piece::file(b"../up", b"x")], "leads out of the volume");
    pieces(&[Piece::file(b"a/../../up", b"x")], "leads out of the volume");
    pieces(&[file(), Piece::new(b'1', b"l", b"../f", b"")], "leads out of the volume");
    pieces(&[Piece::new(b'2', b"l", b"/tmp", b""), Piece::file(b"l/f", b"x")], "leads through 'l'");
    pieces(&[Piece::new(b'2', b"l", b".", b""), Piece::new(b'5', b"l/d/", b"", b"")], "leads through 'l'");
    pieces(&[Piece::file(b"d/f", b"x"), Piece::file(b"d", b"x")], "an earlier entry of that name");
    pieces(&[Piece::file(b".", b"x")], "stands for the volume itself");
    pieces(&[Piece::records("16 VENDOR.key=1\n"), file()], "'VENDOR.key'");
    pieces(&[Piece::records("99 path=x\n"), file()], "extended header");
    pieces(&[Piece::records("17 mtime=sometime\n"), file()], "extended header");
    pieces(&[Piece::records("12 mtime=ab\n"), file()], "'ab' for a time");
    pieces(&[Piece::records("10 path=x\n")], "ends where a file should follow");
    pieces(&[Piece::records("22 GNU.sparse.major=2\n"), file()], "sparse file of a form");
    pieces(&[Piece::records("31 SCHILY.acl.access=user::rwz\n"), file()], "access control list");
    let mut lone_zeros = archive(&[file()]);
    lone_zeros.truncate(1536);
    lone_zeros.extend(archive(&[file()]));
    refused(&world, &lone_zeros, "zeros stand where");
    refused(&world, &[archive(&[file()]), archive(&[file()])].concat(), "goes on after its end");
    let mut sum = archive(&[file(), Piece::file(b"g", b"y")]);
    sum[1024] ^= 1;
    refused(&world, &sum, "check sum");
    refused(&world, b"", "empty");
    refused(&world, &[b'x'; 2000], "no tar archive");
    refused(&world, &[b"\x04\x22\x4d\x18".as_slice(), &[0; 600]].concat(), "lz4");
    refused(&world, b"PK\x03\x04 and so on", "zip");
}

#[test]
fn odd_archives_mean_what_gnu_tar_makes_of_them() {
    let world = World::new();
    let good = |pieces: &[Piece]| {
        let output = import(&world, "v", &archive(pieces), &[]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        world.volume("v")
    };
    let gone = || world.ok(&["volume", "rm", "v"]);
    // What engines write of an empty volume.
    assert_eq!(fs::read_dir(good(&[])).unwrap().count(), 0);
    gone();
    // The first bytes are the first file's name, which may be how other kinds of archives begin.
    for name in ["PKGBUILD", "PK\x03\x04", "BZh91", "LZIP", "7z", "\x1f\u{8b}"] {
        assert!(good(&[Piece::file(name.as_bytes(), b"x")]).join(name).is_file(), "{name:?}");
        gone();
    }
    for begin in [b"\x1f\x8b".as_slice(), b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x1f\x9d"]
    {
        assert!(good(&[Piece::file(begin, b"x")]).join(OsStr::from_bytes(begin)).is_file(), "{begin:?}");
        gone();
    }
    let v = good(&[
        Piece::new(b'1', b"z", b"y", b""),
        Piece::new(b'1', b"y", b"./f", b""),
        Piece::file(b"f", b"old"),
        Piece::new(b'1', b"n", b"f", b""),
        Piece::file(b"f", b"new"),
        Piece::new(b'1', b"n2", b"/f", b""),
        Piece::new(b'1', b"n2", b"f", b""),
        Piece::new(b'1', b"f", b"f", b""),
    ]);
    // What came after a file's first coming is a name of the second; the one before keeps the first.
    let content = |name: &str| fs::read_to_string(v.join(name)).unwrap();
    assert_eq!([content("f"), content("n2"), content("z"), content("n")], ["new", "new", "new", "old"]);
    gone();
    let v = good(&[
        Piece::file(b"/abs/.//x", b"1"),
        Piece::file(b"d/f", b"2"),
        Piece::new(b'5', b"d", b"", b""),
        Piece::file(b"was-file", b""),
        Piece::new(b'5', b"was-file", b"", b""),
        Piece::new(b'5', b"was-folder", b"", b""),
        Piece::new(b'2', b"was-folder", b"f", b""),
        Piece::new(0, b"old-folder/", b"", b""),
        Piece::new(b'0', b"older/", b"", b""),
        Piece::new(b'7', b"contiguous", b"", b"3"),
        Piece::new(b'V', b"label", b"", b""),
        Piece::new(b'g', b"g", b"", b"20 comment=a commit\n"),
        Piece::records("25 mtime=1234567890.0625\n"),
        Piece::file(b"timed", b""),
    ]);
    assert!(
        v.join("was-file").is_dir()
            && v.join("was-folder").is_symlink()
            && v.join("old-folder").is_dir()
            && v.join("older").is_dir()
    );
    let times = ["d", "timed"]
        .map(|name| fs::metadata(v.join(name)).map(|data| (data.mtime(), data.mtime_nsec())).unwrap());
    assert_eq!(times, [(1_000_000_000, 0), (1_234_567_890, 62_500_000)]);
    assert_eq!(fs::read_dir(&v).unwrap().count(), 8);
    // Nobody said anything of these.
    assert_eq!(fs::metadata(v.join("abs")).unwrap().mode() & 0o7777, 0o755);
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
    // Folders that nobody may write to are copied, brought back and removed too.
    for command in [
        ["volume", "clone", "a", "b"].as_slice(),
        &["volume", "cp", "a:", "b:"],
        &["volume", "snapshot", "create", "a", "s"],
        &["volume", "restore", "a", "s"],
        &["volume", "rm", "a", "b"],
    ] {
        let output = as_user(&world, command);
        assert!(output.status.success(), "{command:?}: {output:?}");
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
