//! A real Kubernetes cluster on this machine, in namespaces of its own that end with one process.

pub mod audit;
pub mod cleanup;
pub mod control_plane;
mod guest;
mod guest_commands;
pub mod host;
mod init;
mod jsonpath;
pub mod layout;
mod node;
mod node_config;
mod reader;
pub mod secrets;
mod supervisor;
mod system_disk;
mod turn;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

pub use self::guest::run as run_guest;
pub use self::guest_commands::ask as ask_guest;
pub use self::jsonpath::JsonPath;
pub use self::layout::{Node, Size, Spec, State};
pub use self::node::{run as run_node, run_in_guest as run_node_in_guest};
pub use self::node_config::PAUSE_IMAGE;
pub use self::reader::{Reader, Until};
pub use self::supervisor::run as run_cluster;
use self::turn::Turn;
use crate::{command, lab};

/// Set inside a cluster's namespaces to the cluster's name.
const INSIDE: &str = "TIERCE_CLUSTER";

/// How long the processes of a cluster live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until `cluster down`.
    UntilDown,
    /// At most as long as this process.
    WithUs,
}

/// A running cluster.
pub struct Cluster {
    state: State,
    spec: Spec,
    /// Ends it and removes what it leaves, when this process is gone.
    broom: Option<Child>,
    /// Begun by whoever reads first.
    reader: Mutex<Option<Arc<Reader>>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(broom) = &mut self.broom {
            drop(broom.stdin.take());
            broom.wait().ok();
        }
    }
}

impl Cluster {
    /// Starts a cluster and waits until its nodes are Ready.
    pub fn up(
        name: &str,
        size: Size,
        images: Vec<PathBuf>,
        tools: PathBuf,
        lifetime: Lifetime,
    ) -> Result<Self> {
        let nodes = u16::from(size.ordinary) + u16::from(size.guests);
        ensure!((1..=9).contains(&nodes), "a cluster has 1 to 9 nodes, not {nodes}");
        if size.guests > 0 {
            lab::ensure_possible()?;
        }
        let state = State::of(name)?;
        let turn = Turn::take(name)?;
        if find_process(&state.supervisor_line()).is_some() {
            bail!("cluster {name} is running; end it with `tierce-e2e cluster down --name {name}`");
        }
        remove(&state, name)?;
        std::fs::create_dir_all(state.path().join("logs"))?;
        let host = host::Host::detect(state.path())?;
        let system_disk = if size.guests > 0 { system_disk::ensure_template(&images, &host)? } else { None };
        let spec = Spec { name: name.to_owned(), size, tools, images, system_disk, host };
        std::fs::write(state.path().join("cluster.json"), serde_json::to_vec_pretty(&spec)?)?;
        secrets::make(&state, size)?;
        // Not by its path: a build that other suites wait for beside this one may have put another file there.
        std::fs::copy("/proc/self/exe", state.program())?;
        let broom = match lifetime {
            Lifetime::WithUs => Some(broom(name, turn)?),
            Lifetime::UntilDown => None,
        };
        let cluster = Self { state, spec, broom, reader: Mutex::default() };
        cluster.launch(lifetime)?;
        if let Err(error) = cluster.wait_until_ready() {
            let log = command::tail(&cluster.state.log("supervisor"), 10);
            let logs = match lifetime {
                Lifetime::UntilDown => format!("logs: {}", cluster.state.path().join("logs").display()),
                Lifetime::WithUs => "its logs go with it; `cluster up` keeps them".to_owned(),
            };
            bail!("{error:#}\n{log}\n{logs}");
        }
        Ok(cluster)
    }

    /// Ends it and removes what it leaves.
    pub fn end(self) -> Result<()> {
        remove(&self.state, &self.spec.name)
    }

    /// The running cluster of that name.
    pub fn find(name: &str) -> Result<Self> {
        let state = State::of(name)?;
        if std::env::var(INSIDE).as_deref() != Ok(name) && find_process(&state.supervisor_line()).is_none() {
            bail!("no cluster {name} is running; start one with `tierce-e2e cluster up --name {name}`");
        }
        let spec = state.spec()?;
        Ok(Self { state, spec, broom: None, reader: Mutex::default() })
    }

    /// The cluster's folder and files.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it is made of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its nodes.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        self.spec.size.nodes()
    }

    /// A command that will run inside the cluster's namespaces with `kubectl` and `helm` on its PATH.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = if std::env::var(INSIDE).as_deref() == Ok(self.spec.name.as_str()) {
            Command::new(program)
        } else {
            let pid = find_process(&self.state.supervisor_line()).context("the cluster has ended")?;
            let mut command = enter(pid, &["--mount", "--net", "--pid"]);
            // Entering a mount namespace moves to its root: go back to where the caller was.
            command.args(["env", "--chdir"]).arg(std::env::current_dir()?).arg(program);
            command
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.spec.tools.display()))
            .env("KUBECONFIG", self.state.kubeconfig("admin"))
            .env(INSIDE, &self.spec.name);
        Ok(command)
    }

    /// What reads the cluster's objects.
    pub fn reader(&self) -> Result<Arc<Reader>> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = &*reader {
            return Ok(reader.clone());
        }
        let inside = if std::env::var(INSIDE).as_deref() == Ok(self.spec.name.as_str()) {
            None
        } else {
            Some(find_process(&self.state.supervisor_line()).context("the cluster has ended")?)
        };
        let begun = Arc::new(Reader::start(self.state.kubeconfig("admin"), inside)?);
        Ok(reader.insert(begun).clone())
    }

    /// Runs `kubectl` with arguments given as one string, split at blanks; returns its stdout.
    pub fn kubectl(&self, arguments: &str) -> Result<String> {
        command::run(self.command("kubectl")?.args(arguments.split_whitespace()))
    }

    /// A command that will run on a node: in its mounts, network, processes and under its host name. On a guest it
    /// has no standard input, its output comes at its end, and another one waits until then.
    pub fn on_node(&self, node: Node, program: &str) -> Result<Command> {
        if self.spec.size.is_guest(node) {
            let mut command = Command::new(self.state.program());
            command.arg("ask-guest").arg(self.state.path()).args([&node.name(), program]);
            return Ok(command);
        }
        let pid = find_process(&self.state.node_line(node))
            .with_context(|| format!("{} is switched off", node.name()))?;
        let mut command = enter(pid, &["--mount", "--net", "--pid", "--uts"]);
        command.arg(program);
        Ok(command)
    }

    /// Pulls a node's plug: its processes and mounts are gone at once, its disks stay as they are.
    pub fn switch_off(&self, node: Node) -> Result<()> {
        File::create(self.state.off_switch(node))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let line = if self.spec.size.is_guest(node) {
            self.state.guest_line(node)
        } else {
            self.state.node_line(node)
        };
        while find_process(&line).is_some() {
            ensure!(Instant::now() < deadline, "{} does not end", node.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.spec.size.is_guest(node) {
            return Ok(());
        }
        // A machine's loop devices and cgroups end with its power; here the kernel is shared and keeps them. Over
        // each cgroup of a container that is no more, the next kubelet would brood for three seconds.
        cleanup::detach_below(&self.state.node(node))?;
        cleanup::remove_node_cgroups(&self.spec.name, node);
        Ok(())
    }

    /// Boots a node that was switched off. Returns at once; its kubelet needs some seconds.
    pub fn switch_on(&self, node: Node) -> Result<()> {
        Ok(std::fs::remove_file(self.state.off_switch(node))?)
    }

    /// Loads image archives into every node.
    pub fn load(&self, archives: &[PathBuf]) -> Result<()> {
        for node in self.nodes() {
            for archive in archives {
                node::import_into(&mut self.on_node(node, "ctr")?, &self.spec, archive)?;
            }
        }
        Ok(())
    }

    /// What somebody would look at first when something failed.
    pub fn diagnosis(&self) -> String {
        let mut text = Vec::new();
        for question in [
            "get volumes,pvc,pv,nodevolumes,pods --all-namespaces -o wide",
            "get events --all-namespaces --field-selector type=Warning",
            "logs --namespace tierce-system --selector app.kubernetes.io/component=node --tail 25",
            "logs --namespace tierce-system --selector app.kubernetes.io/component=controller \
             --container tierce-controller --tail 25",
        ] {
            let answer = self.kubectl(question).unwrap_or_else(|error| format!("{error:#}"));
            text.push(format!("$ kubectl {question}\n{answer}"));
        }
        let kubelets = self.nodes().map(|node| format!("{}-kubelet", node.name()));
        for (part, lines) in kubelets.map(|part| (part, 15)).chain([("supervisor".to_owned(), 5)]) {
            text.push(format!("{part}: {}", command::tail(&self.state.log(&part), lines)));
        }
        text.join("\n")
    }

    fn launch(&self, lifetime: Lifetime) -> Result<()> {
        let log = File::create(self.state.log("supervisor"))?;
        let mut line: Vec<&str> = Vec::new();
        if lifetime == Lifetime::WithUs {
            line.extend(["setpriv", "--pdeathsig", "KILL"]);
        }
        line.extend(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        let (program, arguments) = line.split_first().expect("the line starts with a program");
        Command::new(program)
            .args(arguments)
            .args(self.state.supervisor_line())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for the caller alone.
            .process_group(0)
            .spawn()
            .context("can't start unshare")?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while find_process(&self.state.supervisor_line()).is_none() {
            let log = command::tail(&self.state.log("supervisor"), 5);
            ensure!(Instant::now() < deadline, "the cluster's first process did not start: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn wait_until_ready(&self) -> Result<()> {
        // A guest imports its images on a third of a processor's speed.
        let patience = if self.spec.size.guests > 0 { 240 } else { 90 };
        let deadline = Instant::now() + Duration::from_secs(patience);
        while let Err(error) = self.kubectl("get --raw /readyz") {
            if Instant::now() > deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        for node in self.nodes() {
            self.kubectl(&format!("wait --for=create node/{} --timeout={patience}s", node.name()))?;
        }
        self.kubectl(&format!("wait --for=condition=Ready node --all --timeout={patience}s"))?;
        // Pods are refused until their namespace has its service account.
        self.kubectl(&format!("wait --for=create serviceaccount/default --timeout={patience}s")).map(drop)
    }
}

/// A process that waits for the end of this one, however that comes, and removes the cluster then. Until that is done the name is taken.
fn broom(name: &str, turn: Turn) -> Result<Child> {
    Command::new("/proc/self/exe")
        .args(["sweep-cluster", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::from(OwnedFd::from(turn)))
        // Ctrl-C in the terminal must not end it.
        .process_group(0)
        .spawn()
        .context("can't start a second process of this program")
}

/// Waits until nobody holds the other end of standard input, then removes what is left of the cluster.
pub fn sweep(name: &str) -> Result<()> {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    remove(&State::of(name)?, name)
}

/// Ends a cluster: its processes, then what the kernel would keep, then its files.
pub fn down(name: &str) -> Result<()> {
    let _turn = Turn::take(name)?;
    remove(&State::of(name)?, name)
}

fn remove(state: &State, name: &str) -> Result<()> {
    if let Some(pid) = find_process(&state.supervisor_line()) {
        rustix::process::kill_process(pid, Signal::KILL)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while rustix::process::test_kill_process(pid).is_ok() {
            ensure!(Instant::now() < deadline, "process {pid:?} of cluster {name} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if !state.path().exists() {
        return Ok(());
    }
    cleanup::detach_below(state.path())?;
    cleanup::remove_cgroups(name);
    remove_files(state.path())
}

/// Mount points of volumes are marked immutable while nothing is mounted on them.
fn remove_files(folder: &Path) -> Result<()> {
    if std::fs::remove_dir_all(folder).is_err() && folder.exists() {
        command::output(Command::new("chattr").args(["-R", "-f", "-i"]).arg(folder))?;
        std::fs::remove_dir_all(folder).with_context(|| format!("can't remove {}", folder.display()))?;
    }
    Ok(())
}

fn enter(pid: Pid, namespaces: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--target").arg(pid.as_raw_nonzero().to_string()).args(namespaces).arg("--");
    command
}

/// The process with exactly this command line.
fn find_process(line: &[String]) -> Option<Pid> {
    let wanted = line.iter().flat_map(|word| word.bytes().chain([0])).collect::<Vec<u8>>();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let found = std::fs::read(entry.path().join("cmdline")).ok()?;
        (found == wanted).then(|| Pid::from_raw(pid)).flatten()
    })
}
