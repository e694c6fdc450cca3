//! Nodes on kernels of their own: what a real power cut does to pods and volumes.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod, volume};
use super::faults::WRITER;
use super::{Test, tests};

/// From power to running pods: a kernel, containerd, the kubelet, Tierce's own pod, whose registration the kubelet looks
/// for ever more seldom, and the pods. About half a minute; several times that on a busy machine.
const BOOT: Duration = Duration::from_mins(5);

pub(super) fn tests() -> Vec<Test> {
    tests![a_node_that_lost_its_power_comes_back_with_every_synced_line].map(Test::alone).into()
}

/// What the chart is installed with: image files, a thin pool and thick volumes, each group on a disk of its own.
pub(super) fn tiers() -> Value {
    let pool = |name: &str, backend: &str, what: Value| json!({"name": name, "pools": [{"name": name, backend: what}]});
    json!([
        pool("image", "directory", json!({"path": "/var/lib/tierce/pools/image", "createPath": true})),
        pool(
            "thin",
            "lvm",
            json!({"volumeGroup": "thin", "thin": {"pool": "pool"}, "devices": ["/dev/ubda"]})
        ),
        pool("thick", "lvm", json!({"volumeGroup": "thick", "thick": {}, "devices": ["/dev/ubdb"]})),
    ])
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
