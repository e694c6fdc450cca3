//! The main job, told as a story: a volume outlives its pod, grows under the next one, and leaves nothing behind.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::cluster::{Cluster, Lifetime, Node, Size, cleanup};
use crate::images::ours::{self, Profile, workspace};
use crate::leftovers::Machine;
use crate::{cluster, command, images, install, tools};

/// The cluster's name: a demo does not meet a cluster that somebody plays with.
const NAME: &str = "demo";
/// The volume of `examples/volume.yaml`.
const VOLUME: &str = "my-data";

/// Plays the whole story on a cluster of its own. Fails where reality differs from it.
pub fn run(profile: Profile) -> Result<()> {
    let machine = Machine::look()?;
    let story = Story::begin();
    tell("Tierce on a real Kubernetes: etcd, API server, scheduler, kubelet, containerd, Helm");
    let tools = tools::ensure(None)?;
    let mut archives = images::basic(&tools)?;
    let ours = ours::ensure(profile)?;
    archives.extend(ours.archives.clone());
    story.step("programs and images are built");
    let cluster = Cluster::up(NAME, Size::ordinary(1), archives, tools, Lifetime::WithUs)?;
    let result = play(&cluster, &ours, &story);
    if let Err(error) = &result {
        tell(&format!("\nThe story stops here: {error:#}"));
        tell(&cluster.diagnosis());
    }
    cluster::down(NAME)?;
    result?;
    machine.ensure_as_before()?;
    story.step("the cluster has ended; no process, mount, loop device, interface or cgroup of it is left");
    Ok(())
}

fn play(cluster: &Cluster, ours: &ours::Ours, story: &Story) -> Result<()> {
    story.step("a cluster of one node is Ready, in namespaces of its own");
    install::install(cluster, ours, &[])?;
    story.step("$ helm install tierce charts/tierce --namespace tierce-system --create-namespace --wait");
    show(&cluster.kubectl("get storagepools")?);

    let volume = workspace().join("examples/volume.yaml").display().to_string();
    let applied = cluster.kubectl(&format!("apply -f {volume}"))?;
    story.step("$ kubectl apply -f examples/volume.yaml");
    show(&applied);

    start_pod(cluster, "writer", "dd if=/dev/urandom of=/data/bytes bs=1M count=64 2>/dev/null; sync")?;
    story.step("a pod called writer puts 64 MiB of random bytes into the volume");
    let written = checksum(cluster, "writer")?;
    tell(&format!("    {written}"));
    show(&cluster.kubectl(&format!("get volume {VOLUME}"))?);
    cluster.kubectl("delete pod writer")?;
    story.step("$ kubectl delete pod writer");

    start_pod(cluster, "reader", "true")?;
    let read = checksum(cluster, "reader")?;
    story.step("another pod called reader finds the same bytes");
    tell(&format!("    {read}"));
    ensure!(read == written, "the bytes differ: {written} was written, {read} was read");

    let before = size(cluster)?;
    command::run(
        cluster
            .command("kubectl")?
            .args(["patch", "volume", VOLUME, "--type=merge", "--patch"])
            .arg(r#"{"spec":{"size":"2Gi"}}"#),
    )?;
    wait("the filesystem in the pod to grow", || Ok(size(cluster)? > before + before / 2))?;
    story.step("$ kubectl patch volume my-data --type=merge --patch '{\"spec\":{\"size\":\"2Gi\"}}'");
    tell(&format!("    df in the running pod: {} MiB, then {} MiB", before >> 10, size(cluster)? >> 10));
    ensure!(checksum(cluster, "reader")? == written, "the bytes changed while the volume grew");

    cluster.kubectl("delete pod reader")?;
    cluster.kubectl(&format!("delete volume {VOLUME} --timeout=60s"))?;
    story.step("$ kubectl delete pod reader; kubectl delete volume my-data");
    wait("nothing to be left of the volume", || Ok(remains(cluster)?.is_empty()))?;
    story.step("no claim, PersistentVolume, NodeVolume, image, loop device or mount of it is left");
    Ok(())
}

fn start_pod(cluster: &Cluster, name: &str, script: &str) -> Result<()> {
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
    let pod = pod.to_string();
    command::run_with_input(cluster.command("kubectl")?.args(["apply", "-f", "-"]), pod.as_bytes())?;
    cluster.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=60s")).map(drop)
}

fn checksum(cluster: &Cluster, pod: &str) -> Result<String> {
    let text = cluster.kubectl(&format!("exec {pod} -- sha256sum /data/bytes"))?;
    Ok(text.trim().to_owned())
}

/// The size of the filesystem in KiB, as the reader sees it.
fn size(cluster: &Cluster) -> Result<u64> {
    let text = cluster.kubectl("exec reader -- df -k -P /data")?;
    let line = text.lines().nth(1).context("df printed no second line")?;
    line.split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .with_context(|| format!("no size in {line}"))
}

/// Everything that still speaks of a volume.
fn remains(cluster: &Cluster) -> Result<Vec<String>> {
    let objects =
        cluster.kubectl("get volumes,pvc,pv,nodevolumes --all-namespaces --ignore-not-found -o name")?;
    let mut found: Vec<String> = objects.lines().map(str::to_owned).collect();
    let node = cluster.state().node(Node(1));
    found.extend(
        cleanup::loops_below(&node, &cleanup::loops()?).into_iter().map(|one| one.name.display().to_string()),
    );
    let images = command::run(
        Command::new("find").arg(node.join("var-lib/tierce/pools")).args(["-type", "f", "-size", "+1M"]),
    )?;
    found.extend(images.lines().map(str::to_owned));
    let mounts = command::run(cluster.on_node(Node(1), "cat")?.arg("/proc/self/mountinfo"))?;
    found.extend(mounts.lines().filter(|line| line.contains("csi.tierce.dev")).map(str::to_owned));
    Ok(found)
}

/// Waits for something that no single watch tells.
fn wait(what: &str, done: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done()? {
        ensure!(Instant::now() < deadline, "waited 60 s for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Prints with the time since the begin.
struct Story(Instant);

impl Story {
    fn begin() -> Self {
        Self(Instant::now())
    }

    fn step(&self, what: &str) {
        tell(&format!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64()));
    }
}

fn show(output: &str) {
    tell(&format!("    {}", output.trim_end().replace('\n', "\n    ")));
}

fn tell(text: &str) {
    println!("{text}");
    std::io::stdout().flush().ok();
}
