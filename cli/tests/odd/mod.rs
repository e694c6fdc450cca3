//! Archives of odd forms: what is half understood is refused, and what is right means what GNU tar makes of it.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    process::Output,
};

use crate::{
    pieces::{Piece, archive, import, refused},
    trees::manifest::{Lost, manifest},
    world::{World, is_root},
};

const OF_FOLDERS: &str =
    "Warning: folders without an entry of their own in the archive, whose owner, mode and time are new: ";

const OF_ONE_FOLDER: &str = "Warning: all of the archive lies below '";

#[test]
fn what_is_half_understood_is_refused_by_name() {
    let world = World::new();
    let file = || Piece::file(b"f", b"x");
    let pieces = |pieces: &[Piece], words: &str| refused(&world, &archive(pieces), words);
    pieces(&[Piece::new(b'Z', b"f", b"", b"")], "'f' is of the kind 'Z'");
    pieces(&[Piece::new(b'Z', b"f", b"", b"xx")], "'f' is of the kind 'Z'");
    // Such entries have content: the rest of a file, and the names in a folder.
    pieces(&[Piece::new(b'M', b"f", b"", b"xx")], "a part of a split one");
    pieces(
        &[said(&[("GNU.volume.filename", b"f"), ("GNU.volume.size", b"9")]), file()],
        "a part of a split one",
    );
    pieces(&[Piece::new(b'D', b"./", b"", b"Yx\0\0")], "is incremental");
    pieces(&[said(&[("GNU.dumpdir", b"Yx\0\0")]), Piece::new(b'5', b"./", b"", b"")], "is incremental");
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
    pieces(&[said(&[("uid", b"4294967295")]), file()], "whose number nobody can have");
    pieces(&[said(&[("uid", b"1")]), said(&[("gid", b"1")]), file()], "two extended headers of one file");
    let of_all = |records: &[(&str, &[u8])]| Piece::extended(b'g', records);
    pieces(&[of_all(&[("uid", b"1")]), file(), of_all(&[("gid", b"1")]), file()], "later no more");
    let twice: [(&str, &[u8]); 2] = [("LIBARCHIVE.xattr.user.a", b"eA"), ("SCHILY.xattr.user.a", b"y")];
    pieces(&[said(&twice), file()], "says two things");
    // libarchive's own writer, known by its keywords or by the names of its headers, counts such a time otherwise.
    let early: (&str, &[u8]) = ("mtime", b"-6.5");
    pieces(&[said(&[early, ("LIBARCHIVE.xattr.user.a", b"eA")]), file()], "before 1970 in parts of a second");
    let of_bsdtar = |name: &[u8]| {
        Piece::extended(b'x', &[early]).with(|header| {
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
        })
    };
    pieces(&[of_bsdtar(b"./PaxHeader/f\0"), Piece::file(b"./f", b"x")], "before 1970 in parts of a second");
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

fn says_nothing_but_of_folders(output: &Output) -> bool {
    let told = String::from_utf8_lossy(&output.stderr);
    let is_of_folders = |line: &str| line.starts_with(OF_FOLDERS) || line.starts_with(OF_ONE_FOLDER);
    told.lines().all(is_of_folders) && told.lines().count() <= 2
}

#[test]
fn what_an_archive_does_not_say_is_told() {
    let world = World::new();
    let told = |pieces: &[Piece]| {
        let output = import(&world, "v", &archive(pieces), &["--strict"]);
        assert!(output.status.success(), "{output:?}");
        world.ok(&["volume", "rm", "v"]);
        String::from_utf8(output.stderr).unwrap()
    };
    let folder = |name: &[u8]| of_kind(b'5', name);
    assert_eq!(told(&[folder(b"./"), folder(b"d"), named(b"d/f")]), "");
    assert_eq!(told(&[named(b"d/f"), folder(b"d/"), named(b"f")]), "");
    assert!(told(&[named(b"d/f"), folder(b"d/")]).starts_with(OF_ONE_FOLDER));
    assert_eq!(
        told(&[named(b"b/f"), named(b"a/c/f"), folder(b"a")]),
        format!("{OF_FOLDERS}2, such as 'a/c'\n")
    );
    assert_eq!(told(&[folder(b"./")]), "");
    // What engines write of an empty volume; and a file that is all zeros.
    for pieces in [[].as_slice(), &[Piece::zeros(200)]] {
        assert_eq!(told(pieces), "Warning: the archive holds no file\n");
    }
}

#[test]
fn odd_archives_mean_what_gnu_tar_makes_of_them() {
    let world = World::new();
    let good = |pieces: &[Piece]| {
        let output = import(&world, "v", &archive(pieces), &[]);
        assert!(output.status.success() && says_nothing_but_of_folders(&output), "{output:?}");
        world.volume("v")
    };
    let gone = || world.ok(&["volume", "rm", "v"]);
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

/// Blocks of a sparse file whose map stands before its data: 4 KiB at the begin, and 4 KiB after a hole of a megabyte.
fn map_and_data() -> Vec<u8> {
    let mut body = b"2\n0\n4096\n1048576\n4096\n".to_vec();
    body.resize(512, 0);
    body.extend([7; 4096]);
    body.extend([8; 4096]);
    body
}

const SPARSE: [(&str, &[u8]); 3] =
    [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1052672")];

/// What an archive is, and its pieces.
type Odd = (&'static str, Vec<Piece>);

fn long(kind: u8, text: &[u8]) -> Piece {
    Piece::new(kind, b"././@LongLink", b"", &[text, b"\0"].concat())
}

fn said(records: &[(&str, &[u8])]) -> Piece {
    Piece::extended(b'x', records)
}

fn named(name: &[u8]) -> Piece {
    Piece::file(name, b"x")
}

fn of_kind(kind: u8, name: &[u8]) -> Piece {
    Piece::new(kind, name, b"", b"")
}

fn with_mode(piece: Piece, mode: u32) -> Piece {
    piece.with(|header| header.set_mode(mode))
}

/// With a header of POSIX, of that version.
fn of_posix(piece: Piece, version: [u8; 2]) -> Piece {
    piece.with(|header| {
        header.as_mut_bytes()[257..263].copy_from_slice(b"ustar\0");
        header.as_mut_bytes()[263..265].copy_from_slice(&version);
    })
}

fn odd_names() -> Vec<Odd> {
    let name: (&str, &[u8]) = ("GNU.sparse.name", b"named");
    let by_name = [SPARSE.as_slice(), &[name]].concat();
    let prefixed = |name: &[u8], version: [u8; 2]| {
        of_posix(named(name), version)
            .with(|header| header.as_mut_bytes()[345..354].copy_from_slice(b"in/prefix"))
    };
    let sparse = || of_posix(Piece::file(b"GNUSparseFile.1/x", &map_and_data()), *b"00");
    vec![
        (
            "a sparse file by records, with another name before",
            vec![long(b'L', &[b'l'; 150]), said(&by_name), sparse()],
        ),
        (
            "a sparse file by records, with its name before",
            vec![said(&SPARSE), long(b'L', &[b'l'; 150]), sparse()],
        ),
        (
            "names and targets in both dialects",
            vec![
                long(b'K', b"from-k"),
                said(&[("linkpath", b"from-x")]),
                Piece::new(b'2', b"link", b"from-header", b""),
                said(&[("path", b"name-of-x\n\xff\xfe")]),
                long(b'L', b"name-of-l"),
                named(b"name"),
            ],
        ),
        (
            "names from the root and through dots",
            vec![
                named(b"/abs//./x"),
                Piece::new(b'1', b"./abs/./y", b"/abs/x", b""),
                of_kind(b'5', b".//abs/z//"),
            ],
        ),
        (
            "the same again, and otherwise",
            vec![
                named(b"d/f"),
                with_mode(of_kind(b'5', b"d"), 0o700),
                Piece::new(b'1', b"d/n", b"d/f", b""),
                Piece::file(b"d/f", b"another"),
                with_mode(of_kind(b'5', b"./d/"), 0o711),
                Piece::new(b'2', b"e", b"d", b""),
                of_kind(b'5', b"e"),
            ],
        ),
        (
            "what stands before a name, whatever version the header is of",
            vec![prefixed(b"blank", *b"  "), prefixed(b"none", *b"\0\0"), prefixed(b"right", *b"00")],
        ),
        (
            "links to anywhere, and to links",
            vec![
                Piece::new(b'2', b"root", b"/etc", b""),
                Piece::new(b'2', b"up", b"../../up", b""),
                Piece::new(b'1', b"same", b"up", b""),
            ],
        ),
        (
            "old folders",
            vec![
                of_kind(b'0', b"zero/"),
                of_kind(0, b"none/"),
                of_kind(b'7', b"seven/"),
                Piece::new(b'7', b"file", b"", b"x"),
            ],
        ),
    ]
}

fn odd_headers() -> Vec<Odd> {
    let mut last = tar::GnuExtSparseHeader::new();
    last.sparse_mut()[0].set_offset(5 << 20);
    last.sparse_mut()[0].set_length(0);
    let last_and_data = [last.as_bytes().as_slice(), &[9; 4 * 4096]].concat();
    let going_on = Piece::new(b'S', b"sparse", b"", &last_and_data).with(|header| {
        header.set_size(4 * 4096);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(5 << 20);
        for (at, place) in (0_u64..).zip(&mut gnu.sparse) {
            place.set_offset(at << 20);
            place.set_length(4096);
        }
        // Whatever is there says that more of them stand behind the header.
        gnu.isextended = [b'1'];
    });
    let far = named(b"far").with(|header| {
        let old = header.as_old_mut();
        old.size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        old.uid = [0x80, 0, 0, 0, 0xb2, 0xd0, 0x5e, 0];
        old.gid = [0x80, 0, 0, 0, 0, 0, 1, 0];
        old.mtime = [0xff; 12];
    });
    let bare = named(b"bare").with(|header| {
        let old = header.as_old_mut();
        old.mode = *b"    0604";
        old.uid = *b"     12 ";
        old.size = *b"          1\0";
        old.mtime = *b"007346545000";
    });
    vec![
        ("a sparse file whose header goes on, in an odd way of saying so", vec![going_on]),
        ("numbers that are binary, and one below zero", vec![far]),
        ("numbers that begin with blanks or end with their field", vec![bare]),
        (
            "a label, and zeros behind the end",
            vec![of_kind(b'V', b"label"), named(b"file"), Piece::zeros(20)],
        ),
        (
            "the type above a mode",
            vec![with_mode(named(b"file"), 0o100_640), with_mode(of_kind(b'5', b"folder"), 0o43_750)],
        ),
        ("a sum of signed bytes", vec![named(b"\xc3\xa4\xff").with_signed_sum()]),
    ]
}

fn odd_records() -> Vec<Odd> {
    let of_all = |records: &[(&str, &[u8])]| Piece::extended(b'g', records);
    vec![
        (
            "what is said of all, and of one",
            vec![
                of_all(&[("mtime", b"1234567890.5"), ("uid", b"4321"), ("comment", b"one")]),
                named(b"of-all"),
                said(&[("uid", b"77"), ("mtime", b"5")]),
                named(b"of-one"),
                of_all(&[("mtime", b"7"), ("uid", b"1234")]),
                named(b"of-all-later"),
            ],
        ),
        (
            "attributes of any bytes and names, and a list that says less than the mode",
            vec![
                said(&[
                    ("SCHILY.xattr.user.a%3Db%25c%253D", b"\0\n=\xff"),
                    ("SCHILY.xattr.user.empty", b""),
                    ("SCHILY.acl.access", b"user::rw-,user:1234:r--,group::r--,mask::r--,other::---"),
                ]),
                named(b"file"),
            ],
        ),
        (
            "times with more digits than nanoseconds have",
            vec![
                said(&[("mtime", b"-1.0000000019")]),
                named(b"before"),
                said(&[("mtime", b"1.0000000019")]),
                named(b"after"),
                said(&[("mtime", b"-0.5")]),
                named(b"half"),
                // bsdtar's, which is the same for everybody.
                said(&[("mtime", b"-7"), ("LIBARCHIVE.creationtime", b"-8.5")]),
                named(b"whole"),
            ],
        ),
    ]
}

#[test]
fn odd_archives_come_out_as_gnu_tar_brings_them_out() {
    if !is_root() {
        return println!("skipped: an archive's owners need root");
    }
    for (what, pieces) in [odd_names(), odd_headers(), odd_records()].concat() {
        let world = World::new();
        let output = import(&world, "v", &archive(&pieces), &[]);
        assert!(output.status.success() && says_nothing_but_of_folders(&output), "{what}: {output:?}");
        fs::create_dir(world.path("to")).unwrap();
        let (printed, status) =
            world.shell("tar --xattrs --xattrs-include='*' --acls --numeric-owner -C to -xpf archive\n");
        assert_eq!(status, 0, "{what}: {printed}");
        // The times of folders that nobody spoke of.
        let lost = Lost { top: true, folder_times: true, ..Lost::default() };
        let (ours, theirs) = (manifest(&world.volume("v"), lost), manifest(&world.path("to"), lost));
        assert_eq!(ours, theirs, "{what}");
        assert!(!ours.is_empty(), "{what}");
    }
}
