//! Snapshots, copies and restores in place, as a user makes them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod, claim, volume};
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![
        a_snapshot_becomes_a_new_larger_volume,
        a_mounted_volume_is_cloned_for_a_pod_beside_it,
        a_volume_goes_back_to_its_snapshot_once_no_pod_uses_it,
        a_restore_that_is_deleted_at_once_is_done_or_was_never_there,
        a_snapshot_outlives_its_volume,
        a_claim_copies_on_the_node_of_its_source_though_its_class_waits_for_a_pod
    ]
    .into()
}

fn a_snapshot_becomes_a_new_larger_volume(bed: &Bed<'_>) -> Result<()> {
    for (filesystem, size) in [("ext4", "64Mi"), ("xfs", "300Mi"), ("btrfs", "256Mi")] {
        let name = format!("data-{filesystem}");
        start(bed, &name, &json!({"size": size, "tier": "standard-ssd", "filesystem": filesystem}))?;
        take(bed, &format!("{name}-monday"), &name)?;
        // What is written later is not in it.
        bed.exec(&name, &format!("echo tuesday > /{name}/note && sync"))?;
        let copy = format!("copy-{filesystem}");
        let source = json!({"snapshot": format!("{name}-monday")});
        bed.apply(volume(&copy, &json!({"size": "400Mi", "tier": "standard-ssd", "source": source})))?;
        bed.start(Pod::named(&copy).mounts(&copy))?;
        ensure!(bed.exec(&copy, &format!("cat /{copy}/note"))? == "monday", "{filesystem}: another content");
        ensure!(
            bed.exec(&name, &format!("cat /{name}/note"))? == "tuesday",
            "{filesystem}: the source changed"
        );
        let blocks = bed.exec(&copy, &format!("df -m -P /{copy} | tail -n 1 | awk '{{print $2}}'"))?;
        ensure!(blocks.parse::<u64>()? > 250, "{filesystem}: {blocks} MiB, the filesystem did not grow");
    }
    Ok(())
}

fn a_mounted_volume_is_cloned_for_a_pod_beside_it(bed: &Bed<'_>) -> Result<()> {
    // XFS refuses to mount two filesystems of one id; a copy of a copy has it as well.
    start(bed, "data", &json!({"size": "300Mi", "tier": "standard-ssd", "filesystem": "xfs"}))?;
    for (copy, source, content) in [("copy", "data", "monday"), ("copy-of-copy", "copy", "copy")] {
        let spec = json!({"size": "300Mi", "tier": "standard-ssd", "source": {"volume": source}});
        bed.apply(volume(copy, &spec))?;
        bed.start(Pod::named(copy).mounts(copy))?;
        ensure!(bed.exec(copy, &format!("cat /{copy}/note"))? == content, "{copy}: another content");
        ensure!(bed.node_of(copy)? == bed.node_of("data")?, "{copy} lies on another node");
        bed.exec(copy, &format!("echo {copy} > /{copy}/note"))?;
    }
    ensure!(bed.exec("data", "cat /data/note")? == "monday", "the source changed");
    Ok(())
}

fn a_volume_goes_back_to_its_snapshot_once_no_pod_uses_it(bed: &Bed<'_>) -> Result<()> {
    start(bed, "data", &json!({"size": "64Mi", "tier": "standard-ssd"}))?;
    take(bed, "monday", "data")?;
    bed.exec("data", "echo tuesday > /data/note && sync")?;
    let claim = bed.get("pvc/data", ".metadata.uid")?;
    restore(bed, "back", "monday")?;
    let said = bed.wait_reason("volumerestore/back", "InUse")?;
    bed.says(&said, &[&format!("used now by {}/data", bed.namespace)])?;
    ensure!(bed.exec("data", "cat /data/note")? == "tuesday", "it was restored under its pod");

    bed.delete("pod/data")?;
    let said = bed.wait_reason("volumerestore/back", "Restored")?;
    let before = bed.get("volumerestore/back", ".status.before")?;
    bed.says(&said, &[&format!("VolumeSnapshot {before} keeps what it had before")])?;
    ensure!(note(bed, "restored")? == "monday", "another content");
    ensure!(bed.get("pvc/data", ".metadata.uid")? == claim, "another claim");

    // And forth again, to what was kept.
    bed.wait(&format!("volumesnapshot/{before}"), "jsonpath={.status.readyToUse}=true")?;
    restore(bed, "forth", &before)?;
    bed.wait_reason("volumerestore/forth", "Restored")?;
    ensure!(note(bed, "forth-again")? == "tuesday", "another content");
    let refused =
        bed.refused(object("VolumeRestore", "back", &json!({"volume": "data", "snapshot": "another"})))?;
    bed.says(&refused, &["a VolumeRestore can't be changed: make another one"])
}

fn a_restore_that_is_deleted_at_once_is_done_or_was_never_there(bed: &Bed<'_>) -> Result<()> {
    start(bed, "data", &json!({"size": "64Mi", "tier": "standard-ssd"}))?;
    take(bed, "monday", "data")?;
    bed.delete("pod/data")?;
    let on_its_node = format!("nodevolume/{}", bed.get("volume/data", ".status.volumeName")?);
    for round in 0..3_u32 {
        let writer = format!("tuesday-{round}");
        bed.start(Pod::named(&writer).mounts("data").runs("echo tuesday > /data/note && sync"))?;
        bed.delete(&format!("pod/{writer}"))?;
        let name = format!("back-{round}");
        restore(bed, &name, "monday")?;
        bed.delete(&format!("volumerestore/{name}"))?;
        let kept = bed.kubectl(&["get", "volumesnapshots", "--output=name"])?;
        let kept = kept.lines().find(|one| one.contains(&format!("/{name}-before-"))).unwrap_or_default();
        let expected = if kept.is_empty() { "tuesday" } else { "monday" };
        let found = note(bed, &format!("reader-{round}"))?;
        ensure!(found == expected, "{name}: {found}, and what was before is kept as {kept:?}");
        ensure!(!bed.get(&on_its_node, ".metadata.name")?.is_empty(), "there is no {on_its_node}");
        let order = bed.get(&on_its_node, ".spec.restore.uid")?;
        ensure!(order.is_empty(), "an order is left: {order}");
    }
    Ok(())
}

fn a_snapshot_outlives_its_volume(bed: &Bed<'_>) -> Result<()> {
    start(bed, "data", &json!({"size": "64Mi", "tier": "standard-ssd"}))?;
    take(bed, "last", "data")?;
    let content = bed.get("volumesnapshot/last", ".status.boundVolumeSnapshotContentName")?;
    let on_its_node = bed.get(&format!("volumesnapshotcontent/{content}"), ".status.snapshotHandle")?;
    ensure!(!on_its_node.is_empty(), "the snapshot has no handle");
    bed.delete("pod/data")?;
    bed.delete("volume/data")?;
    bed.apply(volume(
        "again",
        &json!({"size": "64Mi", "tier": "standard-ssd", "source": {"snapshot": "last"}}),
    ))?;
    bed.start(Pod::named("again").mounts("again"))?;
    ensure!(bed.exec("again", "cat /again/note")? == "monday", "another content");
    // The copy is whole: what it was made from may go.
    bed.delete("volumesnapshot/last")?;
    bed.until("the snapshot to go from the node", || {
        Ok(bed.get(&format!("nodesnapshot/{on_its_node}"), ".metadata.name")?.is_empty())
    })?;
    ensure!(bed.exec("again", "cat /again/note")? == "monday", "the copy lost its content");
    Ok(())
}

fn a_claim_copies_on_the_node_of_its_source_though_its_class_waits_for_a_pod(bed: &Bed<'_>) -> Result<()> {
    // What no claim of a whole unit has: 96 MiB.
    start(bed, "data", &json!({"size": "100M", "tier": "standard-ssd"}))?;
    take(bed, "monday", "data")?;
    bring_back(bed, "monday", "restored-7")?;
    let snapshot =
        |name: &str| json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name});
    for (copy, source) in [
        ("of-a-snapshot", snapshot("monday")),
        ("of-a-claim", json!({"kind": "PersistentVolumeClaim", "name": "data"})),
        ("of-a-backup", snapshot("restored-7")),
    ] {
        let mut claim = claim(copy, "tierce-standard-ssd", "100M");
        claim["spec"]["dataSource"] = source;
        bed.apply(claim)?;
        bed.start(Pod::named(copy).mounts(copy))?;
        ensure!(bed.exec(copy, &format!("cat /{copy}/note"))? == "monday", "{copy}: another content");
        ensure!(bed.node_of(copy)? == bed.node_of("data")?, "{copy} lies on another node");
    }
    bed.delete("volumesnapshot/restored-7")?;
    bed.delete(&format!("volumesnapshotcontent/{}", content(bed, "restored-7")))
}

/// As a backup program does it: a content by its handle, and a VolumeSnapshot of another name.
fn bring_back(bed: &Bed<'_>, snapshot: &str, name: &str) -> Result<()> {
    let its = bed.get(&format!("volumesnapshot/{snapshot}"), ".status.boundVolumeSnapshotContentName")?;
    let handle = bed.get(&format!("volumesnapshotcontent/{its}"), ".status.snapshotHandle")?;
    let content = content(bed, name);
    bed.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": content},
        "spec": {"driver": "csi.tierce.dev", "deletionPolicy": "Retain", "source": {"snapshotHandle": handle},
            "sourceVolumeMode": "Filesystem", "volumeSnapshotRef": {"namespace": bed.namespace, "name": name}},
    }))?;
    bed.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name},
        "spec": {"source": {"volumeSnapshotContentName": content}},
    }))?;
    bed.wait(&format!("volumesnapshot/{name}"), "jsonpath={.status.readyToUse}=true")
}

fn content(bed: &Bed<'_>, snapshot: &str) -> String {
    format!("{}-{snapshot}", bed.namespace)
}

/// A Volume and a pod of the same name that wrote `monday` to it.
pub(super) fn start(bed: &Bed<'_>, name: &str, spec: &Value) -> Result<()> {
    bed.apply(volume(name, spec))?;
    bed.start(Pod::named(name).mounts(name).runs(&format!("echo monday > /{name}/note && sync")))
}

/// Mounts the volume in a new pod, reads the note, ends the pod.
pub(super) fn note(bed: &Bed<'_>, pod: &str) -> Result<String> {
    bed.start(Pod::named(pod).mounts("data"))?;
    let note = bed.exec(pod, "cat /data/note")?;
    bed.delete(&format!("pod/{pod}"))?;
    Ok(note)
}

/// Takes a snapshot of a Volume and waits until it can be used.
pub(super) fn take(bed: &Bed<'_>, name: &str, volume: &str) -> Result<()> {
    bed.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name},
        "spec": {"source": {"persistentVolumeClaimName": volume}},
    }))?;
    bed.wait(&format!("volumesnapshot/{name}"), "jsonpath={.status.readyToUse}=true")
}

/// Orders that the Volume `data` goes back to a snapshot.
pub(super) fn restore(bed: &Bed<'_>, name: &str, snapshot: &str) -> Result<()> {
    bed.apply(object("VolumeRestore", name, &json!({"volume": "data", "source": {"snapshot": snapshot}})))
}

/// An object of ours.
pub(super) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    })
}
