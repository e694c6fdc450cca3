//! The programs of a Kubernetes cluster, built from pinned Go modules: no release binaries are downloaded.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// The Go modules under `tools/` that programs are built from.
const MODULES: [&str; 3] = ["kubernetes", "provisioner", "snapshotter"];

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

/// Builds what is missing, all or the one named; returns the folder of the programs. Six to twelve minutes the first time on two cores. The
/// programs of one Go module are built in one step, which compiles what they share once and links them side by side.
pub fn ensure(only: Option<&str>) -> Result<PathBuf> {
    if let Some(name) = only {
        ensure!(TOOLS.iter().any(|tool| tool.name == name), "there is no tool {name}");
    }
    let mut key = cache::Key::default();
    for module in MODULES {
        for file in ["go.mod", "go.sum"] {
            key = key.with_file(&source().join("tools").join(module).join(file))?;
        }
    }
    key = key.with_file(&source().join("tools/kubernetes/pause/main.go"))?;
    for tool in &TOOLS {
        key = key.with(tool.package).with(tool.name);
    }
    let home = cache::folder()?.join("tools").join(key.finish());
    let bin = home.join("bin");
    std::fs::create_dir_all(&bin).with_context(|| format!("can't make {}", bin.display()))?;
    let wanted = |tool: &&Tool| only.is_none_or(|name| tool.name == name) && !bin.join(tool.name).exists();
    let missing: Vec<&Tool> = TOOLS.iter().filter(wanted).collect();
    let steps: Vec<&str> =
        MODULES.into_iter().filter(|module| missing.iter().any(|tool| tool.module == *module)).collect();
    for (done, module) in steps.iter().enumerate() {
        let tools: Vec<&Tool> = missing.iter().copied().filter(|tool| tool.module == *module).collect();
        build(&tools, &bin, &format!("step {} of {}", done + 1, steps.len()))?;
    }
    Ok(bin)
}

/// Builds the programs that tests ask what libraries of others make of Compose files and of archives. Where that can't be, for want of the
/// network for instance, those tests are skipped, and say why as this does.
pub fn build_references() -> Result<()> {
    for (name, what) in [("compose", "Compose files"), ("archives", "archives")] {
        let output = command::output(Command::new(source().join("tools/reference.sh")).arg(name))?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            eprintln!("skipped: the reference for {what}: {}", reason.trim_end());
        }
    }
    Ok(())
}

/// Builds programs of one module; each appears whole or not at all.
fn build(tools: &[&Tool], bin: &Path, step: &str) -> Result<()> {
    let go =
        command::find("go").context("Go is needed to build the cluster's programs: https://go.dev/dl")?;
    let module = source().join("tools").join(tools.first().context("a step has programs")?.module);
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
    let go = |verb: &[&str]| {
        let mut command = Command::new(&go);
        command.current_dir(&module).envs([("CGO_ENABLED", "0"), ("GOFLAGS", "-buildvcs=false")]).args(verb);
        command.args(tools.iter().map(|tool| tool.package)).stdin(Stdio::null());
        command
    };
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    eprintln!("building {} ({step})", names.join(", "));
    let listed = command::run(&mut go(&["list", "-deps"]))?;
    let output = tempfile::Builder::new().prefix(".build.").tempdir_in(bin)?;
    let folder = format!("{}/", output.path().display());
    let mut build = go(&["build", "-v", "-trimpath", "-ldflags", &flags, "-o", &folder]);
    run_with_progress(&mut build, listed.lines().count())?;
    for tool in tools {
        let program = output.path().join(name_of_program(tool.package));
        let place = bin.join(tool.name);
        std::fs::rename(&program, &place)
            .with_context(|| format!("can't rename {} to {}", program.display(), place.display()))?;
    }
    Ok(())
}

/// Runs `go build -v`, which names each package that it compiles, and says on stderr how far it has come: on a terminal in one line that
/// changes, elsewhere in a line every half minute.
fn run_with_progress(build: &mut Command, packages: usize) -> Result<()> {
    const SILENCE: Duration = Duration::from_secs(30);
    let started = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let shown = command::shown(build);
    let mut child = build
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start `{shown}`"))?;
    let (mut compiled, mut last, mut said) = (0, VecDeque::new(), Instant::now());
    for line in BufReader::new(child.stderr.take().expect("stderr was piped")).lines() {
        let line = line?;
        compiled += 1;
        if terminal || said.elapsed() >= SILENCE {
            let end = if terminal { "\r" } else { "\n" };
            eprint!(
                "  {compiled} of at most {packages} packages compiled, {:.0} s{end}",
                started.elapsed().as_secs_f64()
            );
            said = Instant::now();
        }
        last.push_back(line);
        if last.len() > 30 {
            last.pop_front();
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "`{shown}` failed ({status}):\n{}", Vec::from(last).join("\n"));
    // Blanks wipe what the line that changes had behind it.
    eprintln!(
        "  done after {:.0} s: {compiled} packages compiled, {} were in Go's cache{}",
        started.elapsed().as_secs_f64(),
        packages.saturating_sub(compiled),
        if terminal { " ".repeat(20) } else { String::new() }
    );
    Ok(())
}

/// How `go build` names the program of a package: by the last part of its path that is no version.
fn name_of_program(package: &str) -> &str {
    let is_version = |part: &str| part.strip_prefix('v').is_some_and(|number| number.parse::<u8>().is_ok());
    package.rsplit('/').find(|part| !is_version(part)).unwrap_or(package)
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
    fn a_program_is_named_as_go_names_it() {
        assert_eq!(name_of_program("./pause"), "pause");
        assert_eq!(name_of_program("go.etcd.io/etcd/server/v3"), "server");
        assert_eq!(name_of_program("helm.sh/helm/v4/cmd/helm"), "helm");
    }

    #[test]
    fn every_program_of_the_list_is_named_in_its_modules_tools_file() {
        assert!(TOOLS.iter().all(|tool| MODULES.contains(&tool.module)));
        for tool in TOOLS.iter().filter(|tool| !tool.package.starts_with("./")) {
            let text =
                std::fs::read_to_string(source().join("tools").join(tool.module).join("tools.go")).unwrap();
            assert!(text.contains(&format!("\"{}\"", tool.package)), "{} is missing", tool.package);
        }
    }
}
