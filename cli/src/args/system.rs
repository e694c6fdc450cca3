//! `system …`: space.

use clap::{Args, Subcommand};

/// What can be done with the space that volumes take.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show the space that volumes take
    #[command(after_help = "Examples:\n  tierce system df\n  tierce --host system df --details")]
    Df(DiskUsage),
    /// Remove what interrupted commands left; with --volumes also unused volumes (host)
    #[command(after_help = "Example:\n  tierce --host system prune --volumes --all")]
    Prune(SystemPrune),
}

/// `system df`.
#[derive(Debug, Args)]
pub struct DiskUsage {
    /// Show each volume too; here -v does the same, as with Docker
    #[arg(long)]
    pub details: bool,
}

/// `system prune`.
#[derive(Debug, Args)]
pub struct SystemPrune {
    /// Remove unused volumes too: those that Docker or Podman made without a name
    #[arg(long)]
    pub volumes: bool,
    /// With --volumes, remove those with a name too
    #[arg(long, short, requires = "volumes")]
    pub all: bool,
    /// Remove them without asking
    #[arg(long, short)]
    pub force: bool,
}
