//! What several commands take alike.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::named::Named;

/// Heading of options that only a cluster knows.
pub const ON_A_CLUSTER: &str = "On a cluster";
/// Heading of options that only a host knows.
pub const WITH_HOST: &str = "With --host";

/// What a new volume shall be.
#[derive(Debug, Args)]
pub struct NewVolume {
    /// Its name. Host: letters, digits, '_', '.' and '-'. Cluster: lower-case letters, digits, '.' and '-'
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// Bytes it may hold at most, as 10Gi. Host: it gets a filesystem of its own (needs root); default: no limit, a plain folder
    #[arg(long, allow_hyphen_values = true)]
    pub size: Option<String>,
    /// Its filesystem: ext4, xfs or btrfs. Default: ext4, or what the tier says
    #[arg(long)]
    pub filesystem: Option<String>,
    /// A label; may be given again
    #[arg(long = "label", short, value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Encrypt what lies on the disk (LUKS2). Host: needs --size, and asks for a passphrase where there is no --key-file
    #[arg(long)]
    pub encrypt: bool,
    /// File with the key of --encrypt, 64 hexadecimal digits. It is read whenever the volume is mounted
    #[arg(long, value_name = "FILE", requires = "encrypt", help_heading = WITH_HOST)]
    pub key_file: Option<PathBuf>,
    /// File whose first line is the passphrase of --encrypt, '-' for standard input. It is read this once
    #[arg(long, value_name = "FILE", requires = "encrypt", conflicts_with = "key_file", help_heading = WITH_HOST)]
    pub passphrase_file: Option<PathBuf>,
    /// Pool of the configuration that it lies in, as a volume group. Default: local, images below the root
    #[arg(long, value_name = "NAME", help_heading = WITH_HOST)]
    pub pool: Option<String>,
    /// The stack it belongs to: its full name is then `<stack>_<name>`
    #[arg(long, allow_hyphen_values = true, help_heading = WITH_HOST)]
    pub stack: Option<String>,
}

/// Whether a command waits until what it asked for is done.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = ON_A_CLUSTER)]
pub struct Waiting {
    /// Wait until it is done
    #[arg(long)]
    pub wait: bool,
    /// How long to wait at most, as 90s or 10m
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    parsed
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "write a number and a unit: 90s, 10m or 2h".to_owned())
}

/// The name of one volume.
#[derive(Debug, Args)]
pub struct OneName {
    /// Full name
    #[arg(allow_hyphen_values = true, add = Named::Volume.completer())]
    pub name: String,
}
