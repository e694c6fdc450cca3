//! One confined run: a stand, csi-sanity against it once for each kind of volume, and what must not be left after.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube::Api;
use kube::api::ListParams;
use tierce_crds::{NodeSnapshot, NodeVolume};

use super::order::Order;
use super::stand::{GROUP, Stand, Storage, THIN_POOL, TIER, dying_with_us};
use crate::cluster::cleanup;
use crate::command;

/// The volumes that csi-sanity makes in one run of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Volumes {
    /// What they are to a pod, in csi-sanity's word.
    access_type: &'static str,
    encrypted: bool,
}

impl Volumes {
    const fn plain(access_type: &'static str) -> Self {
        Self { access_type, encrypted: false }
    }

    const fn encrypted(access_type: &'static str) -> Self {
        Self { access_type, encrypted: true }
    }

    /// Those of a storage. Over LVM each two of provisioning (thin, thick), access type and encryption meet in one run at least; `every`: all three do.
    pub(super) fn over(storage: Storage, every: bool) -> Vec<Self> {
        let (plain, encrypted) = (Self::plain, Self::encrypted);
        match storage {
            Storage::Simulator | Storage::Directory => vec![plain("mount"), plain("block")],
            Storage::LvmThin | Storage::LvmThick if every => {
                vec![plain("mount"), plain("block"), encrypted("mount"), encrypted("block")]
            }
            Storage::LvmThin => vec![plain("mount"), encrypted("block")],
            Storage::LvmThick => vec![plain("block"), encrypted("mount")],
        }
    }

    /// Their name in messages and files.
    pub(super) fn name(self) -> String {
        format!("{}{}", self.access_type, if self.encrypted { "-luks" } else { "" })
    }
}

const MIB: u64 = 1 << 20;
/// How long after the last deletion its space may still be taken.
const SWEPT_WITHIN: Duration = Duration::from_mins(1);

/// Ginkgo's report of one run of csi-sanity in the folder of all.
pub(super) fn report(folder: &Path, volumes: Volumes) -> PathBuf {
    folder.join(format!("{}.json", volumes.name()))
}

/// What csi-sanity printed.
pub(super) fn printed(folder: &Path, volumes: Volumes) -> PathBuf {
    folder.join("logs").join(format!("csi-sanity-{}.log", volumes.name()))
}

/// What it left behind, a line for each thing.
pub(super) fn leftovers(folder: &Path, volumes: Volumes) -> PathBuf {
    folder.join(format!("{}.left", volumes.name()))
}

/// The main function of the confined process. Specs that fail are no error here: the reports tell.
pub fn main(folder: &Path, every: bool) -> Result<()> {
    let order = Order::read(folder)?;
    // One thread: children are killed when the thread that started them ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(folder, order, every))
}

async fn run(folder: &Path, order: Order, every: bool) -> Result<()> {
    let (storage, tools) = (order.storage, order.programs.tools.clone());
    let stand = Stand::start(folder, order.programs, storage).await?;
    for volumes in Volumes::over(storage, every) {
        csi_sanity(&stand, &tools.join("csi-sanity"), volumes)?;
        std::fs::write(leftovers(folder, volumes), left_behind(&stand).await?.join("\n"))?;
    }
    Ok(())
}

fn csi_sanity(stand: &Stand, program: &Path, volumes: Volumes) -> Result<()> {
    let folder = stand.folder();
    let parameters = folder.join("parameters.yaml");
    let (name, Volumes { access_type, encrypted }) = (volumes.name(), volumes);
    std::fs::write(
        &parameters,
        format!("tier: {TIER}\n{}", if encrypted { "encrypted: \"true\"\n" } else { "" }),
    )?;
    // Some specs want exactly the size that they ask for: with a header of 1 MiB these are whole extents of LVM.
    let [size, expanded] = if encrypted { [63, 95] } else { [64, 96] };
    let places = stand.kubelet_folder();
    let flag = |name: &str, value: &Path| format!("--csi.{name}={}", value.display());
    let mut command = Command::new(program);
    command
        .arg(flag("endpoint", &stand.plugin_socket()))
        .arg(flag("controllerendpoint", &stand.controller_socket()))
        // Folders for each run: what one left mounted does not fail the other.
        .arg(flag("mountdir", &places.join(format!("{name}-targets"))))
        .arg(flag("stagingdir", &places.join(format!("{name}-staging"))))
        .arg(flag("testvolumeparameters", &parameters))
        .arg(format!("--csi.testvolumeaccesstype={access_type}"))
        .arg(format!("--csi.testvolumesize={}", size * MIB))
        .arg(format!("--csi.testvolumeexpandsize={}", expanded * MIB))
        // A minute where all is well, some in a guest; one failure can make the next ones wait for their deadlines.
        .arg(format!("--ginkgo.timeout={}", if stand.storage().is_lvm() { "20m" } else { "5m" }))
        .arg("--ginkgo.no-color")
        .arg(format!("--ginkgo.json-report={}", report(folder, volumes).display()));
    if encrypted {
        // The suite knows no classes, whose templates name each volume's own Secret: it brings one key for all.
        let secrets = folder.join("csi-secrets.yaml");
        std::fs::write(&secrets, format!("NodeStageVolumeSecret:\n  key: {}\n", "5c".repeat(32)))?;
        command.arg(flag("secrets", &secrets));
    }
    let log = File::create(printed(folder, volumes))?;
    let mut child = dying_with_us(&command)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("can't start csi-sanity")?;
    child.wait()?;
    Ok(())
}

/// csi-sanity deletes every volume that it made, so nothing may be left of them anywhere.
async fn left_behind(stand: &Stand) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let volumes: Api<NodeVolume> = Api::all(stand.client());
    for volume in volumes.list_metadata(&ListParams::default()).await? {
        left.push(format!("NodeVolume {}", volume.metadata.name.unwrap_or_default()));
    }
    let snapshots: Api<NodeSnapshot> = Api::all(stand.client());
    for snapshot in snapshots.list_metadata(&ListParams::default()).await? {
        left.push(format!("NodeSnapshot {}", snapshot.metadata.name.unwrap_or_default()));
    }
    let folder = stand.folder();
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let place = line.split(' ').nth(4).unwrap_or_default();
        if Path::new(place).starts_with(folder) {
            left.push(format!("mount {place}"));
        }
    }
    if rustix::process::geteuid().is_root() {
        for one in cleanup::loops_below(folder, &cleanup::loops()?) {
            left.push(format!("loop device {}", one.name.display()));
        }
    }
    images(&stand.pool_folder(), &mut left);
    if stand.storage().is_lvm() {
        devices(&mut left).await?;
    }
    Ok(left)
}

/// Logical volumes besides the thin pool, and mappers. Used thick volumes are zeroed in the background before they go.
async fn devices(found: &mut Vec<String>) -> Result<()> {
    let deadline = Instant::now() + SWEPT_WITHIN;
    loop {
        let volumes = command::sh(&format!("lvm lvs --noheadings -o lv_name {GROUP}"))?;
        let mappers = command::sh("dmsetup info -c --noheadings -o name")?;
        let volumes = volumes.split_whitespace().filter(|name| *name != THIN_POOL);
        let mut left: Vec<String> = volumes.map(|name| format!("logical volume {name}")).collect();
        left.extend(mappers.lines().filter(|name| name.starts_with("tierce-crypt-")).map(str::to_owned));
        if left.is_empty() || Instant::now() > deadline {
            found.extend(left);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Any file of a volume's size below the pool.
fn images(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            images(&entry.path(), found);
        } else if metadata.len() >= MIB {
            found.push(format!("image {}", entry.path().display()));
        }
    }
}
