//! The command `tierce`: named volumes on one host without Kubernetes, and the same verbs on a cluster.
//!
//! [`args`] is the command line, [`host`] what it does on one host, [`cluster`] on a cluster. Standard output carries results,
//! standard error everything else.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod args;
mod cluster;
mod completion;
mod config;
mod failure;
pub mod host;
mod kubectl;
mod labels;
mod named;
mod output;
mod privilege;
mod scope;
mod sizes;
mod terminal;

use std::{ffi::OsString, fs, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, error::ErrorKind};

use args::{Cli, Command, Man, Output, StackCommand, SystemCommand};
use config::Config;
use failure::Failure;

/// Runs one command line to its end. Exit status: 0, 1 (refused or failed), 2 (usage).
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if kubectl::asks_for_completions(&arguments) {
        return kubectl::complete(arguments);
    }
    if completion::is_asked() {
        return completion::answer(arguments);
    }
    let mut command = kubectl::named(Cli::command(), &arguments);
    let parsed = command.try_get_matches_from_mut(arguments).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, matches))
    });
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    let verbose = cli.global.verbose;
    match dispatch(cli, &command, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(verbose),
    }
}

fn dispatch(mut cli: Cli, command: &clap::Command, matches: &clap::ArgMatches) -> Result<(), Failure> {
    if let (Some(what), false) = (cli.command.without_result(), cli.global.output == Output::Table) {
        return Err(Failure::usage(format!("{what} has no result that --output could write: leave it out")));
    }
    match &cli.command {
        Command::Completions(arguments) => {
            return Ok(completion::script(arguments.shell)?);
        }
        Command::Man(arguments) => return manual(arguments),
        _ => {}
    }
    // As Docker's `system df -v`.
    if let Command::System(SystemCommand::Df(arguments)) = &mut cli.command {
        arguments.details |= cli.global.verbose;
    }
    let config = Config::load(&cli.global)?;
    scope::check(command, matches, &config)?;
    // Reads files and nothing else.
    if let Command::Stack(StackCommand::Manifests(arguments)) = &cli.command {
        return host::manifests(arguments, cli.global.connection.namespace.as_deref(), cli.global.output);
    }
    match config {
        Config::Host { root, pools } => host::run(cli.command, &root, pools, cli.global.output),
        Config::Cluster => cluster::run(cli.command, &cli.global.connection.into(), cli.global.output),
    }
}

/// A page for each command, `tierce-volume-create.1` and so on.
fn manual(arguments: &Man) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|source| Failure::Manual { folder: folder.clone(), source })
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
    terminal::note(&format!("Error: {first} ({advice})"));
    ExitCode::from(2)
}
