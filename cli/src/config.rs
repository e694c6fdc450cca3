//! Which mode, which root, which pools: command line, then environment, then the user's configuration file, then the host's.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{args::Global, failure::Failure, privilege};

/// Where root's volumes lie.
pub(crate) const SYSTEM_ROOT: &str = "/var/lib/tierce";
/// The configuration of the host: services that systemd starts have no home.
const SYSTEM_FILE: &str = "/etc/tierce/config.toml";
/// The pool of images below the root, which is always there.
pub(crate) const LOCAL_POOL: &str = "local";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Against a Kubernetes cluster.
    #[default]
    Cluster,
    Host,
}

/// What commands go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Config {
    /// Against a Kubernetes cluster.
    Cluster,
    Host {
        /// Root folder of its volumes, absolute.
        root: PathBuf,
        /// What volumes with a size may lie on besides images below the root.
        pools: Vec<Pool>,
    },
}

/// A pool that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// What it is made of.
    pub(crate) place: PoolPlace,
}

/// What a pool is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PoolPlace {
    /// Logical volumes: of a thin pool, or thick ones of the group itself.
    VolumeGroup {
        group: String,
        /// The thin pool in it; none: volumes are thick.
        thin_pool: Option<ThinPool>,
        /// Where the group lies, if it is on other devices than whole disks and partitions.
        devices: Vec<PathBuf>,
    },
    /// Images in a folder, which must be there.
    Directory(PathBuf),
}

/// A thin pool that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThinPool {
    /// Its name in the group.
    pub(crate) name: String,
    /// Whether it grows from the group's free space while somebody of ours watches it.
    pub(crate) extend: bool,
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file makes no sense.
    #[error("{}: {reason}; known are mode = \"host\" or \"cluster\", root = \"/a/folder\" and tables [pools.NAME]", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// Neither root nor a home folder.
    #[error("there is no HOME and no XDG_DATA_HOME to keep volumes in: name a folder with --root")]
    NoHome,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Command { error: error.into(), usage: true }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    mode: Option<Mode>,
    root: Option<PathBuf>,
    pools: BTreeMap<String, PoolTable>,
}

/// A pool as the file has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct PoolTable {
    volume_group: Option<String>,
    thin_pool: Option<String>,
    extend: Option<bool>,
    devices: Vec<PathBuf>,
    directory: Option<PathBuf>,
}

impl PoolTable {
    fn read(self, name: &str) -> Result<Pool, String> {
        let wrong = |reason: &str| Err(format!("pools.{name}: {reason}"));
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) || name.starts_with('-') {
            return wrong("a pool's name has 1 to 63 lower-case letters, digits and '-', the first no '-'");
        }
        if name == LOCAL_POOL {
            return wrong("this is the name of the images below the root: choose another");
        }
        if self.extend.is_some() && self.thin_pool.is_none() {
            return wrong("extend goes with thin-pool");
        }
        let extend = self.extend.unwrap_or(true);
        let thin_pool = self.thin_pool.map(|name| ThinPool { name, extend });
        let place = match (self.volume_group, self.directory) {
            (Some(group), None) => PoolPlace::VolumeGroup { group, thin_pool, devices: self.devices },
            (None, Some(_)) if thin_pool.is_some() || !self.devices.is_empty() => {
                return wrong("thin-pool and devices go with volume-group, not with directory");
            }
            (None, Some(folder)) if !folder.is_absolute() => {
                return wrong("write the directory's full path, beginning with /");
            }
            (None, Some(folder)) => PoolPlace::Directory(folder),
            (Some(_), Some(_)) | (None, None) => {
                return wrong("say either volume-group = \"NAME\" or directory = \"/a/folder\"");
            }
        };
        Ok(Pool { name: name.to_owned(), place })
    }
}

impl File {
    /// What this file leaves open comes from the other.
    fn or(mut self, other: Self) -> Self {
        let mut pools = other.pools;
        pools.append(&mut self.pools);
        Self { mode: self.mode.or(other.mode), root: self.root.or(other.root), pools }
    }
}

impl Config {
    /// Reads what the command line leaves open from the environment and the files.
    pub(crate) fn load(global: &Global) -> Result<Self, ConfigError> {
        let user = match user_folder("XDG_CONFIG_HOME", ".config") {
            Some(folder) => read(&folder.join("tierce/config.toml"))?,
            None => File::default(),
        };
        let file = user.or(read(Path::new(SYSTEM_FILE))?);
        let mode = if global.host { Mode::Host } else { file.mode.unwrap_or_default() };
        if mode == Mode::Cluster {
            return Ok(Self::Cluster);
        }
        let root = match global.root.clone().or(file.root) {
            Some(root) => root,
            None if privilege::is_root() => SYSTEM_ROOT.into(),
            None => user_folder("XDG_DATA_HOME", ".local/share").ok_or(ConfigError::NoHome)?.join("tierce"),
        };
        let root =
            std::path::absolute(&root).map_err(|source| ConfigError::Read { path: root.clone(), source })?;
        let pool = |(name, table): (String, PoolTable)| table.read(&name).expect("checked when it was read");
        Ok(Self::Host { root, pools: file.pools.into_iter().map(pool).collect() })
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
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    for (name, table) in &file.pools {
        table.clone().read(name)?;
    }
    Ok(file)
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

    #[test]
    fn a_pool_is_a_volume_group_or_a_folder() {
        let text = "[pools.fast]\nvolume-group = \"vg0\"\nthin-pool = \"thin\"\n[pools.big]\ndirectory = \"/srv/big\"\n";
        let file = parse(text).unwrap();
        let places: Vec<_> =
            file.pools.into_iter().map(|(name, table)| table.read(&name).unwrap().place).collect();
        let group = PoolPlace::VolumeGroup {
            group: "vg0".to_owned(),
            thin_pool: Some(ThinPool { name: "thin".to_owned(), extend: true }),
            devices: Vec::new(),
        };
        assert_eq!(places, [PoolPlace::Directory("/srv/big".into()), group]);
        for (text, words) in [
            ("[pools.a]", "either volume-group"),
            ("[pools.a]\nvolume-group = \"v\"\ndirectory = \"/d\"", "either volume-group"),
            ("[pools.a]\ndirectory = \"d\"", "full path"),
            ("[pools.a]\ndirectory = \"/d\"\nthin-pool = \"t\"", "go with volume-group"),
            ("[pools.a]\nvolume-group = \"v\"\nextend = false", "goes with thin-pool"),
            ("[pools.local]\ndirectory = \"/d\"", "choose another"),
            ("[pools.A]\ndirectory = \"/d\"", "lower-case"),
            ("[pools.a]\nsize = 1", "line 2: unknown field"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }

    #[test]
    fn the_users_file_comes_before_the_hosts() {
        let user = parse("root = \"/u\"\n[pools.a]\ndirectory = \"/user\"").unwrap();
        let host = parse(
            "mode = \"host\"\nroot = \"/h\"\n[pools.a]\ndirectory = \"/host\"\n[pools.b]\ndirectory = \"/b\"",
        )
        .unwrap();
        let both = user.or(host);
        assert_eq!((both.mode, both.root), (Some(Mode::Host), Some("/u".into())));
        let folder = |name: &str| both.pools[name].directory.clone();
        assert_eq!((folder("a"), folder("b")), (Some("/user".into()), Some("/b".into())));
    }
}
