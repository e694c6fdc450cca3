//! The chart's own life: its test, an upgrade under running pods, uninstalling and installing again.

use anyhow::{Result, ensure};
use serde_json::json;

use super::bed::{Bed, Pod, volume};
use super::faults::{WRITER, ensure_writing};
use super::{Test, tests};
use crate::command;
use crate::install::NAMESPACE;

pub(super) fn tests() -> Vec<Test> {
    tests![helm_test_passes, an_upgrade_disturbs_no_running_pod, an_uninstall_keeps_volumes_and_definitions]
        .map(Test::alone)
        .into()
}

fn helm_test_passes(bed: &Bed<'_>) -> Result<()> {
    helm(bed, &["test", "tierce", "--timeout", "90s"])?;
    bed.until_nothing_is_left()
}

fn an_upgrade_disturbs_no_running_pod(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "standard-ssd"})))?;
    bed.start(Pod::named("user").mounts("data").runs(WRITER))?;
    let old = plugins(bed)?;
    let label = "node.podLabels.generation=next";
    super::install_with(bed.cluster, bed.images, &[label])?;
    bed.until("every node plugin to be replaced", || {
        let new = plugins(bed)?;
        Ok(new.len() == old.len() && new.iter().all(|pod| !old.contains(pod)))
    })?;
    ensure_writing(bed, "user")?;
    bed.apply(volume("more", &json!({"size": "100Mi", "tier": "standard-ssd"})))?;
    bed.start(Pod::named("next").mounts("more"))
}

fn an_uninstall_keeps_volumes_and_definitions(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "standard-ssd"})))?;
    bed.start(Pod::named("user").mounts("data").runs("echo kept > /data/note"))?;
    helm(bed, &["uninstall", "tierce", "--wait"])?;
    let kept = bed.get("volume/data", ".status.phase");
    let running = bed.exec("user", "cat /data/note");
    super::install_with(bed.cluster, bed.images, &[])?;
    ensure!(kept? == "Ready", "the Volume went with the chart");
    ensure!(running? == "kept", "the pod lost its data");
    bed.delete("pod/user")?;
    bed.start(Pod::named("next").mounts("data"))?;
    ensure!(bed.exec("next", "cat /data/note")? == "kept", "the data is gone");
    Ok(())
}

/// The UIDs of the node plugin's pods that are Ready.
fn plugins(bed: &Bed<'_>) -> Result<Vec<String>> {
    let mut kubectl = bed.cluster.command("kubectl")?;
    let path =
        "-o=jsonpath={range .items[?(@.status.containerStatuses[0].ready==true)]}{.metadata.uid} {end}";
    kubectl.args(["--namespace", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=node", path]);
    Ok(command::run(&mut kubectl)?.split_whitespace().map(str::to_owned).collect())
}

fn helm(bed: &Bed<'_>, arguments: &[&str]) -> Result<()> {
    command::run(bed.cluster.command("helm")?.args(["--namespace", NAMESPACE]).args(arguments)).map(drop)
}
