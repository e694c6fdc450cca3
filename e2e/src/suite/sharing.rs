//! Volumes that pods of several nodes and namespaces use at once, on nodes with kernels of their own: they serve and mount by NFS.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod};
use super::guest_nodes::{BOOT, kill_plugins};
use super::{Test, tests};
use crate::cluster::Node;

/// Appends a line every fifth of a second, each with its holder before the next.
const WRITER: &str = "( i=0; while true; do i=$((i+1)); echo $i >> /team/lines && sync /team/lines \
                      || { touch /tmp/failed; exit 1; }; sleep 0.2; done ) &";

/// A node is served as before for three minutes after its last pod.
const WRITTEN_OUT: Duration = Duration::from_mins(4);

pub(super) fn tests() -> Vec<Test> {
    tests![
        a_shared_volume_is_used_from_other_nodes_and_namespaces,
        a_shared_volume_keeps_what_was_synced_over_a_power_cut,
    ]
    .map(Test::alone)
    .into()
}

fn a_shared_volume_is_used_from_other_nodes_and_namespaces(bed: &Bed<'_>) -> Result<()> {
    let (holder, other) = nodes(bed)?;
    let (writers, readers) = (beside(bed, "writers")?, beside(bed, "readers")?);
    let member =
        |bed: &Bed<'_>, access: &str| json!({"kind": "Namespace", "name": bed.namespace, "access": access});
    bed.apply(shared("team", &json!([member(&writers, "Write"), member(&readers, "Read")])))?;
    bed.start(
        Pod::named("home")
            .on(holder)
            .mounts("team")
            .runs("umask 022; echo monday > /team/note; mkdir /team/folder"),
    )?;
    for beside in [&writers, &readers] {
        beside.until("the other namespaces to have a claim", || {
            Ok(beside.get("pvc/team", ".status.phase")? == "Bound")
        })?;
    }

    writers.start(Pod::named("writer").on(other).mounts("team").runs(WRITER))?;
    ensure!(writers.exec("writer", "cat /team/note")? == "monday", "another content");
    let mounts = writers.exec("writer", "grep ' /team ' /proc/mounts")?;
    ensure!(mounts.contains(" nfs4 "), "the other node has it by: {mounts}");
    // Root there is nobody, in the group that owns all of it.
    writers.exec("writer", "umask 022; echo tuesday > /team/note && echo new > /team/folder/file && sync")?;
    ensure!(
        bed.exec("home", "cat /team/note /team/folder/file")? == "tuesday\nnew",
        "the holder reads something else"
    );
    bed.exec("home", "echo more >> /team/folder/file")?;

    readers.start(Pod::named("reader").on(other).mounts("team"))?;
    readers.start(Pod::named("beside").on(holder).mounts("team"))?;
    for pod in ["reader", "beside"] {
        ensure!(readers.exec(pod, "cat /team/note")? == "tuesday", "{pod} reads something else");
        let refused =
            readers.exec(pod, "echo mine > /team/note").err().with_context(|| format!("{pod} wrote"))?;
        bed.says(&format!("{refused:#}"), &["Read-only file system"])?;
    }

    kill_plugins(bed)?;
    ensure_writing(&writers)?;

    // Who is a member no more keeps what it has until its pod ends, and not a moment longer.
    bed.patch("sharedvolume/team", &json!({"spec": {"members": [member(&readers, "Read")]}}))?;
    ensure_writing(&writers)?;
    writers.delete("pod/writer")?;
    writers.until("the claim to go", || Ok(writers.get("pvc/team", ".metadata.name")?.is_empty()))?;
    let id = bed.get("sharedvolume/team", ".status.volumeName")?;
    bed.until_within(WRITTEN_OUT, "the other node to be let read alone", || {
        let served = bed.get(&format!("nodevolume/{id}"), ".status.export")?;
        Ok(served.contains(&format!("\"readOnlyNodes\":[\"{}\"]", other.name()))
            && !served.contains("\"nodes\""))
    })?;
    ensure!(readers.exec("reader", "cat /team/note")? == "tuesday", "the other namespace lost it");

    bed.kubectl(&["delete", "sharedvolume", "team", "--wait=false"])?;
    let said = bed.wait_reason("sharedvolume/team", "InUse")?;
    bed.says(&said, &[&readers.namespace, "reader", "home"])?;
    readers.kubectl(&["delete", "pod", "reader", "beside"])?;
    bed.delete("pod/home")?;
    bed.until("the volume to go", || Ok(bed.get("sharedvolume/team", ".metadata.name")?.is_empty()))?;
    for beside in [writers, readers] {
        bed.cluster.kubectl(&format!("delete namespace {} --wait=false", beside.namespace))?;
    }
    Ok(())
}

fn a_shared_volume_keeps_what_was_synced_over_a_power_cut(bed: &Bed<'_>) -> Result<()> {
    let (holder, other) = nodes(bed)?;
    bed.apply(shared("team", &json!([])))?;
    bed.start(Pod::named("home").on(holder).mounts("team"))?;
    bed.start(Pod::named("writer").on(other).mounts("team").runs(WRITER))?;
    let lines = || Ok::<u64, anyhow::Error>(bed.exec("writer", "wc -l < /team/lines")?.parse()?);
    bed.until("some lines", || Ok(lines()? > 20))?;
    // The last line may still be on its way.
    let synced = lines()?.saturating_sub(1);
    let boot = bed.on_node(holder, "cat /proc/sys/kernel/random/boot_id")?;
    bed.cluster.switch_off(holder)?;
    // Its pods wait, and lose nothing.
    std::thread::sleep(Duration::from_secs(5));
    bed.cluster.switch_on(holder)?;
    bed.until_within(BOOT, "the node to boot", || {
        Ok(bed.on_node(holder, "cat /proc/sys/kernel/random/boot_id")? != boot)
    })?;
    bed.until_within(BOOT, "the other node's pod to write on", || Ok(lines()? > synced + 5))?;
    ensure_writing(bed)?;
    ensure!(
        bed.get("pod/writer", ".status.containerStatuses[0].restartCount")? == "0",
        "its container was restarted"
    );
    bed.until_within(BOOT, "the holder's own pod to read the same", || {
        Ok(bed.exec("home", "wc -l < /team/lines")?.parse::<u64>()? > synced)
    })?;
    let holes = bed.exec("home", &format!("head -n {synced} /team/lines | awk '$1 != NR'"))?;
    ensure!(holes.is_empty(), "of {synced} synced lines these are wrong: {holes}");
    bed.kubectl(&["delete", "pod", "writer", "home"])?;
    bed.delete("sharedvolume/team")
}

/// A SharedVolume with these members.
fn shared(name: &str, members: &Value) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "SharedVolume", "metadata": {"name": name},
        "spec": {"size": "320Mi", "tier": "thin", "filesystem": "xfs", "members": members},
    })
}

/// Two nodes of the cluster.
fn nodes(bed: &Bed<'_>) -> Result<(Node, Node)> {
    let mut nodes = bed.cluster.nodes();
    nodes.next().zip(nodes.next()).context("the cluster has two nodes")
}

/// Another namespace for the same test. What a test before left of it is removed.
fn beside<'a>(bed: &Bed<'a>, name: &str) -> Result<Bed<'a>> {
    let namespace = format!("shared-{name}");
    let timeout = bed.patience().as_secs();
    bed.cluster.kubectl(&format!("delete namespace {namespace} --ignore-not-found --timeout={timeout}s"))?;
    bed.cluster.kubectl(&format!("create namespace {namespace}"))?;
    let beside = Bed { namespace, ..*bed };
    beside.wait("serviceaccount/default", "create")?;
    Ok(beside)
}

/// Fails unless the pod `writer` writes on, never met an error, and every line is there.
fn ensure_writing(bed: &Bed<'_>) -> Result<()> {
    ensure!(bed.exec("writer", "[ -e /tmp/failed ] || echo fine")? == "fine", "the writer met an error");
    let before: u64 = bed.exec("writer", "wc -l < /team/lines")?.parse()?;
    bed.until("the writer to go on", || {
        Ok(bed.exec("writer", "wc -l < /team/lines")?.parse::<u64>()? > before + 3)
    })?;
    let holes = bed.exec("writer", "awk '$1 != NR {print \"hole at\", NR}' /team/lines")?;
    ensure!(holes.is_empty(), "lines are missing: {holes}");
    Ok(())
}
