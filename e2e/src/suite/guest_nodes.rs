//! Nodes on kernels of their own: what a power cut, and a killed plugin, do to pods and volumes in groups.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::bed::{Bed, Pod, claim, volume};
use super::faults::WRITER;
use super::{Test, tests};

/// From power to running pods: a kernel, containerd, the kubelet, Tierce's own pod, whose registration the kubelet looks
/// for ever more seldom, and the pods. About half a minute; several times that on a busy machine.
pub(super) const BOOT: Duration = Duration::from_mins(5);

pub(super) fn tests() -> Vec<Test> {
    tests![
        a_node_that_lost_its_power_comes_back_with_every_synced_line,
        claims_that_go_while_the_plugin_is_killed_leave_nothing_and_the_others_come,
    ]
    .map(Test::alone)
    .into()
}

fn a_node_that_lost_its_power_comes_back_with_every_synced_line(bed: &Bed<'_>) -> Result<()> {
    let (size, secret) = ("320Mi", json!({"enabled": true}));
    let volumes = [
        ("image", json!({"size": size, "tier": "image", "filesystem": "xfs"})),
        ("thin", json!({"size": size, "tier": "thin", "filesystem": "ext4", "encryption": secret})),
        ("thick", json!({"size": size, "tier": "thick", "filesystem": "btrfs"})),
        ("raw", json!({"size": "64Mi", "tier": "thin", "volumeMode": "Block", "encryption": secret})),
    ];
    let mounted = ["image", "thin", "thick"];
    let mut user = Pod::named("user").has_device("raw");
    for (name, spec) in &volumes {
        bed.apply(volume(name, spec))?;
    }
    // A pod that runs again finds what is on its raw device.
    let mut script =
        "[ -e /image/lines ] || { dd if=/dev/urandom of=/dev/raw bs=1M count=16; sync; }\n".to_owned();
    for name in mounted {
        user = user.mounts(name);
        script.push_str(&WRITER.replace("/data/", &format!("/{name}/")));
        script.push('\n');
    }
    bed.start(user.runs(&script))?;
    let node = bed.node_of("user")?;
    let raw = || bed.exec("user", "dd if=/dev/raw bs=1M count=16 2>/dev/null | sha256sum");
    let bytes = raw()?;
    // The last line may still be on its way to the disk.
    let synced = |name: &str| -> Result<u64> {
        Ok(bed.exec("user", &format!("wc -l < /{name}/lines"))?.parse::<u64>()?.saturating_sub(1))
    };
    for name in mounted {
        bed.until("some lines", || Ok(synced(name)? > 20))?;
    }
    let before = mounted.map(|name| synced(name).map(|lines| (name, lines)));
    let boot = bed.on_node(node, "cat /proc/sys/kernel/random/boot_id")?;
    bed.cluster.switch_off(node)?;
    bed.cluster.switch_on(node)?;
    bed.until_within(BOOT, "the node to boot", || {
        Ok(bed.on_node(node, "cat /proc/sys/kernel/random/boot_id")? != boot)
    })?;
    for written in before {
        let (name, synced) = written?;
        // Its writer starts anew at 1, behind the lines from before.
        bed.until_within(BOOT, "the pod to run again", || {
            Ok(bed.exec("user", &format!("wc -l < /{name}/lines"))?.parse::<u64>()? > synced + 3)
        })?;
        let holes = bed.exec("user", &format!("head -n {synced} /{name}/lines | awk '$1 != NR'"))?;
        ensure!(holes.is_empty(), "of {synced} synced lines of {name} these are wrong: {holes}");
    }
    ensure!(raw()? == bytes, "the raw device has other bytes");
    Ok(())
}

fn claims_that_go_while_the_plugin_is_killed_leave_nothing_and_the_others_come(bed: &Bed<'_>) -> Result<()> {
    // The first one goes before anything is made, the second in the middle of it, the third while no plugin runs.
    let (kept, gone) = (["kept-1", "kept-2", "kept-3"], ["gone-1", "gone-2", "gone-3"]);
    let items: Vec<_> = gone
        .iter()
        .zip(&kept)
        .flat_map(|pair| [pair.0, pair.1])
        .map(|name| claim(name, "tierce-thin-encrypted-immediate", "64Mi"))
        .collect();
    bed.apply(json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
    let delete = |name: &str| bed.kubectl(&["delete", "pvc", name, "--wait=false"]);
    delete(gone[0])?;
    bed.until("the first to be made", || Ok(!devices(bed)?.is_empty()))?;
    delete(gone[1])?;
    kill_plugins(bed)?;
    delete(gone[2])?;
    for name in kept {
        bed.wait(&format!("pvc/{name}"), "jsonpath={.status.phase}=Bound")?;
        bed.apply(Pod::named(name).mounts(name).runs(&format!("echo kept > /{name}/note && sync")))?;
    }
    // Again, while the first is opened and gets its filesystem.
    bed.until("the first to be opened", || Ok(devices(bed)?.iter().any(|name| name.contains("crypt"))))?;
    kill_plugins(bed)?;
    for name in kept {
        bed.wait_ready(name)?;
    }
    let volumes = kept.map(|name| bed.get(&format!("pvc/{name}"), ".spec.volumeName"));
    let volumes = volumes.into_iter().collect::<Result<Vec<_>>>()?;
    // A folder of the kubelet's does not say whose it is.
    let mount = |found: &String| found.contains("/globalmount ");
    let theirs = |found: &String| {
        mount(found)
            || volumes.iter().any(|id| found.contains(id))
            || kept.iter().any(|name| found.ends_with(name))
    };
    let others = || Ok::<_, anyhow::Error>(bed.remains()?.into_iter().filter(|found| !theirs(found)));
    bed.until("nothing of the deleted claims to be left", || Ok(others()?.next().is_none()))
        .with_context(|| format!("still there: {:?}", others().map(Iterator::collect::<Vec<_>>)))?;
    let mounts = bed.remains()?.iter().filter(|found| mount(found)).count();
    ensure!(mounts == kept.len(), "{mounts} volumes are mounted for {} pods", kept.len());
    for name in kept {
        bed.delete(&format!("pod/{name}"))?;
        bed.start(Pod::named("next").mounts(name))?;
        ensure!(bed.exec("next", &format!("cat /{name}/note"))? == "kept", "{name} has another content");
        bed.delete("pod/next")?;
    }
    Ok(())
}

/// The volumes' device-mapper devices on all nodes, by their names.
fn devices(bed: &Bed<'_>) -> Result<Vec<String>> {
    let mut devices = Vec::new();
    for node in bed.cluster.nodes() {
        let names = bed.on_node(node, "dmsetup ls | cut -f1 | grep -e '-v--' -e tierce-crypt- || true")?;
        devices.extend(names.lines().map(str::to_owned));
    }
    Ok(devices)
}

/// Kills the plugin on every node; the kubelet starts it again.
pub(super) fn kill_plugins(bed: &Bed<'_>) -> Result<()> {
    for node in bed.cluster.nodes() {
        bed.until("the plugin to run", || bed.on_node(node, "pkill -KILL -x tierce-csi").map(|_| true))?;
    }
    Ok(())
}
