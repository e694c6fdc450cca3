//! An upgrade from earlier versions, and the way back: no byte, no object and no running pod is lost by either.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod, Skip, claim, volume};
use super::faults::{WRITER, ensure_writing};
use super::nodes::install_earlier;
use super::snapshots::{object, start, take};
use super::{Test, tests};
use crate::command;
use crate::images::earlier;
use crate::images::ours::Ours;
use crate::install::NAMESPACE;

/// The versions that an upgrade is tested from, and a roll-back to. Each volume that they know must be as good after it; a version that
/// can't be gone back to has no place here, and its release notes say so.
const VERSIONS: [Version; 2] = [
    // The last one that took an unknown field for damage.
    Version::Of("f4f4405"),
    Version::BeforeTheLastChangeOf(&[
        "engine/src/pool/lvm/tags.rs",
        "engine/src/pool/record.rs",
        "engine/src/pool/stored.rs",
        "csi-driver/src/pools/state_file.rs",
    ]),
];

enum Version {
    /// A commit.
    Of(&'static str),
    /// The last commit but one that changed these files, where that is later than all that are named.
    BeforeTheLastChangeOf(&'static [&'static str]),
}

pub(super) fn tests() -> Vec<Test> {
    tests![an_upgrade_from_earlier_versions_and_the_way_back_lose_nothing].map(Test::alone).into()
}

fn an_upgrade_from_earlier_versions_and_the_way_back_lose_nothing(bed: &Bed<'_>) -> Result<()> {
    let (mut missing, mut tested) = (Vec::new(), 0);
    for version in &VERSIONS {
        match version.commit() {
            Ok(Some(commit)) => {
                let result = there_and_back(bed, &commit);
                if result.is_err() {
                    // What comes after this is about the present version.
                    super::install_with(bed.cluster, bed.images, &[]).ok();
                }
                result.with_context(|| format!("with the version of {commit}"))?;
                tested += 1;
            }
            Ok(None) => {}
            Err(why) => missing.push(why),
        }
    }
    if tested == 0 {
        return Err(Skip(missing.join("; ")).into());
    }
    for why in missing {
        println!("skipped  a part of it: {why}");
    }
    Ok(())
}

impl Version {
    /// `None`: it is one of the others; `Err`: why it can't be had.
    fn commit(&self) -> Result<Option<String>, String> {
        match self {
            Self::Of(commit) => earlier::find(commit).map(Some),
            Self::BeforeTheLastChangeOf(files) => {
                let named = VERSIONS.iter().filter_map(|version| match version {
                    Self::Of(commit) => Some(*commit),
                    Self::BeforeTheLastChangeOf(_) => None,
                });
                let mut changes = earlier::that_changed(files, 2).into_iter().skip(1);
                let is_later = |commit: &String| named.clone().all(|named| earlier::is_after(commit, named));
                Ok(changes.next().filter(is_later))
            }
        }
    }
}

fn there_and_back(bed: &Bed<'_>, commit: &str) -> Result<()> {
    let old = earlier::ensure(commit, bed.images.profile)?;
    bed.cluster.load(&old.archives)?;
    begin_with(bed, &old)?;
    let sum = make(bed)?;
    nothing_is_wrong(bed)?;

    super::install_with(bed.cluster, bed.images, &[])?;
    use_everything(bed, "upgraded", "monday", bed.images, &sum)?;
    bed.apply(restore("forth", &json!({"volume": "kept", "source": {"snapshot": "monday"}})))?;
    bed.wait_reason("volumerestore/forth", "InUse")?;

    helm(bed, &["rollback", "tierce", "1", "--wait", "--timeout", "180s"])?;
    // It was ordered in words that only the newer version knows.
    bed.delete("pod/user")?;
    bed.wait_reason("volumerestore/forth", "Restored")?;
    bed.start(user())?;
    use_everything(bed, "back", "upgraded", &old, &sum)?;

    super::install_with(bed.cluster, bed.images, &[])?;
    use_everything(bed, "again", "back", bed.images, &sum)?;

    let timeout = format!("--timeout={}s", bed.patience().as_secs());
    bed.kubectl(&["delete", "pods,volumerestores,volumes,pvc,volumesnapshots", "--all", &timeout])?;
    bed.until_nothing_is_left()
}

/// Installs it as on a cluster that never had another version.
fn begin_with(bed: &Bed<'_>, old: &Ours) -> Result<()> {
    helm(bed, &["uninstall", "tierce", "--wait"])?;
    let definitions = bed.kubectl(&["get", "crds", "--output=name"])?;
    for definition in definitions.lines().filter(|name| name.ends_with(".storage.tierce.dev")) {
        bed.delete(definition)?;
    }
    install_earlier(bed.cluster, old, &[])
}

/// A pod that writes all the time, and one with a plain claim, a raw device and a volume that was set back to its snapshot. Returns the
/// sum of the bytes on the first two.
fn make(bed: &Bed<'_>) -> Result<String> {
    let spec = |size: &str| json!({"size": size, "tier": "standard-ssd"});
    bed.apply(volume("data", &spec("100Mi")))?;
    bed.start(Pod::named("writer").mounts("data").runs(WRITER))?;

    start(bed, "kept", &spec("64Mi"))?;
    take(bed, "monday", "kept")?;
    bed.exec("kept", "echo tuesday > /kept/note && sync")?;
    bed.delete("pod/kept")?;
    bed.apply(restore("back", &json!({"volume": "kept", "snapshot": "monday"})))?;
    bed.wait_reason("volumerestore/back", "Restored")?;

    bed.apply(volume("disk", &json!({"size": "32Mi", "tier": "standard-ssd", "volumeMode": "Block"})))?;
    bed.apply(claim("plain", "tierce-standard-ssd", "64Mi"))?;
    let fill = "dd if=/dev/urandom of=/plain/bytes bs=1M count=16; sync; dd if=/plain/bytes of=/dev/disk bs=1M; sync";
    bed.start(user().runs(fill))?;
    bed.exec("user", "sha256sum /plain/bytes | cut -d' ' -f1")
}

fn restore(name: &str, spec: &Value) -> Value {
    object("VolumeRestore", name, spec)
}

fn user() -> Pod {
    Pod::named("user").mounts("kept").mounts("plain").has_device("disk")
}

/// Looks at everything through these programs: what ran through the change, what is mounted anew, what is made from a snapshot of the
/// version before. Leaves a snapshot of the step's name.
fn use_everything(bed: &Bed<'_>, step: &str, snapshot: &str, ours: &Ours, sum: &str) -> Result<()> {
    let used = || {
        programs_are(bed, ours)?;
        ensure_writing(bed, "writer")?;
        nothing_is_wrong(bed)?;
        same_bytes(bed, sum)?;
        bed.delete("pod/user")?;
        bed.start(user())?;
        same_bytes(bed, sum)?;

        let copy = format!("copy-{step}");
        let spec = json!({"size": "64Mi", "tier": "standard-ssd", "source": {"snapshot": snapshot}});
        bed.apply(volume(&copy, &spec))?;
        bed.start(Pod::named(&copy).mounts(&copy))?;
        let note = bed.exec(&copy, &format!("cat /{copy}/note"))?;
        ensure!(note == "monday", "a copy of {snapshot} holds {note}");
        bed.delete(&format!("pod/{copy}"))?;
        bed.delete(&format!("volume/{copy}"))?;
        take(bed, step, "kept")?;
        nothing_is_wrong(bed)
    };
    used().with_context(|| format!("after the step `{step}`"))
}

fn same_bytes(bed: &Bed<'_>, sum: &str) -> Result<()> {
    for (what, read) in [
        ("the claim", "sha256sum < /plain/bytes"),
        ("the raw device", "dd if=/dev/disk bs=1M count=16 2>/dev/null | sha256sum"),
    ] {
        let found = bed.exec("user", &format!("{read} | cut -d' ' -f1"))?;
        ensure!(found == sum, "the bytes of {what} changed");
    }
    let note = bed.exec("user", "cat /kept/note")?;
    ensure!(note == "monday", "the restored volume holds {note}");
    Ok(())
}

/// Waits until both programs run from these images, on every node.
fn programs_are(bed: &Bed<'_>, ours: &Ours) -> Result<()> {
    let path = "--output=jsonpath={range .items[*]}{.spec.containers[*].image}{\"\\n\"}{end}";
    let label = "app.kubernetes.io/component in (node,controller)";
    bed.until("every program to be of this version", || {
        let mut kubectl = bed.cluster.command("kubectl")?;
        let pods = command::run(kubectl.args(["--namespace", NAMESPACE, "get", "pods", "-l", label, path]))?;
        let mut images = pods.split_whitespace().filter(|image| image.contains("/tierce-"));
        Ok(!pods.trim().is_empty() && images.all(|image| image.ends_with(&ours.tag)))
    })
}

/// Waits until every volume and snapshot is Ready, and no node finds a record that it can't read or that nobody speaks of.
fn nothing_is_wrong(bed: &Bed<'_>) -> Result<()> {
    bed.until("nothing to be wrong", || Ok(what_is_wrong(bed)?.is_empty())).with_context(|| {
        format!("wrong: {}", what_is_wrong(bed).map(|wrong| wrong.join(", ")).unwrap_or_default())
    })
}

fn what_is_wrong(bed: &Bed<'_>) -> Result<Vec<String>> {
    let kinds = "volumes,nodevolumes,nodesnapshots,nodestorages";
    let shown = bed.kubectl(&["get", kinds, "--all-namespaces", "--output=json"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    let mut wrong = Vec::new();
    for object in shown["items"].as_array().context("a list has items")? {
        let (kind, name, status) = (&object["kind"], &object["metadata"]["name"], &object["status"]);
        if kind == "NodeStorage" {
            let lists = ["brokenRecords", "unclaimed"].map(|list| &status[list]);
            wrong.extend(lists.iter().filter(|list| !list.is_null()).map(|list| format!("{name}: {list}")));
            continue;
        }
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        if !conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
            wrong.push(format!("{kind} {name}: {status}"));
        }
    }
    Ok(wrong)
}

fn helm(bed: &Bed<'_>, arguments: &[&str]) -> Result<()> {
    command::run(bed.cluster.command("helm")?.args(["--namespace", NAMESPACE]).args(arguments)).map(drop)
}
