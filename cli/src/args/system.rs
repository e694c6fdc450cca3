//! `system …`: space.

use clap::{Args, Subcommand};

/// What can be done with the space that volumes take.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// Show the space that volumes take
    #[command(after_help = "Examples:\n  tierce system df\n  tierce --host system df --details")]
    Df(DiskUsage),
    /// Clean up what interrupted commands left; with --volumes also unused volumes (host)
    #[command(after_help = "Example:\n  tierce --host system prune --volumes --all")]
    Prune(SystemPrune),
}

/// `system df`.
#[derive(Debug, Args)]
pub struct DiskUsage {
    /// Each volume too; so does -v
    #[arg(long)]
    pub details: bool,
}

/// `system prune`.
#[derive(Debug, Args)]
pub struct SystemPrune {
    /// Unused volumes too: those without a name of their own, as Docker makes them
    #[arg(long)]
    pub volumes: bool,
    /// With --volumes: those with a name too
    #[arg(long, short, requires = "volumes")]
    pub all: bool,
    /// Don't ask
    #[arg(long, short)]
    pub force: bool,
}
