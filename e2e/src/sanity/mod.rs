//! csi-sanity, the conformance suite of CSI, against the real controller and node plugin with only etcd and
//! kube-apiserver between them: over the simulator, over image files, and over LVM in guests of the disk lab.

pub(crate) mod confine;
mod in_guest;
pub(crate) mod order;
mod run;
mod specs;
pub mod stand;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use self::order::Order;
use self::run::Volumes;
pub use self::run::main as run_confined;
use self::specs::{Count, Outcome};
use self::stand::{Programs, Storage, TOOLS};
use crate::folder::Folder;
use crate::images::ours::{self, Profile};
use crate::stages::{self, Part};
use crate::{command, lab, tools};

/// What volumes of images need on the machine.
const FILESYSTEM_TOOLS: [&str; 2] = ["mkfs.ext4", "e2fsck"];

/// What the volumes of the suite lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// The engine's simulator, as an ordinary user.
    Sim,
    /// Image files, loop devices and mounts of this kernel; needs root.
    Directory,
    /// Volume groups of guests, thin and thick.
    Lvm,
    /// Only the first of these.
    LvmThin,
    /// Only the second.
    LvmThick,
    /// All of them that this machine and this user can run.
    Here,
}

/// Runs the suite; fails when a spec fails, or when one is skipped that belongs to something that we claim. `every`: over LVM with each
/// access type plain and encrypted.
pub fn run(over: Over, every: bool) -> Result<()> {
    let building = Part::begin();
    let (runs, in_guests) = choose(over)?;
    // The programs of the other layers: another profile would build everything once more.
    let programs = programs(Profile::Dev)?;
    building.end("csi-sanity: programs");
    let mut folder = Folder::new("sanity")?;
    let one = |storage: Storage| {
        let report = one(&folder.path().join(storage.name()), storage, every, programs.clone())?;
        print!("{}", report.text);
        Ok(report)
    };
    let mut reports: Vec<Report> = runs.into_iter().map(one).collect::<Result<_>>()?;
    reports.extend(lab::side_by_side(in_guests, one).into_iter().collect::<Result<Vec<_>>>()?);
    let mut total = Count::default();
    let problems: Vec<String> = reports
        .into_iter()
        .flat_map(|report| {
            total += report.count;
            report.problems
        })
        .collect();
    if !problems.is_empty() && std::env::var_os("TIERCE_KEEP").is_some() {
        folder.keep()?;
        println!("kept: {}", folder.path().display());
    }
    for problem in &problems {
        println!("{problem}");
    }
    println!("csi-sanity: {total}");
    ensure!(problems.is_empty(), "csi-sanity does not hold");
    Ok(())
}

/// What is run on this kernel, and what in guests. What can't be run here is named, or an error if just that was asked for.
fn choose(over: Over) -> Result<(Vec<Storage>, Vec<Storage>)> {
    let images = || match why_not_directory() {
        None => Ok(vec![Storage::Directory]),
        Some(why) if over == Over::Here => {
            println!("skipped: csi-sanity over images: {why}");
            Ok(Vec::new())
        }
        Some(why) => bail!("csi-sanity over images: {why}"),
    };
    let groups = || match why_not_lvm() {
        None => {
            // The one that takes longest comes first.
            let all = [(Over::LvmThick, Storage::LvmThick), (Over::LvmThin, Storage::LvmThin)];
            let chosen = all.into_iter().filter(|(one, _)| [*one, Over::Lvm, Over::Here].contains(&over));
            Ok(chosen.map(|(_, storage)| storage).collect())
        }
        Some(why) if over == Over::Here => {
            println!("skipped: csi-sanity over LVM: {why}");
            Ok(Vec::new())
        }
        Some(why) => bail!("csi-sanity over LVM: {why}"),
    };
    Ok(match over {
        Over::Sim => (vec![Storage::Simulator], Vec::new()),
        Over::Directory => (images()?, Vec::new()),
        Over::Here => ([vec![Storage::Simulator], images()?].concat(), groups()?),
        Over::Lvm | Over::LvmThin | Over::LvmThick => (Vec::new(), groups()?),
    })
}

fn why_not_lvm() -> Option<String> {
    let missing = lab::missing();
    (!missing.is_empty()).then(|| format!("missing: {}; run e2e/setup.sh", missing.join(", ")))
}

/// Builds what a stand consists of.
pub fn programs(profile: Profile) -> Result<Programs> {
    let tools = tools()?;
    let [controller, plugin] =
        ours::programs(profile)?.try_into().ok().context("the harness builds two programs")?;
    Ok(Programs { tools, controller, plugin })
}

/// The folder of the programs of Kubernetes that a stand needs, and of csi-sanity.
pub(crate) fn tools() -> Result<PathBuf> {
    for tool in TOOLS {
        tools::ensure(Some(tool))?;
    }
    tools::ensure(Some(TOOLS[0]))
}

fn why_not_directory() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("loop devices and mounts need root: run this with sudo".to_owned());
    }
    let missing: Vec<_> = FILESYSTEM_TOOLS.into_iter().filter(|tool| command::find(tool).is_none()).collect();
    (!missing.is_empty()).then(|| format!("missing: {}; run e2e/setup.sh", missing.join(", ")))
}

/// What came of one storage.
struct Report {
    /// For people.
    text: String,
    count: Count,
    problems: Vec<String>,
}

fn one(folder: &Path, storage: Storage, every: bool, programs: Programs) -> Result<Report> {
    let started = Instant::now();
    let task = ["run-sanity", "--every"];
    let ending = confine::run(folder, Order { storage, programs }, &task[..=usize::from(every)])?;
    let mut report = Report { text: String::new(), count: Count::default(), problems: Vec::new() };
    if ending.stray_loops > 0 {
        report.problems.push(format!(
            "{}: {} loop devices were left behind",
            storage.name(),
            ending.stray_loops
        ));
    }
    let mut skips = BTreeMap::new();
    for volumes in Volumes::over(storage, every) {
        let Ok(specs) = std::fs::read_to_string(run::report(folder, volumes)) else { continue };
        let outcome = specs::read(&specs)?;
        writeln!(report.text, "{}, {}: {}", title(storage), volumes.name(), summary(folder, volumes))?;
        judge(folder, storage, volumes, &outcome, &mut report.problems);
        report.count += outcome.count;
        for (why, specs) in outcome.skips {
            *skips.entry(why).or_insert(0) += specs;
        }
    }
    if !ending.success {
        report.problems.push(format!("{}: the run broke off, see above", storage.name()));
    }
    writeln!(report.text, "      skipped because not claimed: what csi-sanity says")?;
    for ((why, said), specs) in skips {
        writeln!(report.text, "{specs:>4}  {why}: {said}")?;
    }
    writeln!(report.text, "      ({:.0} s)", started.elapsed().as_secs_f64())?;
    stages::note(&format!("csi-sanity {}", title(storage)), started.elapsed());
    Ok(report)
}

fn title(storage: Storage) -> &'static str {
    match (storage, rustix::process::geteuid().is_root()) {
        (Storage::Simulator, true) => "over the simulator (as nobody)",
        (Storage::Simulator, false) => "over the simulator",
        (Storage::Directory, _) => "over images (as root)",
        (Storage::LvmThin, _) => "over LVM thin (in a guest)",
        (Storage::LvmThick, _) => "over LVM thick (in a guest)",
    }
}

fn judge(folder: &Path, storage: Storage, volumes: Volumes, outcome: &Outcome, problems: &mut Vec<String>) {
    let name = volumes.name();
    for failure in &outcome.failures {
        problems.push(format!("FAILED {}, {name}: {failure}", storage.name()));
    }
    for left in std::fs::read_to_string(run::leftovers(folder, volumes)).unwrap_or_default().lines() {
        problems.push(format!("{}, {name}: left behind: {left}", storage.name()));
    }
    if outcome.count.passed == 0 {
        problems.push(format!(
            "{}, {name}: no spec passed\n{}",
            storage.name(),
            command::tail(&run::printed(folder, volumes), 30)
        ));
    }
    if !outcome.failures.is_empty() {
        for program in ["tierce-controller", "tierce-csi"] {
            problems.push(format!("--- {program}\n{}", command::tail(&stand::log_of(folder, program), 20)));
        }
    }
}

/// csi-sanity's own closing line.
fn summary(folder: &Path, volumes: Volumes) -> String {
    let text = std::fs::read_to_string(run::printed(folder, volumes)).unwrap_or_default();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("Ran ") || line.contains(" Passed | ")).collect();
    lines.join(" ")
}
