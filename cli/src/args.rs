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
    /// The space that volumes take
    #[command(subcommand)]
    System(SystemCommand),
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
    #[arg(required = true, allow_hyphen_values = true)]
    pub names: Vec<String>,
}

/// `volume rm`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Full names
    #[arg(required = true, allow_hyphen_values = true)]
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
