//! Volumes in LVM volume groups, thin and thick, plain and encrypted, as pods meet them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod, volume};
use super::snapshots::{note, restore, start, take};
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![
        an_encrypted_volume_shows_nothing_on_its_disk,
        volumes_of_groups_grow_under_their_pod,
        raw_devices_of_groups_keep_their_bytes_and_are_copied,
        snapshots_in_groups_become_larger_volumes,
        a_volume_of_a_group_is_cloned_for_a_pod_beside_it,
        an_encrypted_volume_goes_back_to_its_snapshot,
        a_full_thin_pool_is_never_promised,
    ]
    .into()
}

/// The kinds of volumes that a pod of these tests has, each with the name of its Volume.
fn kinds(size: &str) -> [(&'static str, Value); 4] {
    let secret = json!({"enabled": true});
    [
        ("ext", json!({"size": size, "tier": "thin", "filesystem": "ext4", "encryption": secret})),
        ("xfs", json!({"size": size, "tier": "thin", "filesystem": "xfs"})),
        ("btr", json!({"size": size, "tier": "thick", "filesystem": "btrfs"})),
        ("raw", json!({"size": size, "tier": "thin", "volumeMode": "Block", "encryption": secret})),
    ]
}

fn an_encrypted_volume_shows_nothing_on_its_disk(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("plain", &json!({"size": "64Mi", "tier": "thin"})))?;
    bed.apply(volume("secret", &json!({"size": "64Mi", "tier": "thin", "encryption": {"enabled": true}})))?;
    let words = "for i in $(seq 2000); do echo what-nobody-may-read; done";
    let script = format!("for v in plain secret; do {words} > /$v/note; sync /$v/note; done");
    let user = || Pod::named("user").mounts("plain").mounts("secret");
    bed.start(user().runs(&script))?;
    let node = bed.node_of("user")?;
    let shown = |name: &str| -> Result<u64> {
        let device = device(bed, name)?;
        // What was never written reads as one line of zeros, which grep would take into memory.
        let look = format!("sync; tr '\\0' '\\n' <{device} | grep -c -a what-nobody-may-read || true");
        let count = bed.on_node(node, &look)?;
        count.parse().with_context(|| format!("{device}: {count}"))
    };
    ensure!(shown("plain")? > 1000, "what an unencrypted volume holds was not found on its disk either");
    ensure!(shown("secret")? == 0, "what the encrypted volume holds can be read on its disk");
    bed.delete("pod/user")?;
    bed.start(user())?;
    for name in ["plain", "secret"] {
        let lines = bed.exec("user", &format!("grep -c what-nobody-may-read /{name}/note"))?;
        ensure!(lines == "2000", "{name}: the next pod reads {lines} of 2000 lines");
    }
    Ok(())
}

fn volumes_of_groups_grow_under_their_pod(bed: &Bed<'_>) -> Result<()> {
    let mut user = Pod::named("user").has_device("raw");
    for (name, spec) in kinds("300Mi") {
        bed.apply(volume(name, &spec))?;
        if name != "raw" {
            user = user.mounts(name);
        }
    }
    bed.start(user.runs("for v in ext xfs btr; do echo kept > /$v/note; done; echo kept > /dev/raw"))?;
    for (name, _) in kinds("") {
        bed.patch(&format!("volume/{name}"), &json!({"spec": {"size": "600Mi"}}))?;
    }
    for (name, _) in kinds("") {
        let mebibytes = match name {
            "raw" => "echo $(($(blockdev --getsize64 /dev/raw) >> 20))".to_owned(),
            _ => format!("df -m -P /{name} | tail -n 1 | awk '{{print $2}}'"),
        };
        bed.until(&format!("{name} to grow under its pod"), || {
            Ok(bed.exec("user", &mebibytes)?.parse::<u64>()? > 500)
        })?;
        bed.wait(&format!("volume/{name}"), "jsonpath={.status.phase}=Ready")?;
    }
    let kept = bed.exec("user", "cat /ext/note /xfs/note /btr/note; head -c 4 /dev/raw")?;
    ensure!(kept == "kept\nkept\nkept\nkept", "the data changed: {kept}");
    Ok(())
}

fn raw_devices_of_groups_keep_their_bytes_and_are_copied(bed: &Bed<'_>) -> Result<()> {
    let secret =
        json!({"size": "64Mi", "tier": "thin", "volumeMode": "Block", "encryption": {"enabled": true}});
    let thick = json!({"size": "64Mi", "tier": "thick", "volumeMode": "Block"});
    bed.apply(volume("secret", &secret))?;
    bed.apply(volume("thick", &thick))?;
    let write = "for d in secret thick; do dd if=/dev/urandom of=/dev/$d bs=1M count=16; done; sync";
    bed.start(Pod::named("writer").has_device("secret").has_device("thick").runs(write))?;
    let sum = |pod: &str, device: &str| {
        bed.exec(pod, &format!("dd if=/dev/{device} bs=1M count=16 2>/dev/null | sha256sum"))
    };
    let written = [sum("writer", "secret")?, sum("writer", "thick")?];
    for name in ["secret", "thick"] {
        let size = bed.exec("writer", &format!("blockdev --getsize64 /dev/{name}"))?.parse::<u64>()?;
        ensure!((64 << 20..=68 << 20).contains(&size), "{name} has {size} bytes");
    }
    bed.delete("pod/writer")?;
    for name in ["secret", "thick"] {
        take(bed, name, name)?;
        let tier = if name == "thick" { "thick" } else { "thin" };
        let mut spec =
            json!({"size": "128Mi", "tier": tier, "volumeMode": "Block", "source": {"snapshot": name}});
        if name == "secret" {
            spec["encryption"] = json!({"enabled": true});
        }
        bed.apply(volume(&format!("{name}-copy"), &spec))?;
    }
    let reader = ["secret", "thick", "secret-copy", "thick-copy"]
        .into_iter()
        .fold(Pod::named("reader"), Pod::has_device);
    bed.start(reader)?;
    for (name, written) in ["secret", "thick"].into_iter().zip(written) {
        ensure!(sum("reader", name)? == written, "{name}: the bytes differ");
        ensure!(sum("reader", &format!("{name}-copy"))? == written, "the copy of {name} has other bytes");
    }
    Ok(())
}

fn snapshots_in_groups_become_larger_volumes(bed: &Bed<'_>) -> Result<()> {
    for (name, spec) in kinds("300Mi") {
        if name == "raw" {
            continue;
        }
        start(bed, name, &spec)?;
        take(bed, name, name)?;
        // What is written later is not in it.
        bed.exec(name, &format!("echo tuesday > /{name}/note && sync"))?;
        let copy = format!("{name}-copy");
        let mut larger = json!({"size": "600Mi", "tier": spec["tier"], "source": {"snapshot": name}});
        if spec["encryption"] != Value::Null {
            larger["encryption"] = spec["encryption"].clone();
        }
        bed.apply(volume(&copy, &larger))?;
        bed.start(Pod::named(&copy).mounts(&copy))?;
        ensure!(bed.exec(&copy, &format!("cat /{copy}/note"))? == "monday", "{name}: another content");
        ensure!(bed.exec(name, &format!("cat /{name}/note"))? == "tuesday", "{name}: the source changed");
        let size = bed.exec(&copy, &format!("df -m -P /{copy} | tail -n 1 | awk '{{print $2}}'"))?;
        ensure!(size.parse::<u64>()? > 450, "{name}: {size} MiB, the copy's filesystem did not grow");
        for pod in [name, &copy] {
            bed.kubectl(&["delete", "pod", pod, "--wait=false"])?;
        }
    }
    Ok(())
}

fn a_volume_of_a_group_is_cloned_for_a_pod_beside_it(bed: &Bed<'_>) -> Result<()> {
    for (name, tier, filesystem) in [("thin", "thin", "xfs"), ("thick", "thick", "ext4")] {
        let mut spec = json!({"size": "300Mi", "tier": tier, "filesystem": filesystem});
        if tier == "thin" {
            spec["encryption"] = json!({"enabled": true});
        }
        start(bed, name, &spec)?;
        if tier == "thick" {
            // A thick volume is copied whole, which a running pod would wait for too long.
            bed.delete(&format!("pod/{name}"))?;
        }
        spec.as_object_mut().context("an object")?.remove("filesystem");
        spec["source"] = json!({"volume": name});
        let clone = format!("{name}-clone");
        bed.apply(volume(&clone, &spec))?;
        bed.start(Pod::named(&clone).mounts(&clone).mounts(name))?;
        let read = bed.exec(&clone, &format!("cat /{name}/note /{clone}/note"))?;
        ensure!(read == "monday\nmonday", "{name}: {read}");
        bed.exec(&clone, &format!("echo other > /{clone}/note && sync"))?;
        let read = bed.exec(&clone, &format!("cat /{name}/note"))?;
        ensure!(read == "monday", "{name}: a write to the clone shows in its source: {read}");
    }
    Ok(())
}

fn an_encrypted_volume_goes_back_to_its_snapshot(bed: &Bed<'_>) -> Result<()> {
    start(bed, "data", &json!({"size": "64Mi", "tier": "thin", "encryption": {"enabled": true}}))?;
    take(bed, "monday", "data")?;
    bed.exec("data", "echo tuesday > /data/note && sync")?;
    let claim = bed.get("pvc/data", ".metadata.uid")?;
    restore(bed, "back", "monday")?;
    bed.wait_reason("volumerestore/back", "InUse")?;
    ensure!(bed.exec("data", "cat /data/note")? == "tuesday", "it was restored under its pod");
    bed.delete("pod/data")?;
    bed.wait_reason("volumerestore/back", "Restored")?;
    ensure!(note(bed, "restored")? == "monday", "another content");
    ensure!(bed.get("pvc/data", ".metadata.uid")? == claim, "another claim");
    // And forth again, to what was kept.
    let before = bed.get("volumerestore/back", ".status.before")?;
    bed.wait(&format!("volumesnapshot/{before}"), "jsonpath={.status.readyToUse}=true")?;
    restore(bed, "forth", &before)?;
    bed.wait_reason("volumerestore/forth", "Restored")?;
    ensure!(note(bed, "forth-again")? == "tuesday", "another content");
    Ok(())
}

fn a_full_thin_pool_is_never_promised(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("huge", &json!({"size": "1Ti", "tier": "thin", "binding": "Immediate"})))?;
    let said = bed.wait_reason("volume/huge", "OutOfSpace")?;
    bed.says(&said, &["thin"])?;
    bed.delete("volume/huge")
}

/// The device of a Volume's logical volume, as its node calls it.
pub(super) fn device(bed: &Bed<'_>, name: &str) -> Result<String> {
    let volume = format!("volume/{name}");
    let (id, tier) = (bed.get(&volume, ".status.volumeName")?, bed.get(&volume, ".spec.tier")?);
    ensure!(!id.is_empty(), "{name} does not say its PersistentVolume");
    // LVM doubles the hyphens of each part; the groups are called as their tiers.
    Ok(format!("/dev/mapper/{tier}-v--{}", id.replace('-', "--")))
}
