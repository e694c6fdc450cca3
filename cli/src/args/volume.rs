//! `volume …`: what both a host and a cluster know.

use clap::{Args, Subcommand};

use super::{
    host_use::{Attach, Copy, Detach, Export, Import, KeyCommand, Mount},
    shared::{NewVolume, ON_A_CLUSTER, Strict, WITH_HOST, Waiting},
    snapshot::{Restore, SnapshotCommand},
};
use crate::named::Named;

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume
    #[command(
        after_help = "Examples:\n  tierce volume create mydata --size 10Gi --tier hdd --wait\n  tierce --host volume create mydata --label team=blue"
    )]
    Create(Create),
    /// List volumes
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  tierce volume ls -A -l team=blue\n  tierce --host volume ls --filter label=team=blue"
    )]
    Ls(List),
    /// Show volumes in full
    #[command(after_help = "Example:\n  tierce volume inspect mydata")]
    Inspect(Names),
    /// Remove volumes with their data
    #[command(visible_alias = "remove", after_help = "Example:\n  tierce volume rm mydata old-data")]
    Rm(Remove),
    /// Remove the volumes that nothing uses, chosen by label or with --all; they are shown first
    #[command(
        after_help = "Examples:\n  tierce volume prune --filter label=team=blue\n  tierce volume prune --all --dry-run"
    )]
    Prune(Prune),
    /// Set and remove the labels of a volume
    #[command(after_help = "Example:\n  tierce volume label mydata team=blue old-")]
    Label(Label),
    /// Make a volume larger
    #[command(after_help = "Example:\n  tierce volume resize mydata 20Gi")]
    Resize(Resize),
    /// Make a volume with the content of another
    #[command(after_help = "Example:\n  tierce volume clone mydata mydata-test")]
    Clone(CloneVolume),
    /// Take, list and remove the snapshots of a volume
    #[command(subcommand, after_help = "Example:\n  tierce volume snapshot create mydata before-upgrade")]
    Snapshot(SnapshotCommand),
    /// Give a volume the content of one of its snapshots back; what it has now is kept as a further snapshot
    #[command(after_help = "Example:\n  tierce volume restore mydata before-upgrade")]
    Restore(Restore),
    /// Mount volumes that have a size at their places, as after a reboot (host)
    #[command(after_help = "Example:\n  tierce --host volume mount --all")]
    Mount(Mount),
    /// Change the keys of encrypted volumes (host)
    #[command(subcommand, after_help = "Example:\n  tierce --host volume key change secret")]
    Key(KeyCommand),
    /// Copy files between volumes and local paths (host)
    #[command(
        after_help = "Examples:\n  tierce --host volume cp ./site mydata:/www\n  tierce --host volume cp mydata: backup:"
    )]
    Cp(Copy),
    /// Write a volume to standard output, as a tar archive compressed with Zstandard (host)
    #[command(after_help = "Example:\n  tierce --host volume export mydata > mydata.tar.zst")]
    Export(Export),
    /// Make a volume from a tar archive, plain or compressed with gzip, bzip2, xz or Zstandard (host)
    #[command(after_help = "Example:\n  tierce --host volume import restored < mydata.tar.zst")]
    Import(Import),
    /// Note that something uses a volume, and show the volume at a path (host)
    #[command(after_help = "Example:\n  tierce --host volume attach mydata --to myvm --pid 4711")]
    Attach(Attach),
    /// Note that something uses a volume no more, and hide it again (host)
    #[command(after_help = "Example:\n  tierce --host volume detach mydata --from myvm")]
    Detach(Detach),
}

/// `volume create`.
#[derive(Debug, Args)]
pub struct Create {
    /// What both know
    #[command(flatten)]
    pub new: NewVolume,
    /// What a cluster knows
    #[command(flatten)]
    pub on_cluster: CreateOnCluster,
    /// Whether to wait
    #[command(flatten)]
    pub waiting: Waiting,
}

/// What a new volume on a cluster is to be.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Args)]
#[command(next_help_heading = ON_A_CLUSTER)]
pub struct CreateOnCluster {
    /// Tier of disk; `kubectl get storagepools` lists the tiers. Default: that of the source, or the only one
    #[arg(long, add = Named::Tier.completer())]
    pub tier: Option<String>,
    /// Let all pods of one node use the volume (the default)
    #[arg(long, conflicts_with = "rwop")]
    pub rwo: bool,
    /// Let one pod at a time use the volume
    #[arg(long)]
    pub rwop: bool,
    /// Make a raw device instead of a filesystem
    #[arg(long, conflicts_with = "filesystem")]
    pub block: bool,
    /// Start with the content of this snapshot
    #[arg(long, value_name = "SNAPSHOT", add = Named::Snapshot.completer(), conflicts_with = "from_volume")]
    pub from_snapshot: Option<String>,
    /// Start with the content of this volume
    #[arg(long, value_name = "VOLUME", add = Named::Volume.completer())]
    pub from_volume: Option<String>,
    /// Make the volume at once instead of when its first pod starts
    #[arg(long)]
    pub immediate: bool,
    /// Keep the data on the node when the volume is removed
    #[arg(long)]
    pub retain: bool,
}

/// Which volumes of a cluster a command means.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = ON_A_CLUSTER)]
pub struct Selection {
    /// Choose only the volumes that this label selector matches
    #[arg(long, short = 'l')]
    pub selector: Option<String>,
    /// Choose from all namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
}

/// `volume ls`.
#[derive(Debug, Args)]
pub struct List {
    /// Write only names
    #[arg(long, short)]
    pub quiet: bool,
    /// Choose only volumes with this label: label=KEY or label=KEY=VALUE, or label!=… for those without; may be given several times
    #[arg(long = "filter", short, value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Which
    #[command(flatten)]
    pub selection: Selection,
}

/// Names of volumes.
#[derive(Debug, Args)]
pub struct Names {
    /// Full names of the volumes
    #[arg(required = true, add = Named::Volume.completer())]
    pub names: Vec<String>,
}

/// `volume rm`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Full names of the volumes
    #[arg(required = true, add = Named::Volume.completer())]
    pub names: Vec<String>,
    /// Host: detach the volume from what uses it first. Cluster: remove it though a pod uses it; it goes when the pod ends
    #[arg(long, short)]
    pub force: bool,
    /// Whether to wait
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `volume prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Choose all volumes, whatever their labels. Host, without --all and --filter: only those that Docker or Podman made without a name, called by 64 hexadecimal digits
    #[arg(long, short)]
    pub all: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove them without asking
    #[arg(long, short)]
    pub force: bool,
    /// Choose only volumes with this label: label=KEY or label=KEY=VALUE, or label!=… for those without; may be given several times
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
    /// Which
    #[command(flatten)]
    pub selection: Selection,
}

/// `volume label`.
#[derive(Debug, Args)]
pub struct Label {
    /// Full name of the volume
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    pub changes: Vec<String>,
}

/// `volume resize`.
#[derive(Debug, Args)]
pub struct Resize {
    /// Full name of the volume
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// New size of the volume, such as 20Gi; a volume never becomes smaller
    #[arg(allow_hyphen_values = true)]
    pub size: String,
    /// Whether to wait
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `volume clone`.
#[derive(Debug, Args)]
pub struct CloneVolume {
    /// Full name of the volume to copy
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub from: String,
    /// Name of the new volume
    #[arg(allow_hyphen_values = true)]
    pub to: String,
    /// Make the new volume a part of this stack
    #[arg(long, allow_hyphen_values = true, help_heading = WITH_HOST, add = Named::Stack.completer())]
    pub stack: Option<String>,
    /// Whether all of it must be kept
    #[command(flatten)]
    pub strict: Strict,
    /// Whether to wait
    #[command(flatten)]
    pub waiting: Waiting,
}
