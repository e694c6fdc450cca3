//! Parts of Tierce, the kubelet or a whole node are killed at the worst moment.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::bed::{Bed, Pod, claim, volume};
use super::{Test, tests};
use crate::command;
use crate::install::NAMESPACE;

pub(super) fn tests() -> Vec<Test> {
    tests![
        a_killed_plugin_disturbs_no_writer,
        bug_28_a_foreign_loop_device_survives_the_plugin,
        bug_29_a_restarted_kubelet_still_unmounts,
        the_next_leader_finishes_twenty_creates,
        bug_26_a_claim_deleted_while_being_made_leaves_nothing,
        bug_34_a_lost_node_is_reported_and_let_go,
    ]
    .map(Test::alone)
    .into()
}

/// Appends a line every tenth of a second, each on the disk before the next, until an error ends the pod.
pub(super) const WRITER: &str = "( i=0; while true; do i=$((i+1)); echo $i >> /data/lines && sync /data/lines \
                                 || { touch /tmp/failed; exit 1; }; sleep 0.1; done ) &";

/// Fails unless the writer goes on and never met an error.
pub(super) fn ensure_writing(bed: &Bed<'_>, pod: &str) -> Result<()> {
    ensure!(bed.exec(pod, "[ -e /tmp/failed ] || echo fine")? == "fine", "the writer met an I/O error");
    let before: u64 = bed.exec(pod, "wc -l < /data/lines")?.parse()?;
    bed.until("the writer to go on", || {
        Ok(bed.exec(pod, "wc -l < /data/lines")?.parse::<u64>()? > before + 3)
    })?;
    let lines = bed.exec(pod, "awk '$1 != NR {print \"hole at\", NR}' /data/lines")?;
    ensure!(lines.is_empty(), "lines are missing: {lines}");
    Ok(())
}

fn a_killed_plugin_disturbs_no_writer(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "300Mi", "tier": "standard-ssd", "filesystem": "xfs"})))?;
    bed.start(Pod::named("user").mounts("data").runs(WRITER))?;
    let node = bed.node_of("user")?;
    for _ in 0..2 {
        bed.on_node(node, "kill -9 $(pgrep -x tierce-csi)")?;
        ensure_writing(bed, "user")?;
        bed.until("the plugin to come back", || {
            Ok(!bed.on_node(node, "pgrep -x tierce-csi || true")?.is_empty())
        })?;
    }
    bed.apply(volume("more", &json!({"size": "100Mi", "tier": "standard-ssd"})))?;
    bed.start(Pod::named("next").mounts("more").on(node))?;
    ensure_writing(bed, "user")
}

fn bug_28_a_foreign_loop_device_survives_the_plugin(bed: &Bed<'_>) -> Result<()> {
    let node = bed.cluster.nodes().next().context("a cluster has nodes")?;
    let attach = "truncate -s 32M /var/lib/foreign.img && losetup --find --show /var/lib/foreign.img";
    let device = bed.on_node(node, attach)?;
    bed.on_node(node, "kill -9 $(pgrep -x tierce-csi)")?;
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "hdd"})))?;
    let started = bed.start(Pod::named("user").mounts("data").on(node));
    let attached = bed.on_node(node, &format!("losetup --noheadings --output BACK-FILE {device}"));
    bed.on_node(node, &format!("losetup --detach {device}; rm /var/lib/foreign.img"))?;
    started?;
    bed.says(&attached?, &["foreign.img"])
}

fn bug_29_a_restarted_kubelet_still_unmounts(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "hdd"})))?;
    bed.start(Pod::named("user").mounts("data").runs(WRITER))?;
    let node = bed.node_of("user")?;
    bed.on_node(node, "kill -9 $(pgrep -x kubelet)")?;
    // `exec` goes through the kubelet.
    bed.until("the kubelet to come back", || bed.exec("user", "true").map(|_| true))?;
    ensure_writing(bed, "user")?;
    bed.delete("pod/user")?;
    bed.delete("volume/data")
}

fn the_next_leader_finishes_twenty_creates(bed: &Bed<'_>) -> Result<()> {
    let names: Vec<String> = (0..20).map(|number| format!("v{number}")).collect();
    let items = names
        .iter()
        .map(|name| volume(name, &json!({"size": "32Mi", "tier": "hdd", "binding": "Immediate"})))
        .collect::<Vec<_>>();
    bed.apply(json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
    let holder = "-o=jsonpath={.items[?(@.metadata.name==\"tierce-controller\")].spec.holderIdentity}";
    let mut kubectl = bed.cluster.command("kubectl")?;
    let leader = command::run(kubectl.args(["--namespace", NAMESPACE, "get", "leases", holder]))?;
    ensure!(!leader.is_empty(), "no controller holds the lease");
    bed.cluster.kubectl(&format!("--namespace {NAMESPACE} delete pod {leader} --grace-period=0 --force"))?;
    for name in &names {
        bed.wait(&format!("pvc/{name}"), "jsonpath={.status.phase}=Bound")?;
        bed.wait(&format!("volume/{name}"), "jsonpath={.status.phase}=Ready")?;
    }
    let made = bed.kubectl(&["get", "nodevolumes", "-o=name"])?.lines().count();
    ensure!(made == names.len(), "{made} NodeVolumes for {} Volumes", names.len());
    bed.cluster
        .kubectl(&format!("--namespace {NAMESPACE} rollout status deployment/tierce-controller"))
        .map(drop)
}

fn bug_26_a_claim_deleted_while_being_made_leaves_nothing(bed: &Bed<'_>) -> Result<()> {
    for round in 0_u64..50 {
        let name = format!("claim-{round}");
        bed.apply(claim(&name, "tierce-hdd-immediate", "32Mi"))?;
        // The making of a volume takes some hundred milliseconds: hit it at every stage.
        std::thread::sleep(Duration::from_millis(round * 7));
        bed.kubectl(&["delete", "pvc", &name, "--wait=false"])?;
    }
    bed.until_nothing_is_left()
}

fn bug_34_a_lost_node_is_reported_and_let_go(bed: &Bed<'_>) -> Result<()> {
    let node = bed.cluster.nodes().last().context("a cluster has nodes")?;
    let name = node.name();
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "hdd"})))?;
    bed.start(Pod::named("user").mounts("data").on(node))?;
    let id = bed.get("volume/data", ".status.volumeName")?;
    bed.cluster.switch_off(node)?;
    let lost = lose(bed, &name);
    bed.cluster.switch_on(node)?;
    bed.until("the node to come back", || {
        Ok(!bed.get(&format!("node/{name}"), ".metadata.name")?.is_empty())
    })?;
    // The disk came back with a volume that nobody speaks of any more: it is reported, and nothing is done to it.
    let reported = lost.and_then(|()| {
        bed.until("the volume to be reported as unclaimed", || {
            Ok(bed.get(&format!("nodestorage/{name}"), ".status.unclaimed")?.contains(&id))
        })
    });
    bed.on_node(node, &format!("rm -r /var/lib/tierce/pools/*/volumes/{id}"))?;
    reported?;
    bed.wait(&format!("node/{name}"), "condition=Ready")?;
    bed.until("the kubelet to accept the plugin again", || {
        Ok(bed.get(&format!("csinode/{name}"), ".spec.drivers[*].name")?.contains("csi.tierce.dev"))
    })
}

fn lose(bed: &Bed<'_>, node: &str) -> Result<()> {
    bed.delete(&format!("node/{node}"))?;
    let message = bed.wait_reason("volume/data", "NodeLost")?;
    bed.says(&message, &[node])?;
    bed.kubectl(&["delete", "pod/user", "--grace-period=0", "--force"])?;
    bed.delete("volume/data")?;
    bed.until("the NodeVolume to be let go", || {
        Ok(bed.kubectl(&["get", "nodevolumes,pv", "--ignore-not-found", "-o=name"])?.is_empty())
    })
}
