//! What a command ends with when it does not succeed.

use std::{error::Error, process::ExitCode};

use crate::terminal;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What the command was to do was refused, or failed.
    #[error("{error}")]
    Command {
        /// Why, with its causes.
        error: Box<dyn Error + Send + Sync>,
        /// Whether the arguments are wrong, whatever the state of the host or the cluster.
        usage: bool,
    },
    /// The manual could not be written.
    #[error("can't write manual pages into {}", folder.display())]
    Manual { folder: std::path::PathBuf, source: std::io::Error },
    /// Results could not be written, as to a closed pipe.
    #[error("can't write the result")]
    Output(#[from] std::io::Error),
    /// Each trouble was told already.
    #[error("told already")]
    Told,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// That a question would stand in what a program reads.
    pub(crate) fn unasked() -> Self {
        Self::usage("With this --output nobody is asked, as the question would stand in it: add --force")
    }

    /// That what would be removed was shown, and nobody was there to say yes.
    pub(crate) fn unanswered() -> Self {
        Self::usage("Nothing was removed, as nobody answered: add --force to remove without a question")
    }

    /// Tells it on standard error, in one line; `verbose`: each cause on a line of its own. Returns the exit status.
    pub(crate) fn report(&self, verbose: bool) -> ExitCode {
        match self {
            Self::Told => {}
            // Whoever reads our output had enough.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Self::Command { error, .. } => tell(error.as_ref(), verbose),
            other => tell(other, verbose),
        }
        ExitCode::from(self.status())
    }

    fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Command { usage: true, .. } => 2,
            Self::Command { usage: false, .. } | Self::Manual { .. } | Self::Output(_) | Self::Told => 1,
        }
    }
}

/// Tells of an error on standard error that stops nothing, in one line.
pub(crate) fn warn(error: &dyn Error) {
    terminal::note(&format!("Warning: {}", in_words(error)));
}

/// Writes one error to standard error: one line, or with its causes below it.
pub(crate) fn tell(error: &dyn Error, verbose: bool) {
    if verbose {
        terminal::note(&format!("Error: {error}"));
        for cause in causes(error) {
            terminal::note(&format!("  caused by: {cause}"));
        }
    } else {
        terminal::note(&format!("Error: {}", in_words(error)));
    }
}

/// An error and its causes in one line.
pub(crate) fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        text.push_str(": ");
        text.push_str(&cause);
    }
    text
}

/// The causes, without those that the error above them says already: a transparent variant repeats its inner error.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        let said = causes.last().cloned().unwrap_or_else(|| error.to_string());
        if !said.ends_with(&text) {
            causes.push(text);
        }
        source = cause.source();
    }
    causes
}
