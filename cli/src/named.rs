//! What an argument of the command line names, so that a shell can complete it.

use std::{ffi::OsStr, sync::OnceLock};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};

/// Returns the names of a kind; an error counts as no names.
type Look = Box<dyn Fn(Named) -> Vec<String> + Send + Sync>;

/// Set while a line is being completed.
static LOOK: OnceLock<Look> = OnceLock::new();

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Volume,
    Snapshot,
    Tier,
    Namespace,
    /// A context of the kubeconfig.
    Context,
    Pool,
    Stack,
    /// Who uses a volume of this host.
    Consumer,
}

impl Named {
    /// What completes such an argument.
    pub(crate) fn completer(self) -> ArgValueCompleter {
        ArgValueCompleter::new(move |current: &OsStr| self.candidates(current))
    }

    fn candidates(self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(look) = LOOK.get() else { return Vec::new() };
        fitting(look(self), current)
    }
}

/// The names that begin with `current`.
pub(crate) fn fitting(names: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let fits = |name: &String| name.starts_with(current) && !name.contains(char::is_control);
    names.into_iter().filter(fits).map(CompletionCandidate::new).collect()
}

/// What completes a place that files are copied from or to: a volume's name before its `:`, or a local path.
pub(crate) fn place_completer() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let volumes = LOOK.get().map(|look| look(Named::Volume)).unwrap_or_default();
        let mut found = fitting(volumes.into_iter().map(|name| name + ":").collect(), current);
        found.extend(PathCompleter::any().complete(current));
        found
    })
}

/// What completes a word of a fixed list.
pub(crate) fn word_completer(words: &'static [&'static str]) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        fitting(words.iter().map(ToString::to_string).collect(), current)
    })
}

/// Sets how names are looked up for the rest of the process.
pub(crate) fn look_with(look: impl Fn(Named) -> Vec<String> + Send + Sync + 'static) {
    let _ = LOOK.set(Box::new(look));
}
