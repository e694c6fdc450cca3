//! The command line.

mod host_use;
mod shared;
mod snapshot;
mod stack;
mod system;
mod volume;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};

use crate::named::Named;

pub use host_use::{Attach, Copy, Detach, Import, KeyChange, KeyCommand, Mount};
pub use shared::{NewVolume, ON_A_CLUSTER, OneName, WITH_HOST, Waiting};
pub use snapshot::{OneSnapshot, Restore, SnapshotCommand, SnapshotCreate};
pub use stack::{StackCommand, StackFile, StackManifests, StackRemove};
pub use system::{DiskUsage, SystemCommand, SystemPrune};
pub use volume::{
    CloneVolume, Create, CreateOnCluster, Label, List, Names, Prune, Remove, Resize, Selection, VolumeCommand,
};

/// Named volumes: on this host with --host, else on a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(name = "tierce", version, disable_help_subcommand = true, max_term_width = 100)]
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
    /// Work with the volumes of this host. Also `mode = "host"` in ~/.config/tierce/config.toml
    #[arg(long, global = true, env = "TIERCE_HOST", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub host: bool,

    /// How results are written
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Output,

    /// Tell each cause of an error on a line of its own
    #[arg(long, short, global = true)]
    pub verbose: bool,

    /// Folder of this host's volumes. Default: /var/lib/tierce for root, ~/.local/share/tierce for others
    #[arg(long, global = true, env = "TIERCE_ROOT", value_name = "DIR", hide_env_values = true, help_heading = WITH_HOST)]
    pub root: Option<PathBuf>,

    /// Which cluster.
    #[command(flatten)]
    pub connection: Connection,
}

/// Which cluster, and where on it; as kubectl takes them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = ON_A_CLUSTER)]
pub struct Connection {
    /// Namespace. Default: that of the context
    #[arg(long, short, global = true)]
    pub namespace: Option<String>,

    /// Context of the kubeconfig. Default: its current one
    #[arg(long, global = true)]
    pub context: Option<String>,

    /// Kubeconfig file. Default: those of KUBECONFIG, else ~/.kube/config
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

/// The commands.
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Volumes
    #[command(subcommand, visible_alias = "volumes")]
    Volume(VolumeCommand),
    /// The volumes of a Compose file
    #[command(subcommand)]
    Stack(StackCommand),
    /// The space that volumes take
    #[command(subcommand)]
    System(SystemCommand),
    /// What happened to volumes of a cluster lately
    #[command(after_help = "Example:\n  tierce events mydata")]
    Events(Events),
    /// Show the versions of this command and of what runs on the cluster
    #[command(after_help = "Example:\n  tierce version")]
    Version,
    /// Serve Docker and Podman as their volume plugin
    #[command(after_help = "Example:\n  tierce --host serve --socket /run/docker/plugins/tierce.sock")]
    Serve(Serve),
    /// Print completions for a shell
    #[command(after_help = "Example:\n  tierce completions bash > /etc/bash_completion.d/tierce")]
    Completions(Completions),
    /// Write a manual page for each command into a folder
    #[command(after_help = "Example:\n  tierce man /usr/local/share/man/man1")]
    Man(Man),
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Only of this volume, its claim, snapshots and restores
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: Option<String>,
    /// Of all namespaces
    #[arg(long, short = 'A', conflicts_with = "name")]
    pub all_namespaces: bool,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The unix socket. One that systemd hands over is taken instead
    #[arg(long, value_name = "PATH", default_value = "/run/docker/plugins/tierce.sock")]
    pub socket: PathBuf,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder; it is made if it is not there
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
