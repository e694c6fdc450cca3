//! `stack …`: the volumes of a Compose file.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::named::Named;

/// What can be done with the volumes of a Compose file.
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Show which volumes and folders each service gets (host)
    #[command(after_help = "Example:\n  tierce --host stack plan -f compose.yaml")]
    Plan(StackFile),
    /// Make the named volumes, each with the full name `<stack>_<name>` (host)
    #[command(after_help = "Example:\n  tierce --host stack create -f compose.yaml --name shop")]
    Create(StackFile),
    /// Remove the stack; its volumes are kept unless --volumes is given (host)
    #[command(after_help = "Example:\n  tierce --host stack rm -f compose.yaml --name shop --volumes")]
    Rm(StackRemove),
    /// Print the Kubernetes Volume objects for the same file
    #[command(after_help = "Example:\n  tierce --host stack manifests -f compose.yaml | kubectl apply -f -")]
    Manifests(StackManifests),
}

/// A project's Compose files.
#[allow(clippy::doc_markdown, reason = "the command's help shows these words as they stand")]
#[derive(Debug, Default, Args)]
pub struct StackFile {
    /// Read this Compose file; given again, each goes over the former; - is standard input. Default: COMPOSE_FILE, else the
    /// compose.yaml or docker-compose.yml of this folder, or of the nearest one above that has any, and its override file
    #[arg(long, short)]
    pub file: Vec<PathBuf>,
    /// Name of the stack. Default: COMPOSE_PROJECT_NAME, else the name in the file, else the name of its folder
    #[arg(long, add = Named::Stack.completer())]
    pub name: Option<String>,
    /// Read variables from this file; may be given several times. Default: COMPOSE_ENV_FILES, else the .env of this folder, and of the
    /// folder of the first Compose file
    #[arg(long)]
    pub env_file: Vec<PathBuf>,
    /// Count services of this profile too. Default: COMPOSE_PROFILES
    #[arg(long)]
    pub profile: Vec<String>,
    /// Folder that paths are relative to. Default: the one of the first Compose file
    #[arg(long)]
    pub project_directory: Option<PathBuf>,
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
    /// Tier of the volumes whose driver options name none
    #[arg(long, default_value = "standard-ssd", add = Named::Tier.completer())]
    pub tier: String,
}
