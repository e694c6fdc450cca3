//! What this machine's kernel and container runtime ask for: detected, never assumed.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::command;

/// Facts that change how the nodes are configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// True for the unified hierarchy (cgroup v2).
    pub unified_cgroups: bool,
    /// The folder of the CNI plugins.
    pub cni_plugins: String,
    /// Without `CAP_SYS_RESOURCE` the OOM score of a container can't be lowered, and every sandbox would fail.
    pub may_lower_oom_score: bool,
    /// `overlayfs`, or `native` where the state folder itself lies on an overlay.
    pub snapshotter: String,
}

/// Programs that a cluster needs from the system, with the Debian package of each.
const PROGRAMS: [(&str, &str); 9] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("buildah", "buildah"),
    ("mmdebstrap", "mmdebstrap"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("losetup", "util-linux"),
];

/// Where distributions put the CNI plugins.
const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

const CAP_SYS_RESOURCE: u32 = 24;

impl Host {
    /// Looks at this machine; fails with the one command to run when something is missing.
    pub fn detect(state: &Path) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "a cluster needs root: run this with sudo");
        let mut missing: Vec<&str> = PROGRAMS
            .iter()
            .filter(|(program, _)| command::find(program).is_none())
            .map(|(_, package)| *package)
            .collect();
        let cni = CNI_FOLDERS.iter().find(|folder| Path::new(folder).join("ptp").is_file());
        if cni.is_none() {
            missing.push("containernetworking-plugins");
        }
        missing.dedup();
        if !missing.is_empty() {
            bail!("missing on this machine: {}; run e2e/setup.sh", missing.join(", "));
        }
        Ok(Self {
            unified_cgroups: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            cni_plugins: cni.copied().unwrap_or_default().to_owned(),
            may_lower_oom_score: has_capability(
                &std::fs::read_to_string("/proc/self/status")?,
                CAP_SYS_RESOURCE,
            ),
            snapshotter: snapshotter(&command::run(
                std::process::Command::new("stat").args(["--file-system", "--format=%T"]).arg(state),
            )?)
            .to_owned(),
        })
    }
}

/// Reads `CapEff` of a `/proc/<pid>/status`.
fn has_capability(status: &str, capability: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|set| set >> capability & 1 == 1)
}

/// An overlay can't be the upper layer of another overlay.
fn snapshotter(filesystem: &str) -> &'static str {
    if filesystem.trim() == "overlayfs" { "native" } else { "overlayfs" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n";
        assert!(!has_capability(status, CAP_SYS_RESOURCE));
        assert!(has_capability(status, 21));
        assert!(has_capability("CapEff:\t000001ffffffffff\n", CAP_SYS_RESOURCE));
        assert!(!has_capability("", CAP_SYS_RESOURCE));
    }

    #[test]
    fn an_overlay_on_an_overlay_is_avoided() {
        assert_eq!(snapshotter("overlayfs\n"), "native");
        assert_eq!(snapshotter("ext2/ext3\n"), "overlayfs");
    }
}
