//! The manifest that copies are compared by sees all that rsync sees, and more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod trees;

use std::{
    fs,
    os::unix::fs::{chown, symlink},
    path::Path,
    process::Command,
};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use trees::{
    PARTS, Part,
    manifest::{Lost, manifest},
    plant,
};

/// What is done to a copy, and whether rsync sees it. A second and more: it does not look at parts of one.
type Change = (&'static str, Part, fn(&Path), bool);

const CHANGES: [Change; 13] = [
    ("content of the same length", Part::Files, |top| rewrite(&top.join("a/file"), "other words"), true),
    ("a file more", Part::Files, |top| fs::write(top.join("a/b/empty/new"), "").unwrap(), true),
    ("a file less", Part::Files, |top| fs::remove_file(top.join("a/b/none")).unwrap(), true),
    ("mode", Part::Files, |top| trees::mode(&top.join("a/file"), 0o641), true),
    ("mode of the top", Part::Files, |top| trees::mode(top, 0o755), true),
    ("owner", Part::Files, |top| chown(top.join("a/file"), Some(9), None).unwrap(), true),
    ("a time", Part::Times, |top| touch(&top.join("fine"), "2020-01-01"), true),
    (
        "a thousandth of a second",
        Part::Times,
        |top| touch(&top.join("zero"), "1970-01-01 00:00:00.001 UTC"),
        false,
    ),
    ("a further name", Part::Links, |top| unlink(&top.join("a")), true),
    ("a link's target", Part::Links, relink, true),
    ("an attribute", Part::Attributes, |top| attribute(&top.join("folder/file")), true),
    ("a device's number", Part::OfRoot, renumber, true),
    ("a hole", Part::Holes, fill, false),
];

#[test]
fn the_manifest_sees_what_rsync_sees() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/rsync").exists() {
        return println!("skipped: trees with everything need root, and rsync to compare with");
    }
    let copied = |part: Part| {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from).unwrap();
        plant(part, &from);
        assert!(
            Command::new("cp").args(["-a", "--sparse=auto"]).arg(&from).arg(&to).status().unwrap().success()
        );
        (folder, from, to)
    };
    for part in PARTS {
        let (_folder, from, to) = copied(part);
        assert_eq!(manifest(&from, Lost::default()), manifest(&to, Lost::default()), "{part:?}");
        assert_eq!(rsync(&from, &to), "", "{part:?}");
    }
    for (words, part, change, is_seen) in CHANGES {
        let (_folder, from, to) = copied(part);
        change(&to);
        assert_ne!(manifest(&from, Lost::default()), manifest(&to, Lost::default()), "{words}");
        assert_eq!(!rsync(&from, &to).is_empty(), is_seen, "{words}");
    }
}

fn rsync(from: &Path, to: &Path) -> String {
    let mut command = Command::new("rsync");
    command.args(["--dry-run", "--itemize-changes", "-aHAX", "--checksum", "--numeric-ids", "--delete"]);
    let output = command.arg(format!("{}/", from.display())).arg(to).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn touch(path: &Path, time: &str) {
    assert!(Command::new("touch").args(["-d", time]).arg(path).status().unwrap().success());
}

/// Other content; the time stays.
fn rewrite(path: &Path, text: &str) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, text).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The same file once more in the place of a further name.
fn unlink(path: &Path) {
    let copy = path.with_extension("copy");
    assert!(Command::new("cp").arg("-a").arg(path).arg(&copy).status().unwrap().success());
    fs::rename(&copy, path).unwrap();
}

fn relink(top: &Path) {
    fs::remove_file(top.join("root")).unwrap();
    symlink("/etc/group", top.join("root")).unwrap();
}

fn attribute(path: &Path) {
    setxattr(path, "user.zero", b"a\0c", XattrFlags::empty()).unwrap();
}

fn renumber(top: &Path) {
    fs::remove_file(top.join("null")).unwrap();
    let kind = FileType::CharacterDevice;
    mknodat(CWD, top.join("null"), kind, Mode::from_raw_mode(0o666), makedev(1, 5)).unwrap();
}

/// Zeros where nothing was.
fn fill(top: &Path) {
    let path = top.join("middle");
    let content = fs::read(&path).unwrap();
    rewrite(&path, "");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, content).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}
