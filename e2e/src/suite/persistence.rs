//! Data outlives pods, plugins and boots.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::bed::{Bed, Pod, claim, volume};
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    let mut all = Vec::from(tests![
        data_outlives_its_pod,
        two_pods_on_one_node_share_a_volume,
        a_raw_device_keeps_its_bytes,
        a_plain_claim_needs_no_volume_object,
        an_immediate_volume_is_there_before_any_pod,
        the_second_pod_of_a_once_pod_volume_waits,
        deleting_a_volume_in_use_waits_and_names_the_pod,
        a_retained_volume_keeps_its_data,
    ]);
    all.extend(tests![bug_29_a_rebooted_node_mounts_its_volumes_again].map(Test::alone));
    all
}

const SUM: &str = "sha256sum /data/bytes | cut -d' ' -f1";

fn data_outlives_its_pod(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "1Gi", "tier": "standard-ssd"})))?;
    bed.start(Pod::named("writer").mounts("data").runs("dd if=/dev/urandom of=/data/bytes bs=1M count=32"))?;
    let written = bed.exec("writer", SUM)?;
    let node = bed.node_of("writer")?;
    ensure!(bed.get("volume/data", ".status.phase")? == "Ready", "the Volume is not Ready");
    bed.wait("volume/data", &format!("jsonpath={{.status.node}}={}", node.name()))?;
    bed.delete("pod/writer")?;
    bed.start(Pod::named("reader").mounts("data"))?;
    ensure!(bed.node_of("reader")? == node, "the reader was not scheduled to the data");
    ensure!(bed.exec("reader", SUM)? == written, "the bytes differ");
    ensure!(bed.exec("reader", "stat -c %a /data")? == "755", "the root of the volume has another mode");
    Ok(())
}

fn two_pods_on_one_node_share_a_volume(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "500Mi", "tier": "hdd", "filesystem": "xfs"})))?;
    bed.start(Pod::named("one").mounts("data"))?;
    bed.start(Pod::named("two").mounts("data"))?;
    bed.exec("one", "echo from one > /data/note")?;
    ensure!(bed.exec("two", "cat /data/note")? == "from one", "the second pod sees something else");
    bed.delete("pod/one")?;
    bed.exec("two", "echo still here >> /data/note; sync")?;
    ensure!(bed.exec("two", "wc -l < /data/note")? == "2", "the mount of the second pod was disturbed");
    Ok(())
}

fn a_raw_device_keeps_its_bytes(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("disk", &json!({"size": "64Mi", "tier": "standard-ssd", "volumeMode": "Block"})))?;
    let write = "dd if=/dev/urandom of=/dev/disk bs=1M count=8 && sync";
    bed.start(Pod::named("writer").has_device("disk").runs(write))?;
    let sum = "dd if=/dev/disk bs=1M count=8 2>/dev/null | sha256sum";
    let written = bed.exec("writer", sum)?;
    let size = bed.exec("writer", "blockdev --getsize64 /dev/disk")?;
    ensure!(size == (64 << 20).to_string(), "the device has {size} bytes");
    bed.delete("pod/writer")?;
    bed.start(Pod::named("reader").has_device("disk"))?;
    ensure!(bed.exec("reader", sum)? == written, "the bytes differ");
    Ok(())
}

fn a_plain_claim_needs_no_volume_object(bed: &Bed<'_>) -> Result<()> {
    bed.apply(claim("data", "tierce-hdd", "100Mi"))?;
    bed.start(Pod::named("user").mounts("data").runs("echo kept > /data/note"))?;
    bed.delete("pod/user")?;
    bed.start(Pod::named("again").mounts("data"))?;
    ensure!(bed.exec("again", "cat /data/note")? == "kept", "the note is gone");
    Ok(())
}

fn an_immediate_volume_is_there_before_any_pod(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "hdd", "binding": "Immediate"})))?;
    bed.wait("pvc/data", "jsonpath={.status.phase}=Bound")?;
    bed.wait("volume/data", "condition=Ready")?;
    bed.start(Pod::named("user").mounts("data").runs("echo x > /data/note"))?;
    ensure!(bed.node_of("user")?.name() == bed.get("volume/data", ".status.node")?, "not where the data is");
    Ok(())
}

fn the_second_pod_of_a_once_pod_volume_waits(bed: &Bed<'_>) -> Result<()> {
    let spec = json!({"size": "100Mi", "tier": "hdd", "accessMode": "ReadWriteOncePod"});
    bed.apply(volume("data", &spec))?;
    bed.start(Pod::named("first").mounts("data"))?;
    bed.apply(Pod::named("second").mounts("data"))?;
    let scheduled = r#"jsonpath={.status.conditions[?(@.type=="PodScheduled")].reason}=Unschedulable"#;
    bed.wait("pod/second", scheduled)?;
    bed.delete("pod/first")?;
    bed.wait_ready("second")
}

fn deleting_a_volume_in_use_waits_and_names_the_pod(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "hdd"})))?;
    bed.start(Pod::named("user").mounts("data").runs("echo kept > /data/note"))?;
    bed.kubectl(&["delete", "volume/data", "--wait=false"])?;
    let message = bed.wait_reason("volume/data", "InUse")?;
    bed.says(&message, &["user"])?;
    ensure!(bed.exec("user", "cat /data/note")? == "kept", "the data is gone under the pod");
    bed.delete("pod/user")?;
    bed.wait("volume/data", "delete")
}

fn a_retained_volume_keeps_its_data(bed: &Bed<'_>) -> Result<()> {
    let spec = json!({"size": "100Mi", "tier": "hdd", "deletionPolicy": "Retain"});
    bed.apply(volume("data", &spec))?;
    bed.start(Pod::named("user").mounts("data").runs("echo kept > /data/note"))?;
    let (name, node) = (bed.get("volume/data", ".status.volumeName")?, bed.node_of("user")?);
    ensure!(!name.is_empty(), "the Volume does not say its PersistentVolume");
    bed.delete("pod/user")?;
    bed.delete("volume/data")?;
    let pv = format!("pv/{name}");
    bed.wait(&pv, "jsonpath={.status.phase}=Released")?;
    let from = bed.get(&pv, r".metadata.annotations.storage\.tierce\.dev/retained-from")?;
    bed.says(&from, &[&node.name(), "data"])?;
    let images = format!("find /var/lib/tierce/pools -name '*.img' | grep -c {name}");
    ensure!(bed.on_node(node, &images)? == "1", "the image is gone");
    // As the guide says: with the policy set back, the PersistentVolume takes the data with it.
    bed.patch(&pv, &json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}))?;
    bed.wait(&pv, "delete")
}

fn bug_29_a_rebooted_node_mounts_its_volumes_again(bed: &Bed<'_>) -> Result<()> {
    let node = bed.cluster.nodes().last().context("a cluster has nodes")?;
    bed.apply(volume("data", &json!({"size": "400Mi", "tier": "standard-ssd", "filesystem": "xfs"})))?;
    bed.apply(volume("disk", &json!({"size": "64Mi", "tier": "standard-ssd", "volumeMode": "Block"})))?;
    let first = "[ -e /data/bytes ] || { dd if=/dev/urandom of=/data/bytes bs=1M count=16; sync; \
                 dd if=/data/bytes of=/dev/disk; sync; }";
    bed.start(Pod::named("user").mounts("data").has_device("disk").on(node).runs(first))?;
    let written = bed.exec("user", SUM)?;
    bed.cluster.switch_off(node)?;
    bed.wait(&format!("node/{}", node.name()), "condition=Ready=Unknown")?;
    bed.cluster.switch_on(node)?;
    bed.wait(&format!("node/{}", node.name()), "condition=Ready")?;
    bed.until("the pod to run again with the same bytes", || {
        let device =
            bed.exec("user", "dd if=/dev/disk bs=1M count=16 2>/dev/null | sha256sum | cut -d' ' -f1")?;
        Ok(bed.exec("user", SUM)? == written && device == written)
    })
}
