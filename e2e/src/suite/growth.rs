//! Volumes grow, under their pods where the kernel lets them.

use anyhow::{Result, ensure};
use serde_json::json;

use super::bed::{Bed, Pod, claim, volume};
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![
        xfs_grows_under_its_pod,
        btrfs_grows_under_its_pod,
        ext4_grows_at_the_next_mount_at_the_latest,
        a_raw_device_grows,
        a_growth_that_was_a_slip_is_taken_back
    ]
    .into()
}

fn xfs_grows_under_its_pod(bed: &Bed<'_>) -> Result<()> {
    grows_online(bed, "xfs")
}

fn btrfs_grows_under_its_pod(bed: &Bed<'_>) -> Result<()> {
    grows_online(bed, "btrfs")
}

fn grows_online(bed: &Bed<'_>, filesystem: &str) -> Result<()> {
    start(bed, filesystem)?;
    grow(bed)?;
    bed.until("the filesystem to grow under the pod", || Ok(mebibytes(bed, "user")? > 800))?;
    bed.wait("volume/data", "jsonpath={.status.phase}=Ready")?;
    bed.wait("volume/data", "jsonpath={.status.capacity}=1Gi")?;
    ensure!(bed.exec("user", "cat /data/note")? == "kept", "the data changed");
    Ok(())
}

fn ext4_grows_at_the_next_mount_at_the_latest(bed: &Bed<'_>) -> Result<()> {
    start(bed, "ext4")?;
    grow(bed)?;
    let pv = bed.get("pvc/data", ".spec.volumeName")?;
    bed.wait(&format!("pv/{pv}"), "jsonpath={.spec.capacity.storage}=1Gi")?;
    // A kernel that lets the plugin grow ext4 online does so within seconds; this one may refuse.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while mebibytes(bed, "user")? < 800 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    bed.delete("pod/user")?;
    bed.start(Pod::named("next").mounts("data"))?;
    bed.until("the filesystem to have grown", || Ok(mebibytes(bed, "next")? > 800))?;
    ensure!(bed.exec("next", "cat /data/note")? == "kept", "the data changed");
    bed.wait("volume/data", "jsonpath={.status.capacity}=1Gi")
}

fn a_raw_device_grows(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("disk", &json!({"size": "64Mi", "tier": "hdd", "volumeMode": "Block"})))?;
    bed.start(Pod::named("user").has_device("disk"))?;
    bed.patch("volume/disk", &json!({"spec": {"size": "128Mi"}}))?;
    bed.until("the device to grow", || {
        Ok(bed.exec("user", "blockdev --getsize64 /dev/disk")? == (128_u64 << 20).to_string())
    })
}

fn a_growth_that_was_a_slip_is_taken_back(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": 64 << 20, "tier": "standard-ssd"})))?;
    bed.apply(claim("plain", "tierce-standard-ssd", "64Mi"))?;
    bed.start(Pod::named("user").mounts("data").mounts("plain"))?;
    bed.wait("volume/data", "jsonpath={.status.capacity}=64Mi")?;
    let plain = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    bed.patch("volume/data", &json!({"spec": {"size": "900Ti"}}))?;
    bed.patch("pvc/plain", &plain("900Ti"))?;
    bed.wait_reason("volume/data", "OutOfSpace")?;
    let told = || Ok(bed.kubectl(&["describe", "pvc/plain"])?.contains("has no room to grow"));
    bed.until("the claim to say that there is no room", told)?;

    bed.patch("volume/data", &json!({"spec": {"size": "128Mi"}}))?;
    bed.patch("pvc/plain", &plain("128Mi"))?;
    bed.wait("volume/data", "jsonpath={.status.capacity}=128Mi")?;
    bed.wait_reason("volume/data", "Provisioned")?;
    bed.until("the plain claim's volume to grow", || {
        let pv = bed.get("pvc/plain", ".spec.volumeName")?;
        Ok(bed.get(&format!("pv/{pv}"), ".spec.capacity.storage")? == "128Mi")
    })?;
    let refused = bed.patch("volume/data", &json!({"spec": {"size": "32Mi"}}));
    let refused = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    bed.says(&refused, &["spec.size", "a volume can't shrink below what it has"])?;

    // One that was never made is made with what it says then.
    bed.apply(volume("unused", &json!({"size": "900Ti", "tier": "standard-ssd"})))?;
    bed.wait_reason("volume/unused", "OutOfSpace")?;
    bed.patch("volume/unused", &json!({"spec": {"size": "64Mi"}}))?;
    bed.start(Pod::named("late").mounts("unused"))?;
    bed.wait("volume/unused", "jsonpath={.status.capacity}=64Mi")
}

fn start(bed: &Bed<'_>, filesystem: &str) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "400Mi", "tier": "standard-ssd", "filesystem": filesystem})))?;
    bed.start(Pod::named("user").mounts("data").runs("echo kept > /data/note"))?;
    let before = mebibytes(bed, "user")?;
    ensure!((200..=400).contains(&before), "{filesystem} starts with {before} MiB");
    ensure!(
        bed.exec("user", "grep ' /data ' /proc/mounts | cut -d' ' -f3")? == filesystem,
        "another filesystem"
    );
    Ok(())
}

fn grow(bed: &Bed<'_>) -> Result<()> {
    bed.patch("volume/data", &json!({"spec": {"size": "1Gi"}}))
}

fn mebibytes(bed: &Bed<'_>, pod: &str) -> Result<u64> {
    Ok(bed.exec(pod, "df -m -P /data | tail -n 1 | awk '{print $2}'")?.parse()?)
}
