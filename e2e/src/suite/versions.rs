//! An upgrade from earlier versions, and the way back: no byte, no object and no running pod is lost by either.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod, Skip, claim, volume};
use super::faults::{WRITER, ensure_writing};
use super::nodes::install_earlier;
use super::snapshots::{object, start, take};
use super::{Test, tests};
use crate::cluster::{Node, Size};
use crate::images::earlier;
use crate::images::ours::{Ours, Profile};
use crate::install::NAMESPACE;
use crate::{command, lab};

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
    tests![an_upgrade_from_earlier_versions_and_the_way_back_lose_nothing]
        .map(|test| test.apart("suite-upgrade"))
        .into()
}

/// The nodes of its cluster: with one that has a kernel of its own, for a volume group and encryption, where guests can run.
pub(super) fn size() -> Size {
    if lab::missing().is_empty() { Size { ordinary: 1, guests: 1 } } else { Size::ordinary(2) }
}

/// The images of the versions that can be had, for nodes that are to have them from their first boot.
pub(super) fn archives(profile: Profile) -> Result<Vec<PathBuf>> {
    Ok(versions(profile)?.0.into_iter().flat_map(|(_, old)| old.archives).collect())
}

/// A version's commit, and what was built of it.
type Earlier = (String, Ours);

/// The versions that can be had, each with its commit, and why others can't.
fn versions(profile: Profile) -> Result<(Vec<Earlier>, Vec<String>)> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for version in &VERSIONS {
        match version.commit() {
            Ok(Some(commit)) => {
                let old = earlier::ensure(&commit, profile)?;
                found.push((commit, old));
            }
            Ok(None) => {}
            Err(why) => missing.push(why),
        }
    }
    Ok((found, missing))
}

fn an_upgrade_from_earlier_versions_and_the_way_back_lose_nothing(bed: &Bed<'_>) -> Result<()> {
    let (versions, mut missing) = versions(bed.images.profile)?;
    let archives = versions.iter().flat_map(|(_, old)| &old.archives);
    let loaded = &bed.cluster.spec().images;
    let new: Vec<PathBuf> = archives.filter(|archive| !loaded.contains(archive)).cloned().collect();
    bed.cluster.load(&new)?;
    let Some((first, later)) = versions.split_first() else { return Err(Skip(missing.join("; ")).into()) };
    if guest(bed).is_none() {
        missing.push("encryption and a volume group: guests can't run on this machine".to_owned());
    }
    let result = there_and_back(bed, first, later);
    if result.is_err() {
        // What comes after this is about the present version.
        super::install_with(bed.cluster, bed.images, &[]).ok();
    }
    for why in missing {
        println!("skipped  a part of it: {why}");
    }
    result
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

/// From the first of these versions to the present one, back, and here again; then back to each of the others, and here.
fn there_and_back(bed: &Bed<'_>, first: &Earlier, later: &[Earlier]) -> Result<()> {
    let (commit, old) = first;
    begin_with(bed, old)?;
    let sums = make(bed)?;
    nothing_is_wrong(bed)?;
    let mut steps = Steps { bed, sums, snapshot: "monday".to_owned() };

    super::install_with(bed.cluster, bed.images, AT_ONCE)?;
    steps.use_everything("upgraded", bed.images).with_context(|| format!("from {commit}"))?;
    bed.apply(restore("forth", &json!({"volume": "kept", "source": {"snapshot": "monday"}})))?;
    bed.wait_reason("volumerestore/forth", "InUse")?;

    helm(bed, &["rollback", "tierce", "1", "--wait", "--timeout", "180s"])?;
    // It was ordered in words that only the newer version knows.
    bed.delete("pod/user")?;
    bed.wait_reason("volumerestore/forth", "Restored")?;
    bed.start(user())?;
    steps.use_everything("back", old).with_context(|| format!("to {commit}"))?;
    super::install_with(bed.cluster, bed.images, AT_ONCE)?;
    steps.use_everything("again", bed.images)?;
    for (number, (commit, old)) in later.iter().enumerate() {
        install_earlier(bed.cluster, old, AT_ONCE)?;
        steps.use_everything(&format!("back-{number}"), old).with_context(|| format!("to {commit}"))?;
        super::install_with(bed.cluster, bed.images, AT_ONCE)?;
        steps.use_everything(&format!("again-{number}"), bed.images)?;
    }

    let timeout = format!("--timeout={}s", bed.patience().as_secs());
    bed.kubectl(&["delete", "pods,volumerestores,volumes,pvc,volumesnapshots", "--all", &timeout])?;
    bed.until_nothing_is_left()
}

/// All node plugins are replaced together: that one after the other disturbs nobody is another test.
const AT_ONCE: &[&str] = &["node.maxUnavailable=100%"];

/// The node with a kernel of its own, if the cluster has one.
fn guest(bed: &Bed<'_>) -> Option<Node> {
    bed.cluster.nodes().find(|node| bed.cluster.spec().size.is_guest(*node))
}

/// Installs it as on a cluster that never had another version.
fn begin_with(bed: &Bed<'_>, old: &Ours) -> Result<()> {
    helm(bed, &["uninstall", "tierce", "--ignore-not-found", "--wait"])?;
    let definitions = bed.kubectl(&["get", "crds", "--output=name"])?;
    for definition in definitions.lines().filter(|name| name.ends_with(".storage.tierce.dev")) {
        bed.delete(definition)?;
    }
    install_earlier(bed.cluster, old, AT_ONCE)
}

/// A pod that writes all the time, and one with a plain claim, a raw device and a volume that was set back to its snapshot; where there is
/// a volume group, one more with an encrypted volume in it. Returns the sums of their bytes.
fn make(bed: &Bed<'_>) -> Result<Sums> {
    let spec = |size: &str| json!({"size": size, "tier": "standard-ssd"});
    if guest(bed).is_some() {
        let locked = json!({"size": "64Mi", "tier": "thin", "encryption": {"enabled": true}});
        bed.apply(volume("locked", &locked))?;
        bed.apply(keeper().runs("dd if=/dev/urandom of=/locked/bytes bs=1M count=4; sync"))?;
    }
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
    let plain = bed.exec("user", "sha256sum < /plain/bytes")?;
    let Some(_) = guest(bed) else { return Ok(Sums { plain, locked: None }) };
    bed.wait_ready("keeper")?;
    Ok(Sums { plain, locked: Some(bed.exec("keeper", "sha256sum < /locked/bytes")?) })
}

fn restore(name: &str, spec: &Value) -> Value {
    object("VolumeRestore", name, spec)
}

/// What the pods found where they wrote.
struct Sums {
    /// In the claim, and on the raw device.
    plain: String,
    /// In the encrypted volume.
    locked: Option<String>,
}

fn user() -> Pod {
    Pod::named("user").mounts("kept").mounts("plain").has_device("disk")
}

fn keeper() -> Pod {
    Pod::named("keeper").mounts("locked")
}

/// The way from version to version.
struct Steps<'a> {
    bed: &'a Bed<'a>,
    sums: Sums,
    /// The last one that was taken, by the version before.
    snapshot: String,
}

impl Steps<'_> {
    /// Looks at everything through these programs: what ran through the change, what is mounted anew, what is made from a snapshot of the
    /// version before. Leaves a snapshot of the step's name.
    fn use_everything(&mut self, step: &str, ours: &Ours) -> Result<()> {
        self.used(step, ours).with_context(|| format!("after the step `{step}`"))?;
        step.clone_into(&mut self.snapshot);
        Ok(())
    }

    fn used(&self, step: &str, ours: &Ours) -> Result<()> {
        let (bed, snapshot) = (self.bed, &self.snapshot);
        programs_are(bed, ours)?;
        ensure_writing(bed, "writer")?;
        nothing_is_wrong(bed)?;
        self.same_bytes()?;

        let copy = format!("copy-{step}");
        let spec = json!({"size": "64Mi", "tier": "standard-ssd", "source": {"snapshot": snapshot}});
        bed.apply(volume(&copy, &spec))?;
        bed.apply(Pod::named(&copy).mounts(&copy))?;
        let pods: &[&str] = if self.sums.locked.is_some() { &["user", "keeper"] } else { &["user"] };
        let timeout = format!("--timeout={}s", bed.patience().as_secs());
        bed.kubectl(&[&["delete", "pods", &timeout], pods].concat())?;
        bed.apply(user())?;
        if self.sums.locked.is_some() {
            bed.apply(keeper())?;
        }
        for pod in pods.iter().copied().chain([copy.as_str()]) {
            bed.wait_ready(pod)?;
        }
        self.same_bytes()?;
        let note = bed.exec(&copy, &format!("cat /{copy}/note"))?;
        ensure!(note == "monday", "a copy of {snapshot} holds {note}");
        bed.delete(&format!("pod/{copy}"))?;
        bed.delete(&format!("volume/{copy}"))?;
        take(bed, step, "kept")?;
        nothing_is_wrong(bed)
    }

    fn same_bytes(&self) -> Result<()> {
        let bed = self.bed;
        for (what, pod, read, sum) in [
            ("the claim", "user", "sha256sum < /plain/bytes", Some(&self.sums.plain)),
            (
                "the raw device",
                "user",
                "dd if=/dev/disk bs=1M count=16 2>/dev/null | sha256sum",
                Some(&self.sums.plain),
            ),
            ("the encrypted volume", "keeper", "sha256sum < /locked/bytes", self.sums.locked.as_ref()),
        ] {
            let Some(sum) = sum else { continue };
            ensure!(bed.exec(pod, read)? == *sum, "the bytes of {what} changed");
        }
        let note = bed.exec("user", "cat /kept/note")?;
        ensure!(note == "monday", "the restored volume holds {note}");
        Ok(())
    }
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
