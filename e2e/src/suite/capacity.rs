//! Full pools: the pod goes elsewhere, or the Volume says how much would fit.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bad_input::pool;
use super::bed::{Bed, Pod, volume};
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![a_full_pool_sends_the_pod_to_the_other_node_or_says_how_much_would_fit].map(Test::alone).into()
}

const PATH: &str = "/var/lib/tierce/small";

fn a_full_pool_sends_the_pod_to_the_other_node_or_says_how_much_would_fit(bed: &Bed<'_>) -> Result<()> {
    for node in bed.cluster.nodes() {
        bed.on_node(node, &format!("mkdir -p {PATH} && mount -t tmpfs -o size=1G small {PATH}"))?;
    }
    let result = fill(bed);
    for name in ["one", "two", "three"] {
        bed.kubectl(&["delete", &format!("pod/{name}"), &format!("volume/{name}"), "--ignore-not-found"])?;
    }
    bed.until_nothing_is_left()?;
    bed.kubectl(&["delete", "storagepool/small", "storageclass/tierce-small", "--ignore-not-found"])?;
    for node in bed.cluster.nodes() {
        bed.on_node(node, &format!("umount -l {PATH} && rmdir {PATH}"))?;
    }
    result
}

fn fill(bed: &Bed<'_>) -> Result<()> {
    bed.apply(pool("small", "small", PATH, &json!({})))?;
    bed.apply(storage_class())?;
    let spec = json!({"size": "600Mi", "tier": "small"});
    for name in ["one", "two"] {
        bed.apply(volume(name, &spec))?;
        bed.start(Pod::named(name).mounts(name))?;
    }
    ensure!(bed.node_of("one")? != bed.node_of("two")?, "both pods run on one node, whose pool has no room");
    bed.apply(volume("three", &spec))?;
    bed.apply(Pod::named("three").mounts("three"))?;
    let message = bed.wait_reason("volume/three", "OutOfSpace")?;
    bed.says(&message, &["small", "Mi"])?;
    bed.delete("pod/one")?;
    bed.delete("volume/one")?;
    // It heals by itself.
    bed.wait_ready("three")
}

fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "tierce-small"},
        "provisioner": "csi.tierce.dev", "parameters": {"tier": "small"}, "allowVolumeExpansion": true,
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}
