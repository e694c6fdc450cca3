//! The command `tierce` on a cluster, as people with a namespace use it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::bed::{Bed, Pod};
use super::{Test, tests};
use crate::command;
use crate::images::ours::{self, Profile};

pub(super) fn tests() -> Vec<Test> {
    tests![
        the_command_takes_a_volume_through_its_life,
        the_command_tells_what_a_volume_waits_for,
        the_command_works_for_whoever_may_edit_a_namespace
    ]
    .into()
}

/// The program, and the kubeconfig to use instead of the administrator's.
struct Tierce<'a> {
    bed: &'a Bed<'a>,
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl<'a> Tierce<'a> {
    fn of(bed: &'a Bed<'a>) -> Result<Self> {
        Ok(Self { bed, program: ours::program(Profile::Dev, "tierce")?, kubeconfig: None })
    }

    fn command(&self, line: &str) -> Result<Command> {
        let mut tierce = self.bed.cluster.command(&self.program.display().to_string())?;
        tierce.args(["--namespace", &self.bed.namespace]).args(line.split_whitespace());
        if let Some(kubeconfig) = &self.kubeconfig {
            tierce.arg("--kubeconfig").arg(kubeconfig);
        }
        Ok(tierce)
    }

    /// Standard output of a command line that must succeed.
    fn ok(&self, line: &str) -> Result<String> {
        command::run(&mut self.command(line)?)
    }

    /// Standard error of a command line that must be refused.
    fn refused(&self, line: &str) -> Result<String> {
        let output = command::output(&mut self.command(line)?)?;
        ensure!(output.status.code() == Some(1), "`tierce {line}` ended with {}", output.status);
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn the_command_takes_a_volume_through_its_life(bed: &Bed<'_>) -> Result<()> {
    let tierce = Tierce::of(bed)?;
    let made = tierce.ok(
        "volume create data --size 64Mi --tier standard-ssd --immediate --label app=shop --wait --timeout 90s",
    )?;
    ensure!(made == "data\n", "it printed {made}");
    ensure!(bed.get("volume/data", ".status.phase")? == "Ready", "it did not wait");
    tierce.ok("volume create data --size 64Mi --tier standard-ssd --immediate --label app=shop")?;
    let other = tierce.refused("volume create data --size 64Mi --tier hdd --immediate")?;
    bed.says(&other, &["exists with other tier: standard-ssd, asked for hdd"])?;

    bed.start(Pod::named("shop").mounts("data").runs("echo monday > /data/note && sync"))?;
    bed.says(&tierce.refused("volume rm data")?, &["in use by: pod shop"])?;
    bed.says(&tierce.ok("volume ls -o wide -l app=shop")?, &["data", "Ready", "pod shop"])?;
    let page = tierce.ok("volume inspect data")?;
    bed.says(&page, &["In use by:", "pod shop", "Device:", "taken", "Events:"])?;
    let whole: Value = serde_json::from_str(&tierce.ok("volume inspect data -o json")?)?;
    ensure!(whole[0]["claim"]["status"]["phase"] == "Bound", "the claim is missing: {whole}");
    ensure!(whole[0]["nodeVolume"]["spec"]["nodeName"].is_string(), "the device is missing: {whole}");

    tierce.ok("volume snapshot create data monday --wait --timeout 90s")?;
    bed.says(&tierce.ok("volume snapshot list data")?, &["monday", "yes"])?;
    bed.exec("shop", "echo tuesday > /data/note && sync")?;
    tierce.ok("volume clone data copy --wait --timeout 90s")?;
    tierce.ok("volume create back --from-snapshot monday --wait --timeout 90s")?;
    bed.says(&tierce.refused("volume restore data monday")?, &["in use by: pod shop"])?;
    bed.delete("pod/shop")?;
    tierce.ok("volume restore data monday --wait --timeout 90s")?;
    tierce.ok("volume resize data 128Mi --wait --timeout 90s")?;
    for (volume, note) in [("data", "monday"), ("copy", "tuesday"), ("back", "monday")] {
        bed.start(Pod::named(volume).mounts(volume))?;
        ensure!(bed.exec(volume, &format!("cat /{volume}/note"))? == note, "{volume} has another content");
        bed.delete(&format!("pod/{volume}"))?;
    }
    // What the restore kept is a snapshot of the volume too.
    let kept = tierce.ok("volume snapshot list data -o name")?;
    ensure!(kept.lines().count() == 2, "the snapshots are {kept}");
    bed.says(&tierce.ok("events data")?, &["volume/data"])?;
    bed.says(&tierce.ok("system df")?, &["standard-ssd", "node-1", "Ready"])?;
    bed.says(&tierce.ok("version")?, &["Client:", "tierce-controller:", "tierce-csi:"])?;

    tierce.ok("volume snapshot rm data monday")?;
    tierce.ok("volume rm back copy --wait --timeout 90s")?;
    bed.says(&tierce.ok("volume prune --all --force")?, &[":\ndata\n", "Total reclaimed space:"])
}

fn the_command_tells_what_a_volume_waits_for(bed: &Bed<'_>) -> Result<()> {
    let tierce = Tierce::of(bed)?;
    let lost = tierce.refused("volume create lost --size 64Mi --tier nvme")?;
    bed.says(&lost, &["no tier is named 'nvme': the tiers are", "standard-ssd"])?;
    let full = tierce.refused("volume create full --size 900Ti --tier hdd --wait --timeout 3s")?;
    bed.says(&full, &["waited 3s for volume 'full' to be ready", "would fit"])?;
    tierce.ok("volume create lazy --size 64Mi --tier hdd --wait --timeout 60s")?;
    let small = tierce.refused("volume create small --size 1Mi --tier hdd")?;
    bed.says(&small, &["can't create volume 'small': the cluster refused", "from 16Mi to 1Pi"])?;
    // Forced, it says what will wait, and it does.
    bed.start(Pod::named("user").mounts("lazy"))?;
    tierce.ok("volume rm lazy --force")?;
    let waits = tierce.refused("volume rm lazy --force --wait --timeout 3s")?;
    bed.says(&waits, &["volume 'lazy' to be gone", "user"])?;
    bed.delete("pod/user")?;
    tierce.ok("volume rm full --wait --timeout 90s").map(drop)
}

fn the_command_works_for_whoever_may_edit_a_namespace(bed: &Bed<'_>) -> Result<()> {
    bed.kubectl(&["create", "serviceaccount", "ada"])?;
    let account = format!("--serviceaccount={}:ada", bed.namespace);
    bed.kubectl(&["create", "rolebinding", "ada", "--clusterrole=edit", &account])?;
    let token = bed.kubectl(&["create", "token", "ada"])?;
    let mut kubeconfig: Value =
        serde_json::from_str(&bed.kubectl(&["config", "view", "--raw", "--minify", "--output=json"])?)?;
    kubeconfig["users"][0]["user"] = json!({"token": token.trim()});
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string())?;
    let tierce = Tierce { kubeconfig: Some(path), ..Tierce::of(bed)? };

    tierce.ok("volume create data --size 64Mi --tier hdd --immediate --wait --timeout 90s")?;
    tierce.ok("volume snapshot create data monday --wait --timeout 90s")?;
    let page = tierce.ok("volume inspect data")?;
    bed.says(&page, &["Name:", "monday", "Not known:", "the node's disk", "forbidden"])?;
    // The nodes' reports are not theirs, what the pools have together is.
    bed.says(&tierce.ok("system df")?, &["hdd", "all", "Ready"])?;
    bed.says(&tierce.refused("volume ls -A")?, &["can't list the volumes of any namespace", "forbidden"])?;
    bed.says(&tierce.refused("version")?, &["forbidden"])?;
    tierce.ok("volume snapshot rm data monday")?;
    tierce.ok("volume rm data --wait --timeout 90s").map(drop)
}
