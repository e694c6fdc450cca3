//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};

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

    /// Folder of this host's volumes. Default: /var/lib/tierce for root, ~/.local/share/tierce for others
    #[arg(long, global = true, env = "TIERCE_ROOT", value_name = "DIR", hide_env_values = true)]
    pub root: Option<PathBuf>,

    /// How results are written
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Output,

    /// Tell each cause of an error on a line of its own
    #[arg(long, short, global = true)]
    pub verbose: bool,
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
    /// Print completions for a shell
    #[command(after_help = "Example:\n  tierce completions bash > /etc/bash_completion.d/tierce")]
    Completions(Completions),
    /// Serve Docker and Podman as their volume plugin
    #[command(after_help = "Example:\n  tierce --host serve --socket /run/docker/plugins/tierce.sock")]
    Serve(Serve),
}

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume
    #[command(after_help = "Example:\n  tierce --host volume create mydata --label team=blue")]
    Create(Create),
    /// List volumes
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  tierce --host volume ls --filter label=team=blue"
    )]
    Ls(List),
    /// Show volumes in full
    #[command(after_help = "Example:\n  tierce --host volume inspect mydata")]
    Inspect(Names),
    /// Remove volumes with their data
    #[command(visible_alias = "remove", after_help = "Example:\n  tierce --host volume rm mydata old-data")]
    Rm(Remove),
    /// Remove all volumes that nothing uses
    #[command(after_help = "Example:\n  tierce --host volume prune --filter label=team=blue")]
    Prune(Prune),
    /// Set and remove labels
    #[command(after_help = "Example:\n  tierce --host volume label mydata team=blue old-")]
    Label(Label),
    /// Make a volume with a size larger
    #[command(after_help = "Example:\n  tierce --host volume resize mydata 20Gi")]
    Resize(Resize),
    /// Mount volumes with a size at their places, as after a reboot
    #[command(after_help = "Example:\n  tierce --host volume mount --all")]
    Mount(Mount),
    /// Make a volume with the content of another
    #[command(after_help = "Example:\n  tierce --host volume clone mydata mydata-test")]
    Clone(CloneVolume),
    /// Copy files between volumes and local paths
    #[command(
        after_help = "Examples:\n  tierce --host volume cp ./site mydata:/www\n  tierce --host volume cp mydata: backup:"
    )]
    Cp(Copy),
    /// Write a volume to standard output, as a tar archive compressed with Zstandard
    #[command(after_help = "Example:\n  tierce --host volume export mydata > mydata.tar.zst")]
    Export(OneName),
    /// Make a volume from such an archive, or from a plain tar archive
    #[command(after_help = "Example:\n  tierce --host volume import restored < mydata.tar.zst")]
    Import(Import),
    /// Snapshots of a volume
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Give a volume the content of its snapshot back; what it has now is kept as a further snapshot
    #[command(after_help = "Example:\n  tierce --host volume restore mydata before-upgrade")]
    Restore(OneSnapshot),
    /// Say that something uses a volume, and show it at a path
    #[command(after_help = "Example:\n  tierce --host volume attach mydata --to myvm --pid 4711")]
    Attach(Attach),
    /// Undo attach
    #[command(after_help = "Example:\n  tierce --host volume detach mydata --from myvm")]
    Detach(Detach),
}

/// `volume create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name: letters, digits, '_', '.' and '-'
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// The stack it belongs to: its full name is then `<stack>_<name>`
    #[arg(long, allow_hyphen_values = true)]
    pub stack: Option<String>,
    /// Bytes it may hold at most, as 10Gi: it gets a filesystem of its own (needs root). Default: no limit, a plain folder
    #[arg(long, allow_hyphen_values = true)]
    pub size: Option<String>,
    /// Its filesystem: ext4, xfs or btrfs
    #[arg(long, requires = "size", default_value = "ext4")]
    pub filesystem: String,
    /// A label; may be given again
    #[arg(long = "label", short, value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
}

/// `volume ls`.
#[derive(Debug, Args)]
pub struct List {
    /// Names only
    #[arg(long, short)]
    pub quiet: bool,
    /// Only volumes with this label: label=KEY or label=KEY=VALUE; may be given again
    #[arg(long = "filter", short, value_name = "FILTER")]
    pub filters: Vec<String>,
}

/// Names of volumes.
#[derive(Debug, Args)]
pub struct Names {
    /// Full names
    #[arg(required = true)]
    pub names: Vec<String>,
}

/// `volume rm`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Full names
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Detach it from what uses it first
    #[arg(long, short)]
    pub force: bool,
}

/// `volume prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Don't ask
    #[arg(long, short)]
    pub force: bool,
    /// Only volumes with this label: label=KEY or label=KEY=VALUE; may be given again
    #[arg(long = "filter", value_name = "FILTER")]
    pub filters: Vec<String>,
}

/// `volume label`.
#[derive(Debug, Args)]
pub struct Label {
    /// Full name
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    pub changes: Vec<String>,
}

/// `volume resize`.
#[derive(Debug, Args)]
pub struct Resize {
    /// Full name
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// Bytes it may hold at most, as 20Gi
    #[arg(allow_hyphen_values = true)]
    pub size: String,
}

/// `volume mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// Full names
    #[arg(required_unless_present = "all")]
    pub names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

/// `volume clone`.
#[derive(Debug, Args)]
pub struct CloneVolume {
    /// Full name of the one that is there
    #[arg(allow_hyphen_values = true)]
    pub from: String,
    /// Name of the new one
    #[arg(allow_hyphen_values = true)]
    pub to: String,
    /// Stack of the new one
    #[arg(long, allow_hyphen_values = true)]
    pub stack: Option<String>,
}

/// `volume cp`.
#[derive(Debug, Args)]
pub struct Copy {
    /// VOLUME:PATH or a local path; one that ends in /. stands for what is in it
    #[arg(value_name = "SRC")]
    pub from: String,
    /// VOLUME:PATH or a local path
    #[arg(value_name = "DST")]
    pub to: String,
}

/// The name of one volume.
#[derive(Debug, Args)]
pub struct OneName {
    /// Full name
    #[arg(allow_hyphen_values = true)]
    pub name: String,
}

/// `volume import`.
#[derive(Debug, Args)]
pub struct Import {
    /// What the new volume shall be
    #[command(flatten)]
    pub new: Create,
    /// The archive. Default: standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take a snapshot
    #[command(after_help = "Example:\n  tierce --host volume snapshot create mydata before-upgrade")]
    Create(OneSnapshot),
    /// List a volume's snapshots
    #[command(visible_alias = "ls", after_help = "Example:\n  tierce --host volume snapshot list mydata")]
    List(OneName),
    /// Remove a snapshot
    #[command(
        visible_alias = "remove",
        after_help = "Example:\n  tierce --host volume snapshot rm mydata before-upgrade"
    )]
    Rm(OneSnapshot),
}

/// A snapshot of a volume.
#[derive(Debug, Args)]
pub struct OneSnapshot {
    /// Full name of the volume
    #[arg(value_name = "VOLUME", allow_hyphen_values = true)]
    pub name: String,
    /// Name of the snapshot
    #[arg(allow_hyphen_values = true)]
    pub snapshot: String,
}

/// `volume attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Full name
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// Who uses it, as messages shall name it
    #[arg(long, value_name = "CONSUMER")]
    pub to: String,
    /// An empty folder to show it at (needs root)
    pub path: Option<PathBuf>,
    /// Show it read-only
    #[arg(long, requires = "path")]
    pub read_only: bool,
    /// The process that uses it: when it ends, the volume is free. Default: until the next boot
    #[arg(long)]
    pub pid: Option<u32>,
}

/// `volume detach`.
#[derive(Debug, Args)]
pub struct Detach {
    /// Full name
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// Who used it
    #[arg(long, value_name = "CONSUMER")]
    pub from: String,
}

/// What can be done with the space that volumes take.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show the space that volumes take
    #[command(after_help = "Example:\n  tierce --host system df --details")]
    Df(DiskUsage),
    /// Clean up what interrupted commands left; with --volumes also unused volumes
    #[command(after_help = "Example:\n  tierce --host system prune --volumes --force")]
    Prune(SystemPrune),
}

/// `system df`.
#[derive(Debug, Args)]
pub struct DiskUsage {
    /// Each volume too
    #[arg(long)]
    pub details: bool,
}

/// `system prune`.
#[derive(Debug, Args)]
pub struct SystemPrune {
    /// Unused volumes too
    #[arg(long)]
    pub volumes: bool,
    /// Don't ask
    #[arg(long, short)]
    pub force: bool,
}

/// What can be done with the volumes of a Compose file.
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Say what each service gets
    #[command(after_help = "Example:\n  tierce --host stack plan -f compose.yaml")]
    Plan(StackFile),
    /// Make the named volumes, each with the full name `<stack>_<name>`
    #[command(after_help = "Example:\n  tierce --host stack create -f compose.yaml --name shop")]
    Create(StackFile),
    /// Remove the stack; its volumes are kept unless --volumes is given
    #[command(after_help = "Example:\n  tierce --host stack rm -f compose.yaml --name shop --volumes")]
    Rm(StackRemove),
    /// Print the Kubernetes Volume objects for the same file
    #[command(after_help = "Example:\n  tierce --host stack manifests -f compose.yaml | kubectl apply -f -")]
    Manifests(StackManifests),
}

/// A Compose file.
#[derive(Debug, Args)]
pub struct StackFile {
    /// The Compose file
    #[arg(long, short, default_value = "compose.yaml")]
    pub file: PathBuf,
    /// Name of the stack. Default: what the file says, else its folder's name
    #[arg(long)]
    pub name: Option<String>,
}

/// `stack rm`.
#[derive(Debug, Args)]
pub struct StackRemove {
    /// Which
    #[command(flatten)]
    pub file: StackFile,
    /// Remove the volumes with their data too
    #[arg(long)]
    pub volumes: bool,
}

/// `stack manifests`.
#[derive(Debug, Args)]
pub struct StackManifests {
    /// Which
    #[command(flatten)]
    pub file: StackFile,
    /// Tier of volumes whose driver options name none
    #[arg(long, default_value = "standard-ssd")]
    pub tier: String,
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
