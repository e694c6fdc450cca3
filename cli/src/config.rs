//! Which mode, which root: command line, then environment, then the user's configuration file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::args::Global;

/// Where root's volumes lie.
pub(crate) const SYSTEM_ROOT: &str = "/var/lib/tierce";

/// Where commands act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Against a Kubernetes cluster.
    #[default]
    Cluster,
    /// On this host.
    Host,
}

/// What commands go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Config {
    /// Against a Kubernetes cluster.
    Cluster,
    /// On this host.
    Host {
        /// Root folder of its volumes, absolute.
        root: PathBuf,
    },
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file makes no sense.
    #[error("{}: {reason}; known are mode = \"host\" or \"cluster\", and root = \"/a/folder\"", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line and trouble.
        reason: String,
    },
    /// Neither root nor a home folder.
    #[error("there is no HOME and no XDG_DATA_HOME to keep volumes in: name a folder with --root")]
    NoHome,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    mode: Option<Mode>,
    root: Option<PathBuf>,
}

impl Config {
    /// Reads what the command line leaves open from the environment and the file.
    pub(crate) fn load(global: &Global) -> Result<Self, ConfigError> {
        let file = match user_folder("XDG_CONFIG_HOME", ".config") {
            Some(folder) => read(&folder.join("tierce/config.toml"))?,
            None => File::default(),
        };
        let mode = if global.host { Mode::Host } else { file.mode.unwrap_or_default() };
        if mode == Mode::Cluster {
            return Ok(Self::Cluster);
        }
        let root = match global.root.clone().or(file.root) {
            Some(root) => root,
            None if rustix::process::geteuid().is_root() => SYSTEM_ROOT.into(),
            None => user_folder("XDG_DATA_HOME", ".local/share").ok_or(ConfigError::NoHome)?.join("tierce"),
        };
        let root =
            std::path::absolute(&root).map_err(|source| ConfigError::Read { path: root.clone(), source })?;
        Ok(Self::Host { root })
    }
}

/// A folder of the user's (XDG base directories); relative ones are to be ignored.
fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(File::default()),
        // Another user's home (sudo without -H, a sandbox) is no reason to refuse everything.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(File::default()),
        other => other.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
    };
    parse(&text).map_err(|reason| ConfigError::Malformed { path: path.to_owned(), reason })
}

fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message().replace('\n', " "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_mode_and_root_and_nothing_else() {
        let file = parse("mode = \"host\"\nroot = \"/srv/volumes\"\n").unwrap();
        assert_eq!((file.mode, file.root), (Some(Mode::Host), Some("/srv/volumes".into())));
        assert!(parse("").unwrap().mode.is_none());
        for (text, line) in
            [("mode = \"hosts\"", "line 1"), ("root = \"/a\"\nmodes = 1", "line 2"), ("\n\n=", "line 3")]
        {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(line), "{message}");
        }
    }
}
