//! Why a project's files can't be carried out.

use std::path::PathBuf;

use super::node::{Place, Wrong};

/// Why a Compose file can't be carried out. Lines and columns count from 1.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The file can't be read.
    #[error("can't read the Compose file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// An environment file can't be read.
    #[error("can't read the environment file {}", path.display())]
    EnvironmentFile {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file says something that can't be.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where.
        line: u64,
        /// Where in the line.
        column: u64,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// It can't be said which project is meant.
    #[error("{0}")]
    Project(String),
}

impl From<Wrong> for ComposeError {
    fn from(wrong: Wrong) -> Self {
        let Place { file, line, column } = wrong.place;
        Self::Wrong { path: file.to_path_buf(), line, column, reason: wrong.reason }
    }
}
