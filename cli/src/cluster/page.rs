//! One page about a Volume that a person can read.

use std::io;

use kube::ResourceExt;
use tierce_client::{in_words, inspect::Whole};
use tierce_crds::{DeletionPolicy, Source, VolumeMode, conditions, format_bytes};

use super::{events, list::since, snapshots};
use crate::output;

pub(super) fn print(whole: &Whole) -> io::Result<()> {
    let facts = facts(whole);
    let rows: Vec<Vec<String>> =
        facts.into_iter().map(|(name, value)| vec![format!("{name}:"), value]).collect();
    output::columns(&rows)?;
    if !whole.snapshots.is_empty() {
        output::lines(["Snapshots:"])?;
        let mut rows = vec![["  NAME", "READY", "TAKEN", "SIZE"].map(str::to_owned).to_vec()];
        rows.extend(whole.snapshots.iter().map(snapshots::row).map(indented));
        output::columns(&rows)?;
    }
    if !whole.events.is_empty() {
        output::lines(["Events:"])?;
        let head = ["  LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(whole.events.iter().map(events::row).map(indented));
        output::columns(&rows)?;
    }
    if !whole.unknown.is_empty() {
        output::lines(["Not known:"])?;
        output::lines(whole.unknown.iter().map(|unknown| format!("  {unknown}")))?;
    }
    Ok(())
}

fn indented(mut row: Vec<String>) -> Vec<String> {
    if let Some(first) = row.first_mut() {
        first.insert_str(0, "  ");
    }
    row
}

fn facts(whole: &Whole) -> Vec<(&'static str, String)> {
    let (volume, spec) = (&whole.volume, &whole.volume.spec);
    let status = volume.status.clone().unwrap_or_default();
    let mut facts = vec![("Name", volume.name_any()), ("Namespace", volume.namespace().unwrap_or_default())];
    let list = |pairs: &std::collections::BTreeMap<String, String>| {
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
    };
    if !volume.labels().is_empty() {
        facts.push(("Labels", list(volume.labels())));
    }
    if let Some(time) = volume.creation_timestamp() {
        facts.push(("Made", format!("{} ({} ago)", time.0, since(time.0))));
    }
    facts.push(("Phase", status.phase.map_or_else(|| "Pending".to_owned(), |phase| format!("{phase:?}"))));
    for condition in &status.conditions {
        // The other kstatus conditions repeat what Ready says.
        if condition.type_ == conditions::READY {
            facts.push((
                if condition.status == "True" { "Ready" } else { "Not ready" },
                format!(
                    "{}: {} (for {})",
                    condition.reason,
                    condition.message,
                    since(condition.last_transition_time.0)
                ),
            ));
        } else if condition.type_ == conditions::KEY_ROTATION {
            facts.push(("Key rotation", condition.message.clone()));
        }
    }
    let mut size = spec.size.clone();
    if let Some(has) = status.capacity.filter(|has| *has != spec.size) {
        size = format!("{size} asked for, has {has}");
    }
    if let Some(used) = status.used {
        size = format!("{size}, uses {used}");
    }
    facts.push(("Size", size));
    facts.push(("Tier", spec.tier.clone()));
    let device = whole.node_volume.as_ref();
    let filesystem = spec.filesystem.or(device.and_then(|device| device.spec.filesystem));
    facts.push((
        "Kind",
        match (spec.volume_mode, filesystem) {
            (VolumeMode::Block, _) => "raw device".to_owned(),
            (VolumeMode::Filesystem, Some(filesystem)) => format!("filesystem {filesystem}"),
            (VolumeMode::Filesystem, None) => "filesystem".to_owned(),
        },
    ));
    facts.push(("Access", spec.access_mode.as_str().to_owned()));
    let encrypted =
        device.map(|device| device.spec.encrypted).or(spec.encryption.as_ref().map(|e| e.enabled));
    if let Some(encrypted) = encrypted {
        facts.push(("Encrypted", if encrypted { "yes" } else { "no" }.to_owned()));
    }
    match &spec.source {
        Some(Source { snapshot: Some(name), .. }) => facts.push(("Made from", format!("snapshot {name}"))),
        Some(Source { volume: Some(name), .. }) => facts.push(("Made from", format!("volume {name}"))),
        _ => {}
    }
    facts.push((
        "When removed",
        match spec.deletion_policy {
            DeletionPolicy::Delete => "the data goes".to_owned(),
            DeletionPolicy::Retain => "the data stays on its node".to_owned(),
        },
    ));
    facts.push(("Claim", claim(whole)));
    if let Some(name) = status.volume_name {
        facts.push(("Persistent volume", name));
    }
    if let Some(node) = status.node {
        facts.push(("Node", node));
    }
    if let Some(device) = device {
        let has = device.status.clone().unwrap_or_default();
        let bytes = |bytes: Option<i64>| {
            bytes.and_then(|bytes| u64::try_from(bytes).ok()).map_or_else(|| "-".to_owned(), format_bytes)
        };
        let text = format!(
            "{} in pool {}, {} of {} taken",
            device.name_any(),
            device.spec.pool,
            bytes(has.used_bytes),
            bytes(has.capacity_bytes)
        );
        facts.push(("Device", text));
    }
    let nobody = if whole.unknown.iter().any(|unknown| unknown.starts_with("who uses it")) {
        "not known"
    } else {
        "no pod"
    };
    let used_by = if whole.pods.is_empty() { nobody.to_owned() } else { in_words(&whole.pods) };
    facts.push(("In use by", used_by));
    facts
}

fn claim(whole: &Whole) -> String {
    let Some(claim) = &whole.claim else { return "none yet".to_owned() };
    let phase = claim.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default();
    format!("{} ({phase}, class {class})", claim.name_any())
}
