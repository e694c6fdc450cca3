//! A stand: etcd, kube-apiserver, `tierce-controller` and `tierce-csi` of one node, and nothing else. Everything
//! listens on loopback or on unix sockets, is written below one folder, and ends with this process.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tierce_crds::StoragePool;
use tierce_proto::csi::controller_client::ControllerClient;
use tierce_proto::csi::identity_client::IdentityClient;
use tierce_proto::csi::{GetCapacityRequest, ProbeRequest};
use tonic::transport::Channel;

use crate::cluster::control_plane::{ApiServer, etcd};
use crate::cluster::secrets;
use crate::command;
use crate::token::token;

/// The name of the stand's only node.
pub const NODE: &str = "node-1";
/// The tier, and the pool, that it offers.
pub const TIER: &str = "sanity";
/// The volume group of an LVM pool, its thin pool, and the empty disk that the engine makes them from.
pub(super) const GROUP: &str = "tierce-sanity";
pub(super) const THIN_POOL: &str = "thin";
const DEVICE: &str = "/dev/ubda";

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Longer than any start takes, in a guest on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_mins(3);

/// Where the programs of a stand lie.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Programs {
    /// The folder of etcd, kube-apiserver and csi-sanity.
    pub tools: PathBuf,
    /// `tierce-controller`.
    pub controller: PathBuf,
    /// `tierce-csi`.
    pub plugin: PathBuf,
}

/// The programs of a stand that come from Go modules.
pub(super) const TOOLS: [&str; 3] = ["etcd", "kube-apiserver", "csi-sanity"];
/// What lies below the volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// The engine's simulator: no privilege needed.
    Simulator,
    /// Images, loop devices, filesystems and mounts of this kernel: needs root and a mount namespace of its own.
    Directory,
    /// A thin pool of LVM, made from an empty disk of a guest.
    LvmThin,
    /// Thick logical volumes there.
    LvmThick,
}

impl Storage {
    /// Whether it needs a kernel of its own, with device-mapper and an empty disk.
    pub fn is_lvm(self) -> bool {
        matches!(self, Self::LvmThin | Self::LvmThick)
    }

    /// Its name in messages and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simulator => "sim",
            Self::Directory => "directory",
            Self::LvmThin => "lvm-thin",
            Self::LvmThick => "lvm-thick",
        }
    }

    /// What `StoragePool.spec` says beside the tier.
    fn backend(self, folder: &Path) -> serde_json::Value {
        let lvm = |kind: &str, settings: serde_json::Value| json!({"lvm": {"volumeGroup": GROUP, "devices": [DEVICE], kind: settings}});
        match self {
            Self::Simulator | Self::Directory => json!({"directory": {"path": folder, "createPath": true}}),
            Self::LvmThin => lvm("thin", json!({"pool": THIN_POOL})),
            Self::LvmThick => lvm("thick", json!({})),
        }
    }
}

/// The running programs. Dropping it kills them.
pub struct Stand {
    folder: PathBuf,
    programs: Programs,
    storage: Storage,
    children: Vec<(&'static str, Child)>,
    client: Client,
}

impl Stand {
    /// Starts everything and waits until volumes can be made.
    pub async fn start(folder: &Path, programs: Programs, storage: Storage) -> Result<Self> {
        for part in ["logs", "secrets", "kubelet"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let port = free_port()?;
        make_secrets(&folder.join("secrets"), port)?;
        let kubeconfig = Kubeconfig::read_from(folder.join("secrets/admin.kubeconfig"))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        let mut stand = Self { folder: folder.to_owned(), programs, storage, children: Vec::new(), client };
        stand.start_control_plane(port).await?;
        stand.describe_node().await?;
        stand.start_controller()?;
        stand.start_plugin()?;
        stand.wait_until_ready().await?;
        Ok(stand)
    }

    /// A client with every right.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What lies below its volumes.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The folder that all is written to.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The socket of the CSI Controller service.
    pub fn controller_socket(&self) -> PathBuf {
        self.folder.join("controller.sock")
    }

    /// The socket of the CSI Node service.
    pub fn plugin_socket(&self) -> PathBuf {
        self.folder.join("plugin.sock")
    }

    /// The folder that volumes may be mounted in.
    pub fn kubelet_folder(&self) -> PathBuf {
        self.folder.join("kubelet")
    }

    /// The pool's folder.
    pub fn pool_folder(&self) -> PathBuf {
        self.folder.join("pool")
    }

    /// The API server's log of writes, one JSON object in each line.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("logs/audit.log")
    }

    /// The log of one of the programs.
    pub fn log(&self, program: &str) -> PathBuf {
        log_of(&self.folder, program)
    }

    /// The process id of one of the programs.
    pub fn pid(&self, program: &str) -> Result<u32> {
        let found = self.children.iter().find(|(name, _)| *name == program);
        found.map(|(_, child)| child.id()).with_context(|| format!("{program} is not running"))
    }

    /// Kills one of the programs as a crash would, and waits for its end.
    pub fn kill(&mut self, program: &str) -> Result<()> {
        let index = self.children.iter().position(|(name, _)| *name == program);
        let (_, mut child) =
            self.children.remove(index.with_context(|| format!("{program} is not running"))?);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts the node plugin.
    pub fn start_plugin(&mut self) -> Result<()> {
        let mut command = Command::new(&self.programs.plugin);
        command
            .args(["--node-name", NODE, "--no-registration"])
            .arg("--csi-socket")
            .arg(self.plugin_socket())
            .arg("--kubelet-dir")
            .arg(self.kubelet_folder())
            .arg("--state-dir")
            .arg(self.folder.join("node"));
        if self.storage == Storage::Simulator {
            command.arg("--simulate").arg(self.folder.join("simulator"));
        }
        command.env("KUBECONFIG", self.kubeconfig("tierce-csi"));
        self.spawn("tierce-csi", &command)
    }

    fn start_controller(&mut self) -> Result<()> {
        let mut command = Command::new(&self.programs.controller);
        command
            .args(["--leader-election=false", "--namespace=default", "--identity=stand"])
            .arg("--csi-socket")
            .arg(self.controller_socket());
        command.env("KUBECONFIG", self.kubeconfig("tierce-controller"));
        self.spawn("tierce-controller", &command)
    }

    /// Waits until both programs answer that they are ready and the pool is on offer.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        for (program, socket) in
            [("tierce-controller", self.controller_socket()), ("tierce-csi", self.plugin_socket())]
        {
            self.retry(program, async || {
                let mut client = IdentityClient::new(connect(&socket).await?);
                let answer = client.probe(ProbeRequest {}).await?.into_inner();
                ensure!(answer.ready == Some(true), "it answers that it is not ready");
                Ok(())
            })
            .await?;
        }
        // What the node reported has reached the controller.
        let socket = self.controller_socket();
        let request =
            GetCapacityRequest { parameters: [("tier".into(), TIER.into())].into(), ..Default::default() };
        self.retry("tierce-controller", async || {
            let mut client = ControllerClient::new(connect(&socket).await?);
            let answer = client.get_capacity(request.clone()).await?.into_inner();
            ensure!(answer.available_capacity > 0, "it knows of no space");
            Ok(())
        })
        .await
    }

    async fn start_control_plane(&mut self, port: u16) -> Result<()> {
        let url = |port: u16| format!("http://{LOOPBACK}:{port}");
        let (client, peer) = (url(free_port()?), url(free_port()?));
        let mut line = Command::new(self.programs.tools.join("etcd"));
        line.args(etcd(&self.folder.join("etcd"), &client, &peer));
        self.spawn("etcd", &line)?;
        let secrets = self.folder.join("secrets");
        let api = ApiServer {
            address: &LOOPBACK.to_string(),
            port,
            etcd: &client,
            authorization: "AlwaysAllow",
            secrets: &secrets,
            audit_log: Some(&self.audit_log()),
        };
        let mut line = Command::new(self.programs.tools.join("kube-apiserver"));
        line.args(api.arguments()?);
        // Nobody looks for this API server, and endpoints refuse a loopback address.
        line.args([&format!("--bind-address={LOOPBACK}"), "--endpoint-reconciler-type=none"]);
        self.spawn("kube-apiserver", &line)?;
        let api = self.client();
        self.retry("kube-apiserver", async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            // Its answer lists some forty things that are ready.
            api.request_text(request).await.map(drop).ok().context("its /readyz says no")
        })
        .await?;
        let mut apply = Command::new(&self.programs.controller);
        apply.args(["crds", "apply"]).env("KUBECONFIG", self.kubeconfig("tierce-controller"));
        command::run(&mut apply).map(drop)
    }

    async fn describe_node(&self) -> Result<()> {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}
        }))?;
        let nodes = Api::<Node>::all(self.client());
        nodes.create(&PostParams::default(), &node).await?;
        // The API server marks a new Node as not ready; in a cluster the node lifecycle controller takes the mark away.
        let untainted = json!({"spec": {"taints": null}});
        nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(&untainted)).await?;
        let mut spec = self.storage.backend(&self.pool_folder());
        spec["tier"] = json!(TIER);
        let pool: StoragePool = serde_json::from_value(json!({"metadata": {"name": TIER}, "spec": spec}))?;
        Api::all(self.client()).create(&PostParams::default(), &pool).await?;
        Ok(())
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join("secrets").join(format!("{user}.kubeconfig"))
    }

    fn spawn(&mut self, name: &'static str, command: &Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log(name))?;
        let child = dying_with_us(command)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        self.children.push((name, child));
        Ok(())
    }

    /// Tries until it works; gives up when the program has ended or the time is over.
    async fn retry(
        &mut self,
        program: &'static str,
        mut attempt: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = attempt().await else { return Ok(()) };
            let child = self.children.iter_mut().find(|(name, _)| *name == program);
            if let Some((_, child)) = child
                && let Some(status) = child.try_wait()?
            {
                bail!("{program} ended ({status})\n{}", self.tail(program));
            }
            if Instant::now() > deadline {
                return Err(error).with_context(|| {
                    format!("{program} is not ready after {} s\n{}", PATIENCE.as_secs(), self.tail(program))
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn tail(&self, program: &str) -> String {
        command::tail(&self.log(program), 15)
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // In the opposite order of their start: nobody misses a server that he still talks to.
        for (_, child) in self.children.iter_mut().rev() {
            // It may have ended by itself; then there is nothing to kill.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The log of a program of the stand in `folder`.
pub fn log_of(folder: &Path, program: &str) -> PathBuf {
    folder.join("logs").join(format!("{program}.log"))
}

/// A connection to a unix socket of the stand.
pub async fn connect(socket: &Path) -> Result<Channel> {
    Ok(tierce_runtime::grpc::connect(socket).await?)
}

/// The same command, killed by the kernel when the thread that starts it ends, however it ends.
pub fn dying_with_us(command: &Command) -> Command {
    let mut line = Command::new("setpriv");
    line.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => line.env(name, value),
            None => line.env_remove(name),
        };
    }
    line
}

/// Each program has a name of its own, by which the audit log tells them apart. All may do everything: what they
/// are allowed on a cluster is the chart's matter, and tested with it.
fn make_secrets(folder: &Path, port: u16) -> Result<()> {
    let authority = secrets::certificates(folder, &LOOPBACK.to_string())?;
    let mut tokens = String::new();
    for user in ["admin", "tierce-controller", "tierce-csi"] {
        let secret = token()?;
        tokens.extend([&secret, ",", user, ",", user, ",\"system:masters\"\n"]);
        let text = secrets::kubeconfig(&format!("https://{LOOPBACK}:{port}"), &authority, &secret);
        std::fs::write(folder.join(format!("{user}.kubeconfig")), text)?;
    }
    Ok(std::fs::write(folder.join("tokens.csv"), tokens)?)
}

/// A TCP port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_with_the_process_that_started_it() {
        // The shell starts the child as the stand does, tells its id, and is killed before it could end it.
        let line = dying_with_us(Command::new("sleep").arg("600"));
        let script = format!("{} & echo $!; wait", command::shown(&line));
        let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
        let mut pid = String::new();
        std::io::BufRead::read_line(&mut output, &mut pid).unwrap();
        let is_sleep = |pid: &str| {
            let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
            line.starts_with(b"sleep")
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_sleep(&pid) {
            assert!(Instant::now() < deadline, "it did not start");
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        while is_sleep(&pid) {
            assert!(Instant::now() < deadline, "it still runs");
        }
    }
}
