//! The programs of a Kubernetes cluster, built from pinned Go modules: no release binaries are downloaded.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::{cache, command};

/// One program: where its Go module lies under `tools/`, its main package, and its name.
struct Tool {
    module: &'static str,
    package: &'static str,
    name: &'static str,
}

const fn tool(module: &'static str, package: &'static str, name: &'static str) -> Tool {
    Tool { module, package, name }
}

const TOOLS: [Tool; 13] = [
    tool("kubernetes", "./pause", "pause"),
    tool("kubernetes", "go.etcd.io/etcd/server/v3", "etcd"),
    tool("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
    tool("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
    tool("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
    tool("kubernetes", "k8s.io/kubernetes/cmd/kubelet", "kubelet"),
    tool("kubernetes", "k8s.io/kubernetes/cmd/kubectl", "kubectl"),
    tool("kubernetes", "helm.sh/helm/v4/cmd/helm", "helm"),
    tool("kubernetes", "github.com/kubernetes-csi/external-resizer/v2/cmd/csi-resizer", "csi-resizer"),
    tool("kubernetes", "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity", "csi-sanity"),
    // In a module of its own: it does not compile against the k8s.io libraries of Kubernetes 1.37.
    tool(
        "provisioner",
        "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner",
        "csi-provisioner",
    ),
    // In a module of their own: they ask for newer libraries than Kubernetes 1.37 is built with.
    tool(
        "snapshotter",
        "github.com/kubernetes-csi/external-snapshotter/v8/cmd/csi-snapshotter",
        "csi-snapshotter",
    ),
    tool(
        "snapshotter",
        "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller",
        "snapshot-controller",
    ),
];

/// The folder of this crate's sources; the harness is run from a checkout.
pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds what is missing, all or the one named; returns the folder of the programs. Six to ten minutes the first time on two cores.
pub fn ensure(only: Option<&str>) -> Result<PathBuf> {
    if let Some(name) = only {
        ensure!(TOOLS.iter().any(|tool| tool.name == name), "there is no tool {name}");
    }
    let mut key = cache::Key::default();
    for module in ["kubernetes", "provisioner", "snapshotter"] {
        for file in ["go.mod", "go.sum"] {
            key = key.with_file(&source().join("tools").join(module).join(file))?;
        }
    }
    key = key.with_file(&source().join("tools/kubernetes/pause/main.go"))?;
    for tool in &TOOLS {
        key = key.with(tool.package).with(tool.name);
    }
    let home = cache::folder()?.join("tools").join(key.finish());
    std::fs::create_dir_all(&home).with_context(|| format!("can't make {}", home.display()))?;
    let log = home.join("build.log");
    for tool in TOOLS.iter().filter(|tool| only.is_none_or(|name| tool.name == name)) {
        let place = home.join("bin").join(tool.name);
        cache::once(&place, |temporary| build(tool, temporary, &log))?;
    }
    Ok(home.join("bin"))
}

fn build(tool: &Tool, output: &Path, log: &Path) -> Result<()> {
    let started = Instant::now();
    let go =
        command::find("go").context("Go is needed to build the cluster's programs: https://go.dev/dl")?;
    let module = source().join("tools").join(tool.module);
    let mut flags = String::from("-s -w");
    if let Some(version) = kubernetes_version(&std::fs::read_to_string(module.join("go.mod"))?) {
        // Unstamped Kubernetes programs call themselves v0.0.0, and clients refuse such a server.
        let (major, minor) = version.trim_start_matches('v').split_once('.').unwrap_or_default();
        let minor = minor.split('.').next().unwrap_or_default();
        let stamp = "k8s.io/component-base/version";
        flags = format!(
            "{flags} -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
        );
    }
    eprint!("building {} … ", tool.name);
    command::run_logged(
        Command::new(go)
            .current_dir(module)
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-buildvcs=false")])
            .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(output)
            .arg(tool.package),
        log,
    )?;
    eprintln!("{:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The version of `k8s.io/kubernetes` that a go.mod requires.
fn kubernetes_version(go_mod: &str) -> Option<&str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some("k8s.io/kubernetes")).then(|| words.next()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_either_form_of_require() {
        assert_eq!(kubernetes_version("require (\n\tk8s.io/kubernetes v1.37.1\n)"), Some("v1.37.1"));
        assert_eq!(kubernetes_version("require k8s.io/kubernetes v1.36.0 // indirect"), Some("v1.36.0"));
        assert_eq!(kubernetes_version("require k8s.io/api v0.37.1"), None);
    }

    #[test]
    fn every_program_of_the_list_is_named_in_its_modules_tools_file() {
        for tool in TOOLS.iter().filter(|tool| !tool.package.starts_with("./")) {
            let text =
                std::fs::read_to_string(source().join("tools").join(tool.module).join("tools.go")).unwrap();
            assert!(text.contains(&format!("\"{}\"", tool.package)), "{} is missing", tool.package);
        }
    }
}
