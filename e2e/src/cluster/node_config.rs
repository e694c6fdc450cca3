//! The configuration files of a node's containerd, CNI and kubelet.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::layout::{Node, Spec, State};

/// containerd's socket, at the same path on every node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// The image that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:tierce-e2e";

/// Where the files were written.
pub(super) struct Files {
    /// containerd's TOML.
    pub containerd: PathBuf,
    /// The kubelet's configuration, in JSON.
    pub kubelet: PathBuf,
}

/// Writes all files of a node.
pub(super) fn write(state: &State, spec: &Spec, node: Node) -> Result<Files> {
    let folder = state.node(node).join("config");
    let cni = folder.join("cni");
    std::fs::create_dir_all(&cni)?;
    std::fs::write(cni.join("pods.conflist"), cni_network(node).to_string())?;
    std::fs::write(folder.join("resolv.conf"), "# Pods of this cluster resolve no names.\n")?;
    let files = Files { containerd: folder.join("containerd.toml"), kubelet: folder.join("kubelet.json") };
    std::fs::write(&files.containerd, containerd(spec, &cni.display().to_string()))?;
    std::fs::write(&files.kubelet, kubelet(state, spec, node).to_string())?;
    Ok(files)
}

/// A veth pair per pod and plain routes: no bridge, no masquerading, nothing in iptables.
fn cni_network(node: Node) -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "pods",
        "plugins": [{"type": "ptp", "ipam": {
            "type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": node.pod_range()}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}],
    })
}

/// Version 2 is read by containerd 1.x and, converted on the fly, by 2.x.
fn containerd(spec: &Spec, cni: &str) -> String {
    let cri = r#"[plugins."io.containerd.grpc.v1.cri""#;
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{SOCKET}"
{cri}]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = {restrict}
{cri}.containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"
{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
{cri}.cni]
bin_dir = "{bin}"
conf_dir = "{cni}"
"#,
        restrict = !spec.host.may_lower_oom_score,
        snapshotter = spec.host.snapshotter,
        bin = spec.host.cni_plugins,
    )
}

fn kubelet(state: &State, spec: &Spec, node: Node) -> Value {
    let config = state.node(node).join("config");
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        // No other machine reaches this network namespace.
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "failCgroupV1": spec.host.unified_cgroups,
        "cgroupDriver": "cgroupfs", "cgroupsPerQOS": true, "enforceNodeAllocatable": [],
        "cgroupRoot": super::cleanup::cgroup_of(&spec.name, node),
        "failSwapOn": false, "makeIPTablesUtilChains": false, "localStorageCapacityIsolation": false,
        // The disk is the developer's own: its being full elsewhere must not evict pods or images here.
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        // Nothing answers there; without an address every pod gets an event that names can't be resolved.
        "clusterDNS": ["10.96.0.10"],
        "resolvConf": config.join("resolv.conf"),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "kubeAPIQPS": 100, "kubeAPIBurst": 200, "maxPods": 300,
        // A node that is switched off is noticed sooner than after the default 40 s.
        "nodeStatusUpdateFrequency": "4s", "nodeLeaseDurationSeconds": 12,
        // A kubelet sees that a volume has grown when it looks at the pod anew: by default after 60 to 90 s, unless
        // something about the pod changes earlier.
        "syncFrequency": "5s",
        "registerNode": true,
    })
}
