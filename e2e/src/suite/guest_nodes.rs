//! Nodes on kernels of their own: what a real power cut does to pods and volumes.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::bed::{Bed, Pod, volume};
use super::faults::WRITER;
use super::{Test, tests};

/// From power to running pods: a kernel, containerd, the kubelet, Tierce's own pod, whose registration the kubelet looks
/// for ever more seldom, and the pods. About half a minute; several times that on a busy machine.
const BOOT: Duration = Duration::from_mins(5);

pub(super) fn tests() -> Vec<Test> {
    tests![a_node_that_lost_its_power_comes_back_with_every_synced_line].into()
}

fn a_node_that_lost_its_power_comes_back_with_every_synced_line(bed: &Bed<'_>) -> Result<()> {
    for (name, filesystem) in [("one", "ext4"), ("two", "xfs")] {
        let size = json!({"size": "320Mi", "tier": "standard-ssd", "filesystem": filesystem});
        bed.apply(volume(name, &size))?;
        bed.start(Pod::named(name).mounts(name).runs(&WRITER.replace("/data/", &format!("/{name}/"))))?;
    }
    let node = bed.node_of("one")?;
    // The last line may still be on its way to the disk.
    let synced = |pod: &str| -> Result<u64> {
        Ok(bed.exec(pod, &format!("wc -l < /{pod}/lines"))?.parse::<u64>()?.saturating_sub(1))
    };
    bed.until("some lines", || Ok(synced("one")? > 20 && synced("two")? > 20))?;
    let before = [("one", synced("one")?), ("two", synced("two")?)];
    let boot = bed.on_node(node, "cat /proc/sys/kernel/random/boot_id")?;
    bed.cluster.switch_off(node)?;
    bed.cluster.switch_on(node)?;
    bed.until_within(BOOT, "the node to boot", || {
        Ok(bed.on_node(node, "cat /proc/sys/kernel/random/boot_id")? != boot)
    })?;
    for (pod, synced) in before {
        // Its writer starts anew at 1, behind the lines from before.
        bed.until_within(BOOT, "the pod to run again", || {
            Ok(bed.exec(pod, &format!("wc -l < /{pod}/lines"))?.parse::<u64>()? > synced + 3)
        })?;
        let holes = bed.exec(pod, &format!("head -n {synced} /{pod}/lines | awk '$1 != NR'"))?;
        ensure!(holes.is_empty(), "of {synced} synced lines of {pod} these are wrong: {holes}");
    }
    Ok(())
}
