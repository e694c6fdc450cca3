//! How a command line that is being typed may go on: with the words of the command, and with names of volumes, snapshots and tiers.

use std::{ffi::OsString, io, process::ExitCode};

use clap::{CommandFactory, FromArgMatches};
use clap_complete::{CompleteEnv, Shell, env::Shells};

use crate::{
    args::{Cli, Global},
    cluster,
    config::Config,
    host,
    named::{self, Named},
};

/// By this the script of a shell asks.
const VARIABLE: &str = "TIERCE_COMPLETE";

/// From now on names are looked for where the options of this line say, the program's name first.
pub(crate) fn note_line(words: &[OsString]) {
    let words = words.to_vec();
    named::look_with(move |what| names(what, &words).unwrap_or_default());
}

fn names(what: Named, line: &[OsString]) -> Option<Vec<String>> {
    let mut command = Cli::command().ignore_errors(true);
    let matches = command.try_get_matches_from_mut(line).ok()?;
    let global = Global::from_arg_matches(&matches).ok()?;
    match (Config::load(&global).ok()?, what) {
        (Config::Host { root, .. }, Named::Volume) => Some(host::names(&root)),
        (Config::Host { .. }, Named::Snapshot | Named::Tier) => None,
        (Config::Cluster, what) => Some(cluster::names(what, &global.connection.into())),
    }
}

/// Prints the script by which a shell asks for candidates.
pub(crate) fn script(shell: Shell) -> io::Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string()).ok_or(io::ErrorKind::Unsupported)?;
    shell.write_registration(VARIABLE, "tierce", "tierce", "tierce", &mut io::stdout())
}

/// Whether the script of a shell asks.
pub(crate) fn is_asked() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|shell| !shell.is_empty())
}

/// Answers it.
pub(crate) fn answer(arguments: Vec<OsString>) -> ExitCode {
    // The shell's words stand after `--`.
    if let Some(at) = arguments.iter().position(|word| word == "--") {
        note_line(&arguments[at + 1..]);
    }
    let folder = std::env::current_dir().ok();
    match CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(arguments, folder.as_deref()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
