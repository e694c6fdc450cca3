//! Archives whose content lies below a folder of its own: what an import says of them, and what it leaves of their names.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

#[allow(dead_code, reason = "other tests make odder archives")]
mod pieces;
mod world;

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use pieces::{Piece, archive, import};
use world::World;

fn warned(world: &World, name: &str, bytes: &[u8], more: &[&str]) -> String {
    let output = import(world, name, bytes, more);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn folder(name: &[u8]) -> Piece {
    Piece::new(b'5', name, b"", b"")
}

#[test]
fn an_import_says_that_all_of_an_archive_lies_below_one_folder() {
    let world = World::new();
    let file = |name: &[u8]| Piece::file(name, b"row 1");
    for (number, (pieces, advice)) in [
        (vec![folder(b"pgdata/"), file(b"pgdata/table")], Some(("pgdata", 1))),
        (vec![file(b"data/table"), file(b"data/more/of it")], Some(("data", 1))),
        (vec![file(b"/data/table")], Some(("data", 1))),
        (vec![folder(b"./data/"), file(b"./data/table")], Some(("data", 2))),
        (vec![folder(b"pgdata")], Some(("pgdata", 1))),
        // All of a volume, or not of one folder.
        (vec![folder(b"./"), folder(b"./pgdata/"), file(b"./pgdata/table")], None),
        (vec![file(b"pgdata/table"), folder(b".")], None),
        (vec![file(b"pgdata/table"), file(b"other/table")], None),
        (vec![file(b"table")], None),
        (vec![file(b"table"), file(b"tables/more")], None),
    ]
    .into_iter()
    .enumerate()
    {
        let (bytes, name) = (archive(&pieces), format!("v{number}"));
        let said = warned(&world, &name, &bytes, &[]);
        let Some((top, strip)) = advice else {
            assert!(!said.contains("--strip"), "{number}: {said}");
            continue;
        };
        let option = format!("--strip-components {strip}");
        assert!(said.contains(&format!("below '{top}/'")) && said.contains(&option), "{number}: {said}");
        let said = warned(&world, &format!("s{number}"), &bytes, &option.split(' ').collect::<Vec<_>>());
        assert!(!said.contains("--strip"), "{number}: {said}");
        assert!(!world.volume(&format!("s{number}")).join(top).exists(), "{number}");
    }
    // The guide's, of a database.
    let world = World::new();
    world.ok(&["volume", "create", "pgdata"]);
    fs::write(world.volume("pgdata").join("table"), "row 1").unwrap();
    let packed = Command::new("tar")
        .args(["-czf", "pgdata.tar.gz", "-C"])
        .args([world.volume("pgdata").parent().unwrap(), Path::new("pgdata")])
        .current_dir(world.path(""))
        .status();
    assert!(packed.unwrap().success());
    world.ok(&["volume", "rm", "pgdata"]);
    let said = world.tierce(&["volume", "import", "pgdata", "--file", "pgdata.tar.gz"]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("Warning: all of the archive lies below 'pgdata/'"), "{said}");
    let import = ["volume", "import", "other", "--file", "pgdata.tar.gz", "--strip-components", "1"];
    world.ok(&import);
    assert_eq!(fs::read_to_string(world.volume("other").join("table")).unwrap(), "row 1");
}

/// The names that GNU tar gives and those that an import gives, below a folder each. None has two slashes: what follows those is an absolute
/// path to GNU tar 1.34, which it unpacks there.
#[test]
fn names_are_stripped_as_gnu_tar_strips_them() {
    let world = World::new();
    let bytes = archive(&[
        folder(b"a/"),
        folder(b"a/b/"),
        Piece::file(b"a/b/c", b"c"),
        Piece::file(b"a/top", b"top"),
        Piece::file(b"./a/d/e/f", b"f"),
        Piece::new(b'1', b"a/b/hard", b"a/b/c", b""),
        Piece::new(b'2', b"a/b/soft", b"a/b/c", b""),
        Piece::file(b"./x", b"x"),
    ]);
    for strip in ["0", "1", "2", "3"] {
        let folder = world.path(&format!("tar{strip}"));
        fs::create_dir(&folder).unwrap();
        fs::write(world.path("archive"), &bytes).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&folder).arg(format!("--strip-components={strip}")).arg("-xf");
        let unpacked = tar.arg(world.path("archive")).output().unwrap();
        // A hard link to what is left out.
        let name = format!("v{strip}");
        let output = import(&world, &name, &bytes, &["--strip-components", strip]);
        assert_eq!(output.status.success(), unpacked.status.success(), "{strip}: {output:?} {unpacked:?}");
        if output.status.success() {
            assert_eq!(names(&world.volume(&name)), names(&folder), "{strip}");
        }
    }
    assert_eq!(names(&world.volume("v1")).len(), 10);
}

/// Each path below a folder with its content, or where a link leads.
fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if kind.is_symlink() {
            found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
        } else if kind.is_dir() {
            found.push(name.clone());
            found.extend(names(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(format!("{name}: {}", fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_stripped_leaves_nothing_out_without_a_word() {
    let world = World::new();
    // The folder that is stripped is the volume's own: a database asks for its mode.
    let top = folder(b"pgdata/").with(|header| header.set_mode(0o700));
    let bytes = archive(&[top, Piece::file(b"pgdata/table", b"row 1")]);
    let said = warned(&world, "a", &bytes, &["--strip-components", "1", "--strict"]);
    assert_eq!(said, "");
    let own = fs::metadata(world.volume("a")).unwrap();
    assert_eq!((own.mode() & 0o7777, own.mtime()), (0o700, 1_000_000_000));

    let bytes = archive(&[Piece::file(b"readme", b"x"), Piece::file(b"pgdata/table", b"row 1")]);
    let said = warned(&world, "b", &bytes, &["--strip-components", "1"]);
    assert!(said.contains("Warning: not kept: ") && said.contains("1, such as 'readme'"), "{said}");
    let output = import(&world, "c", &bytes, &["--strip-components", "1", "--strict"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    let link = Piece::new(b'1', b"pgdata/link", b"readme", b"");
    let bytes = archive(&[Piece::file(b"readme", b"x"), link]);
    let output = import(&world, "c", &bytes, &["--strip-components", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("pgdata/link") && said.contains("'readme'"), "{said}");
    assert!(said.contains("--strip-components 1 leaves out"), "{said}");
    // What leads out is refused where that part is stripped, too.
    let bytes = archive(&[Piece::file(b"../table", b"row 1")]);
    let output = import(&world, "c", &bytes, &["--strip-components", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\nb\n");
}
