//! Volumes grow, under their pods where the kernel lets them.

use anyhow::{Result, ensure};
use serde_json::json;

use super::bed::{Bed, Pod, volume};
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![
        xfs_grows_under_its_pod,
        btrfs_grows_under_its_pod,
        ext4_grows_at_the_next_mount_at_the_latest,
        a_raw_device_grows
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
    bed.wait("pv", "jsonpath={.items[0].spec.capacity.storage}=1Gi").ok();
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
