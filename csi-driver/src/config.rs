//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use tierce_socket::parse_endpoint;

/// The node plugin of Tierce: makes volumes on this node's disks and shows them to pods.
///
/// The cluster is found by KUBECONFIG, or by the pod's service account. Logs: `TIERCE_LOG` (default info),
/// `TIERCE_LOG_FORMAT` (text or json).
#[derive(Debug, Clone, Parser)]
#[command(name = "tierce-csi", version)]
pub struct Config {
    /// Name of this node, as in its Node object.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: String,

    /// Socket for the kubelet's CSI calls. Default: <kubelet-dir>/plugins/csi.tierce.dev/csi.sock.
    #[arg(long, value_name = "PATH", value_parser = parse_endpoint)]
    pub csi_socket: Option<PathBuf>,

    /// The same socket as the kubelet sees it, where that is another path.
    #[arg(long, value_name = "PATH", value_parser = parse_endpoint)]
    pub csi_socket_on_host: Option<PathBuf>,

    /// The kubelet's root folder.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,

    /// Don't register with a kubelet.
    #[arg(long)]
    pub no_registration: bool,

    /// Where /healthz, /readyz and /metrics are served: host:port, :port for all addresses, or empty for nowhere.
    #[arg(long, value_name = "ADDR", default_value = "")]
    pub metrics_addr: String,

    /// Folder for what must survive a reboot: the last pool configuration.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tierce/node")]
    pub state_dir: PathBuf,

    /// Share volumes with other nodes, by the kernel's NFS server at this TCP port. Default: don't.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), requires = "node_addresses")]
    pub sharing_port: Option<u16>,

    /// The node's addresses, separated by commas: on these it shares, and the first is where /healthz, /readyz and /metrics are served if
    /// --metrics-addr names no host.
    #[arg(long, env = "NODE_ADDRESSES", value_name = "IP", value_delimiter = ',')]
    pub node_addresses: Vec<IpAddr>,

    /// Folder of the host that is empty after each boot and outlives this program: the word that this boot's NFS server is ours.
    #[arg(long, value_name = "DIR", default_value = "/run/tierce")]
    pub run_dir: PathBuf,

    /// How many volumes are made, grown or deleted at a time in each pool; as many snapshots beside them.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallel: u16,

    /// Serve every pool by a simulator that keeps its state in this folder: no privilege needed, no data kept. For tests.
    #[arg(long, value_name = "DIR")]
    pub simulate: Option<PathBuf>,

    /// Size of the simulated disk.
    #[arg(long, value_name = "SIZE", default_value = "1Ti", value_parser = tierce_crds::parse_bytes, requires = "simulate")]
    pub simulate_capacity: u64,
}

impl Config {
    /// Where the CSI services listen.
    pub fn csi_socket(&self) -> PathBuf {
        self.csi_socket.clone().unwrap_or_else(|| {
            self.kubelet_dir.join("plugins").join(tierce_crds::names::DRIVER).join("csi.sock")
        })
    }

    /// Where the kubelet finds the CSI services.
    pub fn csi_socket_on_host(&self) -> PathBuf {
        self.csi_socket_on_host.clone().unwrap_or_else(|| self.csi_socket())
    }

    /// The folder where the kubelet looks for plugins; `None` when this one does not register.
    pub fn registration_folder(&self) -> Option<PathBuf> {
        (!self.no_registration).then(|| self.kubelet_dir.join("plugins_registry"))
    }

    /// Where /healthz and the others are served, as [`tierce_runtime::ops::OpsServer::bind`] wants it. In the host's network a port is open to
    /// whoever reaches the node: not on all of its addresses without need.
    pub fn ops_address(&self) -> String {
        let port = self.metrics_addr.strip_prefix(':').and_then(|port| port.parse().ok());
        match (port, self.node_addresses.first()) {
            (Some(port), Some(address)) => SocketAddr::new(*address, port).to_string(),
            _ => self.metrics_addr.clone(),
        }
    }

    /// The last pool configuration.
    pub fn pools_file(&self) -> PathBuf {
        self.state_dir.join("pools.json")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(["tierce-csi", "--node-name", "n"].iter().chain(arguments))
    }

    #[test]
    fn the_command_line_is_sound() {
        Config::command().debug_assert();
    }

    #[test]
    fn sockets_follow_the_kubelets_folder() {
        let config = parse(&["--kubelet-dir", "/k"]).unwrap();
        assert_eq!(config.csi_socket(), PathBuf::from("/k/plugins/csi.tierce.dev/csi.sock"));
        assert_eq!(config.csi_socket_on_host(), config.csi_socket());
        assert_eq!(config.registration_folder(), Some(PathBuf::from("/k/plugins_registry")));
        assert_eq!(parse(&["--no-registration"]).unwrap().registration_folder(), None);
        let config =
            parse(&["--csi-socket", "unix:///csi/csi.sock", "--csi-socket-on-host", "/k/csi.sock"]).unwrap();
        assert_eq!(config.csi_socket(), PathBuf::from("/csi/csi.sock"));
        assert_eq!(config.csi_socket_on_host(), PathBuf::from("/k/csi.sock"));
    }

    #[test]
    fn a_port_without_a_host_is_the_first_addresss() {
        let address = |arguments: &[&str]| parse(arguments).unwrap().ops_address();
        assert_eq!(address(&["--metrics-addr=:8082"]), ":8082");
        assert_eq!(address(&["--metrics-addr=:8082", "--node-addresses=fd00::1,10.0.0.1"]), "[fd00::1]:8082");
        assert_eq!(address(&["--metrics-addr=0.0.0.0:8082", "--node-addresses=10.0.0.1"]), "0.0.0.0:8082");
        assert_eq!(address(&["--node-addresses=10.0.0.1"]), "");
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            &["--parallel", "0"][..],
            &["--csi-socket", "relative.sock"],
            &["--simulate-capacity", "1Ti"],
            &["--sharing-port", "2049"],
            &["--sharing-port", "0", "--node-addresses", "10.0.0.1"],
            &["--node-addresses", "n1"],
            &["--simulate", "/s", "--simulate-capacity", "10Gb"],
        ] {
            assert!(parse(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
