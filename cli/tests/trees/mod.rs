//! Trees with everything that a volume may hold, in parts: not every writer's format has a place for each.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod manifest;
pub(crate) mod pairs;
pub(crate) mod writers;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, chown, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, utimensat,
};

/// What is in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Files and folders, empty ones too, one of a megabyte, a folder that nobody may write to.
    Files,
    /// Hard and symbolic links, several of each, of pipes and of links too.
    Links,
    /// Names of 255 bytes, paths of a thousand, and names in any bytes.
    Names,
    /// Holes at the begin, in the middle, at the end, all over, and by the hundred.
    Holes,
    /// Set-user-id, set-group-id and sticky bits; no rights at all.
    Modes,
    /// Times before 1970, after 2038, and in nanoseconds.
    Times,
    /// Extended attributes with any bytes, and access control lists, on the top too.
    Attributes,
    Pipes,
    Sockets,
    /// What only root can make: devices, foreign owners with large numbers, attributes that only root may set.
    OfRoot,
}

pub(crate) const PARTS: [Part; 10] = [
    Part::Files,
    Part::Links,
    Part::Names,
    Part::Holes,
    Part::Modes,
    Part::Times,
    Part::Attributes,
    Part::Pipes,
    Part::Sockets,
    Part::OfRoot,
];

/// Puts a part into an empty folder, whose own mode and time are set too.
pub(crate) fn plant(part: Part, top: &Path) {
    let at = |below: &str| top.join(below);
    match part {
        Part::Files => files(&at),
        Part::Links => links(&at),
        Part::Names => names(&at, top),
        Part::Holes => holes(&at),
        Part::Modes => modes(&at),
        Part::Times => times(&at),
        Part::Attributes => attributes(&at, top),
        Part::Pipes => pipes(&at),
        Part::Sockets => sockets(&at),
        Part::OfRoot => of_root(&at, top),
    }
    mode(top, 0o751);
    let mut folders = vec![top.to_owned()];
    let mut at = 0;
    while at < folders.len() {
        let below = fs::read_dir(&folders[at]).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(below.filter(|path| path.symlink_metadata().unwrap().is_dir()));
        at += 1;
    }
    for folder in &folders {
        time(folder, 1_400_000_000, 42);
    }
}

fn files(at: &dyn Fn(&str) -> PathBuf) {
    fs::create_dir_all(at("a/b/empty")).unwrap();
    fs::write(at("a/b/none"), "").unwrap();
    fs::write(at("a/file"), "some words\n").unwrap();
    let large: Vec<u8> = (0_u32..300_000).flat_map(u32::to_le_bytes).collect();
    fs::write(at("a/large"), large).unwrap();
    fs::create_dir(at("closed")).unwrap();
    fs::write(at("closed/inside"), "x").unwrap();
    mode(&at("closed/inside"), 0o444);
    mode(&at("closed"), 0o555);
    mode(&at("a/file"), 0o640);
}

fn links(at: &dyn Fn(&str) -> PathBuf) {
    fs::create_dir(at("z")).unwrap();
    fs::write(at("m"), "one file").unwrap();
    for other in ["a", "b", "z/c"] {
        fs::hard_link(at("m"), at(other)).unwrap();
    }
    for (name, target) in [("up", "../../nowhere"), ("root", "/etc/passwd"), ("self", "self"), ("to-m", "m")]
    {
        symlink(target, at(name)).unwrap();
    }
    symlink("n".repeat(300), at("far")).unwrap();
    rustix::fs::linkat(CWD, at("to-m"), CWD, at("z/to-m"), AtFlags::empty()).unwrap();
}

fn names(at: &dyn Fn(&str) -> PathBuf, top: &Path) {
    fs::write(at(&"n".repeat(255)), "long").unwrap();
    fs::write(at(&"h".repeat(100)), "a hundred").unwrap();
    let deep = at(&vec!["d".repeat(120); 9].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    fs::hard_link(deep.join("file"), deep.join("other")).unwrap();
    for bytes in
        [b"n\xff\xfe".as_slice(), b"new\nline\ttab", b"-rf", b" blank ", "\u{e4}".as_bytes(), b"back\\slash"]
    {
        fs::write(top.join(OsStr::from_bytes(bytes)), bytes).unwrap();
    }
}

fn holes(at: &dyn Fn(&str) -> PathBuf) {
    let file = |name: &str, size: u64, data: &[u64]| {
        let file = fs::File::create(at(name)).unwrap();
        for offset in data {
            file.write_all_at(&[7; 4096], *offset).unwrap();
        }
        file.set_len(size).unwrap();
    };
    file("begin", (1 << 20) + 4096, &[1 << 20]);
    file("middle", (1 << 20) + 8192, &[0, (1 << 20) + 4096]);
    file("end", 1 << 20, &[0]);
    file("all", 5 << 20, &[]);
    let many: Vec<u64> = (0..200).map(|number| number << 17).collect();
    file("many", 200 << 17, &many);
}

fn modes(at: &dyn Fn(&str) -> PathBuf) {
    for (name, bits) in [("suid", 0o4755), ("sgid", 0o2755), ("none", 0o400), ("all", 0o777)] {
        fs::write(at(name), name).unwrap();
        mode(&at(name), bits);
    }
    for (name, bits) in [("sticky", 0o1777), ("shared", 0o2775), ("private", 0o700)] {
        fs::create_dir(at(name)).unwrap();
        mode(&at(name), bits);
    }
}

fn times(at: &dyn Fn(&str) -> PathBuf) {
    for (name, seconds, nanoseconds) in [
        ("before", -86_400, 0),
        ("just-before", -1, 250_000_000),
        ("zero", 0, 0),
        // Python writes it with an exponent.
        ("just-after", 0, 10_000),
        ("fine", 1_600_000_000, 123_456_789),
        ("after-2038", 3_000_000_000, 1),
    ] {
        fs::write(at(name), name).unwrap();
        time(&at(name), seconds, nanoseconds);
    }
    symlink("fine", at("link")).unwrap();
    time(&at("link"), 1_500_000_000, 5);
}

fn attributes(at: &dyn Fn(&str) -> PathBuf, top: &Path) {
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("folder/file"), "x").unwrap();
    for path in [top.to_owned(), at("folder"), at("folder/file")] {
        for (name, value) in [
            ("user.lines", b"one\ntwo=2\n".as_slice()),
            ("user.zero", b"a\0b\xff"),
            ("user.empty", b""),
            ("user.long", &[b'v'; 2000]),
            ("user.a b\u{e4}\n\x7f", b"a name of any bytes"),
        ] {
            attribute(&path, name, value);
        }
        attribute(&path, "system.posix_acl_access", &list());
    }
    for path in [top.to_owned(), at("folder")] {
        attribute(&path, "system.posix_acl_default", &list());
    }
}

fn pipes(at: &dyn Fn(&str) -> PathBuf) {
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    rustix::fs::linkat(CWD, at("pipe"), CWD, at("same"), AtFlags::empty()).unwrap();
}

fn sockets(at: &dyn Fn(&str) -> PathBuf) {
    mknodat(CWD, at("socket"), FileType::Socket, Mode::from_raw_mode(0o755), 0).unwrap();
}

fn of_root(at: &dyn Fn(&str) -> PathBuf, top: &Path) {
    mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    mknodat(CWD, at("loop"), FileType::BlockDevice, Mode::from_raw_mode(0o660), makedev(7, 4000)).unwrap();
    for (name, user, group) in [("theirs", 1000, 1001), ("far", 3_000_000_000, 3_000_000_001)] {
        fs::write(at(name), name).unwrap();
        chown(at(name), Some(user), Some(group)).unwrap();
    }
    attribute(&at("theirs"), "trusted.mark", b"root alone");
    // A capability: version 2, cap_net_raw.
    attribute(
        &at("far"),
        "security.capability",
        &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    chown(top, Some(77), Some(78)).unwrap();
}

pub(crate) fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

fn time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
}

/// An access control list with a user and a group by number.
fn list() -> Vec<u8> {
    let entries = [
        (1_u16, 7_u16, u32::MAX),
        (2, 5, 1234),
        (4, 5, u32::MAX),
        (8, 4, 77),
        (16, 5, u32::MAX),
        (32, 1, u32::MAX),
    ];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
