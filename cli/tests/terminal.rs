//! What a person at a terminal sees.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod terminals;
mod world;

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use terminals::Terminal;
use world::{World, is_root};

#[test]
fn prune_asks_and_only_a_yes_removes() {
    let world = World::new();
    world.ok(&["volume", "create", "old-data"]);
    let prune = |answer: &str| {
        let mut terminal = Terminal::start(&world, "tierce --host volume prune --all")?;
        terminal.answer("Are you sure you want to continue? [y/N] ", answer);
        let (shown, status) = terminal.end();
        assert_eq!(status, 0, "{shown}");
        Some(shown)
    };
    let Some(kept) = prune("perhaps") else { return };
    assert!(kept.contains("old-data") && !kept.contains("Deleted"), "{kept}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "old-data\n");
    let gone = prune("yes").unwrap();
    assert!(gone.contains("Deleted Volumes:\nold-data\n\nTotal reclaimed space: 0B"), "{gone}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn prune_says_so_where_nobody_can_answer() {
    let world = World::new();
    world.ok(&["volume", "create", "old-data"]);
    for line in ["volume prune --all", "system prune --volumes --all"] {
        let said = world.fails(2, &line.split(' ').collect::<Vec<_>>());
        assert!(said.contains("add --force"), "{line}: {said}");
        assert_eq!(world.ok(&["volume", "ls", "-q"]), "old-data\n");
    }
}

#[test]
fn names_and_words_from_files_never_reach_a_terminal_raw() {
    const ODD: &str = "a\u{1b}]0;owned\u{7}\u{9b}2J\r";
    let world = World::new();
    world.ok(&["volume", "create", "a", "--label", "team=blue"]);
    fs::create_dir(world.root().join("volumes/local").join(ODD)).unwrap();
    let record = world.root().join("state/records/local/a.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("blue", "\\u001b[2J\u{9b}2J\u{7f}")).unwrap();
    fs::write(
        world.path("compose.yaml"),
        format!("services:\n  a: {{volumes: ['./{}:/a']}}\n", ODD.replace('\r', "")),
    )
    .unwrap();
    let missing = format!("{ODD}/nosuch");
    for arguments in [
        &["volume", "ls"][..],
        &["volume", "ls", "-o", "wide"],
        &["volume", "inspect", "a"],
        &["volume", "inspect", "a", "-o", "yaml"],
        &["volume", "inspect", ODD],
        &["volume", "cp", &missing, "a:"],
        &["volume", "create", "a", "--label", "team=red"],
        &["volume", "import", "b", "--file", &missing],
        &["stack", "plan", "-f", "compose.yaml"],
        &["--verbose", "volume", "import", "b", "--file", &missing],
        &[ODD],
    ] {
        let output = world.tierce(arguments);
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            assert!(!text.chars().any(|c| c != '\n' && c.is_control()), "{arguments:?}: {text:?}");
        }
    }
}

#[test]
fn a_copy_shows_how_far_it_is_on_a_terminal_alone() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::write(world.path("large"), vec![1; 40_000_000]).unwrap();
    let Some(terminal) = Terminal::start(&world, "tierce --host volume cp large a:") else { return };
    let (bar, status) = terminal.end();
    assert!(status == 0 && bar.contains("copied") && bar.contains('%') && bar.contains("40"), "{bar:?}");
    let plain = world.tierce(&["volume", "cp", "large", "a:again"]);
    assert!(plain.status.success() && plain.stdout.is_empty() && plain.stderr.is_empty(), "{plain:?}");
}

#[test]
fn a_new_passphrase_is_asked_for_twice_and_not_shown() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    let line = "tierce --host volume create a --size 64Mi --encrypt";
    let Some(mut terminal) = Terminal::start(&world, line) else { return };
    terminal.answer("New passphrase of volume 'a': ", "correct horse");
    terminal.answer("The same again: ", "correct house");
    let (shown, status) = terminal.end();
    assert!(status == 1 && shown.contains("The two passphrases differ: nothing was changed"), "{shown}");
    assert!(!shown.contains("correct"), "{shown}");
    let mut terminal = Terminal::start(&world, line).unwrap();
    terminal.answer("New passphrase of volume 'a': ", "short");
    let (shown, status) = terminal.end();
    assert!(status == 2 && shown.contains("8 to 512 bytes"), "{shown}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_signal_at_the_question_for_a_passphrase_ends_the_command_and_the_terminal_shows_again() {
    if !is_root() {
        return println!("skipped: volumes with a size need root");
    }
    let world = World::new();
    for (signal, status) in
        [(None, 130), (Some(Signal::TERM), 143), (Some(Signal::INT), 130), (Some(Signal::QUIT), 131)]
    {
        // The shell lives on to tell.
        let line = "trap : INT; ulimit -c 0
            sh -c 'echo process $$.; exec tierce --host volume create a --size 64Mi --encrypt'
            echo status $?.; stty -a";
        let Some(mut terminal) = Terminal::start(&world, line) else { return };
        let shown = terminal.wait_for("New passphrase of volume 'a': ");
        let pid = shown.split_once("process ").unwrap().1.split_once('.').unwrap().0;
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        match signal {
            Some(signal) => kill_process(pid, signal).unwrap(),
            // As a person does it.
            None => terminal.types(b"\x03"),
        }
        let (shown, _) = terminal.end();
        assert!(shown.contains(&format!("status {status}.")), "{signal:?}: {shown}");
        let modes: Vec<&str> = shown.split_whitespace().collect();
        assert!(modes.contains(&"echo") && !modes.contains(&"-echo"), "{signal:?}: {shown}");
    }
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}
