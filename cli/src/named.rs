//! What an argument of the command line names, so that a shell can complete it.

use std::{ffi::OsStr, sync::OnceLock};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

/// Says which names there are; trouble on the way to them is no matter of a suggestion.
type Look = Box<dyn Fn(Named) -> Vec<String> + Send + Sync>;

/// Set while a line is being completed.
static LOOK: OnceLock<Look> = OnceLock::new();

/// What an argument names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    Volume,
    Snapshot,
    Tier,
}

impl Named {
    /// What completes such an argument.
    pub(crate) fn completer(self) -> ArgValueCompleter {
        ArgValueCompleter::new(move |current: &OsStr| self.candidates(current))
    }

    fn candidates(self, current: &OsStr) -> Vec<CompletionCandidate> {
        let (Some(current), Some(look)) = (current.to_str(), LOOK.get()) else { return Vec::new() };
        let fits = |name: &String| name.starts_with(current) && !name.contains(char::is_control);
        look(self).into_iter().filter(fits).map(CompletionCandidate::new).collect()
    }
}

/// From now on names are looked up like this.
pub(crate) fn look_with(look: impl Fn(Named) -> Vec<String> + Send + Sync + 'static) {
    let _ = LOOK.set(Box::new(look));
}
