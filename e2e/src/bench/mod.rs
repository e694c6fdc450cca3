//! The figures of Tierce, measured in one run and printed as one table. Ratios are taken within the run; medians,
//! and turns between the two sides of a comparison, keep a busy machine's noise out of them.

mod audit;
mod calls;
mod client;
mod cluster;
mod disks;
mod figures;
mod io;
mod machine;
mod memory;
mod watch;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use self::figures::{Figure, Table};
use crate::cluster::{Cluster, Lifetime, Size, State};
use crate::folder::Folder;
use crate::images::ours::{self, Profile};
use crate::leftovers::Machine;
use crate::sanity::confine;
use crate::sanity::order::Order;
use crate::sanity::stand::{Stand, Storage};
use crate::{command, images, install, sanity, tools};

/// The cluster's name: a benchmark does not meet a cluster that somebody plays with.
const CLUSTER: &str = "bench";

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// CreateVolume and DeleteVolume at the controller's socket.
    Calls,
    /// The node plugin is killed.
    Restart,
    /// fio on a volume and on a plain file.
    Io,
    /// Resident memory of both programs.
    Memory,
    /// The disk engine's operations beside the bare commands: LVM, encryption, snapshots.
    Disks,
    /// Claims on a cluster: one at a time, 100 and 200 at once.
    Claims,
    /// Pods with a new Volume and with emptyDir.
    Pods,
    /// API writes for each Volume.
    Writes,
    /// Claims and pods over a thin pool, on a node with a kernel of its own.
    Guest,
}

/// Where a stage is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Stand(Storage),
    Engine,
    Cluster,
    Guest,
}

impl Stage {
    fn place(self) -> Place {
        match self {
            Self::Calls | Self::Restart | Self::Io => Place::Stand(Storage::Directory),
            Self::Memory => Place::Stand(Storage::Simulator),
            Self::Disks => Place::Engine,
            Self::Claims | Self::Pods | Self::Writes => Place::Cluster,
            Self::Guest => Place::Guest,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Measures; all stages when none is named.
pub fn run(only: &[Stage], profile: Profile) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a benchmark needs root, for loop devices, mounts and a cluster: run this with sudo"
    );
    let chosen: Vec<Stage> =
        Stage::value_variants().iter().copied().filter(|one| only.is_empty() || only.contains(one)).collect();
    let folder = Folder::new("bench")?;
    let own = [folder.path().to_owned(), State::of(CLUSTER)?.path().to_owned()];
    let before = Machine::look(&own)?;
    let started = Instant::now();
    let mut measured = Vec::new();
    for place in [
        Place::Stand(Storage::Directory),
        Place::Stand(Storage::Simulator),
        Place::Engine,
        Place::Cluster,
        Place::Guest,
    ] {
        let stages: Vec<Stage> = chosen.iter().copied().filter(|stage| stage.place() == place).collect();
        if stages.is_empty() {
            continue;
        }
        let lines = match place {
            Place::Stand(storage) => {
                on_stand(&folder.path().join(format!("{storage:?}")), storage, &stages, profile)?
            }
            Place::Engine => {
                eprintln!("measuring: disks");
                measured.extend(disks::measure(profile)?);
                continue;
            }
            Place::Cluster => on_cluster(&stages, profile, Size::ordinary(1))?,
            Place::Guest => on_cluster(&stages, profile, Size { ordinary: 0, guests: 1 })?,
        };
        for line in lines.lines() {
            measured.push(serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?);
        }
    }
    println!("{}", machine::facts(folder.path())?);
    if profile == Profile::Dev {
        println!("programs without optimisation: these figures say little");
    }
    println!("\n{}", Table(&measured));
    eprintln!("measured in {:.0} s", started.elapsed().as_secs_f64());
    // What the benchmark itself leaves is an error above; others may have begun something on this machine meanwhile.
    for new in Machine::look(&own)?.new_since(&before) {
        eprintln!("new on this machine: {new}");
    }
    Ok(())
}

fn on_stand(folder: &Path, storage: Storage, stages: &[Stage], profile: Profile) -> Result<String> {
    let names: Vec<String> = stages.iter().copied().map(Stage::name).collect();
    let programs = sanity::programs(profile)?;
    eprintln!("measuring: {}", names.join(", "));
    let ending = confine::run(
        folder,
        Order { storage, programs },
        &["run-bench", "--only", &names.join(","), "--stand"],
    )?;
    ensure!(ending.success, "the measurement broke off, see above");
    ensure!(ending.stray_loops == 0, "{} loop devices were left behind", ending.stray_loops);
    Ok(ending.printed)
}

fn on_cluster(stages: &[Stage], profile: Profile, size: Size) -> Result<String> {
    let tools = tools::ensure(None)?;
    let mut archives = images::basic(&tools)?;
    let ours = ours::ensure(profile)?;
    archives.extend(ours.archives.clone());
    eprintln!("starting a cluster");
    let kept = std::env::var_os("TIERCE_KEEP").is_some();
    let lifetime = if kept { Lifetime::UntilDown } else { Lifetime::WithUs };
    let cluster = Cluster::up(CLUSTER, size, archives, tools, lifetime)?;
    let names: Vec<String> = stages.iter().copied().map(Stage::name).collect();
    let measure = || -> Result<String> {
        let tiers = (size.guests > 0).then(thin_tier);
        install::install_tiers(&cluster, &ours, &[], tiers.as_ref())?;
        cluster.kubectl("wait storagepools --all --for=condition=Ready --timeout=180s")?;
        cluster.kubectl("wait storagepools --all --for=condition=Degraded=False --timeout=180s")?;
        eprintln!("measuring: {}", names.join(", "));
        let mut inside = cluster.command(&cluster.state().program().display().to_string())?;
        inside
            .args(["run-bench", "--only", &names.join(","), "--audit-log"])
            .arg(cluster.state().audit_log());
        command::run(&mut inside)
    };
    let printed = measure();
    if !kept {
        cluster.end()?;
    }
    printed
}

/// The tier that is measured, on a thin pool over the guest's first disk.
fn thin_tier() -> Value {
    let lvm = json!({"volumeGroup": "bench", "thin": {"pool": "thin"}, "devices": ["/dev/ubda"]});
    json!([{"name": cluster::TIER, "pools": [{"name": cluster::TIER, "lvm": lvm}]}])
}

/// The confined part of a benchmark: prints each figure as a line of JSON.
pub fn run_confined(stages: &[Stage], stand: Option<&Path>, audit_log: Option<&Path>) -> Result<()> {
    // One thread: children are killed when the thread that started them ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(async {
        match stand {
            Some(folder) => measure_on_stand(folder, stages).await,
            None => measure_on_cluster(stages, audit_log.context("--audit-log is missing")?).await,
        }
    })?;
    for figure in figures {
        println!("{}", serde_json::to_string(&figure)?);
    }
    Ok(())
}

async fn measure_on_stand(folder: &Path, stages: &[Stage]) -> Result<Vec<Figure>> {
    let order = Order::read(folder)?;
    let mut stand = Stand::start(folder, order.programs, order.storage).await?;
    let mut figures = Vec::new();
    for stage in stages {
        figures.extend(match stage {
            Stage::Calls => calls::create_and_delete(&stand).await?,
            Stage::Restart => calls::restart(&mut stand).await?,
            Stage::Io => io::measure(&stand).await?,
            Stage::Memory => memory::measure(&stand).await?,
            Stage::Disks | Stage::Claims | Stage::Pods | Stage::Writes | Stage::Guest => Vec::new(),
        });
    }
    Ok(figures)
}

async fn measure_on_cluster(stages: &[Stage], audit_log: &Path) -> Result<Vec<Figure>> {
    let client = kube::Client::try_default().await?;
    let mut figures = Vec::new();
    for stage in stages {
        figures.extend(match stage {
            Stage::Claims => cluster::claims(&client, &cluster::IMAGES).await?,
            Stage::Pods => cluster::pods(&client, &cluster::IMAGES).await?,
            Stage::Guest => {
                let mut both = cluster::claims(&client, &cluster::THIN_ON_GUEST).await?;
                both.extend(cluster::pods(&client, &cluster::THIN_ON_GUEST).await?);
                both
            }
            Stage::Writes => cluster::writes(&client, audit_log).await?,
            Stage::Calls | Stage::Restart | Stage::Io | Stage::Memory | Stage::Disks => Vec::new(),
        });
    }
    Ok(figures)
}
