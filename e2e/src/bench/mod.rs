//! The figures of Tierce, measured in one run and printed as one table. Ratios are taken within the run, from at least twenty pairs whose two
//! sides take turns; medians keep a busy machine's noise out of them, and each comes with its interval of 95 %.

mod audit;
mod calls;
mod client;
mod cluster;
mod compare;
mod disks;
mod figures;
mod io;
mod machine;
mod memory;
mod stage;
mod statistics;
mod version;
mod wanted;
mod watch;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};

use self::compare::Run;
pub use self::compare::compare;
use self::figures::{Figure, Table};
use self::stage::Place;
pub use self::stage::Stage;
use self::version::Version;
pub use self::wanted::Wanted;
use crate::cluster::{Cluster, Lifetime, Size, State};
use crate::folder::Folder;
use crate::images::ours::Profile;
use crate::leftovers::Machine;
use crate::sanity::confine;
use crate::sanity::order::Order;
use crate::sanity::stand::{Stand, Storage};
use crate::{command, images, install, tools};

/// The cluster's name: a benchmark does not meet a cluster that somebody plays with.
const CLUSTER: &str = "bench";

/// Measures; all stages when none is named. The figures are printed, and kept in the file if one is named.
/// `of`: a commit of the history whose programs and chart are measured in place of this checkout's.
pub fn run(only: &[Wanted], save: Option<&Path>, profile: Profile, of: Option<&str>) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "a benchmark needs root, for loop devices, mounts and a cluster: run this with sudo"
    );
    let all = || Stage::value_variants().iter().copied().map(Wanted::all).collect();
    let chosen: Vec<Wanted> = if only.is_empty() { all() } else { only.to_owned() };
    let version = Version::new(profile, of)?;
    let folder = Folder::new("bench")?;
    let own = [folder.path().to_owned(), State::of(CLUSTER)?.path().to_owned()];
    let before = Machine::look(&own)?;
    let started = Instant::now();
    let (mut measured, mut broken_off) = (Vec::new(), Vec::new());
    for place in [
        Place::Stand(Storage::Directory),
        Place::Stand(Storage::Simulator),
        Place::Engine,
        Place::Cluster,
        Place::Guest,
    ] {
        let stages: Vec<Wanted> =
            chosen.iter().filter(|wanted| wanted.stage.place() == place).cloned().collect();
        if stages.is_empty() {
            continue;
        }
        // What the others measured took many minutes: it is shown and kept all the same.
        match measure(place, &stages, &version, profile, folder.path()) {
            Ok(figures) => measured.extend(figures),
            Err(error) => {
                eprintln!("not measured: {}: {error:#}", names(&stages).join(", "));
                broken_off.extend(names(&stages));
            }
        }
    }
    let facts = machine::facts(folder.path())?;
    println!("{facts}");
    if profile == Profile::Dev {
        println!("programs without optimisation: these figures say little");
    }
    println!("\n{}", Table(&measured));
    eprintln!("measured in {:.0} s", started.elapsed().as_secs_f64());
    if let Some(file) = save {
        Run { commit: version.commit(), machine: facts, figures: measured }.save(file)?;
        eprintln!("kept in {}, for `tierce-e2e bench compare BEFORE AFTER`", file.display());
    }
    // What the benchmark itself leaves is an error above; others may have begun something on this machine meanwhile.
    for new in Machine::look(&own)?.new_since(&before) {
        eprintln!("new on this machine: {new}");
    }
    ensure!(broken_off.is_empty(), "the measurement broke off, see above: {}", broken_off.join(", "));
    Ok(())
}

/// What is measured in one place.
fn measure(
    place: Place,
    stages: &[Wanted],
    version: &Version,
    profile: Profile,
    folder: &Path,
) -> Result<Vec<Figure>> {
    let lines = match place {
        Place::Stand(storage) => on_stand(&folder.join(format!("{storage:?}")), storage, stages, version)?,
        Place::Engine if version.is_earlier() => {
            eprintln!(
                "not measured of an earlier version: disks, which speaks with the engine of this checkout"
            );
            return Ok(Vec::new());
        }
        Place::Engine => {
            eprintln!("measuring: disks");
            let disks = disks::measure(profile)?;
            return Ok(stages.iter().flat_map(|wanted| wanted.chosen(disks.clone())).collect());
        }
        Place::Cluster => on_cluster(stages, version, Size::ordinary(1))?,
        Place::Guest => on_cluster(stages, version, Size { ordinary: 0, guests: 1 })?,
    };
    let figure = |line| serde_json::from_str(line).with_context(|| format!("not a figure: {line}"));
    lines.lines().map(figure).collect()
}

fn names(stages: &[Wanted]) -> Vec<String> {
    stages.iter().map(Wanted::to_string).collect()
}

fn on_stand(folder: &Path, storage: Storage, stages: &[Wanted], version: &Version) -> Result<String> {
    let names = names(stages);
    let programs = version.programs()?;
    eprintln!("measuring: {}", names.join(", "));
    let ending = confine::run(
        folder,
        Order { storage, programs },
        &["run-bench", "--only", &names.join("\n"), "--stand"],
    )?;
    ensure!(ending.success, "the measurement broke off, see above");
    ensure!(ending.stray_loops == 0, "{} loop devices were left behind", ending.stray_loops);
    Ok(ending.printed)
}

fn on_cluster(stages: &[Wanted], version: &Version, size: Size) -> Result<String> {
    let tools = tools::ensure(None)?;
    let mut archives = images::basic(&tools)?;
    let ours = version.images()?;
    archives.extend(ours.archives.clone());
    eprintln!("starting a cluster");
    let kept = std::env::var_os("TIERCE_KEEP").is_some();
    let lifetime = if kept { Lifetime::UntilDown } else { Lifetime::WithUs };
    let cluster = Cluster::up(CLUSTER, size, archives, tools, lifetime)?;
    let names = names(stages);
    let measure = || -> Result<String> {
        let tiers = (size.guests > 0).then(thin_tier);
        install::install_tiers(&cluster, &ours, &[], tiers.as_ref())?;
        cluster.kubectl("wait storagepools --all --for=condition=Ready --timeout=180s")?;
        if !version.is_earlier() {
            cluster.kubectl("wait storagepools --all --for=condition=Degraded=False --timeout=180s")?;
        }
        eprintln!("measuring: {}", names.join(", "));
        let mut inside = cluster.command(&cluster.state().program().display().to_string())?;
        inside
            .args(["run-bench", "--only", &names.join("\n"), "--audit-log"])
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
pub fn run_confined(stages: &[Wanted], stand: Option<&Path>, audit_log: Option<&Path>) -> Result<()> {
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

async fn measure_on_stand(folder: &Path, stages: &[Wanted]) -> Result<Vec<Figure>> {
    let order = Order::read(folder)?;
    let mut stand = Stand::start(folder, order.programs, order.storage).await?;
    let mut figures = Vec::new();
    for wanted in stages {
        figures.extend(wanted.chosen(match wanted.stage {
            Stage::Calls => calls::create_and_delete(&stand).await?,
            Stage::Restart => calls::restart(&mut stand).await?,
            Stage::Io => io::measure(&stand, wanted).await?,
            Stage::Memory => memory::measure(&stand).await?,
            Stage::Disks | Stage::Claims | Stage::Pods | Stage::Writes | Stage::Guest => Vec::new(),
        }));
    }
    Ok(figures)
}

async fn measure_on_cluster(stages: &[Wanted], audit_log: &Path) -> Result<Vec<Figure>> {
    let client = kube::Client::try_default().await?;
    let mut figures = Vec::new();
    for wanted in stages {
        figures.extend(wanted.chosen(match wanted.stage {
            Stage::Claims => cluster::claims(&client, &cluster::IMAGES).await?,
            Stage::Pods => cluster::pods(&client, &cluster::IMAGES).await?,
            Stage::Guest => {
                let mut both = cluster::claims(&client, &cluster::THIN_ON_GUEST).await?;
                both.extend(cluster::pods(&client, &cluster::THIN_ON_GUEST).await?);
                both
            }
            Stage::Writes => cluster::writes(&client, audit_log).await?,
            Stage::Calls | Stage::Restart | Stage::Io | Stage::Memory | Stage::Disks => Vec::new(),
        }));
    }
    Ok(figures)
}
