//! What several commands take alike.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::named::{Named, word_completer};

/// Heading of options that only a cluster knows.
pub const ON_A_CLUSTER: &str = "On a cluster";
/// Heading of options that only a host knows.
pub const WITH_HOST: &str = "With --host";

/// What a new volume is to be.
#[derive(Debug, Args)]
pub struct NewVolume {
    /// Name of the new volume. Host: letters, digits, '_', '.' and '-'. Cluster: lower-case letters, digits, '.' and '-'
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// Size of the volume, such as 10Gi (Ki, Mi, Gi, Ti count in 1024s; k, M, G, T in 1000s; without a unit bytes). Host: needs root; default: a plain folder without a limit
    #[arg(long, allow_hyphen_values = true)]
    pub size: Option<String>,
    /// Filesystem of the volume: ext4, xfs or btrfs. Default: ext4 on a host, what the tier says on a cluster
    #[arg(long, add = word_completer(&["ext4", "xfs", "btrfs"]))]
    pub filesystem: Option<String>,
    /// Set a label; may be given several times
    #[arg(long = "label", short, value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Encrypt what lies on the disk (LUKS2). Host: needs --size, and asks for a passphrase unless one of the files below is given
    #[arg(long)]
    pub encrypt: bool,
    /// Read the key for --encrypt, 64 hexadecimal digits, from this file whenever the volume is mounted
    #[arg(long, value_name = "FILE", requires = "encrypt", help_heading = WITH_HOST)]
    pub key_file: Option<PathBuf>,
    /// Read the passphrase for --encrypt from the first line of this file, or of standard input with '-', this once
    #[arg(long, value_name = "FILE", requires = "encrypt", conflicts_with = "key_file", help_heading = WITH_HOST)]
    pub passphrase_file: Option<PathBuf>,
    /// Give the volume's folder to the user of this number, such as 999. Default: root, or who makes it
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, help_heading = WITH_HOST)]
    pub uid: Option<String>,
    /// Give the volume's folder to the group of this number
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, help_heading = WITH_HOST)]
    pub gid: Option<String>,
    /// Give the volume's folder this mode, such as 0770. Default: 0755
    #[arg(long, value_name = "OCTAL", allow_hyphen_values = true, help_heading = WITH_HOST)]
    pub mode: Option<String>,
    /// Make the volume in this pool of the configuration. Default: local, which keeps images below the root
    #[arg(long, value_name = "NAME", help_heading = WITH_HOST, add = Named::Pool.completer())]
    pub pool: Option<String>,
    /// Make the volume a part of this stack; its full name is then `<stack>_<name>`
    #[arg(long, allow_hyphen_values = true, help_heading = WITH_HOST, add = Named::Stack.completer())]
    pub stack: Option<String>,
}

/// Whether a command waits until what it asked for is done.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = ON_A_CLUSTER)]
pub struct Waiting {
    /// Wait until the cluster has done it
    #[arg(long)]
    pub wait: bool,
    /// With --wait, give up after this time, such as 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration, requires = "wait")]
    pub timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    parsed
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "write a number and a unit: 90s, 10m or 2h".to_owned())
}

/// Whether a copy may leave out what its user can't keep.
#[derive(Debug, Clone, Copy, Args)]
pub struct Strict {
    /// Fail where anything can't be kept: sockets in an archive; owners, devices and attributes that only root may set; attributes that the filesystem or the policy of the host refuses; what is mounted inside of the volume. Default: say so
    #[arg(long, help_heading = WITH_HOST)]
    pub strict: bool,
}

/// The name of one volume.
#[derive(Debug, Args)]
pub struct OneName {
    /// Full name of the volume
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
}
