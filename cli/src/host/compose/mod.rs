//! Compose files: what each service gets of volumes (<https://github.com/compose-spec/compose-spec/blob/main/spec.md>).

mod file;
mod interpolate;
mod manifests;
mod plan;

use std::path::{Path, PathBuf};

pub(super) use manifests::manifests;
pub(super) use plan::{Access, Plan, Source};

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
}

/// Reads a Compose file and says what each service gets. `name`: the stack, where the file shall not say it.
pub(super) fn read(path: &Path, name: Option<&str>) -> Result<Plan, ComposeError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ComposeError::Read { path: path.to_owned(), source })?;
    let environment = |name: &str| std::env::var(name).ok();
    let wrong = |wrong: file::Wrong| ComposeError::Wrong {
        path: path.to_owned(),
        line: wrong.line,
        column: wrong.column,
        reason: wrong.reason,
    };
    let file = file::parse(&text).map_err(wrong)?;
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    plan::plan(&file, folder, name, &environment).map_err(wrong)
}
