//! Names, addresses and paths of a local cluster: everything that its processes must agree on.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The address of the `kubernetes` Service. The API server listens on it itself, so no kube-proxy is needed.
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The range that Services draw their addresses from.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The control plane's own address on the bridge of all nodes.
pub const CONTROL_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Where `/var/lib` and `/var/log` lie.
pub(super) const SYSTEM_DISK: &str = "/dev/ubdc";
/// Where containerd keeps its images on a node's disk.
pub(super) const CONTAINERD_ROOT: &str = "var-lib/containerd";
/// Stands on a node's disk once they are loaded.
pub(super) const IMAGES_LOADED: &str = "images-loaded";

/// What a cluster is made of; written to its state folder for the processes that run it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Its name: several clusters may run side by side.
    pub name: String,
    /// How many nodes.
    pub size: Size,
    /// Where etcd, kubelet and their kin lie.
    pub tools: PathBuf,
    /// Image archives that every node imports at its start.
    pub images: Vec<PathBuf>,
    /// The disk that every guest gets a copy of; without it guests load the images themselves.
    pub system_disk: Option<PathBuf>,
    /// What the host's kernel and container runtime ask for.
    pub host: super::host::Host,
}

/// How many nodes of each kind a cluster has: 1 to 9 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Nodes on this machine's kernel, which come first.
    pub ordinary: u8,
    /// Nodes on kernels of their own: guests of the disk lab.
    pub guests: u8,
}

impl Size {
    /// All on this machine's kernel.
    pub fn ordinary(nodes: u8) -> Self {
        Self { ordinary: nodes, guests: 0 }
    }

    /// All nodes of both kinds.
    pub fn nodes(self) -> impl Iterator<Item = Node> + use<> {
        (1..=self.ordinary.saturating_add(self.guests)).map(Node)
    }

    /// True for a node on a kernel of its own.
    pub fn is_guest(self, node: Node) -> bool {
        node.0 > self.ordinary
    }
}

/// One node of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(pub u8);

impl Node {
    /// Its name in Kubernetes.
    pub fn name(self) -> String {
        format!("node-{}", self.0)
    }

    /// Its address on the bridge.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, 10 + self.0)
    }

    /// The addresses of its pods: 1021 of them.
    pub fn pod_range(self) -> String {
        format!("10.244.{}.0/22", u16::from(self.0) * 4)
    }

    /// The node of that name.
    pub fn parse(name: &str) -> Result<Self> {
        name.strip_prefix("node-")
            .and_then(|number| number.parse().ok())
            .filter(|number| (1..=9).contains(number))
            .map(Self)
            .with_context(|| format!("`{name}` is not a node: they are called node-1, node-2, …"))
    }
}

/// The folder that holds all that a cluster writes.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

impl State {
    /// The state folder of the cluster of that name, on a disk (`/run` may be a small tmpfs).
    pub fn of(name: &str) -> Result<Self> {
        anyhow::ensure!(
            !name.is_empty()
                && name.len() <= 20
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "a cluster's name has 1 to 20 of a-z, 0-9 and `-`, not `{name}`"
        );
        Ok(Self(Path::new("/var/tmp/tierce-e2e").join(name)))
    }

    /// A state folder whose path is known.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The cluster's description.
    pub fn spec(&self) -> Result<Spec> {
        let file = self.0.join("cluster.json");
        let text = std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// The log file of a part, such as `kube-apiserver` or `node-1-kubelet`.
    pub fn log(&self, part: &str) -> PathBuf {
        self.0.join("logs").join(format!("{part}.log"))
    }

    /// The API server's audit log: every request with its user agent.
    pub fn audit_log(&self) -> PathBuf {
        self.0.join("logs/audit.log")
    }

    /// Certificates, keys and tokens.
    pub fn secrets(&self) -> PathBuf {
        self.0.join("secrets")
    }

    /// A kubeconfig: `admin` or a node's name.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.secrets().join(format!("{who}.kubeconfig"))
    }

    /// A copy of this program, so that a rebuild doesn't pull it from under a running cluster.
    pub fn program(&self) -> PathBuf {
        self.0.join("tierce-e2e")
    }

    /// The command line of the cluster's PID 1.
    pub fn supervisor_line(&self) -> Vec<String> {
        [self.program().display().to_string(), "run-cluster".into(), self.0.display().to_string()].into()
    }

    /// The command line of a node's PID 1.
    pub fn node_line(&self, node: Node) -> Vec<String> {
        let program = self.program().display().to_string();
        [program, "run-node".into(), self.0.display().to_string(), node.name()].into()
    }

    /// The command line of the process that a guest is: when it ends, the guest loses its power.
    pub fn guest_line(&self, node: Node) -> Vec<String> {
        let program = self.program().display().to_string();
        [program, "run-guest".into(), self.0.display().to_string(), node.name()].into()
    }

    /// The command line of the first process of Kubernetes in a guest.
    pub fn node_in_guest_line(&self, node: Node) -> Vec<String> {
        let program = self.program().display().to_string();
        [program, "run-node-in-guest".into(), self.0.display().to_string(), node.name()].into()
    }

    /// The socket that takes commands for a guest.
    pub fn guest_socket(&self, node: Node) -> PathBuf {
        self.node(node).join("commands.sock")
    }

    /// A node's own files: what it sees as `/var/lib`, `/run` and `/var/log`.
    pub fn node(&self, node: Node) -> PathBuf {
        self.0.join("nodes").join(node.name())
    }

    /// The node's network namespace, kept by a mount that only the cluster sees.
    pub fn node_network(&self, node: Node) -> PathBuf {
        self.node(node).join("network")
    }

    /// While this file exists the node is switched off.
    pub fn off_switch(&self, node: Node) -> PathBuf {
        self.node(node).join("off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_addresses_of_their_own() {
        assert_eq!(Node(1).address(), Ipv4Addr::new(10, 99, 0, 11));
        assert_eq!(Node(2).pod_range(), "10.244.8.0/22");
        assert_eq!(Node::parse("node-2").unwrap(), Node(2));
        for bad in ["", "node-", "node-0", "node-10", "2", "node-1x"] {
            assert!(Node::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn guests_come_after_the_ordinary_nodes() {
        let size = Size { ordinary: 1, guests: 2 };
        let guests: Vec<bool> = size.nodes().map(|node| size.is_guest(node)).collect();
        assert_eq!(guests, [false, true, true]);
    }

    #[test]
    fn a_clusters_name_can_not_leave_its_folder() {
        assert_eq!(State::of("a-1").unwrap().path(), Path::new("/var/tmp/tierce-e2e/a-1"));
        for bad in ["", "..", "a/b", "A", "123456789012345678901"] {
            assert!(State::of(bad).is_err(), "{bad}");
        }
    }
}
