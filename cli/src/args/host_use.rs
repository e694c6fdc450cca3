//! What only a host's volumes can do: mounts, copies, archives, attachments.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::{NewVolume, OneName, Strict, WITH_HOST};
use crate::named::{Named, place_completer};

/// `volume mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// Full names of the volumes
    #[arg(add = Named::Volume.completer())]
    pub names: Vec<String>,
    /// Mount every volume that has a size
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Read the key of the encrypted volume from this file, from now on
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    pub key_file: Option<PathBuf>,
    /// Read the passphrase from the first line of this file, or of standard input with '-', this once
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "key_file"])]
    pub passphrase_file: Option<PathBuf>,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Give an encrypted volume another key or passphrase, also while it is in use (host)
    #[command(
        after_help = "Examples:\n  tierce --host volume key change secret\n  tierce --host volume key change secret --key-file /root/new.key"
    )]
    Change(KeyChange),
}

/// `volume key change`.
#[derive(Debug, Args)]
pub struct KeyChange {
    /// Full name of the volume
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// Read the new key, 64 hexadecimal digits, from this file. Default: ask for a passphrase
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Read the new passphrase from the first line of this file, or of standard input with '-', this once
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub passphrase_file: Option<PathBuf>,
}

/// `volume cp`.
#[derive(Debug, Args)]
pub struct Copy {
    /// VOLUME:PATH or a local path; a path that ends in /. stands for what is in the folder
    #[arg(value_name = "SRC", add = place_completer())]
    pub from: String,
    /// VOLUME:PATH or a local path
    #[arg(value_name = "DST", add = place_completer())]
    pub to: String,
    /// Whether all of it must be kept
    #[command(flatten)]
    pub strict: Strict,
}

/// `volume export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Which
    #[command(flatten)]
    pub one: OneName,
    /// Write the holes of files as zeros, for readers that know none: Docker and busybox. Default: as GNU tar, bsdtar, Go and Python read them
    #[arg(long, help_heading = WITH_HOST)]
    pub no_holes: bool,
    /// Whether all of it must be kept
    #[command(flatten)]
    pub strict: Strict,
}

/// `volume import`.
#[derive(Debug, Args)]
pub struct Import {
    /// What the new volume is to be
    #[command(flatten)]
    pub new: NewVolume,
    /// Read the archive from this file, or from standard input with '-'. Default: standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Leave so many leading parts of each name in the archive out, as GNU tar does: 1 for one that has all below one folder
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub strip_components: usize,
    /// Whether all of it must be kept
    #[command(flatten)]
    pub strict: Strict,
}

/// `volume attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Full name of the volume
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// Name of what uses the volume, for messages
    #[arg(long, value_name = "CONSUMER")]
    pub to: String,
    /// An empty folder to show the volume at (needs root)
    #[arg(value_name = "FOLDER")]
    pub path: Option<PathBuf>,
    /// Show the volume read-only
    #[arg(long, requires = "path")]
    pub read_only: bool,
    /// Free the volume when the process of this number ends. Default: at the next boot
    #[arg(long, value_parser = process)]
    pub pid: Option<u32>,
}

fn process(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|number| *number != 0).ok_or("write the number of a process")
}

/// `volume detach`.
#[derive(Debug, Args)]
pub struct Detach {
    /// Full name of the volume
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
    /// Name of what used the volume, as attach was given it
    #[arg(long, value_name = "CONSUMER", add = Named::Consumer.completer())]
    pub from: String,
}
