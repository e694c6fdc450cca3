//! The keys of encrypted volumes: given anew, missing, wrong, and gone with their volume.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod, volume};
use super::snapshots::{start, take};
use super::volume_groups::device;
use super::{Test, tests};
use crate::cluster::Node;
use crate::command;
use crate::install::NAMESPACE;

pub(super) fn tests() -> Vec<Test> {
    tests![
        a_rotated_key_opens_the_volume_and_the_old_one_no_more,
        a_missing_or_wrong_key_is_named_and_its_return_heals,
    ]
    .into()
}

fn a_rotated_key_opens_the_volume_and_the_old_one_no_more(bed: &Bed<'_>) -> Result<()> {
    start(bed, "data", &encrypted())?;
    let id = bed.get("volume/data", ".status.volumeName")?;
    let (node, header) = (bed.node_of("data")?, device(bed, "data")?);
    let old = key(bed, &id, "key")?;
    ensure!(opens(bed, node, &header, &old)?, "the volume's own key does not open it");
    take(bed, "before", "data")?;

    bed.kubectl(&["annotate", "volume/data", "storage.tierce.dev/rotate-key=now"])?;
    bed.until("a new key beside the old one", || Ok(!key(bed, &id, "next-key")?.is_empty()))?;
    let new = key(bed, &id, "next-key")?;
    bed.delete("pod/data")?;
    bed.start(Pod::named("next").mounts("data"))?;
    bed.until("the new key to be the only one", || {
        Ok(key(bed, &id, "key")? == new && key(bed, &id, "next-key")?.is_empty())
    })?;
    ensure!(bed.exec("next", "cat /data/note")? == "monday", "the data changed");
    ensure!(opens(bed, node, &header, &new)?, "the new key does not open the volume");
    ensure!(!opens(bed, node, &header, &old)?, "the old key still opens the volume");
    bed.wait(
        &format!("nodevolume/{id}"),
        r"jsonpath={.metadata.annotations.storage\.tierce\.dev/rotated-key}=now",
    )?;

    // A snapshot keeps the key of its time, and a volume made from it opens with that.
    let copy = json!({"size": "128Mi", "tier": "thin", "encryption": {"enabled": true}, "source": {"snapshot": "before"}});
    bed.apply(volume("copy", &copy))?;
    bed.start(Pod::named("copy").mounts("copy"))?;
    ensure!(bed.exec("copy", "cat /copy/note")? == "monday", "the copy has another content");
    Ok(())
}

fn a_missing_or_wrong_key_is_named_and_its_return_heals(bed: &Bed<'_>) -> Result<()> {
    start(bed, "data", &encrypted())?;
    bed.delete("pod/data")?;
    let id = bed.get("volume/data", ".status.volumeName")?;
    let name = format!("tierce-key-{id}");
    let mut backup: Value = serde_json::from_str(&secrets(bed, &["get", "secret", &name, "--output=json"])?)?;
    let metadata = backup["metadata"].as_object_mut().context("a Secret has metadata")?;
    metadata.retain(|field, _| ["name", "labels", "ownerReferences"].contains(&field.as_str()));

    forget(bed, &name)?;
    bed.apply(Pod::named("next").mounts("data"))?;
    events_say(bed, "next", &[&name, "not found"])?;

    let mut wrong = backup.clone();
    wrong["data"] = Value::Null;
    wrong["stringData"] = json!({"key": "00".repeat(32)});
    create(bed, &wrong)?;
    let fingerprint = bed.get(&format!("nodevolume/{id}"), ".status.keyFingerprint")?;
    ensure!(!fingerprint.is_empty(), "the NodeVolume does not say which key opens it");
    events_say(bed, "next", &["wrong key", &id, &fingerprint])?;

    forget(bed, &name)?;
    create(bed, &backup)?;
    // The kubelet tries ever more seldom; a new pod is tried at once.
    bed.delete("pod/next")?;
    bed.start(Pod::named("last").mounts("data"))?;
    ensure!(bed.exec("last", "cat /data/note")? == "monday", "the data is gone");
    Ok(())
}

fn encrypted() -> Value {
    json!({"size": "64Mi", "tier": "thin", "encryption": {"enabled": true}})
}

/// A key in the Secret of a volume, as hexadecimal digits; empty where it is not there.
fn key(bed: &Bed<'_>, id: &str, entry: &str) -> Result<String> {
    let template =
        format!(r#"--template={{{{with index .data "{entry}"}}}}{{{{.|base64decode}}}}{{{{end}}}}"#);
    secrets(bed, &["get", "secret", &format!("tierce-key-{id}"), "--output=go-template", &template])
}

/// Whether a key opens a slot of the header on this device.
fn opens(bed: &Bed<'_>, node: Node, device: &str, key: &str) -> Result<bool> {
    let bytes: String = (0..key.len()).step_by(2).filter_map(|at| key.get(at..at + 2)).fold(
        String::new(),
        |mut text, pair| {
            text.push_str("\\x");
            text.push_str(pair);
            text
        },
    );
    // A shell of its own: `printf` of dash knows no `\x`.
    let script = format!(
        "bash -c \"printf '{bytes}'\" | cryptsetup open --test-passphrase --type luks2 --key-file=- --keyfile-size=32 {device} \
         && echo yes || echo no $?"
    );
    let answer = bed.on_node(node, &script)?;
    match answer.as_str() {
        "yes" => Ok(true),
        // cryptsetup's exit code for a key that no slot knows.
        "no 2" => Ok(false),
        other => anyhow::bail!("cryptsetup on {device}: {other}"),
    }
}

fn events_say(bed: &Bed<'_>, pod: &str, parts: &[&str]) -> Result<()> {
    let field = format!("--field-selector=involvedObject.name={pod}");
    let messages = || bed.kubectl(&["get", "events", &field, "--output=jsonpath={.items[*].message}"]);
    let said = |text: &str| parts.iter().all(|part| text.contains(part));
    bed.until(&format!("events that say {}", parts.join(", ")), || Ok(said(&messages()?)))
        .with_context(|| format!("they say: {}", messages().unwrap_or_default()))
}

/// `kubectl` in the namespace of the release, where the keys are.
fn secrets(bed: &Bed<'_>, arguments: &[&str]) -> Result<String> {
    command::run(bed.cluster.command("kubectl")?.args(["--namespace", NAMESPACE]).args(arguments))
}

/// Deletes a Secret that a volume needs, finalizer or not.
fn forget(bed: &Bed<'_>, name: &str) -> Result<()> {
    secrets(bed, &["delete", "secret", name, "--wait=false"])?;
    let none = r#"{"metadata":{"finalizers":null}}"#;
    match secrets(bed, &["patch", "secret", name, "--type=merge", "--patch", none]) {
        // It had no finalizer yet: the deletion was enough.
        Err(error) if format!("{error:#}").contains("(NotFound)") => Ok(()),
        other => other.map(drop),
    }
}

fn create(bed: &Bed<'_>, object: &Value) -> Result<()> {
    let mut kubectl = bed.cluster.command("kubectl")?;
    kubectl.args(["--namespace", NAMESPACE, "create", "-f", "-"]);
    command::run_with_input(&mut kubectl, object.to_string().as_bytes()).map(drop)
}
