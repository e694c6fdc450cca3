//! Command line.

use clap::{ArgAction, Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;
use tierce_socket::parse_endpoint;

/// The controller of Tierce: makes claims for Volumes, places volumes on nodes, answers the CSI sidecars.
#[derive(Debug, Parser)]
#[command(name = "tierce-controller", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Other things to do than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Serve,
}

/// Other things to do than to serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// `CustomResourceDefinitions` of Tierce.
    #[command(subcommand)]
    Crds(Crds),
}

/// What to do with the `CustomResourceDefinitions`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Crds {
    /// Applies them to the cluster and waits until it serves them.
    Apply,
}

/// How to serve.
#[derive(Debug, Args)]
pub struct Serve {
    /// Unix socket for the CSI sidecars.
    #[arg(long, default_value = "/csi/csi.sock", value_parser = parse_endpoint)]
    pub csi_socket: PathBuf,
    /// Address of /metrics, /healthz and /readyz: `host:port`, `:port` for all addresses, empty for none.
    #[arg(long, default_value = "")]
    pub metrics_addr: String,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Name of this replica, different from every other one's. Default: host name and process id.
    #[arg(long, env = "POD_NAME", default_value_t = host_and_process())]
    pub identity: String,
    /// Whether to reconcile only while holding the Lease. Needed with more than one replica.
    #[arg(long, default_value_t = true, action = ArgAction::Set)]
    pub leader_election: bool,
    /// How long a node has to be gone from the cluster before what is to be deleted there counts as deleted.
    #[arg(long, default_value = "300s", value_parser = duration)]
    pub node_lost_grace: Duration,
    /// How long a volume has to be without claim and `PersistentVolume` before it is deleted, if it was never used.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub reap_grace: Duration,
    /// How long a node is served a shared volume after its last pod has ended, while that node works: it writes out what it has not written yet. A
    /// node plugin gives up what it could not write out after as long.
    #[arg(long, default_value = "180s", value_parser = duration)]
    pub client_grace: Duration,
}

fn host_and_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

/// `90s`, `5m`, `1h`, as Kubernetes components take them.
fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    Duration::try_from(read).map_err(|_| "it has to be positive".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_kubernetes() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("1h30m", 5400), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "90", "-1s", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_of_the_chart_is_understood() {
        let cli = Cli::try_parse_from([
            "tierce-controller",
            "--csi-socket=/csi/csi.sock",
            "--metrics-addr=:8081",
            "--namespace=tierce-system",
            "--identity=tierce-controller-1",
            "--leader-election=false",
            "--node-lost-grace=5m",
            "--reap-grace=1s",
        ])
        .unwrap();
        assert!(cli.command.is_none() && !cli.serve.leader_election);
        assert_eq!(cli.serve.node_lost_grace, Duration::from_mins(5));
        let cli = Cli::try_parse_from(["tierce-controller", "crds", "apply"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Crds(Crds::Apply))));
    }
}
