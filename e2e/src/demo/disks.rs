//! The story of a real disk: a volume group on a node with a kernel of its own, an encrypted volume in it, a snapshot, an
//! accident, and the way back.

use anyhow::{Result, ensure};
use serde_json::json;

use super::story::{Story, VOLUME, checksum, show, start_pod, tell, wait};
use crate::cargo::workspace;
use crate::cluster::{Cluster, Node, Size};
use crate::images::ours::{Ours, Profile};
use crate::{command, install};

const NODE: Node = Node(1);
/// The tier of `examples/volume-encrypted.yaml`, its volume group, and the disk that this is made from.
const TIER: &str = "standard-ssd";
const GROUP: &str = "disks";
const DISK: &str = "/dev/ubda";
/// Stands in the file many times.
const WORDS: &str = "what-nobody-may-read";

/// Plays the whole story on a cluster of its own. Fails where reality differs from it.
pub fn run(profile: Profile) -> Result<()> {
    super::story::on_a_cluster(profile, Size { ordinary: 0, guests: 1 }, play)
}

fn play(cluster: &Cluster, ours: &Ours, story: &Story) -> Result<()> {
    story.step("a cluster is Ready; its node is a user-mode Linux with a kernel and empty disks of its own");
    let lvm = json!({"volumeGroup": GROUP, "thin": {"pool": "thin"}, "devices": [DISK]});
    let tiers = json!([{"name": TIER, "pools": [{"name": TIER, "lvm": lvm}]}]);
    install::install_tiers(cluster, ours, &[], Some(&tiers))?;
    story.step("$ helm install tierce charts/tierce --set-json tiers=…");
    tell(&format!("    tiers: {tiers}"));
    show(&cluster.kubectl("get storagepools")?);
    let groups = "lvs --options vg_name,lv_name,lv_size,lv_layout";
    show(&on_node(cluster, groups)?);

    apply(cluster, story, "examples/volume-encrypted.yaml")?;
    let file = format!("for i in $(seq 100000); do echo {WORDS}; done > /data/bytes; sync");
    start_pod(cluster, "writer", &file)?;
    story.step("a pod called writer puts a file of many equal lines into the volume");
    let written = checksum(cluster, "writer")?;
    tell(&format!("    {written}"));
    show(&cluster.kubectl(&format!("get volume {VOLUME}"))?);
    show(&on_node(cluster, &format!("{groups} --select 'lv_name=~^v-' --noheadings"))?);
    let id = cluster.kubectl(&format!("get volume {VOLUME} -o jsonpath={{.status.volumeName}}"))?;
    let device = format!("/dev/mapper/{GROUP}-v--{}", id.replace('-', "--"));
    // What was never written reads as one line of zeros as long as the disk, which grep would take into memory.
    let seen = on_node(cluster, &format!("sync; tr '\\0' '\\n' <{device} | grep -c -a {WORDS} || true"))?;
    ensure!(seen.trim() == "0", "the words stand on the disk {seen} times");
    story.step("on the disk below, of that file's words: none");

    let snapshot = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": "my-data-monday"}, "spec": {"source": {"persistentVolumeClaimName": VOLUME}},
    });
    super::story::apply(cluster, &snapshot)?;
    cluster.kubectl(
        "wait volumesnapshot/my-data-monday --for=jsonpath={.status.readyToUse}=true --timeout=60s",
    )?;
    story.step("a VolumeSnapshot my-data-monday of it, while the pod runs");
    show(&cluster.kubectl("get volumesnapshots")?);

    cluster.kubectl("exec writer -- rm /data/bytes")?;
    story.step("$ kubectl exec writer -- rm /data/bytes                # an accident");
    cluster.kubectl("delete pod writer")?;
    apply(cluster, story, "examples/restore.yaml")?;
    let ready = "wait volumerestore/back-to-monday --for=condition=Ready --timeout=60s";
    show(&cluster.kubectl(ready)?);
    show(&cluster.kubectl("get volumerestores")?);
    start_pod(cluster, "reader", "true")?;
    let read = checksum(cluster, "reader")?;
    story.step("another pod called reader finds the same bytes in the same volume");
    tell(&format!("    {read}"));
    ensure!(read == written, "the bytes differ: {written} was written, {read} was read");

    cluster.kubectl("delete pod reader")?;
    cluster.kubectl("delete volumerestore back-to-monday")?;
    cluster.kubectl("delete volumesnapshots --all --timeout=60s")?;
    cluster.kubectl(&format!("delete volume {VOLUME} --timeout=60s"))?;
    story.step("$ kubectl delete pod,volumerestore,volumesnapshots,volume …");
    wait("nothing to be left of the volume", || Ok(remains(cluster)?.is_empty()))?;
    story.step("no NodeVolume, NodeSnapshot, logical volume, mapper or key of it is left");
    Ok(())
}

/// Applies one of the examples, as somebody who reads along would.
fn apply(cluster: &Cluster, story: &Story, example: &str) -> Result<()> {
    let file = workspace().join(example);
    let applied = cluster.kubectl(&format!("apply -f {}", file.display()))?;
    story.step(&format!("$ kubectl apply -f {example}"));
    show(&applied);
    Ok(())
}

fn on_node(cluster: &Cluster, script: &str) -> Result<String> {
    command::run(cluster.on_node(NODE, "sh")?.args(["-c", script]))
}

/// Everything that still speaks of a volume or snapshot.
fn remains(cluster: &Cluster) -> Result<String> {
    let kinds = "get volumes,pvc,pv,nodevolumes,nodesnapshots --all-namespaces --ignore-not-found -o name";
    let keys = cluster.kubectl(&format!("get secrets --namespace {} -o name", install::NAMESPACE))?;
    let keys: String = keys.lines().filter(|name| name.contains("tierce-key-")).collect();
    let disk = "lvs --noheadings --options lv_name --select 'lv_name=~^[vdn]-'; \
                dmsetup ls --target crypt | grep tierce || true";
    Ok(format!("{}{keys}{}", cluster.kubectl(kinds)?, on_node(cluster, disk)?.trim()))
}
