//! Encrypted volumes that a person opens.

use std::{fs, io::Write, process::Stdio};

use super::{can_encrypt, write_key};
use crate::{terminals::Terminal, world::World};

const FIRST: &str = "correct horse";
const SECOND: &str = "battery staple";

/// Runs a command with these lines on its standard input; what it printed, both streams, and its exit status.
fn given(world: &World, arguments: &[&str], lines: &str) -> (String, i32) {
    let mut child = world
        .host(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let output = child.wait_with_output().unwrap();
    let both = [output.stdout, output.stderr].concat();
    (String::from_utf8(both).unwrap(), output.status.code().unwrap_or(-1))
}

fn lock(world: &World) {
    assert!(world.command("umount").arg(world.volume("a")).status().unwrap().success());
}

#[test]
fn lab_a_passphrase_is_asked_for_at_a_terminal_and_changed_there() {
    if !can_encrypt() {
        return;
    }
    let world = World::new();
    let Some(mut terminal) = Terminal::start(&world, "tierce --host volume create a --size 64Mi --encrypt")
    else {
        return;
    };
    terminal.answer("New passphrase of volume 'a': ", FIRST);
    terminal.answer("The same again: ", FIRST);
    let (shown, status) = terminal.end();
    assert!(status == 0 && shown.ends_with("a\n") && !shown.contains(FIRST), "{shown}");
    fs::write(world.volume("a").join("file"), "kept").unwrap();
    // While it is mounted.
    let mut terminal = Terminal::start(&world, "tierce --host volume key change a").unwrap();
    terminal.answer("Passphrase of volume 'a': ", FIRST);
    terminal.answer("New passphrase of volume 'a': ", SECOND);
    terminal.answer("The same again: ", SECOND);
    let (shown, status) = terminal.end();
    assert!(status == 0 && !shown.contains(FIRST) && !shown.contains(SECOND), "{shown}");
    lock(&world);
    // A mistyped one may be tried again.
    let mut terminal = Terminal::start(&world, "tierce --host volume mount a").unwrap();
    terminal.answer("Passphrase of volume 'a': ", FIRST);
    terminal.answer("Passphrase of volume 'a': ", SECOND);
    let (shown, status) = terminal.end();
    assert!(status == 0 && shown.contains("does not open with that passphrase: again"), "{shown}");
    assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "kept");
    // What opens it by guessing is slow.
    let (dump, status) =
        world.shell("cryptsetup luksDump $(find $TIERCE_ROOT/pools -name data.img) | grep PBKDF:\n");
    assert!(status == 0 && dump.contains("argon2id") && !dump.contains("pbkdf2"), "{dump}");
    world.ok(&["volume", "rm", "a"]);
}

#[test]
fn lab_without_a_terminal_a_passphrase_comes_from_a_file_or_standard_input_and_nobody_is_kept_waiting() {
    if !can_encrypt() {
        return;
    }
    let world = World::new();
    fs::write(world.path("words"), format!("{FIRST}\n")).unwrap();
    rustix::fs::chmod(world.path("words"), rustix::fs::Mode::RUSR).unwrap();
    let create = ["volume", "create", "a", "--size", "64Mi", "--encrypt", "--passphrase-file", "words"];
    assert_eq!(given(&world, &create, ""), ("a\n".to_owned(), 0));
    fs::write(world.volume("a").join("file"), "kept").unwrap();
    world.ok(&["volume", "create", "plain", "--size", "64Mi"]);
    // The record says that there is a passphrase, and nothing to guess it from.
    let record = fs::read_to_string(world.root().join("state/records/local/a.json")).unwrap();
    assert!(record.contains("\"key\": \"passphrase\""), "{record}");
    lock(&world);
    assert!(world.command("umount").arg(world.volume("plain")).status().unwrap().success());
    // A boot: the others are mounted, and this one is named.
    let (printed, status) = given(&world, &["volume", "mount", "--all"], "");
    assert_eq!(status, 0, "{printed}");
    assert!(printed.starts_with("plain\n") && printed.contains("Warning: Volume 'a' is locked"), "{printed}");
    let (printed, status) = given(&world, &["volume", "attach", "a", "--to", "vm"], FIRST);
    assert!(status == 1 && printed.contains("volume mount a"), "{printed}");
    assert_eq!(
        given(&world, &["volume", "mount", "a"], "wrong horse\n"),
        ("Error: Volume 'a' does not open with that passphrase\n".to_owned(), 1)
    );
    assert_eq!(given(&world, &["volume", "mount", "a"], FIRST), ("a\n".to_owned(), 0));
    assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "kept");
    // To a key file, and back: the present one comes first.
    write_key(&world, "key", "42");
    let change = ["volume", "key", "change", "a"];
    assert_eq!(given(&world, &[&change[..], &["--key-file", "key"]].concat(), FIRST), ("a\n".to_owned(), 0));
    lock(&world);
    assert_eq!(world.ok(&["volume", "mount", "a"]), "a\n");
    assert_eq!(given(&world, &change, &format!("{SECOND}\n")), ("a\n".to_owned(), 0));
    let (printed, status) = given(&world, &change, &format!("{FIRST}\n{SECOND}\n"));
    assert!(status == 1 && printed.contains("does not open with that passphrase"), "{printed}");
    lock(&world);
    let (printed, status) = given(&world, &["volume", "mount", "a", "--key-file", "key"], "");
    assert!(status == 1 && printed.contains("does not open with the key in"), "{printed}");
    assert_eq!(given(&world, &["volume", "mount", "a"], SECOND), ("a\n".to_owned(), 0));
    assert_eq!(fs::read_to_string(world.volume("a").join("file")).unwrap(), "kept");
    world.ok(&["volume", "rm", "a", "plain"]);
}
