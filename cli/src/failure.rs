//! What a command ends with when it does not succeed.

use std::{error::Error as _, process::ExitCode};

use crate::{cluster, config::ConfigError, host};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The user's configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something on this host refused or failed.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// Something on the cluster, or on the way to it, refused or failed.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The manual could not be written.
    #[error("can't write manual pages into {}", folder.display())]
    Manual {
        /// The folder.
        folder: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Results could not be written, as to a closed pipe.
    #[error("can't write the result")]
    Output(#[from] std::io::Error),
    /// Each trouble was told already.
    #[error("told already")]
    Told,
}

impl Failure {
    /// A usage error.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Tells it on standard error, in one line; `verbose`: each cause on a line of its own. Returns the exit status.
    pub fn report(&self, verbose: bool) -> ExitCode {
        match self {
            Self::Told => {}
            // Whoever reads our output had enough.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => tell(other, verbose),
        }
        ExitCode::from(self.status())
    }

    fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => 2,
            Self::Host(error) if error.is_usage() => 2,
            Self::Cluster(error) if error.is_usage() => 2,
            Self::Host(_) | Self::Cluster(_) | Self::Manual { .. } | Self::Output(_) | Self::Told => 1,
        }
    }
}

/// Writes one error to standard error: one line, or with its causes below it.
pub(crate) fn tell(error: &dyn std::error::Error, verbose: bool) {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // A transparent variant repeats its inner error.
        if text != error.to_string() && causes.last() != Some(&text) {
            causes.push(text);
        }
        source = cause.source();
    }
    if verbose {
        eprintln!("Error: {error}");
        for cause in causes {
            eprintln!("  caused by: {cause}");
        }
        return;
    }
    let mut line = error.to_string();
    for cause in causes {
        line.push_str(": ");
        line.push_str(&cause);
    }
    eprintln!("Error: {}", line.replace('\n', " "));
}

impl host::Error {
    /// Whether the arguments are wrong whatever the state of the host.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Compose(_) | Self::Label(_))
            || matches!(self, Self::InvalidName(_) | Self::InvalidSize(_) | Self::InvalidArgument(_))
                && self.source().is_none()
    }
}
