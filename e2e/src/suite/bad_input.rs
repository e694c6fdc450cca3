//! Wrong input that the API server takes is answered in words that say what to do.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod, claim, volume};
use super::snapshots::{note, restore, start};
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![
        bug_22_mount_options_come_from_a_list,
        an_unknown_tier_names_the_tiers_that_exist,
        a_tier_without_a_pool_on_any_node_says_so,
        a_claim_that_is_not_ours_is_left_alone,
        a_snapshot_of_another_driver_is_no_source,
        a_pool_without_its_path_says_path_and_error_and_the_others_go_on,
        a_record_edited_by_hand_is_left_alone_and_the_others_go_on,
    ]
    .into()
}

fn bug_22_mount_options_come_from_a_list(bed: &Bed<'_>) -> Result<()> {
    for option in ["suid", "dev", "context=x", "noatime,suid", "--bind"] {
        let spec = json!({"size": "1Gi", "tier": "hdd", "mountOptions": [option]});
        let message = bed.refused(volume("data", &spec))?;
        bed.says(&message, &["mountOptions allows only noatime"])?;
    }
    let spec = json!({"size": "300Mi", "tier": "hdd", "filesystem": "xfs", "mountOptions": ["noatime"]});
    bed.apply(volume("data", &spec))?;
    bed.start(Pod::named("user").mounts("data"))?;
    let options = bed.exec("user", "grep ' /data ' /proc/mounts | cut -d' ' -f4")?;
    ensure!(options.split(',').any(|option| option == "noatime"), "mounted with {options}");
    Ok(())
}

fn an_unknown_tier_names_the_tiers_that_exist(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "1Gi", "tier": "no-such-tier"})))?;
    let message = bed.wait_reason("volume/data", "NoSuchTier")?;
    bed.says(&message, &["high-performance-ssd", "standard-ssd", "hdd"])
}

fn a_tier_without_a_pool_on_any_node_says_so(bed: &Bed<'_>) -> Result<()> {
    let pool =
        pool("nowhere", "nowhere", "/var/lib/tierce/nowhere", &json!({"storage.tierce.dev/none": "true"}));
    bed.apply(pool)?;
    bed.apply(volume("data", &json!({"size": "1Gi", "tier": "nowhere"})))?;
    let message = bed.wait_reason("volume/data", "NoPool");
    bed.delete("storagepool/nowhere")?;
    bed.says(&message?, &["nowhere"])
}

fn a_claim_that_is_not_ours_is_left_alone(bed: &Bed<'_>) -> Result<()> {
    bed.apply(claim("data", "no-such-class", "5Mi"))?;
    let uid = bed.get("pvc/data", ".metadata.uid")?;
    bed.apply(volume("data", &json!({"size": "1Gi", "tier": "hdd"})))?;
    let message = bed.wait_reason("volume/data", "NameConflict")?;
    bed.says(&message, &["data"])?;
    bed.delete("volume/data")?;
    ensure!(bed.get("pvc/data", ".metadata.uid")? == uid, "the claim is another one");
    ensure!(bed.get("pvc/data", ".spec.resources.requests.storage")? == "5Mi", "the claim was changed");
    ensure!(bed.get("pvc/data", ".metadata.ownerReferences")?.is_empty(), "the claim was adopted");
    Ok(())
}

fn a_snapshot_of_another_driver_is_no_source(bed: &Bed<'_>) -> Result<()> {
    // As an administrator makes known a snapshot that a driver has; that driver need not be here.
    let content = format!("{}-theirs", bed.namespace);
    let reference = json!({"kind": "VolumeSnapshot", "name": "theirs", "namespace": bed.namespace});
    bed.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": content},
        "spec": {
            "driver": "other.example.org", "deletionPolicy": "Retain", "source": {"snapshotHandle": "snap-1"},
            "volumeSnapshotRef": reference,
        },
    }))?;
    let result = asks_for_theirs(bed, &content);
    bed.kubectl(&["delete", "volumesnapshot/theirs", "pvc/claim", "volume/copy", "--ignore-not-found"])?;
    // Its driver would take this off.
    let object = format!("volumesnapshotcontent/{content}");
    bed.kubectl(&["delete", &object, "--wait=false"])?;
    if !bed.get(&object, ".metadata.name")?.is_empty() {
        bed.patch(&object, &json!({"metadata": {"finalizers": null}}))?;
    }
    result
}

fn asks_for_theirs(bed: &Bed<'_>, content: &str) -> Result<()> {
    start(bed, "data", &json!({"size": "64Mi", "tier": "standard-ssd"}))?;
    bed.delete("pod/data")?;
    bed.apply(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "theirs"},
        "spec": {"source": {"volumeSnapshotContentName": content}},
    }))?;
    bed.wait("volumesnapshot/theirs", "jsonpath={.status.boundVolumeSnapshotContentName}")?;
    let source = json!({"snapshot": "theirs"});
    bed.apply(volume("copy", &json!({"size": "100Mi", "tier": "standard-ssd", "source": source})))?;
    let message = bed.wait_reason("volume/copy", "NoSource")?;
    bed.says(
        &message,
        &["VolumeSnapshot \"theirs\" is not there, not taken yet, or not of a volume of Tierce"],
    )?;
    ensure!(bed.get("pvc/copy", ".metadata.name")?.is_empty(), "a claim was made for it");

    restore(bed, "back", "theirs")?;
    let message = bed.wait_reason("volumerestore/back", "NoSuchSnapshot")?;
    bed.says(&message, &["there is no VolumeSnapshot \"theirs\" of a volume of Tierce in this namespace"])?;
    let on_its_node = format!("nodevolume/{}", bed.get("volume/data", ".status.volumeName")?);
    ensure!(bed.get(&on_its_node, ".spec.restore.uid")?.is_empty(), "the node was told to restore it");
    ensure!(note(bed, "reader")? == "monday", "the volume has another content");
    let snapshots = bed.kubectl(&["get", "volumesnapshots", "--output=name"])?;
    ensure!(!snapshots.contains("/back-before"), "a snapshot was made, as before a restore");

    let mut claim = claim("claim", "tierce-standard-ssd-immediate", "100Mi");
    claim["spec"]["dataSource"] =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "theirs"});
    bed.apply(claim)?;
    bed.until("the claim to say why", || {
        let events = bed.kubectl(&["get", "events", "--field-selector", "involvedObject.name=claim"])?;
        Ok(events.contains("is not handled by CSI driver of StorageClass tierce-standard-ssd-immediate"))
    })
}

fn a_pool_without_its_path_says_path_and_error_and_the_others_go_on(bed: &Bed<'_>) -> Result<()> {
    bed.apply(pool("gone", "gone", "/var/lib/tierce/not-mounted", &json!({})))?;
    let words =
        |field: &str| bed.get("nodestorage/node-1", &format!(r#".status.pools[?(@.name=="gone")].{field}"#));
    let result =
        bed.until("the node to report the pool", || Ok(words("state")? == "Unavailable")).and_then(|()| {
            ensure!(words("reason")? == "PathMissing", "the reason is {}", words("reason")?);
            bed.says(&words("message")?, &["/var/lib/tierce/not-mounted"])?;
            bed.apply(volume("data", &json!({"size": "100Mi", "tier": "hdd"})))?;
            bed.start(Pod::named("user").mounts("data"))
        });
    bed.delete("storagepool/gone")?;
    result
}

fn a_record_edited_by_hand_is_left_alone_and_the_others_go_on(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "100Mi", "tier": "hdd"})))?;
    bed.start(Pod::named("user").mounts("data").runs("echo kept > /data/note"))?;
    let (node, id) = (bed.node_of("user")?, bed.get("volume/data", ".status.volumeName")?);
    bed.delete("pod/user")?;
    let record = bed.on_node(node, &format!("find /var/lib/tierce/pools -path '*{id}*' -name '*.json'"))?;
    ensure!(!record.is_empty(), "there is no record of {id}");
    bed.on_node(node, &format!("cp {record} /var/lib/record && head -c 40 /var/lib/record > {record}"))?;
    bed.apply(Pod::named("again").mounts("data").on(node))?;
    let result = bed
        .until("the pod to wait with an event", || {
            let events = bed.kubectl(&["get", "events", "--field-selector", "involvedObject.name=again"])?;
            Ok(events.contains("record"))
        })
        .and_then(|()| {
            bed.apply(volume("other", &json!({"size": "100Mi", "tier": "hdd"})))?;
            bed.start(Pod::named("neighbour").mounts("other").on(node))
        });
    // Mended by hand, it goes on by itself.
    bed.on_node(node, &format!("cat /var/lib/record > {record}"))?;
    result?;
    bed.wait_ready("again")?;
    ensure!(bed.exec("again", "cat /data/note")? == "kept", "the data is gone");
    Ok(())
}

/// A pool over a directory.
pub(super) fn pool(name: &str, tier: &str, path: &str, nodes: &Value) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": name},
        "spec": {"tier": tier, "nodeSelector": nodes, "directory": {"path": path}},
    })
}
