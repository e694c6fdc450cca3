//! csi-sanity, the conformance suite of CSI, against the real controller and node plugin with only etcd and
//! kube-apiserver between them: over the simulator, and over image files.

pub(crate) mod confine;
mod run;
mod specs;
pub mod stand;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

pub use self::run::main as run_confined;
use self::specs::{Count, Outcome};
use self::stand::{Programs, Storage};
use crate::folder::Folder;
use crate::images::ours::{self, Profile};
use crate::{command, tools};

/// The programs of a stand that come from Go modules.
const TOOLS: [&str; 3] = ["etcd", "kube-apiserver", "csi-sanity"];
/// What volumes of images need on the machine.
const FILESYSTEM_TOOLS: [&str; 2] = ["mkfs.ext4", "e2fsck"];

/// What the volumes of the suite lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Over {
    /// The engine's simulator, as an ordinary user.
    Sim,
    /// Image files, loop devices and mounts of this kernel; needs root.
    Directory,
    /// All that this user can run; the others are named.
    All,
}

/// Runs the suite; fails when a spec fails, or when one is skipped that belongs to something that we claim.
pub fn run(over: Over) -> Result<()> {
    let mut runs = Vec::new();
    if over != Over::Directory {
        runs.push(Storage::Simulator);
    }
    match (over, why_not_directory()) {
        (Over::Sim, _) => {}
        (_, None) => runs.push(Storage::Directory),
        (Over::Directory, Some(why)) => bail!("csi-sanity over images: {why}"),
        (Over::All, Some(why)) => println!("skipped: csi-sanity over images: {why}"),
    }
    let programs = programs(Profile::Dev)?;
    let mut folder = Folder::new("sanity")?;
    let mut total = Count::default();
    let mut problems = Vec::new();
    for storage in runs {
        one(&folder.path().join(name(storage)), storage, programs.clone(), &mut total, &mut problems)?;
    }
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

/// Builds what a stand consists of.
pub fn programs(profile: Profile) -> Result<Programs> {
    for tool in TOOLS {
        tools::ensure(Some(tool))?;
    }
    let tools = tools::ensure(Some(TOOLS[0]))?;
    let [controller, plugin] =
        ours::programs(profile)?.try_into().ok().context("the harness builds two programs")?;
    Ok(Programs { tools, controller, plugin })
}

fn why_not_directory() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("loop devices and mounts need root: run this with sudo".to_owned());
    }
    let missing: Vec<_> = FILESYSTEM_TOOLS.into_iter().filter(|tool| command::find(tool).is_none()).collect();
    (!missing.is_empty()).then(|| format!("missing: {}; run e2e/setup.sh", missing.join(", ")))
}

fn name(storage: Storage) -> &'static str {
    match storage {
        Storage::Simulator => "sim",
        Storage::Directory => "directory",
    }
}

fn one(
    folder: &Path,
    storage: Storage,
    programs: Programs,
    total: &mut Count,
    problems: &mut Vec<String>,
) -> Result<()> {
    let started = Instant::now();
    let ending = confine::run(folder, confine::Order { storage, programs }, &["run-sanity"])?;
    if ending.stray_loops > 0 {
        problems.push(format!("{}: {} loop devices were left behind", name(storage), ending.stray_loops));
    }
    let mut skips = BTreeMap::new();
    for access_type in run::ACCESS_TYPES {
        let Ok(report) = std::fs::read_to_string(run::report(folder, access_type)) else { continue };
        let outcome = specs::read(&report)?;
        println!("{}, {access_type}: {}", title(storage), summary(folder, access_type));
        judge(folder, storage, access_type, &outcome, problems);
        *total += outcome.count;
        for (why, specs) in outcome.skips {
            *skips.entry(why).or_insert(0) += specs;
        }
    }
    if !ending.success {
        problems.push(format!("{}: the run broke off, see above", name(storage)));
    }
    println!("      skipped because not claimed: what csi-sanity says");
    for ((why, said), specs) in skips {
        println!("{specs:>4}  {why}: {said}");
    }
    println!("      ({:.0} s)", started.elapsed().as_secs_f64());
    Ok(())
}

fn title(storage: Storage) -> &'static str {
    match (storage, rustix::process::geteuid().is_root()) {
        (Storage::Simulator, true) => "over the simulator (as nobody)",
        (Storage::Simulator, false) => "over the simulator",
        (Storage::Directory, _) => "over images (as root)",
    }
}

fn judge(folder: &Path, storage: Storage, access_type: &str, outcome: &Outcome, problems: &mut Vec<String>) {
    for failure in &outcome.failures {
        problems.push(format!("FAILED {}, {access_type}: {failure}", name(storage)));
    }
    for left in std::fs::read_to_string(run::leftovers(folder, access_type)).unwrap_or_default().lines() {
        problems.push(format!("{}, {access_type}: left behind: {left}", name(storage)));
    }
    if outcome.count.passed == 0 {
        problems.push(format!(
            "{}, {access_type}: no spec passed\n{}",
            name(storage),
            command::tail(&run::printed(folder, access_type), 30)
        ));
    }
    if !outcome.failures.is_empty() {
        for program in ["tierce-controller", "tierce-csi"] {
            problems.push(format!("--- {program}\n{}", command::tail(&stand::log_of(folder, program), 20)));
        }
    }
}

/// csi-sanity's own closing line.
fn summary(folder: &Path, access_type: &str) -> String {
    let text = std::fs::read_to_string(run::printed(folder, access_type)).unwrap_or_default();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("Ran ") || line.contains(" Passed | ")).collect();
    lines.join(" ")
}
