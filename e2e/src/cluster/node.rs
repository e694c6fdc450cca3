//! PID 1 of one node: its own `/var/lib`, `/run` and `/var/log`, then containerd and the kubelet. Every node
//! sees the same paths, as machines of their own would, so one `DaemonSet` fits them all.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::host::Host;
use super::init::{Init, Service};
use super::layout::{CONTROL_ADDRESS, IMAGES_LOADED, Node, SYSTEM_DISK, Spec, State};
use super::{cleanup, node_config};
use crate::command::{self, sh};

/// Runs as PID 1 in the node's own mount, network, host name and process namespaces; returns only on errors.
pub fn run(state: &Path, name: &str) -> Result<()> {
    let state = State::at(state);
    let spec = state.spec()?;
    let node = Node::parse(name)?;
    command::run(Command::new("hostname").arg(name))?;
    serve(&state, &spec, node, &state.node(node))
}

/// Runs as a guest's only service; returns only on errors.
pub fn run_in_guest(state: &Path, name: &str) -> Result<()> {
    let state = State::at(state);
    let mut spec = state.spec()?;
    let node = Node::parse(name)?;
    // The tmpfs of a boot; the kubelet's own mounts come after it.
    let disk = Path::new("/mnt/system");
    std::fs::create_dir_all(disk)?;
    command::run(Command::new("mount").arg(SYSTEM_DISK).arg(disk))?;
    sh(&format!("ip address add {}/24 dev vec0", node.address()))?;
    sh("ip link set vec0 up")?;
    sh(&format!("ip route add default via {CONTROL_ADDRESS}"))?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    with_clock_speed()?;
    // This kernel is another than that of the cluster's other processes.
    spec.host = Host::detect(disk)?;
    serve(&state, &spec, node, disk)
}

/// The kubelet ends itself where `/proc/cpuinfo` says no clock speed and no cores, as in a guest.
fn with_clock_speed() -> Result<()> {
    let text = std::fs::read_to_string("/proc/cpuinfo")?;
    let text = format!("{}\ncpu MHz : 2400.000\nphysical id : 0\ncore id : 0\n\n", text.trim_end());
    std::fs::write("/etc/cpuinfo", text)?;
    sh("mount --bind /etc/cpuinfo /proc/cpuinfo").map(drop)
}

/// `disk` is what the node keeps when its power is cut.
fn serve(state: &State, spec: &Spec, node: Node, disk: &Path) -> Result<()> {
    let name = node.name();
    folders(disk)?;
    cleanup::make_cgroup(&spec.name, node)?;
    let files = node_config::write(state, spec, node)?;

    let mut init = Init::default();
    init.start(Service {
        name: "containerd".to_owned(),
        line: vec!["containerd".into(), "--config".into(), files.containerd.display().to_string()],
        log: state.log(&format!("{name}-containerd")),
        off_switch: None,
    })?;
    wait_for_containerd()?;
    import(spec, &disk.join(IMAGES_LOADED))?;
    init.start(Service {
        name: "kubelet".to_owned(),
        line: vec![
            spec.tools.join("kubelet").display().to_string(),
            format!("--config={}", files.kubelet.display()),
            format!("--kubeconfig={}", state.kubeconfig(&name).display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", node.address()),
        ],
        log: state.log(&format!("{name}-kubelet")),
        off_switch: None,
    })?;
    init.run()
}

/// Gives the node a disk of its own below `/var/lib` and `/var/log`, and an empty `/run` as after a boot.
fn folders(own: &Path) -> Result<()> {
    for (inner, outer) in [("var-lib", "/var/lib"), ("var-log", "/var/log")] {
        let inner = own.join(inner);
        std::fs::create_dir_all(&inner)?;
        command::run(Command::new("mount").arg("--bind").arg(&inner).arg(outer))?;
    }
    sh("mount -t tmpfs -o mode=755 run /run")?;
    // What containerd remembers of each pod's network is written without fsync. A file that a power cut left empty keeps
    // it from ever ending that pod's sandbox, and the kubelet from starting the pod again, without an event
    // (https://github.com/containernetworking/cni/issues/1055). It speaks of one boot's network namespaces: it goes with them.
    std::fs::create_dir_all("/var/lib/cni")?;
    sh("mount -t tmpfs -o mode=700 cni /var/lib/cni")?;
    for folder in ["/run/containerd", "/run/netns", "/run/lock", "/var/lib/kubelet", "/var/lib/containerd"] {
        std::fs::create_dir_all(folder).with_context(|| format!("can't make {folder}"))?;
    }
    // As systemd does on a machine: the kubelet's mounts must travel between the host and privileged pods.
    sh("mount --make-rshared /")?;
    Ok(())
}

fn wait_for_containerd() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match command::run(Command::new("ctr").args(["--address", node_config::SOCKET, "version"])) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => bail!("containerd does not answer: {error:#}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Loads the images at the first boot; containerd's disk keeps them.
fn import(spec: &Spec, done: &Path) -> Result<()> {
    if done.exists() {
        return Ok(());
    }
    for archive in &spec.images {
        import_into(&mut Command::new("ctr"), spec, archive)?;
    }
    File::create(done).map(drop).with_context(|| format!("can't write {}", done.display()))
}

/// Loads an image archive with a `ctr` that runs on the node.
pub(super) fn import_into(ctr: &mut Command, spec: &Spec, archive: &Path) -> Result<()> {
    ctr.args(["--address", node_config::SOCKET, "--namespace=k8s.io", "images", "import"])
        .args(["--snapshotter", &spec.host.snapshotter])
        .arg(archive);
    command::run(ctr).map(drop)
}
