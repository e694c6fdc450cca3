//! Volume groups that can't be used say what to do, and nobody touches them.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, volume};
use super::{Test, tests};
use crate::cluster::Node;

pub(super) fn tests() -> Vec<Test> {
    tests![a_bad_volume_group_says_what_to_do_and_is_left_as_it_is].into()
}

/// Label of the pools, so that they are found and removed.
const LABEL: &str = "bad-groups";
/// Where the files below the disks of this test are.
const FOLDER: &str = "/var/lib/bad-groups";
/// The disks: far from those that image files get, so that one which is away is given to nobody else.
const PLAIN: &str = "/dev/loop90";
const FIRST: &str = "/dev/loop91";
const SECOND: &str = "/dev/loop92";
const FOREIGN: &str = "/dev/loop93";

/// The logical volume is never active, so nothing has to be undone but the disks. Half of a group is then gone.
const MAKE: &str = "set -e
    mkdir $FOLDER; cd $FOLDER
    export DM_DISABLE_UDEV=1 LVM_SUPPRESS_FD_WARNINGS=1
    config='backup { backup=0 archive=0 } devices { use_devicesfile=0 }'
    for disk in plain:90 first:91 second:92 foreign:93; do
        truncate -s 64M ${disk%:*}
        losetup /dev/loop${disk#*:} ${disk%:*}
    done
    vgcreate -qq --config \"$config\" plain /dev/loop90
    lvcreate -qq --config \"$config\" -an -Zn -Wn -L 8m -n data plain
    vgcreate -qq --config \"$config\" half /dev/loop91 /dev/loop92
    mkfs.ext4 -q -L theirs /dev/loop93
    sync
    losetup --detach /dev/loop92";

fn a_bad_volume_group_says_what_to_do_and_is_left_as_it_is(bed: &Bed<'_>) -> Result<()> {
    let node = bed.cluster.nodes().next().context("a cluster has nodes")?;
    let make = format!("FOLDER={FOLDER}\n{MAKE}");
    let result = bed.on_node(node, &make).and_then(|_| offer_them(bed, node));
    bed.kubectl(&["delete", "volumes", "--all"])?;
    bed.kubectl(&["delete", "storagepools", "--selector", LABEL, "--ignore-not-found"])?;
    let detach = format!("losetup --noheadings --output NAME,BACK-FILE | grep {FOLDER}/ | cut -d' ' -f1");
    bed.on_node(node, &format!("for disk in $({detach}); do losetup --detach $disk; done; rm -r {FOLDER}"))?;
    result?;
    let left = bed.on_node(node, &format!("losetup | grep {FOLDER} || true; vgs --noheadings -o vg_name"))?;
    let mut left: Vec<_> = left.split_whitespace().collect();
    left.sort_unstable();
    ensure!(left == ["thick", "thin"], "of the disks and groups of this test there are left: {left:?}");
    bed.until("the node to forget the pools", || Ok(!said(bed, node, "*")?.contains("bad-")))
}

fn offer_them(bed: &Bed<'_>, node: Node) -> Result<()> {
    let bytes = || bed.on_node(node, &format!("sync; cd {FOLDER}; sha256sum plain first second foreign"));
    let before = bytes()?;
    let wipe = format!("if that may be lost: wipefs --all {FOREIGN}");
    let rows = [
        (
            "bad-name",
            json!({"volumeGroup": "nonesuch", "thick": {}}),
            "NoSuchVolumeGroup",
            vec![
                "there is no volume group nonesuch on a disk or partition: make it (vgcreate nonesuch DEVICE…)",
            ],
        ),
        (
            "bad-thin-pool",
            json!({"volumeGroup": "plain", "thin": {"pool": "data"}, "devices": [PLAIN]}),
            "NotAThinPool",
            vec!["plain/data is no thin pool but a linear volume: name another one"],
        ),
        (
            "bad-half",
            json!({"volumeGroup": "half", "thick": {}, "devices": [FIRST, SECOND]}),
            "MissingDevices",
            vec!["volume group half misses 1 of its 2 devices", "bring the disks back"],
        ),
        (
            "bad-disk",
            json!({"volumeGroup": "fresh", "thick": {}, "devices": [FOREIGN]}),
            "ForeignSignature",
            vec![FOREIGN, "is not blank, so it was not touched", "it carries ext4", "theirs", &wipe],
        ),
    ];
    for (name, lvm, ..) in &rows {
        bed.apply(pool(name, node, lvm))?;
    }
    for (name, _, reason, words) in &rows {
        let shown = format!("{}: {reason}: ", node.name());
        bed.until(&format!("{name} to say {reason}"), || Ok(message(bed, name)?.contains(&shown)))
            .with_context(|| format!("{name} says: {}", message(bed, name).unwrap_or_default()))?;
        bed.says(&message(bed, name)?, words)?;
        let state = said(bed, node, name)?;
        bed.says(&state, &["Unavailable", reason])?;
    }
    let spec = json!({"size": "32Mi", "tier": "bad-disk", "binding": "Immediate"});
    bed.apply(volume("data", &spec))?;
    bed.says(&bed.wait_reason("volume/data", "NoPool")?, &["tier \"bad-disk\" has no working pool"])?;
    ensure!(bytes()? == before, "somebody wrote to the disks:\n{before}\n{}", bytes()?);
    for pool in ["thin", "thick"] {
        bed.wait(&format!("storagepool/{pool}"), "condition=Ready")?;
    }
    // As the message says.
    bed.on_node(node, &format!("losetup {SECOND} {FOLDER}/second"))?;
    bed.wait("storagepool/bad-half", "condition=Ready")
}

/// A pool of this node alone, with a tier of its own.
fn pool(name: &str, node: Node, lvm: &Value) -> Value {
    json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool",
        "metadata": {"name": name, "labels": {LABEL: "true"}},
        "spec": {"tier": name, "nodeSelector": {"kubernetes.io/hostname": node.name()}, "lvm": lvm},
    })
}

/// What a pool says of itself.
fn message(bed: &Bed<'_>, pool: &str) -> Result<String> {
    bed.get(&format!("storagepool/{pool}"), r#".status.conditions[?(@.type=="Ready")].message"#)
}

/// What a node says of a pool; of all for `*`.
fn said(bed: &Bed<'_>, node: Node, pool: &str) -> Result<String> {
    let which = if pool == "*" { pool.to_owned() } else { format!(r#"?(@.name=="{pool}")"#) };
    bed.get(&format!("nodestorage/{}", node.name()), &format!(".status.pools[{which}]"))
}
