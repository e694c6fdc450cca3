//! `docs/cli.md` is what the command itself says; `make generate` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

use std::{fmt::Write, fs, path::Path};

use clap::{Command, CommandFactory};
use tierce_cli::args::Cli;

/// Calls `each` with every command, and its full name.
fn commands(command: &Command, name: &str, each: &mut dyn FnMut(&str, &Command)) {
    each(name, command);
    for subcommand in command.get_subcommands() {
        commands(subcommand, &format!("{name} {}", subcommand.get_name()), each);
    }
}

/// Calls `each` with every command that can be run, and its full name.
fn leaves(command: &Command, name: &str, each: &mut dyn FnMut(&str, &Command)) {
    let mut below = command.get_subcommands().peekable();
    if below.peek().is_none() {
        each(name, command);
    }
    for subcommand in below {
        leaves(subcommand, &format!("{name} {}", subcommand.get_name()), each);
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let mut count = 0;
    commands(&Cli::command(), "tierce", &mut |name, command| {
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(
            example.contains("Example") && example.contains(name.trim_start_matches("tierce ")),
            "{name}: {example}"
        );
        assert!(command.get_about().is_some(), "{name}");
        count += 1;
    });
    assert!(count > 20, "{count}");
}

#[test]
fn the_reference_is_what_the_command_says() {
    let mut text =
        "# The command `tierce`\n\nWritten by `make generate` from the command's own help.\n".to_owned();
    let mut root = Cli::command();
    root.build();
    let page = |text: &mut String, name: &str, command: &mut Command| {
        let help = command.render_help().to_string();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(text, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()).unwrap();
    };
    page(&mut text, "tierce", &mut root.clone());
    leaves(&root, "tierce", &mut |name, command| {
        // Of options that hold everywhere the first page tells.
        let mut own = command.clone().mut_args(|argument| {
            let everywhere = argument.is_global_set() || argument.get_id() == "help";
            argument.hide(everywhere)
        });
        page(&mut text, name, &mut own);
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    if std::env::var_os("TIERCE_GENERATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/cli.md is out of date: make generate");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let status =
        std::process::Command::new(env!("CARGO_BIN_EXE_tierce")).arg("man").arg(folder.path()).status();
    assert!(status.unwrap().success());
    leaves(&Cli::command(), "tierce", &mut |name, _| {
        let page = folder.path().join(format!("{}.1", name.replace(' ', "-")));
        let text = fs::read_to_string(&page).unwrap_or_default();
        assert!(text.contains(".SH SYNOPSIS") && text.contains("Example"), "{}", page.display());
    });
}

#[test]
fn the_completions_of_each_shell_are_understood_by_it_and_name_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tierce"))
            .args(["completions", shell])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("TIERCE_COMPLETE"), "{shell}");
        let file = folder.path().join(shell);
        fs::write(&file, text).unwrap();
        match std::process::Command::new(shell).arg(check).arg(&file).output() {
            Ok(read) => assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {read:?}"),
            Err(_) => println!("skipped: {shell} is missing, so its completions are not read by it"),
        }
    }
}
