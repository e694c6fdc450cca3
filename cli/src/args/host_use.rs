//! What only a host's volumes can do: mounts, copies, archives, attachments.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::NewVolume;
use crate::named::Named;

/// `volume mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// Full names
    #[arg(required_unless_present = "all", add = Named::Volume.completer())]
    pub names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Where the key of an encrypted volume is from now on
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    pub key_file: Option<PathBuf>,
    /// File whose first line is the passphrase, '-' for standard input. It is read this once
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "key_file"])]
    pub passphrase_file: Option<PathBuf>,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Give an encrypted volume another key or passphrase; it may be in use meanwhile
    #[command(
        after_help = "Examples:\n  tierce --host volume key change secret\n  tierce --host volume key change secret --key-file /root/new.key"
    )]
    Change(KeyChange),
}

/// `volume key change`.
#[derive(Debug, Args)]
pub struct KeyChange {
    /// Full name
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// File with the new key, 64 hexadecimal digits. Default: a passphrase, which is asked for
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// File whose first line is the new passphrase, '-' for standard input. It is read this once
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub passphrase_file: Option<PathBuf>,
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

/// `volume import`.
#[derive(Debug, Args)]
pub struct Import {
    /// What the new volume shall be
    #[command(flatten)]
    pub new: NewVolume,
    /// The archive. Default: standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// `volume attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Full name
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
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
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// Who used it
    #[arg(long, value_name = "CONSUMER")]
    pub from: String,
}
