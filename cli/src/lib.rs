//! The command `tierce`: named volumes on one host without Kubernetes, and the same verbs on a cluster.
//!
//! [`args`] is the command line, [`host`] what it does on one host. Standard output carries results, standard error everything else.

pub mod args;
mod config;
mod failure;
pub mod host;
mod output;
mod sizes;
mod terminal;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};

use args::{Cli, Command};
use config::{Config, Mode};
use failure::Failure;

/// Runs one command line to its end. Exit status: 0, 1 (refused or failed), 2 (usage).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let verbose = cli.global.verbose;
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(verbose),
    }
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    if let Command::Completions(arguments) = &cli.command {
        clap_complete::generate(arguments.shell, &mut Cli::command(), "tierce", &mut std::io::stdout());
        return Ok(());
    }
    let config = Config::load(&cli.global)?;
    match config.mode {
        Mode::Host => host::run(cli.command, &config, cli.global.output),
        Mode::Cluster => Err(Failure::usage(
            "the verbs on a cluster are not there yet: use kubectl, or add --host for volumes of this host",
        )),
    }
}

/// What clap says about a command line, in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let _ = error.print();
        return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    // The first paragraph is the trouble (a missing argument's name stands on a line of its own), the rest is usage.
    let first = paragraphs.next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let tip = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip: "));
    let first = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let advice = tip.map_or_else(|| "add --help to see how".to_owned(), |tip| tip.trim().to_owned());
    eprintln!("Error: {first} ({advice})");
    ExitCode::from(2)
}
