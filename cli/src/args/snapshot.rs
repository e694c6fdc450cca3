//! `volume snapshot …` and `volume restore`.

use clap::{Args, Subcommand};

use super::shared::{ON_A_CLUSTER, OneName, Strict, Waiting};
use crate::named::Named;

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Take a snapshot of a volume
    #[command(after_help = "Example:\n  tierce volume snapshot create mydata before-upgrade")]
    Create(SnapshotCreate),
    /// List the snapshots of a volume; on a host also those that a removed one left
    #[command(visible_alias = "ls", after_help = "Example:\n  tierce volume snapshot list mydata")]
    List(OneName),
    /// Remove a snapshot of a volume
    #[command(
        visible_alias = "remove",
        after_help = "Example:\n  tierce volume snapshot rm mydata before-upgrade"
    )]
    Rm(OneSnapshot),
}

/// A snapshot of a volume.
#[derive(Debug, Args)]
pub struct OneSnapshot {
    /// Full name of the volume
    #[arg(value_name = "VOLUME", allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// Name of the snapshot
    #[arg(allow_hyphen_values = true, add = Named::Snapshot.completer())]
    pub snapshot: String,
}

/// `volume snapshot create`.
#[derive(Debug, Args)]
pub struct SnapshotCreate {
    /// Which
    #[command(flatten)]
    pub one: OneSnapshot,
    /// Whether all of it must be kept
    #[command(flatten)]
    pub strict: Strict,
    /// Whether to wait
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `volume restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// Which
    #[command(flatten)]
    pub one: OneSnapshot,
    /// Order it though a pod uses the volume; it is carried out when the pod has ended
    #[arg(long, short, help_heading = ON_A_CLUSTER)]
    pub force: bool,
    /// Whether all of it must be kept
    #[command(flatten)]
    pub strict: Strict,
    /// Whether to wait
    #[command(flatten)]
    pub waiting: Waiting,
}
