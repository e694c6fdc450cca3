//! How a command line that is being typed may go on: with the words of the command, and with names of what there is.

use std::{ffi::OsString, io, process::ExitCode};

use clap::{ArgMatches, CommandFactory, FromArgMatches};
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
    let volume = volume_of(&matches);
    Some(match Config::load(&global).ok()? {
        Config::Host { root, pools } => host::names(what, volume, &root, &pools),
        Config::Cluster => cluster::names(what, volume, global.connection.into()),
    })
}

/// The volume whose snapshot or consumer is meant, where the command is about one that is there.
fn volume_of(matches: &ArgMatches) -> Option<&str> {
    let (mut commands, mut below) = (Vec::new(), matches);
    while let Some((command, deeper)) = below.subcommand() {
        commands.push(command);
        below = deeper;
    }
    let is_about_one = ["snapshot", "restore", "detach"].iter().any(|command| commands.contains(command));
    let name = || below.try_get_one::<String>("name").ok().flatten();
    is_about_one.then(name).flatten().map(String::as_str)
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
