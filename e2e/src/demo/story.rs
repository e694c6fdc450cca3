//! What the stories share: their cluster, how they are told, and the pod in them.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cluster::{Cluster, Lifetime, Size, State};
use crate::images::ours::{self, Ours, Profile};
use crate::leftovers::Machine;
use crate::{command, images, tools};

/// The cluster's name: a demo does not meet a cluster that somebody plays with.
const NAME: &str = "demo";
/// The Volume of the examples.
pub(super) const VOLUME: &str = "my-data";

/// Prints with the time since the begin.
pub(super) struct Story(Instant);

impl Story {
    /// Tells that something is done.
    pub(super) fn step(&self, what: &str) {
        tell(&format!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64()));
    }
}

/// Plays a story on a cluster of this size. Fails where reality differs from it, or where it leaves anything behind.
pub(super) fn on_a_cluster(
    profile: Profile,
    size: Size,
    play: impl FnOnce(&Cluster, &Ours, &Story) -> Result<()>,
) -> Result<()> {
    let machine = Machine::look(&[State::of(NAME)?.path().to_owned()])?;
    let story = Story(Instant::now());
    tell("Tierce on a real Kubernetes: etcd, API server, scheduler, kubelet, containerd, Helm");
    let tools = tools::ensure(None)?;
    let mut archives = images::basic(&tools)?;
    let ours = ours::ensure(profile)?;
    archives.extend(ours.archives.clone());
    story.step("programs and images are built");
    let cluster = Cluster::up(NAME, size, archives, tools, Lifetime::WithUs)?;
    let result = play(&cluster, &ours, &story);
    if let Err(error) = &result {
        tell(&format!("\nThe story stops here: {error:#}"));
        tell(&cluster.diagnosis());
    }
    cluster.end()?;
    result?;
    machine.ensure_as_before()?;
    story.step("the cluster has ended; no process, mount, loop device, interface or cgroup of it is left");
    Ok(())
}

/// Starts a pod with the volume at `/data` and waits until its script has ended.
pub(super) fn start_pod(cluster: &Cluster, name: &str, script: &str) -> Result<()> {
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": images::BUSYBOX,
                "command": ["sh", "-c", format!("{script}; touch /tmp/done; exec sleep 100000")],
                "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/done"]}, "periodSeconds": 1},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": VOLUME}}],
        },
    });
    apply(cluster, &pod)?;
    cluster.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=90s")).map(drop)
}

/// Applies an object.
pub(super) fn apply(cluster: &Cluster, object: &serde_json::Value) -> Result<()> {
    let text = object.to_string();
    command::run_with_input(cluster.command("kubectl")?.args(["apply", "-f", "-"]), text.as_bytes()).map(drop)
}

/// What `/data/bytes` holds, as a pod sees it.
pub(super) fn checksum(cluster: &Cluster, pod: &str) -> Result<String> {
    let text = cluster.kubectl(&format!("exec {pod} -- sha256sum /data/bytes"))?;
    Ok(text.trim().to_owned())
}

/// Waits for something that no single watch tells.
pub(super) fn wait(what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done()? {
        ensure!(Instant::now() < deadline, "waited 60 s for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Prints a program's output.
pub(super) fn show(output: &str) {
    tell(&format!("    {}", output.trim_end().replace('\n', "\n    ")));
}

/// Prints a line.
pub(super) fn tell(text: &str) {
    println!("{text}");
    std::io::stdout().flush().ok();
}
