//! What the API server refuses, in words that say what to do.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::bad_input::pool;
use super::bed::{Bed, volume};
use super::snapshots::object;
use super::{Test, tests};

pub(super) fn tests() -> Vec<Test> {
    tests![
        a_size_that_is_none_is_refused_with_unit_and_bounds,
        what_is_immutable_says_what_to_do_instead,
        what_has_no_meaning_together_is_refused,
        a_pool_that_no_disk_can_meet_is_refused,
        a_pool_stays_where_it_is,
    ]
    .into()
}

fn a_size_that_is_none_is_refused_with_unit_and_bounds(bed: &Bed<'_>) -> Result<()> {
    for size in ["0", "-1Gi", "10Gb", "2Pi", "1048577Gi"].map(Value::from).into_iter().chain([json!(5)]) {
        let message = bed.refused(volume("data", &json!({"size": size, "tier": "hdd"})))?;
        bed.says(&message, &["size is a quantity of bytes from 16Mi to 1Pi", "for example 10Gi"])?;
    }
    Ok(())
}

fn what_is_immutable_says_what_to_do_instead(bed: &Bed<'_>) -> Result<()> {
    bed.apply(volume("data", &json!({"size": "1Gi", "tier": "hdd", "filesystem": "ext4"})))?;
    let rows: [(&str, Value, &str); 7] = [
        ("tier", json!("standard-ssd"), "tier is immutable: make a new Volume in the other tier"),
        ("filesystem", json!("xfs"), "filesystem is immutable: make a new Volume with the other filesystem"),
        ("volumeMode", json!("Block"), "volumeMode is immutable: make a new Volume with the other mode"),
        (
            "accessMode",
            json!("ReadWriteOncePod"),
            "accessMode is immutable: make a new Volume with the other mode",
        ),
        ("binding", json!("Immediate"), "binding is immutable: delete the Volume and make it anew"),
        ("encryption", json!({"enabled": true}), "encryption is immutable: make a new Volume"),
        (
            "source",
            json!({"snapshot": "monday"}),
            "to bring an old state back into this one, make a VolumeRestore",
        ),
    ];
    for (field, value, words) in rows {
        let mut change = json!({"spec": {}});
        change["spec"][field] = value;
        match bed.patch("volume/data", &change) {
            Ok(()) => bail!("{field} was changed"),
            Err(error) => bed.says(&format!("{error:#}"), &[words])?,
        }
    }
    Ok(())
}

fn what_has_no_meaning_together_is_refused(bed: &Bed<'_>) -> Result<()> {
    for (more, words) in [
        (
            json!({"size": "200Mi", "filesystem": "xfs"}),
            "an xfs volume has at least 300Mi: ask for more, or use ext4",
        ),
        (
            json!({"size": "64Mi", "filesystem": "btrfs"}),
            "a btrfs volume has at least 256Mi: ask for more, or use ext4",
        ),
        (
            json!({"volumeMode": "Block", "filesystem": "ext4"}),
            "filesystem has no meaning with volumeMode Block: leave it out",
        ),
        (
            json!({"volumeMode": "Block", "mountOptions": ["noatime"]}),
            "mountOptions have no meaning with volumeMode Block: leave them out",
        ),
        (json!({"filesystem": "ext4", "mountOptions": ["inode64"]}), "inode64 with xfs"),
        (json!({"mountOptions": ["commit=301"]}), "commit=N (ext4 and btrfs, 1 to 300)"),
        (
            json!({"source": {"snapshot": "monday", "volume": "data"}}),
            "source names either a snapshot or a volume, not both",
        ),
        (
            json!({"owner": {"kind": "User", "name": "ada@example.com"}}),
            "owner can't be set yet: nothing enforces it",
        ),
        (json!({"owner": {"kind": "Group", "name": "vision"}}), r#"supported values: "User""#),
        (json!({"source": {}}), "source names either a snapshot or a volume"),
        (json!({"filesystem": "ntfs"}), r#"supported values: "ext4", "xfs", "btrfs""#),
        (json!({"tier": "Fast SSD"}), "spec.tier in body should match"),
    ] {
        let mut spec = json!({"size": "1Gi", "tier": "hdd"});
        merge(&mut spec, &more);
        bed.says(&bed.refused(volume("data", &spec))?, &[words])?;
    }
    for (spec, words) in [
        (json!({}), "source is missing: name the VolumeSnapshot"),
        (json!({"source": {}}), "source names a snapshot"),
        (json!({"source": {"snapshot": "monday"}, "snapshot": "sunday"}), "leave snapshot out"),
        (json!({"source": {"backup": "monday"}}), r#"unknown field "spec.source.backup""#),
    ] {
        let mut restore = object("VolumeRestore", "back", &json!({"volume": "data"}));
        merge(&mut restore["spec"], &spec);
        bed.says(&bed.refused(restore)?, &[words])?;
    }
    let long = bed.refused(volume(&"a".repeat(64), &json!({"size": "1Gi", "tier": "hdd"})))?;
    bed.says(&long, &["the name of a Volume has at most 63 characters"])
}

fn a_pool_that_no_disk_can_meet_is_refused(bed: &Bed<'_>) -> Result<()> {
    let lvm = |lvm: Value| json!({"directory": null, "lvm": lvm});
    let thin = |thin: Value| lvm(json!({"volumeGroup": "fast", "thin": thin}));
    for (more, words) in [
        (
            json!({"overcommitPercent": 99}),
            "overcommitPercent in body should be greater than or equal to 100",
        ),
        (
            json!({"overcommitPercent": 0.5}),
            "overcommitPercent in body should be greater than or equal to 100",
        ),
        (
            json!({"overcommitPercent": 1001}),
            "overcommitPercent in body should be less than or equal to 1000",
        ),
        (json!({"reservePercent": -1}), "reservePercent in body should be greater than or equal to 0"),
        (json!({"reservePercent": 91}), "reservePercent in body should be less than or equal to 90"),
        (json!({"directory": null}), "a StoragePool has either directory or lvm"),
        (json!({"lvm": {"volumeGroup": "fast", "thick": {}}}), "a StoragePool has either directory or lvm"),
        (json!({"directory": {"path": "/var/../etc"}}), "path has no '.' or '..' part"),
        (json!({"directory": {"path": "var/lib"}}), "spec.directory.path in body should match"),
        (lvm(json!({"volumeGroup": "fast"})), "an LVM pool is either thin or thick"),
        (
            lvm(json!({"volumeGroup": "fast", "thick": {}, "thin": {"pool": "pool"}})),
            "an LVM pool is either thin or thick",
        ),
        (lvm(json!({"volumeGroup": "..", "thick": {}})), "volumeGroup is a name, not a path"),
        (lvm(json!({"volumeGroup": "dev/fast", "thick": {}})), "spec.lvm.volumeGroup in body should match"),
        (
            lvm(json!({"volumeGroup": "fast", "thick": {}, "devices": ["/dev/../etc/passwd"]})),
            "a device has no '.' or '..' part",
        ),
        (lvm(json!({"volumeGroup": "fast", "thick": {}, "devices": ["sda"]})), "devices[0] in body should"),
        (thin(json!({"pool": "pool", "size": "lots"})), "size is a quantity of bytes of at least 64Mi"),
        (
            thin(json!({"pool": "pool", "chunkSize": "100Ki"})),
            "chunkSize is a quantity of bytes from 64Ki to 1Gi and a multiple of 64Ki, for example 128Ki",
        ),
        (
            thin(json!({"pool": "pool", "overcommitPercent": 50})),
            r#"unknown field "spec.lvm.thin.overcommitPercent""#,
        ),
    ] {
        bed.says(&bed.refused(nowhere(&bed.namespace, &more))?, &[words])?;
    }
    Ok(())
}

fn a_pool_stays_where_it_is(bed: &Bed<'_>) -> Result<()> {
    let (directory, thin) = (bed.namespace.clone(), format!("{}-thin", bed.namespace));
    let group = json!({"directory": null, "lvm": {"volumeGroup": "fast", "thin": {"pool": "pool"}}});
    let made = bed.apply(nowhere(&directory, &json!({}))).and_then(|()| bed.apply(nowhere(&thin, &group)));
    let result = made.and_then(|()| move_them(bed, &directory, &thin));
    bed.kubectl(&["delete", "storagepools", &directory, &thin, "--ignore-not-found"])?;
    result
}

fn move_them(bed: &Bed<'_>, directory: &str, thin: &str) -> Result<()> {
    for (pool, change, words) in [
        (directory, json!({"tier": "other"}), "tier is immutable: make a new StoragePool"),
        (
            directory,
            json!({"directory": {"path": "/var/lib/other"}}),
            "path is immutable: make a new StoragePool",
        ),
        (
            directory,
            json!({"directory": {"provisioning": "Thick"}}),
            "provisioning is immutable: make a new StoragePool",
        ),
        (
            directory,
            json!({"directory": null, "lvm": {"volumeGroup": "fast", "thick": {}}}),
            "a directory can't become an LVM volume group, nor the other way round: make a new StoragePool",
        ),
        (thin, json!({"lvm": {"volumeGroup": "other"}}), "volumeGroup is immutable: make a new StoragePool"),
        (thin, json!({"lvm": {"thin": {"pool": "other"}}}), "pool is immutable: make a new StoragePool"),
        (
            thin,
            json!({"lvm": {"thin": null, "thick": {}}}),
            "a thin pool can't become thick, nor the other way round: make a new StoragePool",
        ),
    ] {
        match bed.patch(&format!("storagepool/{pool}"), &json!({"spec": change})) {
            Ok(()) => bail!("{pool} was changed: {change}"),
            Err(error) => bed.says(&format!("{error:#}"), &[words])?,
        }
    }
    // What may change, does.
    bed.patch(
        &format!("storagepool/{directory}"),
        &json!({"spec": {"overcommitPercent": 200, "reservePercent": 10}}),
    )
}

/// A pool that no node offers, with some fields of its spec replaced.
fn nowhere(name: &str, fields: &Value) -> Value {
    let mut pool =
        pool(name, "nowhere", "/var/lib/tierce/nowhere", &json!({"storage.tierce.dev/none": "true"}));
    merge(&mut pool["spec"], fields);
    pool
}

/// Puts the fields of one object into another; null removes.
fn merge(into: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        match (value, into.as_object_mut()) {
            (Value::Null, Some(into)) => drop(into.remove(name)),
            _ => into[name] = value.clone(),
        }
    }
}
