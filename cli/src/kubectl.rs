//! What kubectl expects of a plugin: it starts `kubectl-tierce` for `kubectl tierce`, and `kubectl_complete-tierce` to complete its
//! arguments. Both are links to this program.
//! <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::Path, process::ExitCode};

use clap::{Command, CommandFactory};

use crate::{args::Cli, completion, output};

const PLUGIN: &str = "kubectl-tierce";
const COMPLETER: &str = "kubectl_complete-tierce";

/// The command under the name that it was started by, as its help and errors show it.
pub(crate) fn named(command: Command, arguments: &[OsString]) -> Command {
    if started_as(arguments, PLUGIN) { command.bin_name("kubectl tierce") } else { command }
}

/// Whether kubectl wants to know how a command line may go on.
pub(crate) fn asks_for_completions(arguments: &[OsString]) -> bool {
    started_as(arguments, COMPLETER)
}

/// Prints how the last word may go on, one candidate a line, then cobra's directive: 4, that files are no candidates.
pub(crate) fn complete(arguments: Vec<OsString>) -> ExitCode {
    let last = arguments.len().saturating_sub(1);
    completion::note_line(&arguments[..last]);
    let folder = std::env::current_dir().ok();
    // As kubectl's own commands: options are shown to whoever begins one.
    let is_option = |word: &[u8]| word.starts_with(b"-");
    let wants_options = arguments.last().is_some_and(|word| is_option(word.as_bytes()));
    let found = clap_complete::engine::complete(&mut Cli::command(), arguments, last, folder.as_deref());
    let Ok(candidates) = found else { return ExitCode::FAILURE };
    let shown = candidates.iter().filter(|candidate| {
        !candidate.is_hide_set() && (wants_options || !is_option(candidate.get_value().as_bytes()))
    });
    let candidates = shown.map(|candidate| {
        let value = candidate.get_value().to_string_lossy().into_owned();
        (value, candidate.get_help().map(ToString::to_string))
    });
    match output::candidates(candidates.chain([(":4".to_owned(), None)])) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn started_as(arguments: &[OsString], name: &str) -> bool {
    arguments.first().and_then(|program| Path::new(program).file_name()).is_some_and(|file| file == name)
}
