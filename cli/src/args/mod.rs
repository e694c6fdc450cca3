//! The command line.

mod host_use;
mod shared;
mod snapshot;
mod stack;
mod system;
mod volume;

use std::path::PathBuf;

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};

use crate::named::Named;

pub use host_use::{Attach, Copy, Detach, Export, Import, KeyChange, KeyCommand, Mount};
pub use shared::{NewVolume, ON_A_CLUSTER, OneName, Strict, WITH_HOST, Waiting};
pub use snapshot::{OneSnapshot, Restore, SnapshotCommand, SnapshotCreate};
pub use stack::{StackCommand, StackFile, StackManifests, StackRemove};
pub use system::{DiskUsage, SystemCommand, SystemPrune};
pub use volume::{
    CloneVolume, Create, CreateOnCluster, Label, List, Names, Prune, Remove, Resize, Selection, VolumeCommand,
};

/// Manage named volumes: those of this host with --host, else those of a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(
    name = "tierce",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Examples:\n  tierce volume create mydata --size 10Gi\n  tierce --host volume create mydata"
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Work with the volumes of this host. A line `mode = "host"` in ~/.config/tierce/config.toml does the same
    #[arg(long, global = true, env = "TIERCE_HOST", value_parser = yes_or_no, hide_env_values = true)]
    pub host: bool,

    /// Write results in this format
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Output,

    /// Write each cause of an error on a line of its own
    #[arg(long, short, global = true)]
    pub verbose: bool,

    /// Keep this host's volumes in this folder. Default: /var/lib/tierce for root, ~/.local/share/tierce for other users
    #[arg(long, global = true, env = "TIERCE_ROOT", value_name = "DIR", value_parser = folder(), hide_env_values = true, help_heading = WITH_HOST)]
    pub root: Option<PathBuf>,

    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// What the variable of a flag says.
fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "on" | "t" => Ok(true),
        "" | "0" | "false" | "no" | "n" | "off" | "f" => Ok(false),
        _ => Err("TIERCE_HOST is 1 for the volumes of this host, and 0 for those of a cluster".to_owned()),
    }
}

/// A folder that is named: an empty text is the variable of a script that went wrong, and no wish for the default.
fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text| {
        if text.is_empty() {
            return Err("--root or TIERCE_ROOT is empty: name a folder, or unset it");
        }
        Ok(PathBuf::from(text))
    })
}

/// Which cluster, and where on it; as kubectl takes them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = ON_A_CLUSTER)]
pub struct Connection {
    /// Work in this namespace. Default: the namespace of the context
    #[arg(long, short, global = true, add = Named::Namespace.completer())]
    pub namespace: Option<String>,

    /// Use this context of the kubeconfig. Default: its current context
    #[arg(long, global = true, add = Named::Context.completer())]
    pub context: Option<String>,

    /// Read this kubeconfig file. Default: the files that KUBECONFIG names, else ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

impl From<Connection> for tierce_client::Connection {
    fn from(Connection { namespace, context, kubeconfig }: Connection) -> Self {
        Self { namespace, context, kubeconfig }
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns for people.
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names, one a line.
    Name,
}

impl Output {
    /// Whether a person reads it, and may be asked something in between.
    pub(crate) const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// The commands.
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, list, change and remove volumes
    #[command(
        subcommand,
        visible_alias = "volumes",
        after_help = "Examples:\n  tierce volume ls\n  tierce --host volume create mydata"
    )]
    Volume(VolumeCommand),
    /// Make and remove the volumes of a Compose file
    #[command(subcommand, after_help = "Example:\n  tierce --host stack plan -f compose.yaml")]
    Stack(StackCommand),
    /// Show and free the space that volumes take
    #[command(subcommand, after_help = "Example:\n  tierce --host system df")]
    System(SystemCommand),
    /// Show what happened lately to the volumes of a cluster
    #[command(after_help = "Example:\n  tierce events mydata")]
    Events(Events),
    /// Show the versions of this command and of what runs on the cluster
    #[command(after_help = "Example:\n  tierce version")]
    Version,
    /// Serve Docker and Podman as their volume plugin (host)
    #[command(after_help = "Example:\n  tierce --host serve --socket /run/docker/plugins/tierce.sock")]
    Serve(Serve),
    /// Print the completions for a shell
    #[command(after_help = "Example:\n  tierce completions bash > /etc/bash_completion.d/tierce")]
    Completions(Completions),
    /// Write a manual page for each command into a folder
    #[command(after_help = "Example:\n  tierce man /usr/local/share/man/man1")]
    Man(Man),
}

impl Command {
    /// The name of a command that has no result to write in a format: it writes nothing, an archive or a script.
    pub(crate) const fn without_result(&self) -> Option<&'static str> {
        Some(match self {
            Self::Volume(VolumeCommand::Cp(_)) => "volume cp",
            Self::Volume(VolumeCommand::Export(_)) => "volume export",
            Self::Serve(_) => "serve",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
            _ => return None,
        })
    }
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Show only the events of this volume, its claim, snapshots and restores
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: Option<String>,
    /// Show the events of all namespaces
    #[arg(long, short = 'A', conflicts_with = "name")]
    pub all_namespaces: bool,
}

/// Where Docker looks for the socket of a plugin.
pub const PLUGIN_SOCKET: &str = "/run/docker/plugins/tierce.sock";

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Listen on this unix socket, unless systemd hands one over
    #[arg(long, value_name = "PATH", default_value = PLUGIN_SOCKET)]
    pub socket: PathBuf,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell that is to read them
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder to write into; it is made where it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
