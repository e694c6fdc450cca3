//! PID 1 of a cluster: its network, its control plane, and one nested PID 1 per node. When it is killed, the
//! kernel ends every process, mount and interface of the cluster with it.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::layout::{CONTROL_ADDRESS, Node, SERVICE_ADDRESS, State};
use super::{control_plane, init};
use crate::command::{self, sh};

/// The bridge that the nodes are plugged into.
const BRIDGE: &str = "nodes";
/// Lets packets pass from pods to the bridge and back.
const FORWARD: &str = "echo 1 > /proc/sys/net/ipv4/ip_forward";

/// Runs as PID 1 in new mount, network and process namespaces; returns only on errors.
pub fn run(state: &Path) -> Result<()> {
    let state = State::at(state);
    let spec = state.spec()?;
    sh("ip link set lo up")?;
    // The API server listens on the Service's address itself: pods reach it by plain routing, without kube-proxy.
    sh(&format!("ip address add {SERVICE_ADDRESS}/32 dev lo"))?;
    sh(&format!("ip link add {BRIDGE} type bridge"))?;
    sh(&format!("ip address add {CONTROL_ADDRESS}/24 dev {BRIDGE}"))?;
    sh(&format!("ip link set {BRIDGE} up"))?;
    command::run(Command::new("sh").args(["-c", FORWARD]))?;

    let mut init = init::Init::default();
    for service in control_plane::services(&state, &spec)? {
        init.start(service)?;
    }
    for node in spec.size.nodes() {
        std::fs::create_dir_all(state.node(node))?;
        if spec.size.is_guest(node) {
            plug_guest(node)?;
            init.start(service(&state, node, state.guest_line(node)))?;
        } else {
            plug(&state, node)?;
            init.start(service(&state, node, node_line(&state, node)))?;
        }
    }
    init.run()
}

/// Gives a node its network: a namespace that outlives the node's processes, as a socket in the wall does.
fn plug(state: &State, node: Node) -> Result<()> {
    let network = state.node_network(node);
    File::create(&network)?;
    let network = network.display();
    let (number, address, pods) = (node.0, node.address(), node.pod_range());
    sh(&format!("unshare --net={network} true"))?;
    sh(&format!("ip link add port{number} type veth peer name eth0 netns {network}"))?;
    sh(&format!("ip link set port{number} master {BRIDGE} up"))?;
    let inside = format!(
        "{FORWARD} && ip link set lo up && ip address add {address}/24 dev eth0 && ip link set eth0 up && \
         ip route add default via {CONTROL_ADDRESS}"
    );
    command::run(Command::new("nsenter").args([&format!("--net={network}"), "sh", "-c", &inside]))?;
    sh(&format!("ip route add {pods} via {address}"))?;
    Ok(())
}

/// The other end of a guest's network card. It stays while the guest is off.
fn plug_guest(node: Node) -> Result<()> {
    let (number, address, pods) = (node.0, node.address(), node.pod_range());
    sh(&format!("ip tuntap add dev port{number} mode tap"))?;
    sh(&format!("ip link set port{number} master {BRIDGE} up"))?;
    sh(&format!("ip route add {pods} via {address}"))?;
    Ok(())
}

fn node_line(state: &State, node: Node) -> Vec<String> {
    let network = format!("--net={}", state.node_network(node).display());
    let mut line = ["nsenter", &network, "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child"]
        .map(str::to_owned)
        .to_vec();
    line.push("--mount-proc".to_owned());
    line.extend(state.node_line(node));
    line
}

fn service(state: &State, node: Node, line: Vec<String>) -> init::Service {
    init::Service {
        name: node.name(),
        line,
        log: state.log(&node.name()),
        off_switch: Some(state.off_switch(node)),
    }
}
