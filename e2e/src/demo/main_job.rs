//! The main job, told as a story: a volume outlives its pod, grows under the next one, and leaves nothing behind.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::story::{Story, VOLUME, checksum, show, start_pod, tell, wait};
use crate::cargo::workspace;
use crate::cluster::{Cluster, Node, Size, cleanup};
use crate::images::ours::{self, Profile};
use crate::{command, install};

/// Plays the whole story on a cluster of its own. Fails where reality differs from it.
pub fn run(profile: Profile) -> Result<()> {
    super::story::on_a_cluster(profile, Size::ordinary(1), play)
}

fn play(cluster: &Cluster, ours: &ours::Ours, story: &Story) -> Result<()> {
    story.step("a cluster of one node is Ready, in namespaces of its own");
    install::install(cluster, ours, &[])?;
    story.step("$ helm install tierce charts/tierce --namespace tierce-system --create-namespace --wait");
    cluster.kubectl("wait storagepools --all --for=condition=Ready --timeout=60s")?;
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
